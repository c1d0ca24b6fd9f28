"""The simulated disk loses what a real one may lose, and nothing that was synced."""

from __future__ import annotations

import errno
import random
from pathlib import Path
from typing import Any

import pytest
from simulated import SECTOR, Choice, Disk, choices

from kvmap.disk.fs import FileSystem

LOST, KEPT = Choice("lost"), Choice("kept")


def made(disk: Disk) -> tuple[int, int]:
    """A directory and a file in it, synced."""
    disk.make_directories("/store", None)
    directory = disk.open_directory("/store")
    file = disk.create_file(directory, "file")
    disk.sync_directory(directory)
    return directory, file


def test_what_is_not_synced_may_be_lost() -> None:
    disk = Disk()
    directory, file = made(disk)
    disk.pwrite(file, b"synced", 0)
    disk.sync(file)
    disk.pwrite(file, b" and not", 6)
    disk.create_file(directory, "other")
    assert disk.copy(LOST).state() == {"/store/file": b"synced"}
    assert disk.copy(KEPT).state() == {"/store/file": b"synced and not", "/store/other": b""}
    assert disk.copy().state() == disk.state() == disk.copy(KEPT).state()


def test_a_file_whose_name_was_not_synced_may_be_lost_whole() -> None:
    disk = Disk()
    directory, _ = made(disk)
    other = disk.create_file(directory, "other")
    disk.pwrite(other, b"x", 0)
    disk.sync(other)
    assert "/store/other" not in disk.copy(LOST).state()
    disk.sync_directory(directory)
    assert disk.copy(LOST).state()["/store/other"] == b"x"


def test_sectors_are_torn_and_reordered_and_sizes_come_apart_from_them() -> None:
    disk = Disk()
    _, file = made(disk)
    disk.pwrite(file, b"a" * 3 * SECTOR, 0)
    disk.sync(file)
    for each in (b"b", b"c"):
        disk.pwrite(file, each * 4 * SECTOR, 0)
    chance, seen = random.Random(1), set()
    for _ in range(3000):
        found = disk.copy(Choice("sectors", chance)).state()["/store/file"]
        seen.add((len(found), *(found[at : at + 1] for at in range(0, len(found), SECTOR))))
    assert (3 * SECTOR, b"a", b"c", b"b") in seen
    assert (4 * SECTOR, b"c", b"a", b"c", b"\0") in seen
    assert len(seen) > 50
    for choice in choices(random.Random(2), disk.moment, 5):
        data = disk.copy(choice).state()["/store/file"]
        assert all(len(set(data[at : at + SECTOR])) == 1 for at in range(0, len(data), SECTOR))


def test_a_rename_may_be_lost_and_both_files_stay_whole() -> None:
    disk = Disk()
    directory, file = made(disk)
    disk.pwrite(file, b"old", 0)
    disk.sync(file)
    new = disk.create_file(directory, "file.new")
    disk.pwrite(new, b"new", 0)
    disk.sync(new)
    disk.rename(directory, "file.new", "file")
    seen = {
        disk.copy(Choice("sectors", random.Random(seed))).state().get("/store/file")
        for seed in range(50)
    }
    assert seen == {b"old", b"new"}
    assert disk.pread(file, 3, 0) == b"old", "the descriptor stays with its file"


def test_a_failed_sync_drops_what_it_was_to_write() -> None:
    disk = Disk()
    directory, file = made(disk)
    other = disk.open_file(directory, "file", write=False)
    disk.pwrite(file, b"dropped", 0)
    disk.sync_fails = lambda call: True
    with pytest.raises(OSError, match="error"):
        disk.sync(file)
    disk.sync_fails = lambda call: False
    disk.sync(file)
    assert disk.pread(file, 9, 0) == b"dropped", "it can be read all the same"
    assert disk.copy(LOST).state()["/store/file"] == b""
    with pytest.raises(OSError, match="error"):
        disk.sync(other)  # it was open at that time, and is told once
    disk.sync(other)
    late = disk.open_file(directory, "file", write=True)
    disk.sync(late)
    assert disk.copy(LOST).state()["/store/file"] == b""
    disk.pwrite(file, b"written", 0)
    disk.sync(file)
    assert disk.copy(LOST).state()["/store/file"] == b"written"


def test_a_failed_sync_may_undo_what_can_be_read() -> None:
    disk = Disk()
    disk.reverts = True
    _, file = made(disk)
    disk.pwrite(file, b"x" * 10, 0)
    disk.fail_to_write_back("/store/file")
    assert disk.pread(file, 10, 0) == bytes(10)


