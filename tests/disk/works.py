"""Pieces of work that a test cuts off, interrupts or lets fail."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from on_disk import open_on
from simulated import Disk

import kvmap
from kvmap.disk.tuning import Tuning

Map = kvmap.KVMap[Any, Any]
Work = Callable[[Map], None]

SMALL = Tuning(
    slack_bytes=300, step_bytes=300, hint_bytes=100, map_slack_bytes=300, vector_bytes=100
)
"""Compaction sets in after few bytes, in many steps; maps are renewed and hints written often."""

ENTRIES = {f"key {i}": [i] * 3 for i in range(8)}


def made(shards: int = 2) -> Disk:
    """A disk with a closed store: `ENTRIES`, and "timed"."""
    return _made(shards).copy()


@cache
def _made(shards: int) -> Disk:
    disk = Disk()
    with open_on(disk, shards=shards) as d:
        d.update(dict.fromkeys(ENTRIES, "older"))
        d.update(ENTRIES)
        d.set("timed", 1, ttl=1000)
    return disk


def grow(d: Map) -> None:
    d["new"] = "x" * 30_000


def overwrite(d: Map) -> None:
    d["key 3"] = "over"


def delete(d: Map) -> None:
    del d["key 3"]


def with_deadline(d: Map) -> None:
    d.set("timed", 2, ttl=60)


def pop_oldest(d: Map) -> None:
    d.popitem(last=False)


def increment(d: Map) -> None:
    d.incr("timed", 5)


def update(d: Map) -> None:
    d.update({f"key {i}": [i] * 3000 for i in range(0, 8, 2)} | {"more": 1})


def delete_many(d: Map) -> None:
    d.delete_many(["key 1", "key 2", "key 3", "absent"])


def transaction(d: Map) -> None:
    with d.transaction():
        d["key 1"] = "y" * 20_000
        del d["key 2"]
        d["new"] = 1
        d["key 2"] = "again"
        del d["key 5"]
        d.set("timed", 3, ttl=60)


def undone(d: Map) -> None:
    with pytest.raises(ZeroDivisionError), d.transaction():
        d["key 1"] = "y" * 20_000
        1 / 0


def compact(d: Map) -> None:
    d.compact()


def compact_in_passing(d: Map) -> None:
    d["key 0"] = "z" * 4000
    d["key 0"] = "z" * 4000
    for number in range(12):
        d["key 0"] = number


def clear(d: Map) -> None:
    d.clear()


def purge(d: Map) -> None:
    d.purge()


def sync(d: Map) -> None:
    d["key 3"] = "over"
    d.sync()


def read(d: Map) -> None:
    assert d["key 3"] in ([3] * 3, "over")
    assert "absent" not in d
    assert len(d) == 9


SEVERAL = (compact_in_passing, sync)
"""Of more than one write: an error may leave some of it."""

WORKS: tuple[Work, ...] = (
    grow,
    overwrite,
    delete,
    with_deadline,
    pop_oldest,
    increment,
    update,
    delete_many,
    transaction,
    undone,
    compact,
    compact_in_passing,
    clear,
    purge,
    sync,
    read,
)
