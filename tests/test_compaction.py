"""Compaction: disk use stays within bounds, and nothing is lost, moved or reordered by it."""

import errno
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from disk import Unsynced
from helpers import Clock, compacting_often, files_of, killed
from invariants import check

import kvmap
from kvmap.files import Files
from kvmap.record import copy_live
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


@pytest.fixture
def half_compacted(path: Path, clock: Clock) -> Iterator[kvmap.KVMap[Any]]:
    """A map whose only shard has copied some of its records, and not yet taken the copy."""
    with (
        compacting_often(stretch=300),
        kvmap.open(path, shards=1, files=Unsynced(clock.time)) as d,
    ):
        d.set("passing", 0, ttl=10)
        d.update({f"key {number}": number for number in range(50)})
        for number in range(100):
            if d._shards[0].compaction is None:
                d["other"] = number
        assert d._shards[0].compaction is not None
        yield d


def goes_on(d: kvmap.KVMap[Any], key: str, value: Any) -> None:
    """Write until the compaction is done."""
    writes = 0
    while d._shards[0].compaction is not None:
        d[key] = value
        writes += 1
    assert writes > 1


def test_what_is_written_during_a_compaction_stays(half_compacted: kvmap.KVMap[Any]) -> None:
    d = half_compacted
    model = dict(d)
    for each in (model, d):
        del each["key 1"]
        each["key 2"] = "over"
        each["key 3"] = each.pop("key 3")
        each["new"] = [1]
    assert d._shards[0].compaction is not None
    model["other"] = "last"
    goes_on(d, "other", "last")
    assert list(d.items()) == list(model.items())
    check(d)
    d.close()
    with kvmap.open(d.path, files=Unsynced(d._now())) as d:
        assert list(d.items()) == list(model.items())
        check(d)


def test_what_expires_during_a_compaction_is_gone(half_compacted: kvmap.KVMap[Any]) -> None:
    d: Any = half_compacted
    d._store.files.wait(10)
    goes_on(d, "other", 1)
    assert "passing" not in d
    assert len(d) == 51
    assert d._shards[0].rest_until == 0, "it was completed"
    check(d)


def test_a_compaction_is_dropped_when_the_store_is_emptied(
    half_compacted: kvmap.KVMap[Any],
) -> None:
    d = half_compacted
    d.clear()
    assert d._shards[0].compaction is None
    d["a"] = 1
    assert dict(d) == {"a": 1}
    check(d)


def test_a_compaction_may_never_end(half_compacted: kvmap.KVMap[Any]) -> None:
    d = half_compacted
    model = dict(d)
    d.close()
    assert [name for name in files_of(d.path) if name.endswith(".new")] == []
    with kvmap.open(d.path, files=Unsynced(d._now())) as d:
        assert dict(d) == model
        check(d)


def test_to_compact_leaves_nothing_dead(half_compacted: kvmap.KVMap[Any]) -> None:
    d = half_compacted
    d["key 5"] = "over"
    model = dict(d)
    d.compact()
    assert (d._shards[0].dead, d._shards[0].compaction) == (0, None)
    assert dict(d) == model
    check(d)


@pytest.mark.parametrize("key", ["key 49", "new"], ids=["not copied yet", "written meanwhile"])
@pytest.mark.parametrize("by", [b"X", b'"'], ids=["another name", "no JSON"])
def test_damage_ends_a_compaction(half_compacted: kvmap.KVMap[Any], key: str, by: bytes) -> None:
    d = half_compacted
    d["new"] = 49
    mapped: Any = d._shards[0].mapped()
    at = mapped[:].index(b'"%b"' % key.encode()) + 1
    was, mapped[at : at + 1] = mapped[at : at + 1], by
    before = files_of(d.path)["shards/00.jsonl"]
    goes_on(d, "other", 1)
    assert d[key] == 49
    assert files_of(d.path)["shards/00.jsonl"].startswith(before.rstrip(b"\0"))
    with pytest.raises(kvmap.CorruptStoreError, match="00.jsonl"):
        d.compact()
    mapped[at : at + 1] = was


