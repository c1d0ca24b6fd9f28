"""A backup is complete, compact and independent, of one moment, and leaves nothing where it fails."""

import errno
import threading
from itertools import count
from pathlib import Path

import pytest
from helpers import Clock, files_of
from invariants import check
from on_disk import open_on
from simulated import Choice, Disk
from unsynced import Unsynced
from watched import Failing

import kvmap


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "copy"


def test_it_is_the_same_store(path: Path, target: Path, clock: Clock) -> None:
    limits = kvmap.Limits(key_chars=50, value_bytes=9000)
    with open_on(Unsynced(clock), path, shards=8, ttl=500, limits=limits) as d:
        for number in range(200):
            d[f"key {number % 50}"] = "x" * number
        del d["key 3"]
        d["key 3"] = "last"
        d[1, None] = d[2.5] = d[True] = [1]
        d.set("short", 1, ttl=5)
        d.set("forever", 1, ttl=None)
        clock.wait(5)
        expected = list(d.items())
        d.backup(target)
        check(d, Unsynced(clock))
        d["key 3"] = "later"
        d["new"] = 1
    report = kvmap.verify(target)
    assert report.ok
    assert report.closed
    with open_on(Unsynced(clock), target) as copy:
        check(copy, Unsynced(clock))
        assert list(copy.items()) == expected
        assert not copy.stats().dead_bytes
        assert copy.ttl("forever") is None
        assert copy.ttl("key 3") == 495
        with pytest.raises(kvmap.LimitError):
            copy["x" * 51] = 1
        copy["more"] = 1
        assert copy.ttl("more") == 500
        check(copy, Unsynced(clock))
    assert target.stat().st_mode & 0o777 == 0o700


def test_of_an_empty_and_of_a_read_only_map(path: Path, target: Path) -> None:
    with kvmap.open(path) as d:
        d.backup(str(target))
    with kvmap.open(target, "r") as copy:
        assert not dict(copy)
        copy.backup(target.with_name("second"))
    with kvmap.open(target.with_name("second"), "w") as copy:
        assert not len(copy)


def test_a_folder_that_holds_something_is_refused(path: Path, target: Path) -> None:
    target.mkdir(parents=True)
    (target / "thesis.tex").write_text("work")
    with kvmap.open(path) as d:
        d["ada"] = 1
        for wrong in (target, target / "thesis.tex", path):
            with pytest.raises(FileExistsError):
                d.backup(wrong)
        with pytest.raises(ValueError, match="inside the store"):
            d.backup(path / "shards" / "copy")
        assert dict(d) == {"ada": 1}
    assert files_of(target) == {"thesis.tex": b"work"}


def test_not_in_a_transaction_nor_when_closed(path: Path, target: Path) -> None:
    with kvmap.open(path) as d:
        with d.transaction(), pytest.raises(RuntimeError, match="back up after it"):
            d.backup(target)
        d.backup(target)
    with pytest.raises(kvmap.StoreClosedError):
        d.backup(target.with_name("second"))
    assert not target.with_name("second").exists()


def test_a_damaged_record_leaves_no_copy(path: Path, target: Path) -> None:
    with kvmap.open(path, shards=1) as d:
        d.update({"ada": 1, "bob": 2})
        file = path / "shards" / "00.jsonl"
        at = file.read_bytes().index(b'"value":2') + 8
        with file.open("r+b", buffering=0) as opened:
            opened.seek(at)
            opened.write(b"3")
            with pytest.raises(kvmap.CorruptStoreError):
                d.backup(target)
            assert not target.exists()
            assert d["ada"] == 1
            opened.seek(at)
            opened.write(b"2")
        d.backup(target)


@pytest.mark.parametrize("late", [False, True], ids=["not done", "done but said to have failed"])
def test_a_failure_leaves_no_copy(late: bool) -> None:
    for at in count():
        disk = Disk()
        failing = Failing(disk, errno.ENOSPC, late=late)
        with open_on(failing, shards=2) as d:
            d.update({f"key {i}": i for i in range(20)})
            before = dict(d)
            failing.arm(at)
            try:
                d.backup(Path("/folder/copy"))
            except OSError as error:
                assert error.strerror == "injected"
                assert disk.path_status("/folder/copy") is None, failing.failed
            failing.disarm()
            check(d, disk)
            d.backup(Path("/folder/second"))
            with open_on(disk, "/folder/second") as copy:
                assert dict(copy) == before
        assert not disk.descriptors
        if not failing.failed:
            break
    assert at > 5


def test_it_is_on_disk_when_the_call_returns() -> None:
    disk = Disk()
    with open_on(disk, shards=2) as d:
        d.update({f"key {i}": i for i in range(20)})
        d.backup(Path("/folder/copy"))
        with open_on(disk.copy(Choice("lost")), "/folder/copy") as copy:
            assert dict(copy) == dict(d)


def test_it_is_of_one_moment(path: Path, target: Path) -> None:
    done = threading.Event()
    with kvmap.open(path) as d:

        def write() -> None:
            number = 0
            while not done.is_set():
                number += 1
                d.update({f"key {i}": number for i in range(20)})

        d.update({f"key {i}": 0 for i in range(20)})
        thread = threading.Thread(target=write)
        thread.start()
        try:
            for number in range(10):
                d.backup(target / str(number))
        finally:
            done.set()
            thread.join()
    for number in range(10):
        with kvmap.open(target / str(number)) as copy:
            assert len(copy) == 20
            assert len(set(copy.values())) == 1
