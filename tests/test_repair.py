"""`verify` tells of all damage and changes nothing; `repair` keeps what is whole, the rest aside."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import files_of, killed
from invariants import check

import kvmap

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
    assert (done.moved, done.aside, done.new_manifest) == (0, (), False)
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
    assert [each.damage for each in done.aside] == [damage]
    kept = store / done.aside[0].kept
    assert kept.parent == store / "damaged"
    assert kept.read_bytes() == before["shards/01.jsonl"][begin:]
    assert not done.new_manifest
    found = values_read(store)
    lost = set(MODEL) - set(found)
    assert len(lost) <= 1
    assert found == {key: value for key, value in MODEL.items() if key not in lost}
    again = kvmap.repair(store)
    assert not again.aside


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
        assert len(d._shards) == 4
        d["new"] = 1
    assert values_read(store)["new"] == 1


def test_records_in_a_wrong_file_come_home(store: Path) -> None:
    one, two = (store / "shards" / name for name in ("00.jsonl", "02.jsonl"))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert not kvmap.verify(store).ok
    assert kvmap.repair(store).moved
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
    assert not kvmap.repair(copy).aside
    assert values_read(copy) == MODEL


def test_an_open_store_is_refused(store: Path) -> None:
    with kvmap.open(store):
        for examine in (kvmap.verify, kvmap.repair):
            with pytest.raises(kvmap.StoreLockedError, match="open elsewhere"):
                examine(store)


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