def test_no_write_waits_for_all_of_a_compaction(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []

    def watched(data: bytes, *rest: Any) -> bytes:
        looked.append(len(data))
        return copy_live(data, *rest)

    monkeypatch.setattr("kvmap.compaction.copy_live", watched)
    with compacting_often(stretch=1000), kvmap.open(path, shards=1, files=Unsynced()) as d:
        d.update(dict.fromkeys(range(300), "x" * 50))
        most = compacted = 0
        for number in range(3000):
            looked.clear()
            before = d._shards[0].end
            match number % 7:
                case 0:
                    if d.pop(number % 300, None) is None:
                        d.set(number % 300, number, ttl=9)
                case 1:
                    d.update({number % 300: number, "two": 2})
                case 2:
                    with d.transaction():
                        d[number % 300] = number
                case _:
                    d[number % 300] = number
            most = max(most, sum(looked))
            compacted += d._shards[0].end < before
        check(d)
    assert compacted > 3
    assert 1000 <= most < 2200  # a second one where the file must also grow


@pytest.mark.parametrize("stretch", [200, 1500])
@pytest.mark.parametrize("shards", [1, 4])
def test_everything_may_happen_during_a_compaction(
    tmp_path: Path, shards: int, stretch: int
) -> None:
    random_, files = random.Random(stretch + shards), Unsynced()
    model: dict[Any, Any] = {}
    deadlines: dict[Any, float] = {}
    pauses = 0
    with compacting_often(stretch):
        path = tmp_path / "0"
        d = kvmap.open(path, shards=shards, files=files)
        for number in range(4000):
            key = random_.choice([random_.randrange(60), f"key {random_.randrange(60)}"])
            match random_.randrange(1000):
                case 0:
                    d.close()
                    d = kvmap.open(path, files=files)
                case 1:
                    path = killed(d, tmp_path / str(number))
                    d.close()
                    d = kvmap.open(path, files=files)
                case 2:
                    d.compact()
                case 3:
                    d.clear()
                    model.clear()
                case choice if choice < 100:
                    d.set(key, number, ttl=5)
                    model[key], deadlines[key] = number, files.time + 5
                case choice if choice < 300:
                    assert d.pop(key, None) == model.pop(key, None)
                case choice if choice < 320:
                    with d.transaction():
                        for each in (model, d):
                            each.pop(key, None)
                            each[key] = each["two"] = number
                        deadlines.pop(key, None)
                case choice if choice < 340:
                    some = dict.fromkeys(range(random_.randrange(9)), number)
                    d.update(some)
                    model.update(some)
                    for each in some:
                        deadlines.pop(each, None)
                case _:
                    d[key] = model[key] = number
                    deadlines.pop(key, None)
            files.wait(0.01)
            for key in [key for key, when in deadlines.items() if when <= files.time]:
                del deadlines[key]
                model.pop(key, None)
            pauses += any(shard.compaction is not None for shard in d._shards)
            if number % 20 == 0:
                assert list(d.items()) == list(model.items())
                check(d)
        d.close()
        with kvmap.open(path, files=files) as d:
            assert list(d.items()) == list(model.items())
            check(d)
    assert pauses > 100


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


class Cramped(Unsynced):
    """A disk on which a shard can't grow while `full`, though there is room for its copy."""

    full = False

    def reserve(self, path: str, mapped: Any, size: int) -> None:
        if self.full and path.endswith(".jsonl"):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        super().reserve(path, mapped, size)


def test_a_shard_that_can_not_grow_is_compacted_at_once(path: Path) -> None:
    files = Cramped()
    with compacting_often(stretch=300), kvmap.open(path, shards=1, files=files) as d:
        d.update(dict.fromkeys(range(50), "x" * 50))
        while d._shards[0].compaction is None:
            d["other"] = "dead"
        files.full = True
        d["large"] = "x" * 3000
        assert d._shards[0].compaction is None
        with pytest.raises(OSError, match="No space left"):
            d["larger"] = "x" * 30_000
        assert dict(d) == {
            **dict.fromkeys(range(50), "x" * 50),
            "other": "dead",
            "large": "x" * 3000,
        }
        check(d)


def test_what_only_expires_is_compacted_too(path: Path) -> None:
    files = Unsynced()
    with compacting_often(stretch=300), kvmap.open(path, shards=1, ttl=1, files=files) as d:
        for number in range(10_000):
            d[number] = number
            files.wait(0.01)
            if number % 100 == 0:
                assert size_on_disk(path) < 25_000
        assert len(d) in (99, 100)
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
