"""Room for a write: how much a store may hold, and which entries go to keep it within that."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kvmap.disk.index import Index
from kvmap.disk.loader import live_bytes
from kvmap.disk.records import TAIL, Entry, head, line_size, place
from kvmap.disk.shards import Shards
from kvmap.engine import INF
from kvmap.eviction import Bounds
from kvmap.keys import Key
from kvmap.keys import text as key_text
from kvmap.settings import Settings

_MOST_BESIDE = 192
"""Bytes of a record beside its key and its value, at the most."""


class Room:
    """The bounds of an open store, and what stands against them. The caller has the lock."""

    def __init__(self, index: Index, shards: Shards, settings: Settings) -> None:
        self._index = index
        self._entries = index.entries
        self._shards = shards
        self.use(settings)

    def use(self, settings: Settings) -> None:
        """Keep to these settings from now on, with no marks."""
        limits = settings.limits
        self.bounded = limits.entries is not None or limits.store_bytes is not None
        """Whether `has` is to be asked before a write."""
        self._most_entries = INF if limits.entries is None else limits.entries
        self._most_bytes = INF if limits.store_bytes is None else limits.store_bytes
        self._spare_bytes: float = 0
        """Bytes that may be written until the live bytes are to be counted again."""
        self._bounds = Bounds(
            settings, lambda: self._entries, place, lambda key, entry: line_size(entry)
        )
        self.marks = self._bounds.marks
        """As `Bounds.marks`."""

    def has(self, key: Key, old: Entry | None, text: bytes) -> bool:
        """Whether a record surely fits, without its exact size and a sum over all shards."""
        if old is None and len(self._entries) >= self._most_entries:
            return False
        if self._most_bytes != INF:
            if type(key) is not str:
                return False
            # A character takes at most six bytes of JSON.
            self._spare_bytes -= len(text) + 6 * len(key) + _MOST_BESIDE
            if self._spare_bytes < 0:
                return False
        if old is not None and self.marks is not None:
            self.marks.add(key)
        return True

    def victims(
        self, texts: Mapping[Key, bytes], deadlines: Sequence[float], gone: Collection[Key]
    ) -> list[Key]:
        """What is to be evicted before this is written and deleted. Marks what is overwritten.

        Raises LimitError where nothing may be evicted.
        """
        entries = self._entries
        touched = {**texts, **dict.fromkeys(gone)} if gone else texts
        there = {key: entries[key] for key in touched if key in entries}
        count = len(entries) - len(there) + len(texts)
        live = growth = 0
        if self._most_bytes != INF:
            live = self._shards.live
            growth = self._growth(texts, deadlines, set(gone), there)
        victims = self._bounds.victims(count, live + growth, live, touched)
        if self._most_bytes != INF:
            freed = sum([line_size(entries[key]) for key in victims])
            self._spare_bytes = self._most_bytes - (live - freed) - growth
        if self.marks is not None:
            self.marks.update(there)
        return victims

    def forget(self, deleted: Collection[Key]) -> None:
        """Drop the marks of what was deleted."""
        self._bounds.forget(deleted)

    def _growth(
        self,
        texts: Mapping[Key, bytes],
        deadlines: Sequence[float],
        gone: set[Key],
        there: Mapping[Key, Entry],
    ) -> int:
        """By how many bytes the live records grow; `there`: the entries that are replaced or go."""
        growth = -live_bytes(there)
        for (key, text), expires in zip(texts.items(), deadlines, strict=True):
            old = None if key in gone else there.get(key)
            first = 0 if old is None else place(old)
            growth += len(head(key_text(key), self._index.seq + 1, first, expires))
            growth += len(text) + TAIL
        return growth
