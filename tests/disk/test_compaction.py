"""Compaction: disk use stays within bounds, and nothing is lost, moved or reordered by it."""

import errno
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Clock, files_of, killed
from invariants import check, files
from on_disk import open_on
from simulated import Choice, Disk, Versions
from unsynced import Unsynced
from watched import Watched

import kvmap
from kvmap.disk.tuning import Tuning
from kvmap.keys import bucket

SLACK = Tuning().slack_bytes
SHARD = "shards/00.jsonl"
NEW = SHARD + ".new"


def small(step: int) -> Tuning:
    """Compaction sets in after few dead bytes, and looks through so many bytes at a time."""
    return Tuning(slack_bytes=300, step_bytes=step)


def size_on_disk(path: Path) -> int:
    return sum(len(data) for name, data in files_of(path).items() if name.startswith("shards"))


@pytest.mark.parametrize("size", [300, 3000, 10_000])
def test_values_of_any_size_are_compacted_as_fast_as_they_are_overwritten(size: int) -> None:
    random_, disk, worst = random.Random(size), Disk(), 0
    d = open_on(disk, shards=8, tuning=Tuning(slack_bytes=1000, step_bytes=1000))
    for number in range(500):
        d[str(number if number < 16 else random_.randrange(16))] = "x" * size
        worst = max(worst, sum(map(len, files(d, disk).values())))
    assert worst < 2.5 * 16 * size + 2 * 8 * 1000
    d.close()


def test_large_batches_are_compacted_as_fast_as_they_come() -> None:
    disk, keys = Disk(), range(200)
    tuning = Tuning(slack_bytes=500, step_bytes=500)
    with open_on(disk, shards=8, tuning=tuning) as d:
        for number in range(12):
            d.update(dict.fromkeys(keys, f"{number:0100}"))
        live = d.stats().live_bytes
        assert sum(map(len, files(d, disk).values())) < 3.5 * live


@pytest.mark.parametrize("shards", [1, 4])
def test_random_churn_stays_within_bounds_and_equal_to_a_dict(shards: int) -> None:
    random_, disk = random.Random(shards), Disk()
    model: dict[str, str] = {}
    written = worst = 0
    tuning = Tuning(slack_bytes=20_000, step_bytes=50_000)
    d = open_on(disk, shards=shards, tuning=tuning)
    for number in range(8_000):
        key = str(random_.randrange(200))
        if random_.random() < 0.2:
            assert d.pop(key, None) == model.pop(key, None)
        else:
            d[key] = model[key] = f"{number} " + "x" * random_.randrange(300)
            written += len(model[key])
        if number % 500 == 0:
            size = sum(map(len, files(d, disk).values()))
            worst = max(worst, size - 2 * d.stats().live_bytes)
            check(d, disk)
            assert list(d.items()) == list(model.items())
        if random_.random() < 0.002:
            d.close()
            d = open_on(disk, tuning=tuning)
    assert written > 900_000
    assert worst < shards * 3 * 20_000
    d.close()
    with open_on(disk) as d:
        assert list(d.items()) == list(model.items())
        check(d, disk)


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
def disk() -> Disk:
    return Disk()


@pytest.fixture
def half_compacted(disk: Disk) -> Iterator[kvmap.KVMap[Any, Any]]:
    """A map whose only shard has copied some of its records, and not yet taken the copy."""
    with open_on(disk, shards=1, tuning=small(300)) as d:
        d.set("passing", 0, ttl=10)
        d.update({f"key {number}": number for number in range(50)})
        for number in range(100):
            if not under_way(d, disk):
                d["other"] = number
        assert under_way(d, disk)
        yield d


def under_way(d: kvmap.KVMap[Any, Any], disk: Disk) -> bool:
    """Whether a compaction is: its new file is there."""
    return NEW in files(d, disk)


def goes_on(d: kvmap.KVMap[Any, Any], disk: Disk, key: str, value: Any) -> None:
    """Write until the compaction is done."""
    writes = 0
    while under_way(d, disk):
        d[key] = value
        writes += 1
    assert writes > 1


def test_what_is_written_during_a_compaction_stays(
    half_compacted: kvmap.KVMap[Any, Any], disk: Disk
) -> None:
    d = half_compacted
    model = dict(d)
    for each in (model, d):
        del each["key 1"]
        each["key 2"] = "over"
        each["key 3"] = each.pop("key 3")
        each["new"] = [1]
    assert under_way(d, disk)
    model["other"] = "last"
    goes_on(d, disk, "other", "last")
    assert list(d.items()) == list(model.items())
    check(d, disk)
    d.close()
    with open_on(disk) as d:
        assert list(d.items()) == list(model.items())
        check(d, disk)


