"""Compaction: a shard's live records move into a new file, and its dead ones go.

What Bitcask's design paper calls a merge; here shard by shard, and in passing. A write that finds
its shard worn looks through one stretch of it, and the next writes to that shard go on, so that
none of them waits for all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kvmap.errors import CorruptStoreError
from kvmap.files import Map
from kvmap.index import IndexedStore
from kvmap.keys import Key
from kvmap.record import UNTIMED, Entry, copy_live, key_names, moved, unpack_order
from kvmap.shard import SLACK, Shard

STRETCH = 1 << 20
"""Bytes of a shard that are looked through at a time: about 10 ms for small records."""


class CompactingStore(IndexedStore):
    """A store whose shards give back the space of dead records. The caller holds the lock."""

    def _compact_in_passing(self, shard: Shard) -> bool:
        """Compact one stretch of a shard, as far as that is possible; tell whether more is left.

        A write that was done must not fail for want of room. What stands in the way is met again
        by `compact()`, or when the damaged record is read.
        """
        if shard.end >= shard.rest_until:
            try:
                return self._compact_further(shard)
            except (OSError, CorruptStoreError):
                shard.rest_until = shard.end + max(SLACK, shard.end >> 3)
        return False

    def _compact_if_possible(self, shard: Shard) -> None:
        """Compact a shard at once, as far as that is possible."""
        while self._compact_in_passing(shard):
            pass

    def _compact(self, shard: Shard) -> None:
        """Compact a shard at once, from the beginning, so that nothing dead is left.

        Raises OSError where there is no room for its copy, CorruptStoreError for damage; the shard
        is as it was then.
        """
        shard.compaction = None
        while self._compact_further(shard):
            pass

    def _compact_further(self, shard: Shard) -> bool:
        steps, busy = shard.compaction or self._steps(shard), self._busy
        shard.compaction = None  # which it stays where a step fails: the next one begins anew
        try:
            self._busy = True
            for _ in steps:
                shard.compaction = steps
                break
        finally:
            self._busy = busy
        return shard.compaction is not None

    def _steps(self, shard: Shard) -> Iterator[None]:
        """Compact a shard; where this pauses, others may write to it."""
        if shard.mapped() is None:
            return
        if not shard.intact():
            raise CorruptStoreError(shard.path, 0, "can't be compacted: the file was damaged")
        lines: list[bytes] = []
        places: dict[Key, Entry] = {}  # what the index must say when the new file is in place
        done, to, end = 0, 0, shard.end
        while done < end:
            if done:
                yield
            stretch = shard.lines(done, min(done + STRETCH, end))
            with _taking_apart(shard):
                lines.append(copy_live(stretch, done, to, self._base, places))
            done += len(stretch)
            to += len(lines[-1])
        # What was written meanwhile goes along as it is, for it may have deleted what was copied.
        live = to
        lines.append(shard.read(done))
        with _taking_apart(shard):
            since = dict.fromkeys(key_names(lines[-1]))
        for key in since:
            if (copied := places.pop(key, None)) is not None:
                live -= unpack_order(copied)[1]
            if (entry := self._base.get(key)) is not None:
                places[key] = moved(entry, to - done)
                live += unpack_order(entry)[1]
        for key in [key for key, entry in places.items() if len(entry) > UNTIMED]:
            if key not in self._base:  # it has expired meanwhile
                live -= unpack_order(places.pop(key))[1]
        if live != shard.live:
            raise CorruptStoreError(shard.path, 0, "can't be compacted: a live record is damaged")
        self._replace(shard, b"".join(lines), places)

    def _replace(self, shard: Shard, data: bytes, places: dict[Key, Entry]) -> None:
        new = self._store.write_new(shard, data)
        try:
            self._take_new(shard, new, data, places)
        except BaseException:
            if shard.was_replaced():
                self._take_new(shard, new, data, places)
            else:
                shard.drop_new()
            raise

    def _take_new(self, shard: Shard, new: Map, data: bytes, places: dict[Key, Entry]) -> None:
        with self._gate:
            shard.take_new(new, data)
            self._base.update(places)


@contextmanager
def _taking_apart(shard: Shard) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, LookupError) as error:
        raise CorruptStoreError(shard.path, 0, f"can't be compacted: {error}") from None
