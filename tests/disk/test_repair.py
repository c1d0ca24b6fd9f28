"""`verify` tells of all damage and changes nothing; `repair` keeps what is whole, the rest aside."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
from helpers import files_of, killed
from invariants import check
from on_disk import lower_most_bytes, open_on
from simulated import Choice, Disk

import kvmap
from kvmap import disk as disk_engine
from kvmap import keys
from kvmap.disk.records import sealed

MODEL: dict[Any, Any] = {f"key {i}": {"number": i, "text": "x" * i} for i in range(30)}


@pytest.fixture
def store(path: Path) -> Path:
    """A store that was closed, with an overwritten, a deleted and a timed entry."""
    with kvmap.open(path, shards=4, ttl=3600, limits=kvmap.Limits(key_chars=99)) as d:
        d["key 0"] = "before"
        d.update(MODEL)
        d["gone"] = 1
        del d["gone"]
        for key in MODEL:
            d.expire(key, None)
    return path


def values_read(path: Path) -> dict[Any, Any]:
    with kvmap.open(path) as d:
        found = dict(d)
        check(d)
    with kvmap.open(path, "r") as d:
        assert dict(d) == found
    assert kvmap.verify(path).ok
    assert kvmap.verify(path).closed
    return found


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)


def test_a_whole_store_is_left_alone(store: Path) -> None:
    before = files_of(store)
    seen: list[tuple[int, int]] = []
    report = kvmap.verify(store, lambda done, total: seen.append((done, total)))
    assert report.ok
    assert report.closed
    assert (report.path, report.manifest, report.journal) == (str(store), "whole", "none")
    assert sum(shard.records for shard in report.shards) == len(MODEL)
    assert sum(shard.tombstones for shard in report.shards) == 1
    for shard in report.shards:
        size = len(before.get(shard.file, b""))
        assert shard.live_bytes + shard.dead_bytes + shard.torn_bytes == size
    total = sum(len(data) for name, data in before.items() if name.startswith("shards"))
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)
    done = kvmap.repair(store)
    assert done.found == report
    assert (done.moved, done.quarantined, done.new_manifest) == (0, (), False)
    assert done.records > len(MODEL)
    assert files_of(store) == before


def test_a_flipped_bit_costs_its_record_alone(store: Path) -> None:
    file = store / "shards" / "01.jsonl"
    data = file.read_bytes()
    begin = data.rindex(b"\n", 0, len(data) - 1) + 1
    flip(file, begin + 30)
    before = files_of(store)
    with kvmap.open(store) as d, pytest.raises(kvmap.CorruptStoreError) as caught:
        len(d)
    assert (caught.value.file, caught.value.offset) == (str(file), begin)
    (damage,) = kvmap.verify(store).damage
    assert (damage.file, damage.offset) == ("shards/01.jsonl", begin)
    assert damage.length == len(data) - begin
    assert files_of(store) == before
    done = kvmap.repair(store)
    assert [each.damage for each in done.quarantined] == [damage]
    kept = store / done.quarantined[0].kept
    assert kept.parent == store / "damaged"
    assert kept.read_bytes() == before["shards/01.jsonl"][begin:]
    assert not done.new_manifest
    found = values_read(store)
    lost = set(MODEL) - set(found)
    assert len(lost) <= 1
    assert found == {key: value for key, value in MODEL.items() if key not in lost}
    again = kvmap.repair(store)
    assert not again.quarantined


@pytest.mark.parametrize("text", [None, b"", b"oops", b'{"format":1}'])
def test_a_lost_manifest_is_made_anew(store: Path, text: bytes | None) -> None:
    manifest = store / "kvmap.json"
    manifest.unlink()
    if text is not None:
        manifest.write_bytes(text)
    assert not kvmap.verify(store).ok
    done = kvmap.repair(store)
    assert done.new_manifest
    assert values_read(store) == MODEL
    with kvmap.open(store) as d:
        d["x" * 100] = "no limit any more"
        assert d.ttl("x" * 100) is None
        d["new"] = 1
    assert values_read(store)["new"] == 1


def test_records_in_a_wrong_file_come_home(store: Path) -> None:
    one, two = (store / "shards" / name for name in ("00.jsonl", "02.jsonl"))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert not kvmap.verify(store).ok
    assert kvmap.repair(store).moved == first.count(b"\n") + second.count(b"\n")
    assert values_read(store) == MODEL


def test_a_missing_and_an_extra_file(store: Path) -> None:
    lost = store / "shards" / "03.jsonl"
    shutil.move(lost, store / "shards" / "09.jsonl")
    report = kvmap.verify(store)
    assert {"shards/03.jsonl", "shards/09.jsonl"} <= {each.file for each in report.damage}
    done = kvmap.repair(store)
    assert done.moved
    assert values_read(store) == MODEL
    assert not (store / "shards" / "09.jsonl").exists()


def test_what_a_kill_left_is_no_damage(path: Path, tmp_path: Path) -> None:
    with kvmap.open(path) as d:
        d.update(MODEL)
        copy = killed(d, tmp_path / "killed")
    before = files_of(copy)
    report = kvmap.verify(copy)
    assert report.ok
    assert not report.closed
    assert files_of(copy) == before
    assert not kvmap.repair(copy).quarantined
    assert values_read(copy) == MODEL


def test_an_open_store_is_verified_and_not_repaired(store: Path) -> None:
    with kvmap.open(store) as d:
        d["later"] = 1
        before = files_of(store)
        report = kvmap.verify(store)
        assert report.ok
        assert not report.closed
        assert sum(shard.records for shard in report.shards) == len(MODEL) + 1
        with pytest.raises(kvmap.StoreLockedError, match="open in this process"):
            kvmap.repair(store)
        assert files_of(store) == before


def test_an_interrupted_repair_is_finished_by_the_next(store: Path) -> None:
    for number in range(4):
        flip(store / "shards" / f"{number:02x}.jsonl", 40)

    def stop(done: int, total: int) -> None:
        if done > total * 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kvmap.repair(store, stop)
    kvmap.repair(store)
    found = values_read(store)
    assert all(MODEL[key] == value for key, value in found.items())
    assert len(list((store / "damaged").iterdir())) == 4


@pytest.mark.parametrize("damaged", [False, True])
def test_progress_comes_to_its_end(path: Path, damaged: bool) -> None:
    with kvmap.open(path, shards=4) as d:
        d.update({f"key {i}": "x" * 100 for i in range(50)})
    if damaged:
        file = path / "shards" / "01.jsonl"
        file.write_bytes(file.read_bytes()[:-50])
    told: list[tuple[int, int]] = []
    kvmap.repair(path, lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    done, total = told[-1]
    assert done == total > 5000


# What stands in wrong places


def resealed(line: bytes, **changes: Any) -> bytes:
    content = orjson.loads(line)
    del content["crc"]
    return sealed(orjson.dumps(content | changes)[:-1])


def test_records_out_of_order_are_kept_in_the_order_of_their_writes(store: Path) -> None:
    file = store / "shards" / "01.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*reversed(lines), lines[0]]))
    assert not kvmap.verify(store).ok
    done = kvmap.repair(store)
    assert not done.quarantined
    assert file.read_bytes() == b"".join(lines)
    assert values_read(store) == MODEL


def test_of_two_records_with_one_number_the_second_is_quarantined(store: Path) -> None:
    file = store / "shards" / "01.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    other = resealed(lines[0], value="forged")
    file.write_bytes(b"".join([lines[0], other, *lines[1:]]))
    (kept,) = kvmap.repair(store).quarantined
    assert (store / kept.kept).read_bytes() == other
    assert file.read_bytes() == b"".join(lines)
    assert values_read(store) == MODEL


def stored(lines: list[bytes]) -> Disk:
    """A killed store of one shard that holds these records."""
    disk = Disk()
    with open_on(disk, shards=1) as d:
        d["x"] = 0
        disk = disk.copy()
    disk.put("/store/shards/00.jsonl", b"".join(lines))
    return disk


def record(key: Any, seq: int, **fields: Any) -> bytes:
    return sealed(orjson.dumps({"key": key, "seq": seq} | fields)[:-1])


def test_two_entries_with_one_place_in_the_order() -> None:
    """They were served in an order of chance, and repaired to the same."""
    disk = stored(
        [
            record("ada", 1, value=1),
            record("bob", 2, value=2),
            record("cyd", 3, first=1, value=3),
            record("dan", 4, value=4),
        ]
    )
    report = disk_engine.verify("/store", fs=disk)
    assert [each.reason for each in report.damage] == ["another entry has its place in the order"]
    with open_on(disk.copy()) as d:
        assert d["cyd"] == 3
        with pytest.raises(kvmap.CorruptStoreError, match="place in the order"):
            list(d)
    done = disk_engine.repair("/store", fs=disk)
    assert (done.records, done.renumbered, done.quarantined) == (4, 1, ())
    assert disk_engine.verify("/store", fs=disk).ok
    with open_on(disk) as d:
        assert list(d.items()) == [("ada", 1), ("bob", 2), ("dan", 4), ("cyd", 3)]
        d.set("eve", 5, ttl=60)
        check(d, disk)


def test_one_place_and_one_deadline_for_keys_that_can_not_be_compared() -> None:
    """A TypeError came out, for the heap of deadlines compares the keys then."""
    timed = {"first": 1, "expires": 2_000_000_000.5}
    disk = stored([record("ada", 3, **timed, value=1), record(7, 4, **timed, value=2)])
    with open_on(disk.copy()) as d, pytest.raises(kvmap.CorruptStoreError, match="place in the"):
        d.get("ada")
    assert disk_engine.repair("/store", fs=disk).renumbered == 1
    with open_on(disk) as d:
        assert dict(d) == {"ada": 1, 7: 2}


def test_a_place_that_a_repair_makes_two_entries_have() -> None:
    """The later record of "ada" is lost, so the older one, whose place is taken, shows again."""
    later = record("ada", 3, value=3)
    disk = stored(
        [
            record("ada", 1, value=1),
            record("bob", 2, first=1, value=2),
            later.replace(b"3", b"4", 1),
        ]
    )
    done = disk_engine.repair("/store", fs=disk)
    assert (done.records, done.renumbered, len(done.quarantined)) == (2, 1, 1)
    assert disk_engine.verify("/store", fs=disk).ok
    with open_on(disk) as d:
        assert list(d.items()) == [("ada", 1), ("bob", 2)]
        check(d, disk)


def test_two_keys_with_one_sequence_number_are_both_kept() -> None:
    """The second one went to the quarantine."""
    disk = stored(
        [
            record("ada", 1, value=1),
            record("bob", 2, value=2),
            record("ada", 2, value="later"),
            record("cyd", 2),
            record("dan", 3, value=4),
        ]
    )
    done = disk_engine.repair("/store", fs=disk)
    assert (done.records, done.renumbered, done.quarantined) == (5, 2, ())
    with open_on(disk) as d:
        assert list(d.items()) == [("bob", 2), ("dan", 4), ("ada", "later")]
        check(d, disk)


def test_an_old_record_with_a_taken_number_is_quarantined() -> None:
    """A new number would make it the latest."""
    lines = [
        record("bob", 1, value=2),
        record("ada", 1, value="older"),
        record("ada", 3, value="newer"),
    ]
    disk = stored(lines)
    done = disk_engine.repair("/store", fs=disk)
    assert (done.records, done.renumbered) == (2, 0)
    (kept,) = done.quarantined
    assert disk.state()[f"/store/{kept.kept}"] == lines[1]
    with open_on(disk) as d:
        assert dict(d) == {"bob": 2, "ada": "newer"}


def test_without_a_number_left_a_record_is_quarantined() -> None:
    last = 2**53 - 1
    lines = [record("ada", last, value=1), record("bob", last, value=2)]
    disk = stored(lines)
    done = disk_engine.repair("/store", fs=disk)
    assert (done.records, done.renumbered) == (1, 0)
    assert disk.state()[f"/store/{done.quarantined[0].kept}"] == lines[1]
    assert disk_engine.verify("/store", fs=disk).ok


def test_a_manifest_whose_sequence_number_is_too_low() -> None:
    """New records got numbers that others have, and the store was called whole."""
    disk = Disk()
    with open_on(disk, shards=2) as d:
        d.update(dict.fromkeys("abcdefgh", 0))
    content = orjson.loads(disk.state()["/store/kvmap.json"])
    disk.put("/store/kvmap.json", resealed(orjson.dumps(content), seq=3))
    report = disk_engine.verify("/store", fs=disk)
    assert [each.file for each in report.damage] == ["kvmap.json"]
    with open_on(disk.copy()) as d, pytest.raises(kvmap.CorruptStoreError, match="sequence"):
        dict(d)
    assert not disk_engine.repair("/store", fs=disk).quarantined
    with open_on(disk) as d:
        d["i"] = 0
        assert "".join(d) == "abcdefghi"
        check(d, disk)


def test_a_record_that_stands_twice_counts_once() -> None:
    one, two = record("ada", 1, value=1), record("bob", 2, value=2)
    disk = stored([one, two, one, two, one])
    done = disk_engine.repair("/store", fs=disk)
    assert (done.records, done.renumbered, done.quarantined) == (2, 0, ())
    assert disk.state()["/store/shards/00.jsonl"] == one + two


def test_a_shard_that_would_grow_too_long_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = record("ada", 1, value="x" * 3000), record("bob", 2, value="y" * 3000)
    disk = stored([one])
    disk.put("/store/shards/05.jsonl", two)
    lower_most_bytes(monkeypatch, 5000)
    with pytest.raises(kvmap.LimitError, match=r"00\.jsonl"):
        disk_engine.repair("/store", fs=disk)
    left = disk.state()
    assert (left["/store/shards/00.jsonl"], left["/store/shards/05.jsonl"]) == (one, two)
    lower_most_bytes(monkeypatch, 6200)
    assert disk_engine.repair("/store", fs=disk).records == 2
    assert values_on(disk) == {"ada": "x" * 3000, "bob": "y" * 3000}


def test_what_is_taken_out_of_a_shard_does_not_count_for_its_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = stored([b"x" * 2000 + b"\n", record("ada", 1, value="x" * 3000)])
    lower_most_bytes(monkeypatch, 5200)
    assert disk_engine.repair("/store", fs=disk).records == 1
    assert values_on(disk) == {"ada": "x" * 3000}


def test_a_value_that_is_no_json_is_taken_out(store: Path) -> None:
    file = store / "shards" / "01.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    wrong = sealed(
        orjson.dumps(orjson.loads(lines[-1])).partition(b',"value"')[0] + b',"value":NaN'
    )
    file.write_bytes(b"".join([*lines[:-1], wrong]))
    (kept,) = kvmap.repair(store).quarantined
    assert "the value can't be read" in kept.damage.reason
    assert (store / kept.kept).read_bytes() == wrong
    assert values_read(store)


def test_a_batch_that_was_cut_short_is_dropped_and_no_damage(path: Path) -> None:
    with kvmap.open(path, shards=2) as d:
        d.update(MODEL)
    sizes = {file: file.stat().st_size for file in (path / "shards").iterdir()}
    manifest = orjson.loads((path / "kvmap.json").read_bytes())
    del manifest["crc"]
    (path / "kvmap.json").write_bytes(sealed(orjson.dumps(manifest | {"in_use": True})[:-1]))
    manifest["in_use"] = True
    manifest["shards"] = [[length, False] for length, _ in manifest["shards"]]
    (path / "kvmap.json").write_bytes(sealed(orjson.dumps(manifest)[:-1]))
    first = manifest["seq"] + 1
    ends = [[int(file.stem, 16), size] for file, size in sizes.items()]
    journal = {"first": first, "last": first + 1, "ends": ends}
    (path / "journal.jsonl").write_bytes(sealed(orjson.dumps(journal)[:-1]))
    name = next(key for key in MODEL if keys.bucket(key, 1) == 0)
    with (path / "shards" / "00.jsonl").open("ab") as file:
        file.write(sealed(b'{"key":"%b","seq":%d,"value":"half"' % (name.encode(), first)))
    before = files_of(path)
    report = kvmap.verify(path)
    assert report.ok
    assert report.journal == "unfinished"
    assert [bool(shard.torn_bytes) for shard in report.shards] == [True, False]
    assert files_of(path) == before
    flip(path / "shards" / "01.jsonl", 40)  # damage elsewhere: the batch is dropped all the same
    done = kvmap.repair(path)
    assert done.found.journal == "unfinished"
    assert not (path / "journal.jsonl").exists()
    found = values_read(path)
    assert all(MODEL[key] == value for key, value in found.items())
    assert found[name] == MODEL[name]


def test_a_hint_file_of_any_content_is_no_damage(store: Path) -> None:
    (store / "index.jsonl").write_bytes(b"nonsense")
    report = kvmap.verify(store)
    assert report.ok
    assert report.index == "stale"


def test_a_directory_that_cannot_be_written_is_verified(store: Path) -> None:
    (store / "lock").unlink()
    os.chmod(store, 0o500)
    try:
        assert kvmap.verify(store).ok
        assert not (store / "lock").exists()
    finally:
        os.chmod(store, 0o700)


# Every moment of a repair


def broken() -> Disk:
    """A store that was killed: files are swapped, one has a wrong byte, one another name."""
    disk = Disk()
    with open_on(disk, shards=4) as d:
        d.update(MODEL)
        disk = disk.copy()
    names = [f"/store/shards/{number:02x}.jsonl" for number in range(4)]
    data = [disk.state()[name] for name in names]
    half = len(data[2]) // 2
    disk.put(names[0], data[1])  # swapped
    disk.put(names[1], data[0])
    disk.put(names[2], data[2][:half] + b"?" + data[2][half + 1 :])
    disk.put("/store/shards/09.jsonl", data[3])
    disk.put(names[3], b"")
    return disk.copy(Choice("kept"))  # all of it is synced


def values_on(disk: Disk) -> dict[Any, Any]:
    with open_on(disk) as d:
        check(d, disk)
        return dict(d)


def quarantined(disk: Disk) -> set[bytes]:
    return {data for name, data in disk.state().items() if "/damaged/" in name}


@pytest.mark.parametrize("how", ["killed", "power cut"])
def test_a_repair_that_is_stopped_anywhere_loses_nothing(how: str) -> None:
    whole = broken()
    disk_engine.repair("/store", fs=whole)
    expected = values_on(whole)
    assert len(MODEL) - 2 <= len(expected) < len(MODEL)
    disk = broken()
    left: list[Disk] = []
    chance = random.Random(1)

    def stop(call: str) -> None:
        choice = (
            None if how == "killed" else Choice(chance.choice(["lost", "pages", "sectors"]), chance)
        )
        left.append(disk.copy(choice))

    disk.happened = stop
    disk_engine.repair("/store", fs=disk)
    assert len(left) > 20
    taken = quarantined(whole)
    assert taken
    for each in left:
        disk_engine.repair("/store", fs=each)
        assert disk_engine.verify("/store", fs=each).ok
        assert values_on(each) == expected
        assert taken <= quarantined(each)
        assert not each.descriptors
