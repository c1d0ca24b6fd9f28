"""The numbers that trade space, memory and speed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tuning:
    """What a store's engine is built with; a test hands down its own."""

    slack_bytes: int = 128 * 1024
    """Dead bytes that a shard may hold whatever its size, so that a small one is not compacted often."""
    step_bytes: int = 64 * 1024
    """Bytes of a shard that compaction looks through at a time: 0.5 ms for small records. With more
    than 128 KB the C library maps each buffer anew: values of 16 KB took 1.4 times as long."""
    stretch_bytes: int = 1 << 20
    """Bytes of a shard that are read and taken apart at a time, when it is loaded."""
    map_slack_bytes: int = 64 * 1024
    """Bytes that a shard may grow by before its map is renewed; see `Shard.read_past_map`."""
    page_entries: int = 512
    """Entries of an iteration's page, at the most."""
    page_bytes: int = 8192
    """Bytes of values of an iteration's page, about. They are decoded together, and what is alive
    together leaves the processor's cache: with a megabyte, values of 16 KB took three times as long."""
    hint_bytes: int = 1 << 19
    """Bytes of shards that reading a hint file must save, so that it is worth writing."""
    vector_bytes: int = 8192
    """Bytes of a value from which on a record is written in parts, without a copy."""