def test_what_expires_during_a_compaction_is_gone(
    half_compacted: kvmap.KVMap[Any, Any], disk: Disk
) -> None:
    d = half_compacted
    before = files(d, disk)[SHARD]
    disk.wait(10)
    goes_on(d, disk, "other", 1)
    assert "passing" not in d
    assert len(d) == 51
    assert len(files(d, disk)[SHARD]) < len(before), "it was completed"
    check(d, disk)


class NamesKept(Choice):
    """All names are on disk, and no bytes that were not synced."""

    def one(self, versions: Versions) -> Any:
        unsynced = isinstance(versions[-1][1], int | bytes)
        return versions[0 if unsynced else -1][1]


def test_what_is_overwritten_amid_a_compaction_is_on_disk_or_its_successor_is() -> None:
    """The new file left out a synced record whose successor was behind it, and not yet synced."""
    disk = Disk()
    with open_on(disk, shards=1, tuning=small(1500)) as d:
        d.update(dict.fromkeys(range(30), "x" * 50))
        d.sync()
        compacted = number = 0
        while compacted < 5:
            before = len(files(d, disk)[SHARD])
            d[29 - number % 30] = f"{number:50}"
            compacted += len(files(d, disk)[SHARD]) < before
            number += 1
            with open_on(disk.copy(NamesKept("names kept"))) as left:
                assert len(left) == 30, f"after {number} writes"


def test_a_compaction_is_dropped_when_the_store_is_emptied(
    half_compacted: kvmap.KVMap[Any, Any], disk: Disk
) -> None:
    d = half_compacted
    d.clear()
    assert not under_way(d, disk)
    d["a"] = 1
    assert dict(d) == {"a": 1}
    check(d, disk)


def test_a_compaction_may_never_end(half_compacted: kvmap.KVMap[Any, Any], disk: Disk) -> None:
    d = half_compacted
    model = dict(d)
    d.close()
    assert not under_way(d, disk)
    with open_on(disk) as d:
        assert dict(d) == model
        check(d, disk)


def test_to_compact_leaves_nothing_dead(half_compacted: kvmap.KVMap[Any, Any], disk: Disk) -> None:
    d = half_compacted
    d["key 5"] = "over"
    model = dict(d)
    d.compact()
    assert not d.stats().dead_bytes
    assert not under_way(d, disk)
    assert dict(d) == model
    check(d, disk)


@pytest.mark.parametrize("key", ["key 49", "new"], ids=["not copied yet", "written meanwhile"])
@pytest.mark.parametrize("by", [b"X", b'"'], ids=["another name", "no JSON"])
def test_damage_ends_a_compaction(
    half_compacted: kvmap.KVMap[Any, Any], disk: Disk, key: str, by: bytes
) -> None:
    d = half_compacted
    d["new"] = 49
    data = disk.file("/store/" + SHARD).data
    at = data.rindex(b'"%b"' % key.encode()) + 1
    was, data[at : at + 1] = data[at : at + 1], by
    before = bytes(data)
    goes_on(d, disk, "other", 1)
    assert d[key] == 49
    assert files(d, disk)[SHARD].startswith(before)
    with pytest.raises(kvmap.CorruptStoreError, match=r"00\.jsonl"):
        d.compact()
    disk.file("/store/" + SHARD).data[at : at + 1] = was
    d.compact()
    check(d, disk)


def test_no_write_waits_for_all_of_a_compaction() -> None:
    """Neither the bytes that one write copies nor those that it reads grow with the shard."""
    disk = Disk()
    moved: list[int] = []

    class Counting(Watched):
        def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
            moved.append(len(data))
            return self.real.pwrite(descriptor, data, offset)

    with open_on(Counting(disk), shards=1, tuning=small(1000)) as d:
        d.update(dict.fromkeys(range(300), "x" * 50))
        most = compacted = 0
        for number in range(3000):
            moved.clear()
            before = len(files(d, disk)[SHARD])
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
            most = max(most, sum(moved))
            compacted += len(files(d, disk)[SHARD]) < before
        check(d, disk)
    assert compacted > 3
    assert 500 < most < 2500


