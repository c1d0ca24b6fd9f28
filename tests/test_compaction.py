"""Compaction: disk use stays within bounds, and nothing is lost, moved or reordered by it."""

import errno
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from helpers import Clock, files_of, killed
from invariants import check

import kvmap
from kvmap.files import Files
from kvmap.shard import SLACK


def size_on_disk(path: Path) -> int:
    return sum(len(data) for name, data in files_of(path).items() if name.startswith("shards"))


@pytest.mark.parametrize("shards", [1, 4])
def test_random_churn_stays_within_bounds_and_equal_to_a_dict(path: Path, shards: int) -> None:
    random_ = random.Random(shards)
    model: dict[str, str] = {}
    written = worst = 0
    d = kvmap.open(path, shards=shards)
    for number in range(12_000):
        key = str(random_.randrange(300))
        if random_.random() < 0.2:
            assert d.pop(key, None) == model.pop(key, None)
        else:
            d[key] = model[key] = f"{number} " + "x" * random_.randrange(600)
            written += len(model[key])
        if number % 500 == 0:
            live = sum(shard.live for shard in d._shards)
            worst = max(worst, size_on_disk(path) - 2 * live)
            check(d)
            assert list(d.items()) == list(model.items())
        if random_.random() < 0.002:
            d.close()
            d = kvmap.open(path)
    assert written > 2_500_000
    assert worst < shards * 3 * SLACK
    d.close()
    with kvmap.open(path) as d:
        assert list(d.items()) == list(model.items())
        check(d)


def test_every_way_to_write_compacts(path: Path) -> None:
    value = "x" * 1000
    with kvmap.open(path, shards=1) as d:
        for _ in range(1000):
            d["set"] = value
        for _ in range(1000):
            d.expire("set", 60)
        for _ in range(100):
            d.update(dict.fromkeys(map(str, range(10)), value))
        for _ in range(1000):
            d["deleted"] = value
            del d["deleted"]
        for _ in range(100):
            with d.transaction():
                for number in range(10):
                    d[str(number)] = value
        for number in range(1000):
            with d.edit("edited", default=[]) as some:
                some[:] = [number, value]
        assert size_on_disk(path) < 4 * SLACK
        assert len(d) == 12
        check(d)


def test_compact_leaves_live_records_alone(path: Path, clock: Clock) -> None:
    with kvmap.open(path, shards=2, files=clock) as d:
        for number in range(100):
            d[str(number % 10)] = number
            d.set("expired", number, ttl=1)
            d["deleted"] = d.pop("deleted", 0)
        del d["deleted"]
        clock.wait(1)
        items = list(d.items())
        d.compact()
        check(d)
        assert list(d.items()) == items
        assert {shard.dead for shard in d._shards} == {0}
        for gone in (b"expired", b"deleted"):
            assert all(gone not in data for data in files_of(path).values())
    with kvmap.open(path, files=clock) as d:
        assert list(d.items()) == items
        check(d)


def test_an_emptied_store_gives_its_bytes_back(path: Path) -> None:
    with kvmap.open(path, shards=1) as d:
        d.update({str(number): "x" * 100 for number in range(5000)})
        for key in list(d):
            del d[key]
        assert size_on_disk(path) < 2 * SLACK
        d.compact()
        check(d)
    with kvmap.open(path) as d:
        assert len(d) == 0
        d["new"] = 1
        check(d)


def test_a_reader_meets_no_half_compacted_shard(path: Path) -> None:
    with kvmap.open(path, shards=1) as d:
        for number in range(200):
            d[str(number % 20)] = number
        walk = iter(d.items())
        seen = [next(walk), next(walk)]
        d.compact()
        seen += walk
        assert seen == list(d.items())


@pytest.mark.parametrize("then", ["kill", "close"])
def test_a_half_written_copy_is_no_harm(path: Path, tmp_path: Path, then: str) -> None:
    with kvmap.open(path, shards=1) as d:
        d.update(a=1, b=2)
        copy = killed(d, tmp_path / "killed")
    store = copy if then == "kill" else path
    (store / "shards" / "00.jsonl.new").write_bytes(b'{"key":"a","se')
    with kvmap.open(store) as d:
        assert dict(d) == {"a": 1, "b": 2}
        d["a"] = 3
        d.compact()
        check(d)
    assert [name for name in files_of(store) if name.endswith(".new")] == []


class Full(Files):
    """A disk that has no room for another file while `full`."""

    full = False

    def create(self, path: str, size: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        super().create(path, size)

    def write(self, path: str, parts: Iterable[bytes]) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", path)
        super().write(path, parts)


def test_a_write_does_not_fail_for_want_of_room_to_compact(path: Path) -> None:
    files = Full()
    with kvmap.open(path, shards=1, files=files) as d:
        d["a"] = 0
        files.full = True
        for number in range(3000):
            d["a"] = [number, "x" * 100]
        assert d["a"][0] == 2999
        with pytest.raises(OSError, match="No space"):
            d.compact()
        check(d)
        files.full = False
        for number in range(3000):
            d["a"] = [number, "x" * 100]
        assert size_on_disk(path) < 3 * SLACK
        check(d)


@pytest.mark.parametrize("damaged", [b"key name", b"the value"])
def test_a_damaged_record_is_not_compacted_away(path: Path, damaged: bytes) -> None:
    with kvmap.open(path, shards=1) as d:
        d["key name"] = "the value"
        for number in range(10):
            d["other"] = number
        mapped: Any = d._shards[0].mapped()
        at = mapped[:].index(damaged)
        mapped[at : at + 1] = b"X"
        line = mapped[: mapped[:].index(b"\n") + 1]
        if damaged == b"key name":  # whose record is it?
            with pytest.raises(
                kvmap.CorruptStoreError, match=r"00\.jsonl.*a live record is damaged"
            ):
                d.compact()
            assert d["key name"] == "the value"
        else:
            d.compact()
            with pytest.raises(kvmap.CorruptStoreError, match="'key name' has a wrong checksum"):
                d["key name"]
        assert d["other"] == 9
        assert line in files_of(path)["shards/00.jsonl"]
