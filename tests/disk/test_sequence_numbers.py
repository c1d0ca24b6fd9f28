"""A write's sequence number is above all others of the store, whichever shards have been read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from orjson import dumps, loads
from stores import Store

import kvmap
from kvmap.disk.records import sealed
from kvmap.keys import bucket

SHARDS = 4


def numbers(path: Path) -> list[tuple[str, int]]:
    """Key and sequence number of every record of a store, in the order of the numbers."""
    records = [
        loads(line)
        for file in path.glob("shards/*.jsonl")
        for line in file.read_bytes().splitlines()
    ]
    return sorted([(record["key"], record["seq"]) for record in records], key=lambda each: each[1])


def one_of_each_shard() -> Iterator[str]:
    """A key for each shard."""
    for number in range(SHARDS):
        yield next(key for key in map(str, range(1000)) if bucket(key, SHARDS - 1) == number)


@pytest.mark.parametrize("last", range(SHARDS), ids="last-in-{}".format)
@pytest.mark.parametrize("first", range(SHARDS), ids="then-in-{}".format)
@pytest.mark.parametrize("end", ["killed", "reopened"])
def test_a_write_after_an_open_is_the_newest(kept: Store, end: str, last: int, first: int) -> None:
    keys = list(one_of_each_shard())
    d = kept.open(shards=SHARDS)
    d["first"] = 0
    for step in range(3):
        for key in keys:
            d[key] = step
    d[keys[last]] = "the newest before"
    d = kept.life()[end](d)
    before = numbers(d.path)
    assert before[-1][0] == keys[last]
    d[keys[first]] = "after"  # the first use of the map: no other shard has been read
    d[keys[first]] = "newest"
    after = numbers(d.path)
    assert after[: len(before)] == before
    assert [key for key, _ in after[len(before) :]] == [keys[first]] * 2
    assert len({number for _, number in after}) == len(after)
    del d["first"]
    d["first"] = 1
    d = kept.life()["killed"](d)
    assert d[keys[first]] == "newest"
    assert list(d) == [*keys, "first"]
    kept.check(d)
    d.close()


def test_a_manifest_that_knows_a_lower_number_is_damage(kept: Store) -> None:
    """A write would take a number that a record has, so it is refused, until a repair."""
    d = kept.open(shards=1)
    for step in range(3):
        d["first"] = step
    path = d.path
    d.close()
    content = loads((path / "kvmap.json").read_bytes())
    del content["crc"]
    assert content["seq"] == 3
    (path / "kvmap.json").write_bytes(sealed(dumps({**content, "seq": 1})[:-1]))
    with kept.open() as d, pytest.raises(kvmap.CorruptStoreError, match="higher sequence number"):
        d["first"] = "after"
    kvmap.repair(path)
    with kept.open() as d:
        d["first"] = "after"
    *there, after = [number for _, number in numbers(path)]
    assert there == [1, 2, 3]
    assert after > 3
    with kept.open() as d:
        assert dict(d) == {"first": "after"}