@pytest.mark.parametrize("stretch", [200, 1500])
@pytest.mark.parametrize("shards", [1, 4])
def test_everything_may_happen_during_a_compaction(shards: int, stretch: int) -> None:
    random_, disk = random.Random(stretch + shards), Disk()
    model: dict[Any, Any] = {}
    deadlines: dict[Any, float] = {}
    pauses = 0
    tuning = small(stretch)
    d = open_on(disk, shards=shards, tuning=tuning)
    for number in range(4000):
        key = random_.choice([random_.randrange(60), f"key {random_.randrange(60)}"])
        match random_.randrange(1000):
            case 0:
                d.close()
                d = open_on(disk, tuning=tuning)
            case 1:
                left = disk.copy()
                d.close()
                disk = left
                d = open_on(disk, tuning=tuning)
            case 2:
                d.compact()
            case 3:
                d.clear()
                model.clear()
            case choice if choice < 100:
                d.set(key, number, ttl=5)
                model[key], deadlines[key] = number, disk.time + 5
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
        disk.wait(0.01)
        for key in [key for key, when in deadlines.items() if when <= disk.time]:
            del deadlines[key]
            model.pop(key, None)
        pauses += any(name.endswith(".new") for name in disk.state())
        if number % 20 == 0:
            assert list(d.items()) == list(model.items())
            check(d, disk)
    d.close()
    with open_on(disk) as d:
        assert list(d.items()) == list(model.items())
        check(d, disk)
    assert pauses > 100


def test_compact_leaves_live_records_alone(path: Path, clock: Clock) -> None:
    with open_on(Unsynced(clock), path, shards=2) as d:
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
        assert not d.stats().dead_bytes
        for gone in (b"expired", b"deleted"):
            assert all(gone not in data for data in files_of(path).values())
    with open_on(Unsynced(clock), path) as d:
        assert list(d.items()) == items
        check(d)


def test_an_emptied_store_gives_its_bytes_back(path: Path) -> None:
    with kvmap.open(path, shards=1) as d:
        d.update({str(number): "x" * 100 for number in range(5000)})
        for key in list(d):
            del d[key]
        assert size_on_disk(path) < 3 * SLACK  # of which one for a copy whose sync is under way
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


def test_a_write_does_not_fail_for_want_of_room_to_compact(path: Path) -> None:
    fs = Watched(Unsynced(Clock()))

    def full(call: str) -> None:
        if call == "create_file":
            raise OSError(errno.ENOSPC, "No space left on device")

    with open_on(fs, path, shards=1) as d:
        d["a"] = 0
        fs.before = full
        for number in range(3000):
            d["a"] = [number, "x" * 100]
        assert d["a"][0] == 2999
        with pytest.raises(OSError, match="No space"):
            d.compact()
        fs.before = lambda call: None
        for number in range(3000):
            d["a"] = [number, "x" * 100]
        assert size_on_disk(path) < 3 * SLACK
        check(d)


