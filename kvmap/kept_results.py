"""What a memoized function does with the map: its results in and out, and their count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple, Protocol

import orjson

from kvmap.errors import KVMapError, LimitError, ReadOnlyError
from kvmap.keys import Key, shown
from kvmap.settings import Default, Seconds, check_ttl
from kvmap.single_flight import MISSING
from kvmap.transactions import Transaction
from kvmap.wait_graph import GUARD, Node


class ResultMap(Protocol):
    """What memoizing needs of a map; `KVMap` has it."""

    @property
    def in_block(self) -> bool:
        """Whether the calling thread or task is inside a transaction or an edit of the map."""
        ...

    def get(self, key: Any, default: Any, /) -> Any: ...
    def set(self, key: Any, value: Any, *, ttl: Any = ...) -> None: ...
    def delete_many(self, keys: Iterable[Any], /) -> int: ...
    def transaction(self) -> Transaction: ...
    def __iter__(self) -> Iterator[Any]: ...


class CacheInfo(NamedTuple):
    """How the calls of a memoized function went, in this process."""

    hits: int
    """Calls that returned a kept result, or the one that another call computed meanwhile."""
    misses: int
    """Calls of the function itself, those of `refresh` included."""
    unkept: int
    """Results that were returned and not kept: the map had no room, or is read-only."""


class KeptResults:
    """The results of one function in a map.

    >>> import kvmap
    >>> with kvmap.open(":memory:") as d:
    ...     results = KeptResults(d, ttl=60)
    ...     results.keep("area", (2, 3), Node()), results.get("area"), d["area"]
    ([2, 3], [2, 3], [2, 3])
    """

    def __init__(self, d: ResultMap, ttl: Seconds | Default, type: Any = None) -> None:
        self._d, self._ttl, self._type = d, ttl, type
        if not isinstance(ttl, Default):
            check_ttl(ttl)  # here, and not at the first call
        self._options: dict[str, Any] = {} if isinstance(ttl, Default) else {"ttl": ttl}
        self._codec: Any = None
        if type is not None:
            from kvmap import codecs

            self._codec = codecs.make("json", type=type)
        self._hits = self._misses = self._unkept = 0

    def fresh(self) -> KeptResults:
        """The same for another function, with counts of its own."""
        return KeptResults(self._d, self._ttl, self._type)

    def is_in_block(self) -> bool:
        """Whether the caller is inside a block that other threads' writes wait for."""
        return self._d.in_block

    def get(self, key: Key) -> Any:
        """The kept result, or MISSING. Raises what decoding raises, with a note."""
        found = self._d.get(key, MISSING)
        if found is MISSING or self._codec is None:
            return found
        try:
            return self._codec.decode(orjson.dumps(found))
        except Exception as error:
            error.add_note(
                f"that is the kept result of {shown(key)}; forget() it, or change version= when "
                "the type of the results changes"
            )
            raise

    def own(self, key: Key, value: Any) -> Any:
        """The result that another call has computed, as a copy that only this caller has."""
        found = self.get(key)
        return deepcopy(value) if found is MISSING else found

    def keep(self, key: Key, value: Any, node: Node, *, replace: bool = False) -> Any:
        """Keep a result, and return it as the map gives it back.

        Where the map has no room for it, or it is no longer wanted, it is returned as it is. With
        `replace`, an older result is removed where this one finds no room.

        Raises TypeError or ValueError, with a note, for what the map can't hold.
        """
        try:
            stored = value if self._codec is None else orjson.loads(self._codec.encode(value))
            if not node.is_wanted():
                return value
            self._d.set(key, stored, **self._options)
        except LimitError:
            self._no_room(key, replace)
            return value
        except Exception as error:
            if isinstance(error, ReadOnlyError) and not replace:
                self._count(unkept=1)
                return value
            error.add_note(f"that is the result of {shown(key)}, which was to be kept")
            raise
        found = self.get(key)
        if not node.is_wanted():  # forgotten since the look above
            self.remove(key)
        return value if found is MISSING else found

    async def keep_in_turn(self, key: Key, value: Any, node: Node, *, replace: bool = False) -> Any:
        """As `keep`; where another task of the thread is inside a block, waits for that to end."""
        try:
            return self.keep(key, value, node, replace=replace)
        except KVMapError:
            raise
        except RuntimeError:
            pass  # that of a write which would wait for its own thread
        try:
            async with self._d.transaction():
                return self.keep(key, value, node, replace=replace)
        except LimitError:  # the end of a transaction looks for room
            self._no_room(key, replace)
            return value

    def _no_room(self, key: Key, replace: bool) -> None:
        self._count(unkept=1)
        if replace:
            self.remove(key)

    def remove(self, key: Key) -> bool:
        """Remove a result; return whether it was there."""
        return self._d.delete_many([key]) > 0

    def remove_all(self, owns: Callable[[Key], bool]) -> int:
        """Remove the results of these keys, and return how many were there. O(keys of the map)."""
        try:
            found = [key for key in self._d if owns(key)]
        except KVMapError:
            raise
        except RuntimeError:  # another thread has inserted or deleted an entry meanwhile
            with self._d.transaction():
                found = [key for key in self._d if owns(key)]
        return self._d.delete_many(found)

    def count_hit(self) -> None:
        """A call found its result."""
        self._count(hits=1)

    def count_miss(self) -> None:
        """A call computes its result."""
        self._count(misses=1)

    def info(self) -> CacheInfo:
        """The counts."""
        with GUARD:
            return CacheInfo(self._hits, self._misses, self._unkept)

    def _count(self, *, hits: int = 0, misses: int = 0, unkept: int = 0) -> None:
        with GUARD:
            self._hits += hits
            self._misses += misses
            self._unkept += unkept
