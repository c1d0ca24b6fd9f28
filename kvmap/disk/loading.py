"""Filling the index: shard by shard, when a key is first asked for, or from the hint file.

The methods that begin with `load` and `parse` are for readers: they take the lock, and settle what
was left behind. Those that begin with `prepare` are for a write, which has done both and begun a
step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from kvmap import keys
from kvmap.disk import hint, loader
from kvmap.disk.index import Index, Reload
from kvmap.disk.manifest import NAME, OUTDATED
from kvmap.disk.places import TIED, rising, tied
from kvmap.disk.records import UNTIMED, Entry, deadline, place, span, unpack_shard
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import BEGUN, Steps
from kvmap.engine import Progress
from kvmap.errors import CorruptStoreError
from kvmap.keys import Key
from kvmap.turn import Turn


class Loading:
    """Reads the shards, or the hint file, into the index of an open store."""

    def __init__(
        self,
        index: Index,
        shards: Shards,
        turn: Turn,
        steps: Steps,
        now: Callable[[], float],
        closed_seq: int,
    ) -> None:
        """`closed_seq`: the highest sequence number of the shards that the last close vouches for."""
        self._closed_seq = closed_seq
        self._counts: Counter[int] = Counter()
        """Entries of each shard, as the hint file has named them."""
        self._counted_at = -1
        """How many entries had expired when these were counted."""
        self._index = index
        self._shards = shards
        self._turn = turn
        self._steps = steps
        self._now = now

    # For readers

    def parse(self, shard: Shard) -> None:
        """Take a shard's records apart, so that it may be written to and its values read.

        Where the hint file has named its keys, this checks them. What it said is forgotten where
        any of it was wrong.
        """
        if not shard.parsed:
            self._steps.check_reentry()
            with self._turn.lock:
                self._steps.settle()
                self._parse(shard)

    def parse_all(self) -> None:
        """Parse all shards, and put the entries in the map's order. O(bytes of the shards).

        Raises CorruptStoreError for damage, and where two entries have one place in the order.
        """
        if not (self._index.all_parsed and self._index.ordered):
            self._steps.check_reentry()
            with self._turn.lock:
                self._steps.settle()
                self.prepare_all()

    def load_all(self, progress: Progress | None = None) -> None:
        """Let the index know all keys. O(bytes of the shards), or of the hint file."""
        if not self._index.complete:
            self._steps.check_reentry()
            with self._turn.lock:
                self._steps.settle()
                self._load_all(progress)

    def load_in_order(self) -> None:
        """The same, with the entries in the map's order.

        Raises CorruptStoreError also where two entries have one place in it.
        """
        if not (self._index.complete and self._index.ordered):
            self._steps.check_reentry()
            with self._turn.lock:
                self._steps.settle()
                self._load_all(None)
                self._sort()

    # For a write

    def prepare(self, wanted: Iterable[Key]) -> None:
        """Parse the shards of these keys."""
        for key in wanted:
            if self._index.all_parsed:
                break
            try:
                number = keys.bucket(key, self._shards.mask)
            except TypeError:
                self.prepare_all()  # what JSON can't hold may be equal to a key all the same
            else:
                self._parse(self._shards.all[number])

    def prepare_all(self) -> None:
        """Parse all shards, and put the entries in the map's order. Raises as `parse_all`."""
        index = self._index
        while not (index.all_parsed and index.ordered) and not index.closed:
            for shard in self._shards.all:
                self._parse(shard)
            index.note_loaded()  # an interrupt may have come between the last two steps
            self._sort()

    # How

    def _parse(self, shard: Shard) -> None:
        while not shard.parsed and not self._index.closed:
            self._load(shard)

    def _load(self, shard: Shard) -> None:
        index = self._index
        before, self._steps.current = self._steps.current, BEGUN
        exact = shard.known.exact
        table = loader.load(self._shards, shard)
        if exact and table.last_seq > self._closed_seq:
            raise CorruptStoreError(self._shards.store_folder.file_path(NAME), 0, OUTDATED)
        index.seq = max(index.seq, table.last_seq)
        found = loader.latest(table)
        expired = self._drop_expired(found, shard) if table.timed else 0
        if shard.loaded and not self._agrees(shard, found):
            index.reload()
        shard.live = loader.live_bytes(found)
        if not shard.loaded:
            if table.timed:
                for key, entry in found.items():
                    if len(entry) > UNTIMED:
                        try:
                            index.deadlines.push(deadline(entry), place(entry), key)
                        except TypeError:
                            raise CorruptStoreError(shard.path, span(entry)[0], TIED) from None
            with index.gate:
                index.entries.update(found)
                index.ordered = False
            index.expired += expired
            index.unseen += expired
        shard.loaded = shard.parsed = True
        self._steps.current = before
        index.note_loaded()

    def _drop_expired(self, found: dict[Key, Entry], shard: Shard) -> int:
        """Take out what has expired, and return how many entries that are."""
        now, names = self._now(), list[Key]()
        for key, entry in found.items():
            # The hint file may have named it, and no sweep has passed since.
            if deadline(entry) <= now and not (shard.loaded and key in self._index.entries):
                names.append(key)
        for key in names:
            del found[key]
        return len(names)

    def _agrees(self, shard: Shard, found: dict[Key, Entry]) -> bool:
        """Whether the hint file has named the entries that the shard's file holds."""
        entries = self._index.entries
        if self._counted_at != self._index.expired:
            # In one pass for all shards. Of those that are not parsed, entries go by expiry alone.
            self._counted_at = self._index.expired
            self._counts = Counter([unpack_shard(entry)[0] for entry in entries.values()])
        return self._counts[shard.number] == len(found) and all(
            entries.get(key) == entry for key, entry in found.items()
        )

    def _load_all(self, progress: Progress | None) -> None:
        index = self._index
        while not index.complete and not index.closed:
            if not self._load_hint():
                for number, shard in enumerate(self._shards.all):
                    if not shard.loaded:
                        self._load(shard)
                    if progress is not None:
                        progress(number + 1, len(self._shards.all))
            index.note_loaded()

    def _load_hint(self) -> bool:
        """Load all keys from the hint file, where that is quicker."""
        index = self._index
        if index.hint is not None:
            return False
        before, self._steps.current = self._steps.current, BEGUN
        found = hint.load(self._shards)
        if found is None:
            index.hint = hint.Coverage([])
        else:
            self._steps.current = Reload(index)
            index.hint = found.coverage
            self._counted_at = -1
            for shard in self._shards.all:
                # Also one that was read before has to agree, and nobody reads its map until then.
                shard.parsed = False
                shard.unmap()
            # What was found expired so far is in the hint file, and found again.
            index.expired = index.unseen = 0
            index.refill(found.entries)
            timed = found.entries.items() if found.timed else ()
            try:
                index.deadlines.rebuild(
                    (deadline(entry), place(entry), key)
                    for key, entry in timed
                    if len(entry) > UNTIMED
                )
            except TypeError:  # a forged one has two entries with one place
                index.reload()
                self._steps.current = before
                return False
            for shard, live in zip(self._shards.all, found.live, strict=True):
                shard.live = live
                shard.loaded = True
            index.note_loaded()
        self._steps.current = before
        return found is not None

    def _sort(self) -> None:
        """Put the entries in the map's order, once all of them are there."""
        index = self._index
        if index.ordered or not index.complete:
            return
        before, self._steps.current = self._steps.current, BEGUN
        index.sweep()
        items = list(index.entries.items())
        places = [place(entry) for _, entry in items]
        if not rising(places):
            order = sorted(range(len(items)), key=places.__getitem__)
            ordered = dict([items[i] for i in order])
            if not rising([places[i] for i in order]):
                stray = tied(ordered.values())
                self._steps.current = before
                path = self._shards.all[unpack_shard(stray)[0]].path
                raise CorruptStoreError(path, span(stray)[0], TIED)
            index.refill(ordered)
        index.ordered = True
        self._steps.current = before
