"""Bugs that were found in an earlier engine, each by the story that shows it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Work, files_of, killed, python
from invariants import check
from on_disk import lower_most_bytes, open_on
from simulated import Choice, Disk
from watched import Watched

import kvmap
from kvmap.disk.fs import FileSystem

LOST = Choice("lost")


# A session that leaves shards unread


@pytest.mark.parametrize("first", ["close", "repair", "read"])
def test_what_is_written_after_a_close_that_left_a_shard_unread_survives_a_power_cut(
    first: str,
) -> None:
    disk = Disk()
    model: dict[Any, Any] = {f"key {number}": number for number in range(20)}
    with open_on(disk, shards=4) as d:
        d.update(model)
        disk = disk.copy()  # a kill
    if first == "repair":
        from kvmap import disk as disk_engine

        disk_engine.repair("/store", fs=disk)
    else:
        with open_on(disk) as d:
            if first == "read":
                assert d["key 0"] == 0
    for key in ("key 3", "key 7", "new"):
        with open_on(disk) as d:
            d[key] = model[key] = "later"
        disk = disk.copy(LOST)
        with open_on(disk, "/store", "r") as d:
            assert list(d.items()) == list(model.items())
            check(d, disk)


# Other programs in the directory


def other_process(path: Path, key: str) -> None:
    process = python(
        "import sys, kvmap\nwith kvmap.open(sys.argv[1]) as d: d[sys.argv[2]] = 1", path, key
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


@pytest.mark.parametrize("then", ["write", "batch", "compact", "clear", "close"])
@pytest.mark.parametrize("gone", ["moved", "removed"])
def test_a_store_that_is_made_where_another_is_open_is_left_alone(
    path: Path, gone: str, then: str
) -> None:
    d = kvmap.open(path, shards=2)
    d.update({f"key {number}": "x" * 100 for number in range(50)})
    for number in range(50):
        d[f"key {number}"] = number
    moved = path.with_name("moved")
    if gone == "moved":
        path.rename(moved)
    else:
        shutil.rmtree(path)
    other_process(path, "other")
    before = files_of(path)
    raised: list[BaseException] = []

    def attempt(call: Callable[[], object]) -> None:
        try:
            call()
        except (OSError, kvmap.KVMapError) as error:
            raised.append(error)

    match then:
        case "write":
            for number in range(600):
                attempt(lambda: d.__setitem__(f"key {number % 50}", number))
        case "batch":
            attempt(lambda: d.update(a=1, b=2, c=3))
        case "compact":
            attempt(d.compact)
        case "clear":
            attempt(d.clear)
    attempt(d.close)
    assert d.closed
    assert files_of(path) == before
    if gone == "moved":
        assert not raised
        with kvmap.open(moved) as again:
            assert len(again) == {"batch": 53, "clear": 0}.get(then, 50)
    else:
        assert raised, "what was written is lost, so it must not pass in silence"


@pytest.mark.parametrize("then", ["write", "batch", "compact", "clear", "close"])
def test_who_has_lost_the_lock_file_harms_no_second_owner(path: Path, then: str) -> None:
    d = kvmap.open(path, shards=2)
    d.update({f"key {number}": "x" * 100 for number in range(50)})
    (path / "lock").unlink()
    other_process(path, "other")
    raised: list[BaseException] = []

    def attempt(call: Callable[[], object]) -> None:
        try:
            call()
        except kvmap.StoreLockedError as error:
            raised.append(error)

    match then:
        case "write":
            for number in range(600):
                attempt(lambda: d.__setitem__("key 1", number))
        case "batch":
            attempt(lambda: d.update(a=1, b=2, c=3))
        case "compact":
            attempt(d.compact)
        case "clear":
            attempt(d.clear)
    attempt(d.close)
    assert d.closed
    assert raised
    assert "lock" in str(raised[0])
    if then != "write":
        with kvmap.open(path) as other:
            assert other["other"] == 1
            assert len(other) == 51


@pytest.mark.parametrize("then", ["write", "batch", "close", "compact", "sync"])
def test_a_shard_file_that_is_replaced_does_not_pass_in_silence(path: Path, then: str) -> None:
    """As `sed -i` does: what is written to the old file is in no directory any more."""
    d = kvmap.open(path, shards=1)
    d["ada"] = "x"
    subprocess.run(["sed", "-i", "s/nothing/else/", path / "shards" / "00.jsonl"], check=True)
    with pytest.raises((OSError, kvmap.KVMapError), match=r"00\.jsonl"):
        match then:
            case "write":
                for number in range(600):
                    d["ada"] = number
            case "batch":
                d.update(a=1, b=2)
            case "compact":
                d["ada"] = 1
                d.compact()
            case "sync":
                d["ada"] = 1
                d.sync()
            case _:
                d["ada"] = 1
                d.close()
    try:
        d.close()
    except (OSError, kvmap.KVMapError):
        assert d.closed


def test_a_file_system_without_locks_is_refused_and_nothing_stays_locked(path: Path) -> None:
    fs = Watched(FileSystem())

    def without(call: str) -> None:
        if call == "lock":
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    fs.before = without
    for _ in range(2):
        with pytest.raises(OSError, match="no locks") as caught:
            open_on(fs, path)
        assert caught.value.errno == errno.ENOSYS
        assert not isinstance(caught.value, kvmap.StoreLockedError)
    with kvmap.open(path) as d:
        d["a"] = 1


# Many shards, many keys, large files


def test_transactions_that_read_many_keys_beside_threads(path: Path) -> None:
    """98 of 128 failed with an AssertionError, once there were more shards than maps."""
    with kvmap.open(path, shards=32) as d:
        d.update({number: [number] for number in range(2000)})
    done = threading.Event()
    with kvmap.open(path) as d:

        def read() -> None:
            while not done.is_set():
                for number in range(0, 2000, 7):
                    assert d[number][0] == number

        readers = [Work(read) for _ in range(3)]
        try:
            for turn in range(20):
                with d.transaction():
                    assert sum(d[number][0] for number in range(2000)) == sum(range(2000))
                    d[turn] = [turn, "again"]
        finally:
            done.set()
        for reader in readers:
            reader.result()


def test_an_open_map_takes_less_than_100_descriptors(path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/dev/fd"))

    before = descriptors()
    with kvmap.open(path) as d:
        d.update(dict.fromkeys(range(3000), "x" * 100))
        assert len(d) == 3000
        d.compact()
        dict(d)
        assert descriptors() - before < 100
    assert descriptors() == before


def test_few_descriptors_are_enough_for_the_most_shards(path: Path) -> None:
    code = """