def test_a_compaction_that_runs_out_of_memory_fails_no_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The write is done, so it must not raise; and must not raise again and again."""
    disk = Disk()
    fs = Watched(disk)

    def exhausted(call: str) -> None:
        if call == "create_file":
            raise MemoryError

    with open_on(fs, shards=1, tuning=small(300)) as d:
        d["a"] = 0
        fs.before = exhausted
        for number in range(300):
            d["a"] = number
        assert d["a"] == 299
        fs.before = lambda call: None
        for number in range(1000):
            d["a"] = number
        assert len(files(d, disk)[SHARD]) < 20_000
        check(d, disk)


def test_what_only_expires_is_compacted_too() -> None:
    disk = Disk()
    with open_on(disk, shards=1, ttl=1, tuning=small(300)) as d:
        for number in range(5_000):
            d[number] = number
            disk.wait(0.01)
            if number % 100 == 0:
                assert len(files(d, disk)[SHARD]) < 25_000
        assert len(d) in (99, 100)
        check(d, disk)


def test_a_compaction_whose_sync_is_under_way_is_ended_by_writes_to_other_shards(
    disk: Disk,
) -> None:
    names = [str(number) for number in range(20)]
    (large, often, *_), (other, *_) = (
        [name for name in names if bucket(name, 1) == shard] for shard in (0, 1)
    )
    with open_on(disk, shards=2, tuning=small(100)) as d:
        d[large] = "x" * 1000
        for number in range(7):
            d[often] = number
        d[large] = "y" * 1000
        assert any(NEW in name for name in disk.state())
        for number in range(6):
            d[other] = number
        assert not any(NEW in name for name in disk.state())
        check(d, disk)


def test_a_shard_that_became_shorter_is_not_compacted(disk: Disk) -> None:
    with open_on(disk, shards=1) as d:
        for number in range(20):
            d["key"] = number
        disk.file("/store/" + SHARD).resize(49, 0)
        with pytest.raises(kvmap.CorruptStoreError, match=r"00\.jsonl.*became shorter"):
            d.compact()


@pytest.mark.parametrize("damaged", [b"key name", b"the value"])
def test_a_damaged_record_is_not_compacted_away(disk: Disk, damaged: bytes) -> None:
    with open_on(disk, shards=1) as d:
        d["key name"] = "the value"
        for number in range(10):
            d["other"] = number
        data = disk.file("/store/" + SHARD).data
        at = data.index(damaged)
        data[at : at + 1] = b"X"
        line = bytes(data[: data.index(b"\n") + 1])
        with pytest.raises(kvmap.CorruptStoreError, match=r"00\.jsonl"):
            d.compact()
        if damaged == b"key name":
            assert d["key name"] == "the value", "the record's key is not read"
        else:
            with pytest.raises(kvmap.CorruptStoreError, match="'key name' has a wrong checksum"):
                d["key name"]
        assert d["other"] == 9
        assert line in files(d, disk)[SHARD]


def test_the_space_of_one_large_value_is_given_back(disk: Disk) -> None:
    """488 MB stayed where a value of 500 MB was overwritten by `1`, once."""
    with open_on(disk, shards=1) as d:
        d["large"] = "x" * 2_000_000
        d["large"] = 1
        d["other"] = 1
        assert len(files(d, disk)[SHARD]) < 2 * SLACK


@pytest.mark.parametrize("shards", [1, 4])
def test_what_has_expired_is_given_back_by_the_writes_that_follow(shards: int) -> None:
    """300,000 expired entries kept 35 MB until `purge()`, once. The writes are to one shard."""
    disk = Disk()
    with open_on(disk, shards=shards) as d:
        d.set_many(dict.fromkeys(range(5000), "x" * 100), ttl=10)
        disk.wait(11)
        for number in range(20):
            d["other"] = number
        left = [len(data) for name, data in files(d, disk).items() if name.startswith("shards/")]
        assert sum(left) < 2 * SLACK
        check(d, disk)


def test_room_made_for_a_write_may_move_the_record_that_it_replaces() -> None:
    """A record was read at its old place: only keys that are no str, in a bounded store."""
    limits, tuning = kvmap.Limits(store_bytes=4000), Tuning(slack_bytes=300, step_bytes=400)
    with open_on(Disk(), shards=1, limits=limits, evict="sieve", tuning=tuning) as d:
        for number in range(3000):
            d[number] = number
            d[number - number % 7] = "x" * (number % 60)


def test_what_a_compaction_has_synced_is_not_synced_again(disk: Disk) -> None:
    fs = Watched(disk)
    with open_on(fs, shards=1) as d:
        d["a"] = 1
        d["a"] = 2
        d.compact()
        calls: list[str] = []
        fs.before = calls.append
        d.sync()
        assert "sync" not in calls


def test_what_was_written_amid_a_compaction_is_synced_after_it(
    half_compacted: kvmap.KVMap[Any, Any], disk: Disk
) -> None:
    d = half_compacted
    d.sync()
    d["new"] = 1
    while under_way(d, disk):
        d.pop("absent", None)
    d.sync()
    with open_on(disk.copy(Choice("lost"))) as left:
        assert dict(left) == dict(d)


def test_purge_compacts_what_is_worn_at_once(disk: Disk) -> None:
    with open_on(disk, shards=1, tuning=small(300)) as d:
        d.set_many(dict.fromkeys(range(100), "x" * 100), ttl=10)
        d["stays"] = 1
        disk.wait(11)
        assert d.purge() == 100
        assert not d.stats().dead_bytes


def test_a_shard_that_is_written_and_read_in_turn_is_seldom_mapped(disk: Disk) -> None:
    fs, maps = Watched(disk), 0

    def count(name: str) -> None:
        nonlocal maps
        maps += name == "map"

    fs.before = count
    with open_on(fs, shards=1) as d:
        for number in range(200):
            d["a"] = number
            assert d["a"] == number
    assert 1 <= maps <= 5
