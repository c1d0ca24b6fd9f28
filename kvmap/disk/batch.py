"""The two kinds of step in which records are written: one record, or many in several shards."""

from __future__ import annotations

from kvmap.disk.index import Index
from kvmap.disk.journal import Journal
from kvmap.disk.records import Entry
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.errors import CorruptStoreError
from kvmap.keys import Key


class Single:
    """The step in which one record is written. One object serves all of them, one at a time."""

    __slots__ = ("_entries", "end", "entry", "key", "live", "live_after", "shard")

    def __init__(self, entries: dict[Key, Entry], shard: Shard) -> None:
        self._entries = entries
        self.shard = shard
        self.key: Key = None
        self.entry: Entry | None = None
        """What the index holds when the step is done; None: nothing."""
        self.end = self.live = self.live_after = 0

    def settle(self) -> None:
        """The index decides: who has seen the record must find it again."""
        if self._entries.get(self.key) is self.entry:
            self.shard.live = self.live_after
        else:
            self.shard.cut(self.end)
            self.shard.live = self.live


class Part:
    """What a batch appends to one shard."""

    __slots__ = ("end", "growth", "last_seq", "lines", "live", "shard", "size")

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.end = shard.end
        """Where the shard ends without the batch."""
        self.live = shard.live
        self.lines: list[bytes] = []
        self.size = 0
        self.growth = 0
        """By how much its live bytes grow."""
        self.last_seq = 0


class Batch:
    """The step in which many records are written."""

    def __init__(
        self, index: Index, shards: Shards, journal: Journal, *, sync: bool, atomic: bool
    ) -> None:
        self.parts: dict[int, Part] = {}
        self.gone: list[Key] = []
        self.entries: dict[Key, Entry] = {}
        """What goes into the index, in the order in which new keys come into it."""
        self.appended = False
        """Whether all of it is in the files."""
        self._index = index
        self._shards = shards
        self._journal = journal
        self._sync = sync
        self._atomic = atomic

    def part(self, shard: Shard) -> Part:
        found = self.parts.get(shard.number)
        if found is None:
            found = self.parts[shard.number] = Part(shard)
        return found

    def settle(self) -> None:
        """Complete it where all is appended; else cut the shards back to where they ended."""
        if self.appended:
            try:
                if self._atomic:
                    self._journal.remove(sync=self._sync)
            except BaseException:
                self.appended = False
                raise
            self.publish()
        else:
            for part in self.parts.values():
                part.shard.end, part.shard.live = part.end, part.live
            try:
                self._undo()
            except (OSError, CorruptStoreError):
                self._shards.postpone(self._undo)

    def _undo(self) -> None:
        """Cut the shards back. The journal stays until no power cut can bring back a part."""
        if self._atomic:
            self._journal.restore(sync=self._sync)
        for part in self.parts.values():
            if part.shard.end == part.end:  # else compaction has left out what was appended
                part.shard.cut(part.end)
        if self._sync:
            for part in self.parts.values():
                self._shards.sync_one(part.shard)
        if self._atomic:
            self._journal.remove(sync=self._sync)

    def publish(self) -> None:
        """Let readers see all of it at once; may be called again when it was interrupted."""
        index = self._index
        entries = index.entries
        with index.gate:
            if self.gone:
                settled, index.settled = index.all_parsed, False
                for key in self.gone:
                    entries.pop(key, None)
                entries.update(self.entries)
                index.settled = settled
            else:
                entries.update(self.entries)
        for part in self.parts.values():
            part.shard.live = part.live + part.growth
            part.shard.last_seq = part.last_seq
