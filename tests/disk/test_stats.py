"""d.stats(): its figures are those of the files, and of the deadlines to come."""

from dataclasses import FrozenInstanceError, asdict
from pathlib import Path

import orjson
import pytest
from helpers import Clock
from on_disk import open_on
from unsynced import Unsynced

import kvmap
from kvmap.stats import Deadlines, Sizes, Stats

HOUR = 3600


def lines(path: Path) -> list[bytes]:
    """All records in a closed store's shards."""
    return b"".join([file.read_bytes() for file in path.glob("shards/*.jsonl")]).splitlines(True)


def test_empty_store(path: Path) -> None:
    with kvmap.open(path, shards=4) as d:
        found = d.stats()

    assert (found.entries, found.value_bytes, found.live_bytes, found.dead_bytes) == (0, 0, 0, 0)
    assert [part.number for part in found.parts] == [0, 1, 2, 3]
    assert found.value_sizes == ()
    assert found.deadlines == Deadlines((0,) * 24, 0, 0)
    assert found.files == 2  # manifest and lock
    assert found.disk_bytes > 0


def test_live_and_dead_bytes_are_those_of_the_lines(path: Path) -> None:
    with kvmap.open(path) as d:
        d.update({f"k{i}": i for i in range(100)})
        for i in range(30):
            d[f"k{i}"] = i  # 30 dead
        for i in range(70, 80):
            del d[f"k{i}"]  # 20 dead: the record and its tombstone
    with kvmap.open(path, "r") as d:
        found = d.stats()

    latest = {}
    for line in lines(path):
        record = orjson.loads(line)
        if record["seq"] >= latest.get(record["key"], (0, b""))[0]:
            latest[record["key"]] = record["seq"], line
    live = sum(len(line) for _, line in latest.values() if b'"value":' in line)
    assert found.entries == 90
    assert found.live_bytes == live
    assert found.live_bytes + found.dead_bytes == sum(map(len, lines(path)))
    assert found.dead_bytes > 0
    assert found.live_bytes == sum(shard.live for shard in found.parts)
    assert found.dead_bytes == sum(shard.dead for shard in found.parts)
    for shard in found.parts:
        file = path / "shards" / f"{shard.number:02x}.jsonl"
        assert shard.live + shard.dead == (file.stat().st_size if file.exists() else 0)


def test_compaction_leaves_no_dead_bytes(path: Path) -> None:
    with kvmap.open(path) as d:
        for i in range(50):
            d["k"] = i
        before = d.stats()
        d.compact()
        after = d.stats()

    assert before.dead_bytes > 0
    assert after.dead_bytes == 0
    assert after.live_bytes == before.live_bytes


def test_files_and_their_bytes(path: Path) -> None:
    with kvmap.open(path) as d:
        d.update({f"k{i}": i for i in range(20)})
    with kvmap.open(path, "r") as d:
        found = d.stats()
        sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]

    assert found.files == len(sizes)
    assert found.disk_bytes == sum(sizes)


def test_value_sizes_go_by_powers_of_two(path: Path) -> None:
    with kvmap.open(path) as d:
        # As JSON: 1, 1, 2, 3, 4, 33 bytes; none from 8 to 31.
        d.update(a=1, b=2, c=10, d="x", e=True, f="x" * 31)
        found = d.stats()

    assert found.value_sizes == (
        Sizes(1, 1, 2),
        Sizes(2, 3, 2),
        Sizes(4, 7, 1),
        Sizes(8, 15, 0),
        Sizes(16, 31, 0),
        Sizes(32, 63, 1),
    )
    assert found.value_bytes == 1 + 1 + 2 + 3 + 4 + 33


def test_deadlines_hour_by_hour(path: Path, clock: Clock) -> None:
    with open_on(Unsynced(clock), path) as d:
        d["forever"] = 0
        for hours in (0.5, 0.9, 1, 1.5, 23.9, 24, 500):
            d.set(f"{hours}", 0, ttl=hours * HOUR)
        found = d.stats()
        clock.wait(HOUR)
        later = d.stats()

    assert found.deadlines.hours == (2, 2, *[0] * 21, 1)
    assert found.deadlines.later == 2
    assert found.deadlines.never == 1
    # An hour on, what was to expire within the hour, to the very second, has.
    assert later.entries == 5
    assert later.deadlines.hours == (1, *[0] * 21, 1, 1)
    assert later.deadlines.later == 1
    assert later.live_bytes + later.dead_bytes == found.live_bytes + found.dead_bytes
    assert later.dead_bytes > found.dead_bytes


def test_no_value_is_read(path: Path) -> None:
    d = kvmap.open(path)
    try:
        d["ada"] = "a value"
        (file,) = path.glob("shards/*.jsonl")
        data = bytearray(file.read_bytes())
        data[data.index(b"a value")] ^= 1
        with file.open("r+b") as damaged:
            damaged.write(data)
        assert d.stats().entries == 1
        with pytest.raises(kvmap.CorruptStoreError):
            d["ada"]
    finally:
        d.close()


def test_inside_a_transaction(path: Path) -> None:
    with kvmap.open(path) as d:
        d.update(ada=1, bob=2)
        before = d.stats()
        with d.transaction():
            d["cyd"] = 3
            inside = d.stats()
        after = d.stats()

    assert (before.entries, inside.entries, after.entries) == (2, 2, 3)
    assert inside.live_bytes == before.live_bytes < after.live_bytes


def test_fits_into_json_and_does_not_change(path: Path) -> None:
    with kvmap.open(path) as d:
        d["ada"] = 1
        found = d.stats()

    assert isinstance(found, Stats)
    assert orjson.loads(orjson.dumps(asdict(found)))["entries"] == 1
    with pytest.raises(FrozenInstanceError):
        found.entries = 2  # type: ignore[misc]


def test_closed_map(path: Path) -> None:
    d = kvmap.open(path)
    d.close()

    with pytest.raises(kvmap.StoreClosedError):
        d.stats()
