"""What `verify` returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Damage:
    """Bytes of a file that are not what was written there."""

    file: str
    """Its name inside the store, such as `shards/07.jsonl`."""
    offset: int
    length: int
    reason: str


@dataclass(frozen=True)
class ShardReport:
    """What stands in one shard's file."""

    file: str
    records: int
    """Entries that can be read: the latest records of keys, not deleted and not expired."""
    live_bytes: int
    """Bytes of these records."""
    dead_bytes: int
    """Bytes of all other whole records: overwritten ones, expired ones and tombstones."""
    tombstones: int
    expired: int
    """Entries whose deadline has passed, and whose records are still there."""
    torn_bytes: int
    """Bytes that a crash has left half written, which the next open drops. No damage."""
    damage: tuple[Damage, ...]


@dataclass(frozen=True)
class Report:
    """What `verify` found."""

    path: str
    manifest: str
    """"whole", or what is wrong with it."""
    closed: bool
    """Whether the store was closed cleanly; False too while a process writes to it."""
    journal: str
    """"none", "unfinished" (a batch is under way, or a crash has ended it: the next open drops the
    part of it that is there), "stale" (it has no effect), or what is wrong with it."""
    index: str
    """The hint file: "none", "in use", "stale", or what is wrong with it."""
    shards: tuple[ShardReport, ...]
    other: tuple[Damage, ...]
    """Damage outside of the shards that the store has."""

    @property
    def damage(self) -> tuple[Damage, ...]:
        """All damage, file by file."""
        return self.other + tuple(each for shard in self.shards for each in shard.damage)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damage


def extend(found: list[Damage], more: Damage) -> None:
    """Add damage to a list, or make its last one longer where both are one stretch."""
    if found:
        last = found[-1]
        if (last.file, last.offset + last.length, last.reason) == (
            more.file,
            more.offset,
            more.reason,
        ):
            found.pop()
            more = Damage(last.file, last.offset, last.length + more.length, last.reason)
    found.append(more)
