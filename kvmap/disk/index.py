"""The index: where each key's latest record stands, and in which order the keys are.

A shard is loaded when a key of it is first asked for; what needs all keys loads the rest, from the
hint file where that serves. Readers use `entries` without a lock, so each change of it is one call
of a dict's method, or is made with the gate held and `settled` False.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from zlib import crc32

from kvmap import keys
from kvmap.deadlines import Deadlines
from kvmap.disk import hint, loader
from kvmap.disk.records import (
    UNTIMED,
    Entry,
    deadline,
    place,
    unpack_order,
    unpack_shard,
    unpack_value,
)
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import BEGUN, Steps
from kvmap.engine import Progress
from kvmap.errors import CorruptStoreError
from kvmap.keys import Key, shown
from kvmap.turn import Turn


class Index:
    """The keys of an open store."""

    def __init__(
        self, shards: Shards, turn: Turn, steps: Steps, now: Callable[[], float], seq: int
    ) -> None:
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
        self.hint: hint.Coverage | None = None
        """What the hint file covers, once it was read or written."""
        self._shards = shards
        self._turn = turn
        self._steps = steps
        self._now = now
        self._note_loaded()

    # Looking up

    def find(self, key: Any) -> Entry | None:
        """The entry of a key, expired or not; loads its shard where it must."""
        parsed = self.all_parsed  # asked first, for another thread may load the rest meanwhile
        if self._steps.current is not None:
            self._steps.check_reentry()
        with self.gate:
            entry = self.entries.get(key)
        if entry is None and not parsed:
            try:
                number = keys.bucket(key, self._shards.mask)
            except TypeError:
                # What JSON can't hold may be equal to a key all the same, as Decimal(1) is to 1.
                self.prepare_all()
            else:
                # The hint file may lack a key. The shard itself says whether it is missing.
                self.parse(self._shards.all[number])
            with self.gate:
                entry = self.entries.get(key)
        return entry

    def text(self, key: Key, entry: Entry) -> bytes | None:
        """The text of an entry's record where its map does not hold it, or not yet.

        None where the entry is gone by now. Raises CorruptStoreError for a damaged record.
        """
        start, end, seed, crc, number = unpack_value(entry)
        if number <= self._shards.mask and (shard := self._shards.all[number]).parsed:
            try:
                data: bytes = shard.read(start, end)
            except OSError:  # compaction may have closed the file meanwhile
                data = b""
            if crc32(data, seed) == crc:
                if shard.outgrown:
                    with self.gate:
                        shard.map()
                return data
        return self._text_at_rest(key)

    def _text_at_rest(self, key: Key) -> bytes | None:
        """The same while nothing moves."""
        found = self.find(key)
        if found is not None:
            self.parse(self._shards.all[unpack_shard(found)[0]])
        with self.gate:
            found = self.entries.get(key)
            if found is None:
                return None
            data = self.read_text(key, found)
            self._shards.all[unpack_shard(found)[0]].map()
        return data

    def read_text(self, key: Key, entry: Entry) -> bytes:
        """The text of an entry's record, for a caller who keeps it from being moved.

        Raises CorruptStoreError for a damaged record.
        """
        start, end, seed, crc, number = unpack_value(entry)
        shard = self._shards.all[number]
        data: bytes = shard.read(start, end)
        if crc32(data, seed) != crc:
            raise CorruptStoreError(
                shard.path, start, f"the value of key {shown(key)} has a wrong checksum"
            )
        return data

    # Loading

    def parse(self, shard: Shard) -> None:
        """Take a shard's records apart, so that it may be written to and its values read.

        Where the hint file has named its keys, this checks them. What it said is forgotten where
        any of it was wrong.
        """
        if not shard.parsed:
            self._steps.check_reentry()
            with self._turn.lock:
                self._steps.settle()
                if not shard.parsed and not self.closed:
                    self._load(shard)

    def _load(self, shard: Shard) -> None:
        before, self._steps.current = self._steps.current, BEGUN
        table = loader.load(self._shards, shard)
        found = loader.latest(table)
        expired = self._drop_expired(found, shard) if table.timed else 0
        if shard.loaded and not self._agrees(shard, found):
            self._forget_hint()
        shard.live = loader.live_bytes(found)
        if not shard.loaded:
            if table.timed:
                self._push(found)
            self.seq = max(self.seq, table.last_seq)
            with self.gate:
                self.entries.update(found)
                self.ordered = False
            self.expired += expired
            self.unseen += expired
        shard.loaded = shard.parsed = True
        self._steps.current = before
        self._note_loaded()

    def _drop_expired(self, found: dict[Key, Entry], shard: Shard) -> int:
        """Take out what has expired, and return how many entries that are."""
        now, names = self._now(), list[Key]()
        for key, entry in found.items():
            # The hint file may have named it, and no sweep has passed since.
            if deadline(entry) <= now and not (shard.loaded and key in self.entries):
                names.append(key)
        for key in names:
            del found[key]
        return len(names)

    def _push(self, found: dict[Key, Entry]) -> None:
        for key, entry in found.items():
            if len(entry) > UNTIMED:
                self.deadlines.push(deadline(entry), place(entry), key)

    def _agrees(self, shard: Shard, found: dict[Key, Entry]) -> bool:
        """Whether the hint file has named the entries that the shard's file holds."""
        entries = self.entries
        mine = sum([unpack_shard(entry)[0] == shard.number for entry in entries.values()])
        return mine == len(found) and all(entries.get(key) == entry for key, entry in found.items())

    def _forget_hint(self) -> None:
        """Load everything anew, from the shards."""
        self.hint = hint.Coverage([])
        self._forget_entries()
        for each in self._shards.all:
            each.loaded = each.parsed = False

    def _forget_entries(self) -> None:
        with self.gate:
            self.settled = self.complete = self.ordered = False
            self.entries.clear()

    def prepare(self, wanted: Iterable[Key]) -> None:
        """Parse the shards of keys that are to be written. The caller has the lock, and no step."""
        for key in wanted:
            if self.all_parsed:
                break
            try:
                number = keys.bucket(key, self._shards.mask)
            except TypeError:
                self.prepare_all()  # what JSON can't hold may be equal to a key all the same
            else:
                self.parse(self._shards.all[number])

    def prepare_all(self) -> None:
        """Parse all shards, and put the entries in the map's order."""
        while not (self.all_parsed and self.ordered) and not self.closed:
            self.load_in_order()
            for shard in self._shards.all:
                self.parse(shard)
            with self._turn.lock:
                self._note_loaded()  # an interrupt may have come between the last two steps

    def load_all(self, progress: Progress | None = None) -> None:
        """Let the index know all keys. O(bytes of the shards), or of the hint file."""
        if not self.complete:
            self._steps.check_reentry()
            with self._turn.lock:
                self._steps.settle()
                while not self.complete and not self.closed:
                    if not self._load_hint():
                        for number, shard in enumerate(self._shards.all):
                            if not shard.loaded:
                                self._load(shard)
                            if progress is not None:
                                progress(number + 1, len(self._shards.all))
                    self._note_loaded()

    def load_in_order(self) -> None:
        """The same, with the entries in the map's order."""
        if not self.ordered:
            self.load_all()
            self._steps.check_reentry()
            with self._turn.lock:
                self._steps.settle()
                if not self.ordered:
                    self._sort()

    def _note_loaded(self) -> None:
        if self.closed:
            return  # nothing is in it any more
        self.all_parsed = all(shard.parsed for shard in self._shards.all)
        if all(shard.loaded for shard in self._shards.all):
            self.complete = True
            self.settled = self.all_parsed
            self.ordered = self.ordered or len(self.entries) < 2

    def _sort(self) -> None:
        items = list(self.entries.items())
        places = [place(entry) for _, entry in items]
        if any(map(int.__gt__, places, places[1:])):
            order = sorted(range(len(items)), key=places.__getitem__)
            self.refill(dict([items[i] for i in order]))
        self.ordered = True

    def refill(self, entries: dict[Key, Entry]) -> None:
        """Hold the same entries in this order. All of it is done, or the shards are read again."""
        before, self._steps.current = self._steps.current, _Refill(self._reload)
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

    def _reload(self) -> None:
        """Read the shards again, when they are next asked for."""
        self._forget_hint()
        self.deadlines.rebuild([])

    def _load_hint(self) -> bool:
        """Load all keys from the hint file, where that is quicker."""
        if self.hint is not None:
            return False
        self.hint = hint.Coverage([])
        found = hint.load(self._shards)
        if found is None:
            return False
        # What was found expired so far is in the hint file, and found again.
        self.expired = self.unseen = 0
        self.refill(found.entries)
        self.deadlines.rebuild(
            [
                (deadline(entry), place(entry), key)
                for key, entry in found.entries.items()
                if len(entry) > UNTIMED
            ]
            if found.timed
            else []
        )
        for shard, live in zip(self._shards.all, found.live, strict=True):
            shard.live = live
            shard.loaded = True
            shard.parsed = False  # also one that was read before: it has to agree
        self.ordered = True
        self.hint = found.coverage
        return True

    # Deadlines

    def sweep(self) -> None:
        """Take expired entries out; their bytes go at the next compaction. The caller has the lock."""
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
                self._shards.all[unpack_shard(entry)[0]].live -= unpack_order(entry)[1]
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
            live[unpack_shard(entry)[0]] += unpack_order(entry)[1]
        for shard in self._shards.all:
            if shard.loaded:
                shard.live = live[shard.number]

    @property
    def net_size(self) -> int:
        """Entries inserted less entries deleted."""
        return len(self.entries) + self.unseen

    def forget(self) -> None:
        """The store was emptied: nothing is in it."""
        with self.gate:
            self.entries.clear()
            self.complete = self.ordered = self.settled = True
        self.deadlines.rebuild([])
        self.hint = hint.Coverage([])

    def abandon(self) -> None:
        """In a forked child: a thread of the parent may have had the gate."""
        self.gate = threading.RLock()
        self.close()

    def close(self) -> None:
        """Hold nothing any more, so that every reader finds out that the store is closed."""
        self.seq += 1
        self.closed = True
        self._forget_entries()


class _Refill:
    def __init__(self, reload: Callable[[], None]) -> None:
        self._reload = reload

    def settle(self) -> None:
        """What is in the index may be less than all of it."""
        self._reload()


class _Sweep:
    def __init__(self, index: Index) -> None:
        self._index = index
        self._net_size = index.net_size

    def settle(self) -> None:
        """Count what an interrupt may have left half counted."""
        self._index.unseen = self._net_size - len(self._index.entries)
        self._index.recount()