def test_a_full_disk_takes_the_first_part() -> None:
    disk = Disk()
    _, file = made(disk)
    disk.capacity = 5
    assert disk.pwrite(file, b"x" * 10, 0) == 5
    with pytest.raises(OSError, match="space") as caught:
        disk.pwrite(file, b"x", 5)
    assert caught.value.errno == errno.ENOSPC
    disk.truncate(file, 2)
    assert disk.pwrite(file, b"x" * 10, 2) == 3


def test_a_map_sees_what_is_written_later_and_stays_when_its_file_goes() -> None:
    disk = Disk()
    directory, file = made(disk)
    disk.pwrite(file, b"abc", 0)
    found = disk.map(file, 3)
    disk.pwrite(file, b"XYZ", 1)
    assert (found[:], found[1:2], found[0], len(found)) == (b"aXY", b"X", 97, 3)
    disk.remove(directory, "file")
    disk.close(file)
    assert found[:] == b"aXY"


def test_a_map_whose_file_is_cut_off_is_fatal() -> None:
    disk = Disk()
    _, file = made(disk)
    disk.pwrite(file, b"abc", 0)
    found = disk.map(file, 3)
    disk.truncate(file, 2)
    assert found[:2] == b"ab"
    with pytest.raises(AssertionError, match="SIGBUS"):
        found[:]


def test_a_lock_is_its_descriptors() -> None:
    disk = Disk()
    directory, file = made(disk)
    other = disk.open_file(directory, "file", write=True)
    assert disk.lock(file)
    assert disk.lock(file)
    assert not disk.lock(other)
    disk.close(file)
    assert disk.lock(other)


def outcome(fs: FileSystem, call: str, *arguments: Any, **options: Any) -> Any:
    try:
        found = getattr(fs, call)(*arguments, **options)
    except OSError as error:
        return type(error)
    return found if isinstance(found, (bytes, list, bool)) else type(found)


def test_it_answers_as_a_real_disk_does(tmp_path: Path) -> None:
    real, disk = FileSystem(), Disk()
    at = {real: str(tmp_path), disk: ""}
    opened: dict[FileSystem, list[int]] = {}
    for fs in (real, disk):
        fs.make_directories(at[fs] + "/a/b", 0o700)
        directory = fs.open_directory(at[fs] + "/a/b")
        file = fs.create_file(directory, "file")
        fs.make_subdirectory(directory, "sub")
        fs.pwritev(file, [b"ab", bytearray(b"cd")], 3)
        reader = fs.open_file(directory, "file", write=False)
        opened[fs] = [directory, file, reader, fs.open_subdirectory(directory, "sub")]

    def same(call: str, number: int, *arguments: Any, **options: Any) -> None:
        found = [outcome(fs, call, opened[fs][number], *arguments, **options) for fs in opened]
        assert found[0] == found[1], (call, found)

    same("names", 0)
    same("names", 3)
    same("names", 1)
    same("pread", 1, 10, 1)
    same("pread", 1, 10, 99)
    same("pread", 0, 10, 0)
    same("pwrite", 2, b"x", 0)
    same("truncate", 2, 0)
    same("status", 0, "absent")
    same("status", 0, "sub")
    same("create_file", 0, "file")
    same("create_file", 0, "sub")
    same("make_subdirectory", 0, "file")
    same("open_file", 0, "absent", write=True)
    same("open_file", 0, "sub", write=True)
    same("open_subdirectory", 0, "file")
    same("open_subdirectory", 0, "absent")
    same("rename", 0, "absent", "file")
    same("rename", 0, "file", "other")
    same("names", 0)
    same("remove", 0, "file")
    same("remove", 0, "other")
    same("names", 0)
    same("pread", 1, 10, 0)
    same("lock", 1)
    same("lock", 2)
    same("sync", 1)
    same("sync_directory", 0)
    same("close", 1)
    same("pread", 1, 1, 0)
    for call in ("open_directory", "path_status"):
        for path in ("/a", "/a/absent", "/a/b/c/d"):
            found = [outcome(fs, call, at[fs] + path) for fs in opened]
            assert found[0] == found[1], (call, path, found)
    assert outcome(disk, "make_directories", "/a/b", None) is FileExistsError
    for descriptor in (opened[real][0], *opened[real][2:]):
        real.close(descriptor)


def test_no_call_of_it_reaches_the_real_disk() -> None:
    calls = {name for name in vars(FileSystem) if not name.startswith("_")}
    assert calls <= vars(Disk).keys()
