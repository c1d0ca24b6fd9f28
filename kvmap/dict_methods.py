"""The part of a dict's methods that needs nothing but the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, TypeVar, overload

if TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem

K = TypeVar("K")
V = TypeVar("V")
K2 = TypeVar("K2")
V2 = TypeVar("V2")


class DictMethods(MutableMapping[K, V]):
    """What a dict has and `collections.abc.MutableMapping` lacks, made of a map's other methods."""

    __hash__: ClassVar[None]  # type: ignore[assignment]
    __slots__ = ()

    def copy(self) -> dict[K, V]:
        """A plain dict with the same entries, every value decoded. O(bytes of the store)."""
        return dict(self.items())

    def __eq__(self, other: object) -> bool:
        """Whether another mapping has the same entries, in any order. O(bytes of the store).

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(ada=1, bob=2)
        ...     d == {"bob": 2, "ada": 1}
        True
        """
        if self is other:
            return True
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and self.copy() == dict(other.items())

    __hash__ = None

    @overload
    def __or__(self, other: Mapping[K, V], /) -> dict[K, V]: ...
    @overload
    def __or__(self, other: Mapping[K2, V2], /) -> dict[K | K2, V | V2]: ...
    def __or__(self, other: Any, /) -> Any:
        """A plain dict with the entries of both; the other's win. O(bytes of the store).

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(ada=1, bob=2)
        ...     d | {"bob": 3}
        {'ada': 1, 'bob': 3}
        """
        if not isinstance(other, (dict, DictMethods)):
            return NotImplemented
        return {**self.copy(), **other}

    @overload
    def __ror__(self, other: dict[K, V], /) -> dict[K, V]: ...
    @overload
    def __ror__(self, other: dict[K2, V2], /) -> dict[K | K2, V | V2]: ...
    def __ror__(self, other: Any, /) -> Any:
        """A plain dict with the entries of both; the map's win. O(bytes of the store)."""
        if not isinstance(other, dict):
            return NotImplemented
        return {**other, **self.copy()}

    @overload  # type: ignore[misc]
    def __ior__(self, other: SupportsKeysAndGetItem[K, V], /) -> Self: ...
    @overload
    def __ior__(self, other: Iterable[tuple[K, V]], /) -> Self: ...
    def __ior__(self, other: Any, /) -> Self:  # type: ignore[misc]
        """As `update`: all of it is written, or nothing.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d |= {"ada": 1}
        ...     dict(d)
        {'ada': 1}
        """
        self.update(other)
        return self

    def __copy__(self) -> NoReturn:
        raise TypeError("a KVMap owns its store and can't be copied; d.copy() makes a plain dict")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a KVMap owns its store and can't be pickled; send d.path and open it there once it "
            "is closed here, or send d.copy()"
        )


def pairs_of(other: Any, more: Mapping[Any, Any]) -> dict[Any, Any]:
    """What `dict.update(other, **more)` would take: a mapping, or an iterable of pairs."""
    pairs: dict[Any, Any] = {}
    if isinstance(other, dict):
        pairs.update(other)
    elif isinstance(other, Mapping):
        pairs.update(other.items())
    elif hasattr(other, "keys"):
        pairs.update((key, other[key]) for key in other.keys())  # noqa: SIM118
    else:
        pairs.update(other)
    pairs.update(more)
    return pairs
