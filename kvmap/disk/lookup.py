"""Where the entry of a key is, and its text where a reader can't take it from the map."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from kvmap import keys
from kvmap.disk.index import Index
from kvmap.disk.loading import Loading
from kvmap.disk.records import Entry, unpack_shard, unpack_value
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import Steps
from kvmap.errors import CorruptStoreError
from kvmap.keys import Key, shown
from kvmap.turn import Turn


class Lookup:
    """Finds one key's entry, and loads its shard where it must."""

    def __init__(
        self, index: Index, loading: Loading, shards: Shards, turn: Turn, steps: Steps
    ) -> None:
        self._index = index
        self._loading = loading
        self._shards = shards
        self._turn = turn
        self._steps = steps

    def find(self, key: Any) -> Entry | None:
        """The entry of a key, expired or not; loads its shard where it must."""
        index = self._index
        if self._steps.current is not None:
            self._steps.check_reentry()
        with index.gate:
            entry = index.entries.get(key)
        while entry is None and not index.closed:
            if self._steps.current is not None:
                # Under way in another thread, or left behind: it may hide the entry.
                with self._turn.lock:
                    self._steps.settle()
            shard = self._parse_shard_of(key)
            with index.gate:
                entry = index.entries.get(key)
                if index.all_parsed if shard is None else shard.parsed:
                    break  # else another thread has found the hint file wrong
        return entry

    def _parse_shard_of(self, key: Any) -> Shard | None:
        """Parse the shard that has the key, for the hint file may lack it; None: parse all."""
        try:
            shard = self._shards.all[keys.bucket(key, self._shards.mask)]
        except TypeError:
            # What JSON can't hold may be equal to a key all the same, as Decimal(1) is to 1.
            self._loading.parse_all()
            return None
        self._loading.parse(shard)
        return shard

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
                if shard.read_past_map():
                    with self._index.gate:
                        shard.map()
                return data
        return self._text_at_rest(key)

    def _text_at_rest(self, key: Key) -> bytes | None:
        """The same while nothing moves."""
        index = self._index
        while (found := self.find(key)) is not None:
            shard = self._shards.all[unpack_shard(found)[0]]
            self._loading.parse(shard)
            with index.gate:
                # Parsing may have found the hint file wrong, which had named this entry.
                if index.entries.get(key) == found and shard.parsed:
                    data = self.read_text(key, found)
                    shard.map()
                    return data
        return None

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
