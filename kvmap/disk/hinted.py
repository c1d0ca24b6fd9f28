"""Whether the hint file says what the shards say."""

from __future__ import annotations

from kvmap.disk import hint, loader
from kvmap.disk.records import Entry, unpack_shard
from kvmap.disk.scan import Scan
from kvmap.disk.shards import Shards
from kvmap.keys import Key


class Hinted:
    """The hint file as an opening would read it. Call `compare` with each shard."""

    def __init__(self, shards: Shards) -> None:
        found = hint.load(shards)
        self.right = found is not None
        """Whether it would be used, and all that was compared so far is as it says."""
        self._shards: list[dict[Key, Entry]] = [{} for _ in shards.all]
        if found is not None:
            for key, entry in found.entries.items():
                self._shards[unpack_shard(entry)[0]][key] = entry
            self.right = list(map(loader.live_bytes, self._shards)) == found.live

    def compare(self, number: int, scan: Scan) -> None:
        """Compare it with a shard that was read through."""
        self.right = self.right and scan.holds(self._shards[number])
