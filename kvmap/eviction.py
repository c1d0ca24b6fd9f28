"""Which entries go where a store is at its bound: the oldest, or those that SIEVE finds unused.

SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024) keeps the keys in one queue, in
insertion order, with a visited mark for each and one hand. The hand moves from the oldest key to
the newest, and then starts again at the oldest. It takes the mark off each key that has one, and
evicts the first that has none. A read does nothing but set a mark, so it needs no lock.

The queue is the engine's own dict of entries, which is in insertion order already. So a write costs
nothing more until the bound is reached, and an entry takes no more memory until it is read: a mark
is a key in a set. Marks and hand live in memory only. A store that is opened again has no marks,
and its hand is at the oldest key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Generic, TypeVar

from kvmap.errors import LimitError
from kvmap.keys import Key, shown
from kvmap.settings import Settings

Entry = TypeVar("Entry")

_AHEAD, _AHEAD_PART = 512, 64
"""Entries that are evicted beyond what a write needs: at most so many, and one in so many.

Evictions that are made together cost less each, on disk above all: one append for each shard.
"""

_BEFORE_ALL = -1
"""A place before that of every entry."""


class Queue(Generic[Entry]):
    """The keys of a dict that changes meanwhile, from the oldest to the newest, and again.

    `entries` returns the dict, in insertion order. `place` returns a number from 0 up, which an
    entry keeps as long as it is there; it is higher for each entry that is inserted later. The
    dict's owner calls all methods under its lock.

    To take `next(iter(entries))` again and again is quadratic: it passes over the empty slots of
    all entries that were deleted at the front of the dict. So the queue copies the keys, steps
    through the copy, and then copies those that were inserted since. A step is O(1) amortized.

    >>> d = {"ada": 1, "bob": 2}
    >>> queue = Queue(lambda: d, lambda place: place)
    >>> d["eve"] = 3
    >>> queue.first(), queue.pop(), queue.pop(), queue.pop(), queue.pop()
    ('ada', 'ada', 'bob', 'eve', 'ada')
    """

    __slots__ = ("_copy", "_entries", "_place")

    def __init__(
        self, entries: Callable[[], dict[Key, Entry]], place: Callable[[Entry], int]
    ) -> None:
        self._entries, self._place = entries, place
        self._copy: tuple[list[Key], int] = ([], _BEFORE_ALL)
        """Keys to come, the next one last, and the place of the newest key that was copied."""

    def first(self) -> Key:
        """The key at which the queue stands. Raises KeyError where the dict is empty."""
        key = self.pop()
        self.put_back([key])
        return key

    def pop(self) -> Key:
        """As `first`, and step past the key.

        Past the newest key, the queue is at the oldest again, whatever is inserted until the next
        call.
        """
        entries, place = self._entries(), self._place
        while entries:
            names, newest = self._copy
            while names:
                key = names.pop()
                entry = entries.get(key)
                # A higher place: it was deleted and inserted again, so its turn comes later.
                if entry is not None and place(entry) <= newest:
                    if not names:
                        self._copy_more(entries)
                    return key
            self._copy_more(entries)
        raise KeyError("no entry is left")

    def put_back(self, popped: Sequence[Key]) -> None:
        """Stand at the first of these keys again; they are the last that `pop` returned."""
        names, newest = self._copy
        if newest != _BEFORE_ALL:  # where the queue is at the oldest key anyway
            names.extend(reversed(popped))

    def _copy_more(self, entries: dict[Key, Entry]) -> None:
        """Copy the keys that were inserted since the last copy; where there is none, start anew."""
        names, newest = self._copy
        if newest == _BEFORE_ALL:
            names = list(reversed(entries))
        else:
            names = []
            for key, entry in reversed(entries.items()):
                if self._place(entry) <= newest:
                    break
                names.append(key)
        self._copy = (names, self._place(entries[names[0]])) if names else ([], _BEFORE_ALL)


class Bounds(Generic[Entry]):
    """Keeps a store within `Settings.limits`, by eviction where the settings name a policy.

    `entries` and `place` are as for a `Queue`, `size` returns an entry's bytes. The engine calls
    `victims` under its lock, before it writes, and has taken out expired entries by then.

    >>> from kvmap.limits import Limits
    >>> d = {"ada": 1, "bob": 2, "eve": 3}
    >>> settings = Settings(limits=Limits(entries=3), evict="sieve")
    >>> bounds = Bounds(settings, lambda: d, place=lambda entry: entry, size=lambda key, entry: 9)
    >>> bounds.marks.add("ada")  # it was read
    >>> bounds.victims(count=4, size=36, live=27, written=["tom"])
    ['bob']
    """

    __slots__ = ("_entries", "_evicts", "_most_bytes", "_most_entries", "_queue", "_size", "marks")

    def __init__(
        self,
        settings: Settings,
        entries: Callable[[], dict[Key, Entry]],
        place: Callable[[Entry], int],
        size: Callable[[Key, Entry], int],
    ) -> None:
        limits = settings.limits
        self._entries, self._size = entries, size
        self._most_entries = math.inf if limits.entries is None else limits.entries
        self._most_bytes = math.inf if limits.store_bytes is None else limits.store_bytes
        self._evicts = settings.evict is not None
        self._queue = Queue(entries, place)
        self.marks: set[Key] | None = set() if settings.evict == "sieve" else None
        """Keys that were read or overwritten since the hand passed; None where nothing counts them.

        To add one needs no lock.
        """

    def victims(self, count: int, size: int, live: int, written: Collection[Key]) -> list[Key]:
        """The entries to delete before a write, so that the store is within its bounds after it.

        After the write and without eviction, the store would hold `count` entries of `size` bytes;
        now it holds `live` bytes. No key in `written`, those that the write inserts, overwrites or
        deletes, is a victim; where these are many, pass a dict or a set. O(1) amortized for each victim.

        Raises LimitError where eviction is off or does not help. Then nothing need be evicted.
        """
        if count <= self._most_entries and size <= self._most_bytes:
            return []
        entries = self._entries()
        if not self._evicts:
            self._refuse_growth(count, size, len(entries), live)
            return []
        if self.marks and len(self.marks) > len(entries):
            # A reader may have marked a key while it was deleted.
            self.marks.intersection_update(entries)
        own = [key for key in written if key in entries]
        self._check_alone(
            count - len(entries) + len(own),
            size - live + sum([self._size(key, entries[key]) for key in own]),
            written,
        )
        return self._choose(entries, count, size, len(entries) - len(own), written)

    def forget(self, deleted: Iterable[Key]) -> None:
        """Drop the marks of keys that were deleted: an entry that is inserted again has none."""
        if self.marks is not None:
            self.marks.difference_update(deleted)

    def _choose(
        self,
        entries: dict[Key, Entry],
        count: int,
        size: int,
        available: int,
        written: Collection[Key],
    ) -> list[Key]:
        chosen: dict[Key, None] = {}
        passed: list[Key] = []
        while len(chosen) < available and (count > self._most_entries or size > self._most_bytes):
            key = self._next()
            passed.append(key)
            if key not in chosen and key not in written:
                chosen[key] = None
                count -= 1
                size -= self._size(key, entries[key])
        for _ in range(min(_AHEAD, len(entries) // _AHEAD_PART, available - len(chosen))):
            key = self._next()
            passed.append(key)
            if key not in written:
                chosen[key] = None
        if self.marks is None:
            # The oldest entry is the oldest even if this write keeps it, or fails.
            self._queue.put_back(passed)
        return list(chosen)

    def _next(self) -> Key:
        """The next key that the policy gives up; the dict of entries is not empty."""
        key = self._queue.pop()
        if marks := self.marks:
            while key in marks:
                marks.discard(key)
                key = self._queue.pop()
        return key

    def _refuse_growth(self, count: int, size: int, entries: int, live: int) -> None:
        """Raise LimitError; not for a write that leaves no more of what is beyond its bound."""
        for what, wanted, there, most in (
            ("entries", count, entries, self._most_entries),
            ("bytes of records", size, live, self._most_bytes),
        ):
            if wanted > max(most, there):
                raise LimitError(
                    f"the store would hold {wanted} {what}, the limit is {most}; delete entries, or "
                    'open it with larger limits or with evict="sieve", which makes room by itself'
                )

    def _check_alone(self, count: int, size: int, written: Collection[Key]) -> None:
        """Raise LimitError where a write is beyond the bounds even in an empty store."""
        for what, wanted, most in (
            ("entries", count, self._most_entries),
            ("bytes of records", size, self._most_bytes),
        ):
            if wanted > most:
                name = f"key {shown(next(iter(written)))}" if len(written) == 1 else "the write"
                raise LimitError(
                    f"{name}: {wanted} {what} alone are more than the store's limit of {most}; "
                    "nothing was written or evicted"
                )
