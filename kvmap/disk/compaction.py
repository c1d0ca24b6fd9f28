"""Compaction: a shard's live records move into a new file, and its dead ones go.

What Bitcask's design paper calls a merge; here shard by shard, and in passing: a write that finds
its shard worn looks through one stretch of the shard whose compaction is under way, so that no write
waits for all of it. One shard is compacted at a time, which bounds what that needs: beside the new
file, an index entry for each of the shard's keys.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from zlib import crc32

from orjson import loads

from kvmap import keys
from kvmap.disk.fs import Syncing
from kvmap.disk.index import Index
from kvmap.disk.loader import live_bytes
from kvmap.disk.records import KEY, SEQ, Entry, moved, span, unpack_value
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import BEGUN, Steps
from kvmap.disk.tuning import Tuning
from kvmap.engine import Progress
from kvmap.errors import CorruptStoreError, StoreLockedError
from kvmap.keys import Key, shown


class _Copy:
    """A compaction that is under way."""

    __slots__ = ("begun_at", "done", "new", "places", "shard", "superseded", "synced", "syncing")

    def __init__(self, shards: Shards, shard: Shard) -> None:
        self.shard = shard
        self.begun_at = shard.end
        """Records behind this byte go along as they are: they may have deleted what was copied."""
        self.done = 0
        """Up to here the old file has been looked through."""
        self.places: dict[Key, Entry] = {}
        """What the index is to say when the new file is in place."""
        self.new = shards.new_file(shard)
        self.syncing: Syncing | None = None
        """The sync of the new file, once all records are copied that were there when this began."""
        self.synced = 0
        """Bytes of the new file that it is about."""
        self.superseded = False
        """Whether a record was left out for one that was written since, and so comes behind these."""

    def begin_sync(self) -> None:
        """Begin to sync the new file, so that nothing waits for it but this compaction."""
        self.syncing = self.new.begin_sync()
        self.synced = self.new.end


class Compactor:
    """Gives back the space of dead records. The caller has the lock, and has parsed the shard."""

    def __init__(self, index: Index, shards: Shards, steps: Steps, tuning: Tuning) -> None:
        self._index = index
        self._shards = shards
        self._steps = steps
        self._tuning = tuning
        self._copy: _Copy | None = None
        self.due = False
        """Whether a compaction is under way, or another shard may be worn."""

    def step_in_passing(self, shard: Shard, freed: int) -> None:
        """Go on with what is due, now that a write has made so many bytes of a worn shard dead.

        With 2.2 times as many, a store that is overwritten would just keep its size. The write that
        calls is done, so it must not fail. What stands in the way is met again by `compact`, or when
        the damaged record is read; a lost lock is met by the next write.
        """
        share = max(self._tuning.step_bytes, 4 * freed)
        with suppress(StoreLockedError):
            self._go_on(share, may_wait=self._may_take_long(shard))

    def go_on(self) -> None:
        """Go on with what is due: the compaction that is under way, or a worn shard's.

        Raises StoreLockedError where the lock was lost.
        """
        self._go_on(self._tuning.step_bytes, may_wait=True)

    def _go_on(self, share: int, *, may_wait: bool) -> None:
        """Look through about so many bytes, of one shard after the other."""
        while share > 0 and (shard := self._next()) is not None:
            if may_wait and self._waits():
                break
            share = self._try_step(shard, share)
        self.due = self._next() is not None

    def _next(self) -> Shard | None:
        """The shard whose compaction is under way, or else a worn one."""
        if self._copy is not None:
            return self._copy.shard
        for shard in self._shards.all:
            if shard.worn and shard.parsed and shard.end >= shard.retry_compaction_at:
                return shard
        return None

    def _may_take_long(self, shard: Shard) -> bool:
        """Whether the shard's dead bytes may stay as long as no other write comes."""
        return shard.dead <= shard.live + self._tuning.slack_bytes

    def _waits(self) -> bool:
        """Whether a sync is under way, and its shard has hardly grown or emptied meanwhile."""
        copy = self._copy
        if copy is None or copy.syncing is None or copy.syncing.done:
            return False
        shard = copy.shard
        if not self._may_take_long(shard):
            return False
        return shard.end - copy.begun_at <= (self._tuning.slack_bytes >> 1) + (shard.live >> 3)

    def _try_step(self, shard: Shard, share: int) -> int:
        """Do without the compaction where there is no room for it, or where damage is met."""
        try:
            return self._step(shard, share)
        except (OSError, CorruptStoreError, MemoryError) as error:
            self._steps.settle()
            self._steps.current = BEGUN
            self.stop()
            if isinstance(error, StoreLockedError):
                raise
            shard.retry_compaction_at = shard.end + max(self._tuning.slack_bytes, shard.end >> 3)
            return 0

    def compact(self, shard: Shard) -> None:
        """Compact a shard at once, so that nothing dead is left.

        Raises OSError where there is no room for its copy, CorruptStoreError for damage; the shard
        is as it was then.
        """
        self.stop()
        try:
            self._step(shard, shard.end, at_once=True)
            while self._copy is not None:
                self._step(shard, shard.end, at_once=True)
        except BaseException:
            self.stop()
            raise

    def compact_all(self, progress: Progress | None = None) -> None:
        """Compact each shard that has dead bytes; `progress` counts bytes. Raises as `compact`."""
        shards = [shard for shard in self._shards.all if shard.dead]
        done, total = 0, sum([shard.end for shard in shards])
        for shard in shards:
            done += shard.end
            self.compact(shard)
            if progress is not None:
                progress(done, total)

    def stop(self) -> None:
        """Drop a copy that is not complete."""
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.new.drop()
            if copy.syncing is not None:
                with suppress(OSError):  # of a file that nobody needs
                    copy.syncing.finish()

    def _step(self, shard: Shard, share: int, *, at_once: bool = False) -> int:
        """Look through about `share` bytes; return what is left of it."""
        copy, self._copy = self._copy, None  # which it stays where this fails
        if copy is None:
            copy = _Copy(self._shards, shard)
        try:
            waits = False
            if copy.done < copy.begun_at:
                share = self._copy_more(copy, copy.begun_at, share)
                waits = copy.done == copy.begun_at and not at_once and self._may_take_long(shard)
                if waits:
                    copy.begin_sync()
            if copy.done >= copy.begun_at and not waits:
                # What was written since goes along with its tombstones.
                if copy.syncing is not None:
                    copy.syncing.finish()
                share = self._copy_more(copy, shard.end, share)
            if waits or copy.done < shard.end:
                self._copy = copy
            else:
                self._finish(copy)
        except BaseException:
            copy.new.drop()
            raise
        return share

    def _copy_more(self, copy: _Copy, stop: int, share: int) -> int:
        while share > 0 and copy.done < stop:
            size = min(share, self._tuning.step_bytes)
            found = next(copy.shard.stretches(copy.done, stop, size), None)
            if found is None:
                raise CorruptStoreError(copy.shard.path, copy.done, "the file became shorter")
            at, data = found
            self._look_through(copy, at, data)
            share -= max(size, len(data))
        return share

    def _look_through(self, copy: _Copy, at: int, data: bytes) -> None:
        """Copy a stretch: its live records, run by run; all of it behind where this began.

        1 µs a record and 2 GB a second, for only keys are decoded. A live record whose key or
        newline is damaged is not found, and missing in the end; see `_finish`.
        """
        whole = at >= copy.begun_at
        try:
            names, ends = _lines(data)
        except ValueError as error:
            raise CorruptStoreError(copy.shard.path, at, f"can't be compacted: {error}") from None
        places, runs = copy.places, list[bytes]()
        to = copy.new.end
        start = stop = 0
        for key, entry, end in zip(names, map(self._index.entries.get, names), ends, strict=True):
            if entry is None:
                continue
            begin, latest = span(entry)
            if latest != at + end:
                copy.superseded = copy.superseded or latest > copy.begun_at
                continue
            value, last, seed, crc, _ = unpack_value(entry)
            if crc32(data[value - at : last - at], seed) != crc:
                raise CorruptStoreError(copy.shard.path, begin, f"key {shown(key)} is damaged")
            if whole:
                distance = to - at
            else:
                begin -= at
                if begin != stop:
                    runs.append(data[start:stop])
                    to += stop - start
                    start = begin
                stop = end
                distance = to - start - at
            places[key] = moved(entry, distance)
        runs.append(data if whole else data[start:stop])
        copy.new.append(b"".join(runs))
        copy.done = at + len(data)

    def _finish(self, copy: _Copy) -> None:
        shard, new, entries = copy.shard, copy.new, self._index.entries
        # What has expired or was evicted meanwhile is no longer in the index.
        places = {key: entry for key, entry in copy.places.items() if key in entries}
        live = live_bytes(places)
        if live != shard.live:
            raise CorruptStoreError(shard.path, 0, "can't be compacted: a live record is damaged")
        synced, last_seq = copy.synced, shard.last_seq
        if shard.synced > copy.begun_at or copy.superseded or copy.syncing is None:
            # What was written meanwhile is synced in the old file, or what it stands for may be.
            new.sync()
            synced = new.end

        def publish() -> None:
            with self._index.gate:
                shard.take(new.descriptor, new.end, synced, live)
                entries.update(places)
            shard.last_seq = last_seq

        self._shards.put_in_place(new, publish)


def _lines(data: bytes) -> tuple[list[Key], list[int]]:
    """The keys of whole lines, and where each line ends. Raises ValueError for what is no record.

    Line by line, which passes over a large value at the speed of memory.
    """
    find, begin = data.index, 0
    names, ends = list[bytes](), list[int]()
    while begin < len(data):
        names.append(data[begin + len(KEY) : find(SEQ, begin)])
        begin = find(b"\n", begin) + 1
        ends.append(begin)
    decoded: list[Any] = loads(b"[%b]" % b",".join(names))
    if set(map(type, decoded)) != {str}:
        decoded = list(map(keys.from_json, decoded))
    return decoded, ends