import resource, sys, kvmap
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
with kvmap.open(sys.argv[1], shards=32) as d:
    for turn in range(3):
        d.update({number: "x" * 200 for number in range(3000)})
    d.compact()
    print(len(d))
"""
    process = python(code, path)
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("3000\n", 0), err


def test_a_full_shard_raises_limit_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Near 4 GiB it was `struct.error`."""
    lower_most_bytes(monkeypatch, 5000)
    disk = Disk()
    with open_on(disk, shards=1) as d:
        d["a"] = "x" * 3000
        for write in (
            lambda: d.__setitem__("b", "x" * 3000),
            lambda: d.update(b="x" * 1000, c="x" * 1000),
            lambda: d.set("b", "x" * 3000, ttl=5),
        ):
            with pytest.raises(kvmap.LimitError, match=r"00\.jsonl"):
                write()
            assert dict(d) == {"a": "x" * 3000}
            check(d, disk)
        d["a"] = "y" * 1000
        d["b"] = "x" * 3000  # for which the dead bytes make room
        assert dict(d) == {"a": "y" * 1000, "b": "x" * 3000}
        check(d, disk)


def test_opening_after_a_kill_takes_little_memory(path_in_memory: Path) -> None:
    with kvmap.open(path_in_memory, shards=2) as d:
        d.update(dict.fromkeys(range(120), "x" * 100000))
        copy = killed(d, path_in_memory.parent / "killed")
    with kvmap.open(copy, "r") as d:  # imports what it needs
        d.get(0)
    tracemalloc.start()
    try:
        with kvmap.open(copy) as d:
            assert len(d) == 120
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000, f"{peak:,} bytes for 12 MB"


def test_a_paused_compaction_keeps_no_copy_of_the_live_data(path_in_memory: Path) -> None:
    """Its copy is in the new file; in memory are the positions of the records alone."""
    path = path_in_memory
    new = path / "shards" / "00.jsonl.new"
    with kvmap.open(path, shards=1) as d:
        d.update(dict.fromkeys(range(120), "x" * 100_000))
        d.update(dict.fromkeys(range(110), "y" * 100_000))
        while not new.exists():  # the first step imports what it needs
            d["other"] = "z" * 10_000
        tracemalloc.start()
        try:
            while new.exists() and new.stat().st_size < 8_000_000:
                d["other"] = 1
            now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        size = new.stat().st_size
        assert size > 8_000_000, "it is paused"
        assert now < 500_000, f"{now:,} bytes for {size:,} that are copied"
        assert peak < 4_000_000, f"{peak:,} bytes at once for {size:,} that are copied"
        check(d)


# Repair


@pytest.mark.parametrize("rich", ["before", "behind"])
def test_a_damaged_newline_costs_no_record_that_looks_like_many(rich: str) -> None:
    """The record behind it was dropped where its value held `{"key":` 16 times."""
    from kvmap import disk as disk_engine

    disk, many = Disk(), [{"key": number} for number in range(40)]
    model = {
        "before": many if rich == "before" else 1,
        "behind": many if rich == "behind" else 1,
        "last": 1,
    }
    with open_on(disk, shards=1) as d:
        for key, value in model.items():
            d[key] = value
    data = disk.file("/store/shards/00.jsonl").data
    data[data.index(b"\n")] ^= 1
    assert not disk_engine.verify("/store", fs=disk).ok
    disk_engine.repair("/store", fs=disk)
    with open_on(disk) as d:
        assert dict(d) == model
        check(d, disk)


# Time


def test_a_clock_that_is_set_back_brings_nothing_back_that_was_purged() -> None:
    """What has expired is gone while the map is open; the file may bring it back until `purge`."""
    disk = Disk()
    with open_on(disk, shards=1) as d:
        d.set("short", 1, ttl=10)
        d["other"] = 1
        disk.wait(20)
        assert "short" not in d
        disk.time -= 15
        assert "short" not in dict(d)
        d.purge()
        d.compact()
    with open_on(disk) as d:
        assert dict(d) == {"other": 1}


def test_what_expires_in_a_shard_that_was_read_before_stays_away() -> None:
    disk = Disk()
    with open_on(disk, shards=1) as d:
        d.set("short", 1, ttl=10)
        d["other"] = 1
    with open_on(disk) as d:
        assert d["other"] == 1
        disk.wait(20)
        assert d.get("short") is None
        disk.time -= 15
        assert d.get("short") is None
