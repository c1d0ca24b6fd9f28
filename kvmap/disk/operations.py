"""What each operation reads and writes, once its keys' shards are parsed and the lock is held."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from kvmap import values
from kvmap.disk.index import Index
from kvmap.disk.lookup import Lookup
from kvmap.disk.records import Entry, deadline, place
from kvmap.disk.room import Room
from kvmap.disk.writer import Writer
from kvmap.engine import INF, KEEP_DEADLINE, If
from kvmap.eviction import Queue
from kvmap.keys import Key


class Operations:
    """The steps of an engine's methods of the same names, whose docstrings hold."""

    def __init__(
        self,
        index: Index,
        lookup: Lookup,
        writer: Writer,
        room: Room,
        now: Callable[[], float],
        ttl: float,
    ) -> None:
        self.ttl = ttl
        """Seconds that an entry lives where a write does not say."""
        self._entries = index.entries
        self._lookup = lookup
        self._writer = writer
        self._room = room
        self._now = now
        self._queue = Queue(lambda: self._entries, place)
        """Where `popitem` finds the oldest entry."""

    def moment(self, old: Entry | None, ttl: float) -> float:
        """The deadline of an entry that is written over `old`."""
        if ttl == KEEP_DEADLINE:
            if old is not None:
                return deadline(old)
            ttl = self.ttl
        return INF if ttl == INF else self._now() + ttl

    def holds(self, condition: If | bytes, key: Key, old: Entry | None) -> bool:
        """Whether an entry is as the condition of a `put` wants it."""
        if isinstance(condition, If):
            return (condition is If.ABSENT) is (old is None)
        return old is not None and self._lookup.read_text(key, old) == condition

    def put_many(self, texts: Mapping[Key, bytes], ttl: float) -> None:
        if ttl == KEEP_DEADLINE:
            deadlines = [self.moment(self._entries.get(key), ttl) for key in texts]
        else:
            deadlines = [self.moment(None, ttl)] * len(texts)
        self._writer.change(texts, deadlines, ())

    def put_until(
        self, entries: Mapping[Key, tuple[bytes, float]], gone: Collection[Key] = ()
    ) -> None:
        """Delete `gone` first; a key whose deadline has passed is deleted, too."""
        now, texts, deadlines = self._now(), dict[Key, bytes](), list[float]()
        for key, (text, expires) in entries.items():
            if expires > now:
                texts[key] = text
                deadlines.append(expires)
        self._writer.change(texts, deadlines, {*gone, *(entries.keys() - texts.keys())})

    def setdefault(self, key: Key, text: bytes, ttl: float) -> bytes:
        old = self._entries.get(key)
        if old is not None:
            if self._room.marks is not None:
                self._room.marks.add(key)
            return self._lookup.read_text(key, old)
        self._writer.put(key, None, text, self.moment(None, ttl))
        return text

    def incr(
        self, key: Key, by: int | float, default: int | float | None, ttl: float
    ) -> int | float:
        old = self._entries.get(key)
        there = None if old is None else self._lookup.read_text(key, old)
        text, total = values.increment(key, there, by, default)
        self._writer.put(key, old, text, self.moment(old, ttl))
        return total

    def expire(self, key: Key, ttl: float) -> bool:
        old = self._entries.get(key)
        if old is None:
            return False
        self._writer.put(key, old, self._lookup.read_text(key, old), self.moment(old, ttl))
        return True

    def pop(self, key: Key) -> bytes | None:
        old = self._entries.get(key)
        if old is None:
            return None
        text = self._lookup.read_text(key, old)
        self._writer.delete(key, old)
        return text

    def popitem(self, last: bool) -> tuple[Key, bytes] | None:
        entries = self._entries
        if not entries:
            return None
        key = next(reversed(entries)) if last else self._queue.first()
        text = self._lookup.read_text(key, entries[key])
        self._writer.delete(key, entries[key])
        return key, text

    def delete(self, key: Key) -> bool:
        old = self._entries.get(key)
        if old is None:
            return False
        self._writer.delete(key, old)
        return True

    def delete_many(self, wanted: list[Key]) -> int:
        before = len(self._entries)
        self._writer.change({}, [], wanted)
        return before - len(self._entries)
