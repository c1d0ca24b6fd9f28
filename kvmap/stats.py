"""Figures about an open store: live and dead bytes, sizes of values, coming deadlines."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from kvmap.keys import Key
from kvmap.record import Entry, deadline, unpack_value
from kvmap.store import Store

HOURS = 24
"""How far ahead deadlines are counted hour by hour."""


@dataclass(frozen=True)
class ShardStats:
    """One shard's bytes: `live` ones hold entries, `dead` ones go at the next compaction."""

    number: int
    live: int
    dead: int


@dataclass(frozen=True)
class Sizes:
    """How many values have from `least` to `most` bytes of JSON, both included."""

    least: int
    most: int
    entries: int


@dataclass(frozen=True)
class Deadlines:
    """How many entries expire in each of the coming hours, after these, and never."""

    hours: tuple[int, ...]
    later: int
    never: int


@dataclass(frozen=True)
class Stats:
    """What `KVMap.stats()` returns; `dataclasses.asdict` makes it JSON."""

    entries: int
    value_bytes: int
    """Bytes of all values' JSON."""
    live_bytes: int
    """Bytes of the records that hold the entries: keys, values, deadlines and checksums."""
    dead_bytes: int
    """Bytes of overwritten, deleted and expired records."""
    disk_bytes: int
    """Bytes of all files, reserved space included."""
    files: int
    shards: tuple[ShardStats, ...]
    value_sizes: tuple[Sizes, ...]
    """By powers of two, smallest first, none left out between the smallest and the largest."""
    deadlines: Deadlines


def measure(store: Store, index: Mapping[Key, Entry], now: float) -> Stats:
    """Add up what the index tells. O(entries); no value is read."""
    lengths: Counter[int] = Counter()
    hours = [0] * HOURS
    total = later = timed = 0
    for entry in index.values():
        start, end = unpack_value(entry)[:2]
        size = end - start
        total += size
        lengths[size.bit_length()] += 1
        expires = deadline(entry)
        if expires != math.inf:
            timed += 1
            hour = int((expires - now) // 3600)
            if hour < HOURS:
                hours[max(hour, 0)] += 1
            else:
                later += 1
    sizes = _file_sizes(store)
    return Stats(
        entries=len(index),
        value_bytes=total,
        live_bytes=sum([shard.live for shard in store.shards]),
        dead_bytes=sum([shard.dead for shard in store.shards]),
        disk_bytes=sum(sizes),
        files=len(sizes),
        shards=tuple([ShardStats(each.number, each.live, each.dead) for each in store.shards]),
        value_sizes=tuple(
            [
                Sizes(1 << bits >> 1, (1 << bits) - 1, lengths[bits])
                for bits in range(min(lengths, default=1), max(lengths, default=0) + 1)
            ]
        ),
        deadlines=Deadlines(tuple(hours), later, len(index) - timed),
    )


def _file_sizes(store: Store) -> list[int]:
    files, found = store.files, []
    folders = [store.path]
    for folder in folders:
        for name in files.names(folder):
            path = os.path.join(folder, name)
            if files.is_folder(path):
                folders.append(path)
            else:
                found.append(files.size(path) or 0)
    return found
