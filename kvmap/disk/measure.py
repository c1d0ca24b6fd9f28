"""Figures about an open store."""

from __future__ import annotations

from collections.abc import Mapping

from kvmap.disk.folder import Folder
from kvmap.disk.records import Entry, deadline, unpack_value
from kvmap.disk.shards import Shards
from kvmap.keys import Key
from kvmap.stats import Counts, PartStats, Stats, coming, spread


def stats(shards: Shards, entries: Mapping[Key, Entry], now: float, counts: Counts) -> Stats:
    """Add up what the index and the directory say. O(entries); no value is read."""
    ends = [unpack_value(entry)[:2] for entry in entries.values()]
    lengths = [end - start for start, end in ends]
    sizes = [*_file_sizes(shards.store_folder), *_file_sizes(shards.folder)]
    return Stats(
        entries=len(entries),
        value_bytes=sum(lengths),
        live_bytes=shards.live,
        dead_bytes=sum([shard.dead for shard in shards.all]),
        disk_bytes=sum(sizes),
        files=len(sizes),
        parts=tuple([PartStats(each.number, each.live, each.dead) for each in shards.all]),
        value_sizes=spread(lengths),
        deadlines=coming(map(deadline, entries.values()), now),
        counts=counts,
    )


def _file_sizes(folder: Folder) -> list[int]:
    found = [folder.fs.status(folder.descriptor, name) for name in folder.names()]
    return [each.size for each in found if each is not None and each.is_file]
