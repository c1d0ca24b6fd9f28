"""What `keys()`, `values()` and `items()` return: live views, as a dict's.

They are the mapping's own face, so they use what it keeps to itself.
"""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from kvmap.mapping import KVMap

V = TypeVar("V")


class Keys(KeysView[Any]):
    """The keys, in the map's order; a set in all but name."""

    _mapping: KVMap[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping)  # which notices changes from now on, where a generator would not

    def __reversed__(self) -> Iterator[Any]:
        return iter(reversed(self._mapping))

    @property
    def mapping(self) -> MappingProxyType[Any, Any]:
        """The map, read-only."""
        return MappingProxyType(self._mapping)


class Values(ValuesView[V]):
    """The values, decoded a few at a time."""

    _mapping: KVMap[V]

    def __contains__(self, value: object) -> bool:
        for each in self:
            if each is value or each == value:
                return True
        return False

    def __iter__(self) -> Iterator[V]:
        items = self._mapping._items()
        return (value for _, value in items)

    def __reversed__(self) -> Iterator[V]:
        items = self._mapping._items_reversed()
        return (value for _, value in items)

    @property
    def mapping(self) -> MappingProxyType[Any, V]:
        """The map, read-only."""
        return MappingProxyType(self._mapping)


class Items(ItemsView[Any, V]):
    """The entries as (key, value); a set in all but name where the values are hashable."""

    _mapping: KVMap[V]

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple):
            return False
        pair: tuple[Any, ...] = item
        return len(pair) == 2 and super().__contains__(pair)

    def __iter__(self) -> Iterator[tuple[Any, V]]:
        return self._mapping._items()

    def __reversed__(self) -> Iterator[tuple[Any, V]]:
        return self._mapping._items_reversed()

    @property
    def mapping(self) -> MappingProxyType[Any, V]:
        """The map, read-only."""
        return MappingProxyType(self._mapping)
