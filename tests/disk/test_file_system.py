"""The calls to the operating system that have more than one line to them; and the BSDs' own."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from pathlib import Path

import pytest
from helpers import ROOT, python
from on_disk import open_on

import kvmap
from kvmap.disk.fs import FileSystem
from kvmap.disk.tuning import Tuning


def test_missing_parents_are_made_and_their_names_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: dict[int, str] = {}
    synced: list[str] = []

    class Noting(FileSystem):
        def open_directory(self, path: str) -> int:
            descriptor = super().open_directory(path)
            opened[descriptor] = path
            return descriptor

        def sync_directory(self, directory: int) -> None:
            super().sync_directory(directory)
            synced.append(opened[directory])

    fs = Noting()
    fs.make_directories(str(tmp_path / "a" / "b" / "c"), 0o750)
    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    assert stat.S_IMODE((tmp_path / "a" / "b" / "c").stat().st_mode) == 0o750
    with pytest.raises(FileExistsError):
        fs.make_directories(str(tmp_path / "a"), None)


def test_neither_links_nor_pipes_are_followed(tmp_path: Path) -> None:
    fs, outside = FileSystem(), tmp_path / "outside"
    outside.write_text("x")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(outside)
    (tmp_path / "store" / "folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "store" / "pipe")
    directory = fs.open_directory(str(tmp_path / "store"))
    try:
        with pytest.raises(OSError, match="symbolic"):
            fs.open_file(directory, "link", write=True)
        with pytest.raises(FileExistsError):
            fs.create_file(directory, "link")
        with pytest.raises(OSError, match="symbolic|directory"):
            fs.open_subdirectory(directory, "folder")
        pipe = fs.open_file(directory, "pipe", write=True)
        assert not fs.descriptor_status(pipe).is_file
        fs.close(pipe)
        found = fs.status(directory, "link")
        assert found is not None
        assert not found.is_file
        fs.remove(directory, "link")
        fs.remove(directory, "link")
    finally:
        fs.close(directory)
    assert outside.read_text() == "x"


def test_names_are_all_there_wherever_the_descriptor_has_been_read_to(tmp_path: Path) -> None:
    """btrfs lists no name that was made after the descriptor was last read from its beginning."""
    fs = FileSystem()
    directory = fs.open_directory(str(tmp_path))
    try:
        for name in "ab":
            fs.close(fs.create_file(directory, name))
        with os.scandir(directory) as entries:  # it shares the descriptor's place
            next(entries)
            assert fs.names(directory) == ["a", "b"]
        assert fs.names(directory) == ["a", "b"]
    finally:
        fs.close(directory)


@pytest.mark.parametrize("missing", [False, True], ids=["pwritev", "no pwritev"])
def test_more_parts_than_one_call_takes(
    path: Path, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    if missing:
        monkeypatch.delattr(os, "pwritev", raising=False)
    model = dict.fromkeys(range(3000), "x" * 50)
    with open_on(FileSystem(), path, shards=1, tuning=Tuning(vector_bytes=1)) as d:
        d.update(model)
        assert dict(d) == model
    with kvmap.open(path) as d:
        assert dict(d) == model


FULL_SYNC = 51
"""macOS's number for `F_FULLFSYNC`; on Linux no command has it."""


def test_a_sync_is_the_full_one_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    answer = 0

    def full(descriptor: int, command: int) -> int:
        assert command == FULL_SYNC
        called.append("full")
        if answer:
            raise OSError(answer, "injected")
        return 0

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL_SYNC, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", full)
    monkeypatch.setattr(os, "fsync", lambda descriptor: called.append("fsync"))
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: called.append("fsync"), raising=False)
    fs = FileSystem()
    with (tmp_path / "file").open("wb") as file:
        fs.sync(file.fileno())
        assert called == ["full"]
        for each in (errno.ENOTSUP, errno.EINVAL):
            answer = each
            called.clear()
            fs.sync(file.fileno())
            assert called == ["full", "fsync"]
        answer = errno.EIO
        called.clear()
        with pytest.raises(OSError, match="injected"):
            fs.sync(file.fileno())
        assert called == ["full"], "a disk's error is told, and not asked about again"


MISSING = (
    "fdatasync",
    "posix_fallocate",
    "posix_fadvise",
    "pwritev",
    "preadv",
    "copy_file_range",
    "sendfile",
    "memfd_create",
    "sched_getaffinity",
    "O_TMPFILE",
)
"""Of `os`, what some of macOS, FreeBSD, OpenBSD and NetBSD lack."""

WITHOUT = f"""
import fcntl, mmap, os, sys
for name in {MISSING!r}:
    if hasattr(os, name):
        delattr(os, name)
for name in ("MAP_POPULATE", "MADV_DONTFORK", "MADV_POPULATE_READ"):
    if hasattr(mmap, name):
        delattr(mmap, name)
fcntl.F_FULLFSYNC = {FULL_SYNC}
real, synced = fcntl.fcntl, []
def control(descriptor, command, *more):
    if command == {FULL_SYNC}:
        synced.append(os.fsync(descriptor))
        return 0
    return real(descriptor, command, *more)
fcntl.fcntl = control
class Map(mmap.mmap):
    def resize(self, size):
        raise SystemError("mmap: resizing not available--no mremap()")
mmap.mmap = Map
"""


def test_what_macos_lacks_is_not_needed(path_in_memory: Path) -> None:
    """Tests on the system's files again, in a Python without what other systems do not have."""
    files = [
        *("test_ownership.py", "test_compaction.py", "test_backup.py", "test_stats.py"),
        "test_hostile.py",
    ]
    code = f"""{WITHOUT}
import pytest
class OnFiles:
    def pytest_collection_modifyitems(self, items):
        items[:] = [each for each in items if {{"tmp_path", "store", "kept"}} & {{*each.fixturenames}}]
done = pytest.main(sys.argv[1:], [OnFiles()])
assert synced
sys.exit(done)
"""
    here = Path(__file__).parent
    process = python(
        code,
        *("-q", "-x", "-p", "no:cacheprovider", f"--basetemp={path_in_memory}"),
        *(here / name for name in files),
        cwd=ROOT,
    )
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out[-3000:] + err[-3000:]
    print(out.splitlines()[-1])


def test_windows_is_refused_at_import() -> None:
    code = """
import sys
import os
os.name = "nt"
for name in [each for each in sys.modules if each.split(".")[0] == "kvmap"]:
    del sys.modules[name]
try:
    import kvmap
    kvmap.open()
except ImportError as error:
    print(error)
"""
    process = python(code)
    out, _ = process.communicate(timeout=60)
    assert "Windows" in out


def test_only_one_file_makes_system_calls() -> None:
    """All of the engine's calls go through the seam, or a test could not let them fail."""
    calls = re.compile(r"\bos\.(open|rename|unlink|stat|listdir|mkdir)\(|\bmmap\.mmap\(")
    package = Path(kvmap.__file__).parent / "disk"
    for file in package.glob("*.py"):
        assert file.name == "fs.py" or not calls.search(file.read_text()), file.name
