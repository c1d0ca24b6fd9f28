"""Figures about a store, whatever the engine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

HOURS = 24
"""How far ahead deadlines are counted hour by hour."""


@dataclass(frozen=True)
class PartStats:
    """One shard's or partition's bytes: `live` ones hold entries, `dead` ones can be given back."""

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
class Counts:
    """What happened since the map was opened; hits and misses with `open(..., count_reads=True)`."""

    hits: int | None = None
    misses: int | None = None
    evictions: int = 0
    expirations: int = 0

    @property
    def hit_ratio(self) -> float | None:
        """Hits by reads; None where no read was counted."""
        reads = (self.hits or 0) + (self.misses or 0)
        return (self.hits or 0) / reads if reads else None


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
    """Bytes of all files; of memory, on a server."""
    files: int
    parts: tuple[PartStats, ...]
    """The shards, or a server's partitions."""
    value_sizes: tuple[Sizes, ...]
    """By powers of two, smallest first, none left out between the smallest and the largest."""
    deadlines: Deadlines
    counts: Counts = field(default_factory=Counts)

    def __str__(self) -> str:
        """A short table."""
        rows = [
            ("entries", f"{self.entries:,}"),
            ("values", f"{self.value_bytes:,} bytes"),
            ("live records", f"{self.live_bytes:,} bytes"),
            ("dead records", f"{self.dead_bytes:,} bytes"),
            ("on disk", f"{self.disk_bytes:,} bytes in {self.files:,} files")
            if self.files
            else ("in memory", f"{self.disk_bytes:,} bytes"),
            ("expire", f"{self.entries - self.deadlines.never:,} entries"),
            ("expired", f"{self.counts.expirations:,} since opening"),
            ("evicted", f"{self.counts.evictions:,} since opening"),
        ]
        if self.counts.hit_ratio is not None:
            rows.append(("hit ratio", f"{self.counts.hit_ratio:.1%} since opening"))
        return "\n".join([f"{name:<14}{figure}" for name, figure in rows])


def spread(sizes: Iterable[int]) -> tuple[Sizes, ...]:
    """How values of these sizes, in bytes, spread over the powers of two."""
    lengths = Counter(size.bit_length() for size in sizes)
    return tuple(
        Sizes(1 << bits >> 1, (1 << bits) - 1, lengths[bits])
        for bits in range(min(lengths, default=1), max(lengths, default=0) + 1)
    )


def coming(deadlines: Iterable[float], now: float) -> Deadlines:
    """How these deadlines spread over the coming hours; infinite ones are those that never come."""
    hours, later, never = [0] * HOURS, 0, 0
    for deadline in deadlines:
        hour = (deadline - now) // 3600
        if hour < HOURS:
            hours[max(int(hour), 0)] += 1
        elif deadline == math.inf:
            never += 1
        else:
            later += 1
    return Deadlines(tuple(hours), later, never)
