"""The index: where each key's latest record stands, and in which order the keys are.

`loading` fills it, `lookup` asks it. Readers use `entries` without a lock, so each change of it is
one call of a dict's method, or is made with the gate held and `settled` False.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from kvmap.deadlines import Deadlines
from kvmap.disk.hint import Coverage
from kvmap.disk.records import UNTIMED, Entry, deadline, line_size, place, unpack_shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import Steps
from kvmap.keys import Key


class Index:
    """The keys of an open store. Whoever calls what changes it holds the engine's lock."""

    def __init__(self, shards: Shards, steps: Steps, now: Callable[[], float], seq: int) -> None:
        self.entries: dict[Key, Entry] = {}
        """The same dict as long as the store is open."""
        self.settled = False
        """Whether a key that `entries` lacks is missing: all shards are parsed, and no change is
        under way that takes more than one call."""
        self.complete = False
        """Whether all shards are loaded."""
        self.ordered = False
        """Whether `entries` is in the map's order."""
        self.all_parsed = False
        """Whether all shards may be written to and read from; see `Shard.parsed`."""
        self.seq = seq
        """The highest sequence number so far."""
        self.deadlines = Deadlines()
        self.closed = False
        """Whether nothing can be loaded any more."""
        self.expired = 0
        """Entries found expired so far."""
        self.unseen = 0
        """Entries that left `entries` without being deleted: they expired, or were evicted."""
        self.gate = threading.RLock()
        """Held while entries and maps change together. Taken after the lock of `turn`, if both are."""
        self.hint: Coverage | None = None
        """What the hint file covers, once it was read or written."""
        self._shards = shards
        self._steps = steps
        self._now = now
        self.note_loaded()

    @property
    def net_size(self) -> int:
        """Entries inserted less entries deleted."""
        return len(self.entries) + self.unseen

    def note_loaded(self) -> None:
        """Find out what the shards that are loaded and parsed by now make true."""
        if self.closed:
            return  # nothing is in it any more
        self.all_parsed = all(shard.parsed for shard in self._shards.all)
        if all(shard.loaded for shard in self._shards.all):
            self.complete = True
            self.settled = self.all_parsed
            self.ordered = self.ordered or len(self.entries) < 2

    # All entries at once

    def refill(self, entries: dict[Key, Entry]) -> None:
        """Hold these entries in this order. All of it is done, or the shards are read again."""
        before, self._steps.current = self._steps.current, Reload(self)
        with self.gate:
            # Where this is interrupted, whoever reads comes to load, and so to settle it.
            complete, loaded = self.complete, [shard.loaded for shard in self._shards.all]
            self.settled = self.complete = self.ordered = False
            for shard in self._shards.all:
                shard.loaded = False
            self.entries.clear()
            self.entries.update(entries)
            for shard, each in zip(self._shards.all, loaded, strict=True):
                shard.loaded = each
            self.complete = complete
            self.settled = complete and self.all_parsed
        self._steps.current = before

    def reload(self) -> None:
        """Hold nothing, so that the shards are read, and not the hint file, when they are needed."""
        with self.gate:
            for shard in self._shards.all:
                shard.loaded = shard.parsed = False
            self._drop_all()
        self.hint = Coverage([])
        self.deadlines.rebuild([])

    def _drop_all(self) -> None:
        self.settled = self.complete = self.ordered = self.all_parsed = False
        self.entries.clear()

    def forget(self) -> None:
        """The store was emptied: nothing is in it."""
        with self.gate:
            self.entries.clear()
            self.complete = self.ordered = self.settled = self.all_parsed = True
        self.deadlines.rebuild([])
        self.hint = Coverage([])

    def abandon(self) -> None:
        """In a forked child: a thread of the parent may have had the gate."""
        self.gate = threading.RLock()
        self.close()

    def close(self) -> None:
        """Hold nothing any more, so that every reader finds out that the store is closed."""
        self.seq += 1
        self.closed = True
        with self.gate:
            self._drop_all()

    # Deadlines

    def sweep(self) -> None:
        """Take expired entries out; their bytes go at the next compaction."""
        now = self._now()
        if self.deadlines.soonest > now:
            return
        before, self._steps.current = self._steps.current, _Sweep(self)
        for moment, _, key in self.deadlines.due(now):
            entry = self.entries.get(key)
            if entry is not None and deadline(entry) == moment:
                del self.entries[key]
                self.unseen += 1
                self.expired += 1
                self._shards.all[unpack_shard(entry)[0]].live -= line_size(entry)
        self._steps.current = before

    def trim_deadlines(self) -> None:
        """Begin anew where most deadlines were replaced before they came."""
        if len(self.deadlines) > 2 * len(self.entries) + 1024:
            self.deadlines.rebuild(
                (deadline(entry), place(entry), key)
                for key, entry in self.entries.items()
                if len(entry) > UNTIMED
            )

    def recount(self) -> None:
        """Add the shards' live bytes up anew, after a step that was interrupted. O(entries)."""
        live = [0] * len(self._shards.all)
        for entry in self.entries.values():
            live[unpack_shard(entry)[0]] += line_size(entry)
        for shard in self._shards.all:
            if shard.loaded:
                shard.live = live[shard.number]


class Reload:
    """A step after which the index may hold less than all of it."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def settle(self) -> None:
        """Let everything be read again."""
        self._index.reload()


class _Sweep:
    def __init__(self, index: Index) -> None:
        self._index = index
        self._net_size, self._expired = index.net_size, index.expired - index.unseen

    def settle(self) -> None:
        """Count what an interrupt may have left half counted."""
        index = self._index
        index.unseen = self._net_size - len(index.entries)
        index.expired = self._expired + index.unseen
        index.recount()
