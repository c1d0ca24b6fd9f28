"""The only module that asks the operating system for anything.

A test stands in for the disk by handing another `Files` to `Store`: one that records every
write, drops unsynced pages, runs out of room, or moves the clock.
"""

from __future__ import annotations

import mmap
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, overload

from kvmap.errors import CorruptStoreError

PAGE = mmap.PAGESIZE

# A link in place of a file would lead outside the store, a pipe would block the open.
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_ZEROS = bytes(1 << 16)


class Map(Protocol):
    """A file's bytes in memory; what is assigned to a slice is in the page cache at once."""

    @overload
    def __getitem__(self, where: int, /) -> int: ...
    @overload
    def __getitem__(self, where: slice, /) -> bytes: ...
    def __setitem__(self, where: slice, data: bytes, /) -> None: ...
    def __len__(self) -> int: ...
    def find(self, sub: bytes, start: int, /) -> int: ...
    def resize(self, size: int, /) -> None: ...


class Files:
    """The operating system's calls that a store needs, each with one job."""

    now = staticmethod(time.time)
    _through = os.O_DSYNC

    def map(self, path: str, *, writable: bool) -> Map | None:
        """Map a whole file, or return None where it is empty (an empty file can't be mapped)."""
        with self._opened(path, os.O_RDWR if writable else os.O_RDONLY) as fd:
            if os.fstat(fd).st_size == 0:
                return None
            # A mapping keeps a descriptor of its own, so that ours can be closed.
            return mmap.mmap(fd, 0, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)

    def create(self, path: str, size: int) -> None:
        """Make a new file with `size` zero bytes on disk."""
        with self._opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL) as fd:
            try:
                _reserve(fd, 0, size)
            except BaseException:
                os.unlink(path)
                raise

    def reserve(self, path: str, mapped: Map, size: int) -> None:
        """Grow a file to `size` bytes, and its map with it; the new ones are zeros on disk.

        Reserving first means that a full disk is an `OSError` here and never a SIGBUS later.
        """
        with self._opened(path, os.O_RDWR) as fd:
            _reserve(fd, len(mapped), size)
        mapped.resize(size)

    def truncate(self, path: str, size: int) -> None:
        with self._opened(path, os.O_RDWR) as fd:
            os.ftruncate(fd, size)

    def sync(self, path: str) -> None:
        """Return when the file's bytes, mapped ones included, would survive a power cut."""
        with self._opened(path, os.O_RDONLY) as fd:
            os.fdatasync(fd)

    def write_through(self, path: str, at: int, data: bytes) -> None:
        """Write into a file's reserved space, and return when the bytes would survive a power cut.

        These bytes alone, whatever else of the file is not on disk yet. In place of a copy into the
        map and a sync: writing back a page that a map has made dirty takes a quarter longer, and
        twice as long where the page was synced just before.
        """
        # Not by way of `_opened`, most of whose lines the processor has forgotten by the time that
        # the disk has answered: a tenth of the time.
        fd = os.open(path, os.O_WRONLY | self._through | _SAFE)
        try:
            os.lseek(fd, at, os.SEEK_SET)
            _write_all(fd, [data])
        except OSError as error:
            error.filename = path
            raise
        finally:
            os.close(fd)

    def sync_folder(self, path: str) -> None:
        """Return when the names in a folder would survive a power cut."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self, path: str) -> bytes:
        with self._opened(path, os.O_RDONLY) as fd:
            return _read_all(fd)

    def write(self, path: str, parts: Iterable[bytes]) -> None:
        """Make the file, or empty it, and write the parts to it; neither atomic nor synced."""
        with self._opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            _write_all(fd, parts)

    def replace(self, path: str, data: bytes) -> None:
        """Give the file new content in one step that a power cut can't halve; or leave it alone."""
        new = path + ".new"
        self.remove(new)  # a crash may have left it, or someone put a link there
        try:
            self.write(new, [data])
            self.sync(new)
            self.rename(new, path)
        except BaseException:
            self.remove(new)
            raise
        self.sync_folder(os.path.dirname(path))

    def rename(self, path: str, target: str) -> None:
        os.rename(path, target)

    def remove(self, path: str) -> None:
        """Remove a file; no error where there is none."""
        try:  # noqa: SIM105 - a context manager is one more place for an interrupt to fall into
            os.unlink(path)
        except FileNotFoundError:
            pass

    def make_folder(self, path: str, mode: int) -> None:
        """Make a folder with exactly these permissions, whatever the umask; parents by default."""
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        os.mkdir(path, mode)
        os.chmod(path, mode)

    def remove_folder(self, path: str) -> None:
        os.rmdir(path)

    def names(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def size(self, path: str) -> int | None:
        """The size of a plain file in bytes, None where there is none; links are not followed.

        Raises CorruptStoreError for a link, a folder, a pipe or a device: no store has one there.
        """
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise CorruptStoreError(path, 0, "not a plain file")
        return found.st_size

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def is_folder(self, path: str) -> bool:
        return os.path.isdir(path)

    def is_link(self, path: str) -> bool:
        return os.path.islink(path)

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        fd = os.open(path, flags | _SAFE, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise CorruptStoreError(path, 0, "not a plain file")
            yield fd
        except OSError as error:
            if error.filename is None:  # what is done to a descriptor knows no name
                error.filename = path
            raise
        finally:
            os.close(fd)


def _reserve(fd: int, start: int, end: int) -> None:
    there = os.fstat(fd).st_size
    os.posix_fallocate(fd, start, end - start)
    # Space that was only reserved would ask the file system for each page when a map first writes
    # to it, which takes four times as long as writing the page here; and a sync of bytes that were
    # on disk before, whatever they were, needs no commit of the file system's own journal.
    start = max(start, there)
    os.lseek(fd, start, os.SEEK_SET)
    whole, rest = divmod(max(0, end - start), len(_ZEROS))
    _write_all(fd, [_ZEROS] * whole + [_ZEROS[:rest]])


# Two loops that stand in functions of their own, so that an interrupt in them does not slip past
# the `with` that closes the file (CPython's issue 108214).


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, os.fstat(fd).st_size + 1):
        parts.append(part)
    return b"".join(parts)


def _write_all(fd: int, parts: Iterable[bytes]) -> None:
    for part in parts:
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(fd, rest) :]
