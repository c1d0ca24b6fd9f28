"""What `keys()`, `values()` and `items()` return: live views, as a dict's."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Iterate = Callable[[bool], Iterator[tuple[K, V]]]
"""Called with True for the reverse order."""


class _View:
    """What a dict's views refuse."""

    __slots__ = ()
    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __copy__(self) -> NoReturn:
        raise TypeError(
            f"a view ({type(self).__name__}) can't be copied; list() makes a list of it"
        )

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"a view ({type(self).__name__}) can't be pickled; list() makes a list of it"
        )


class Keys(_View, KeysView[K]):
    """The keys, in the map's order; a set in all but name."""

    _mapping: Mapping[K, Any]

    def __iter__(self) -> Iterator[K]:
        return iter(self._mapping)

    def __reversed__(self) -> Iterator[K]:
        mapping: Any = self._mapping  # `Mapping` promises no order
        names: Iterator[K] = reversed(mapping)
        return names

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def mapping(self) -> MappingProxyType[K, Any]:
        """The map, read-only."""
        return MappingProxyType(self._mapping)


class Values(_View, ValuesView[V]):
    """The values, decoded a few at a time."""

    _mapping: Mapping[Any, V]

    def __init__(self, mapping: Mapping[Any, V], iterate: Iterate[Any, V]) -> None:
        super().__init__(mapping)
        self._iterate = iterate

    def __contains__(self, value: object) -> bool:
        return any(each is value or each == value for each in self)

    def __iter__(self) -> Iterator[V]:
        items = self._iterate(False)  # made here: what changes from this moment on is noticed
        return (value for _, value in items)

    def __reversed__(self) -> Iterator[V]:
        items = self._iterate(True)
        return (value for _, value in items)

    @property
    def mapping(self) -> MappingProxyType[Any, V]:
        """The map, read-only."""
        return MappingProxyType(self._mapping)


class Items(_View, ItemsView[K, V]):
    """The entries as (key, value); a set in all but name where the values are hashable."""

    _mapping: Mapping[K, V]

    def __init__(self, mapping: Mapping[K, V], iterate: Iterate[K, V]) -> None:
        super().__init__(mapping)
        self._iterate = iterate

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple):
            return False
        pair: tuple[Any, ...] = item
        return len(pair) == 2 and super().__contains__(pair)

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._iterate(False)

    def __reversed__(self) -> Iterator[tuple[K, V]]:
        return self._iterate(True)

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def mapping(self) -> MappingProxyType[K, V]:
        """The map, read-only."""
        return MappingProxyType(self._mapping)
