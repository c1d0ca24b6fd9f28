"""The seam to the operating system: the only module of the engine that makes system calls.

A test puts another `FileSystem` in its place: a disk in memory that a power cut can hit, calls that
fail, a clock that it moves.

Every name is looked up in a directory that is given as an open descriptor, so a directory that is
renamed, removed or replaced while a store is open is never written into. Only what Linux, macOS and
the BSDs all have is used. Errors are OSErrors that name the file only where a name was given; who
works on a descriptor adds the name with `named`.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple, Protocol, overload

from filelock import lock_descriptor

# A symbolic link in place of a file would lead outside the store, a pipe would block the open.
_SAFE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

MOST_PARTS: Final = 1024
"""Parts that one `pwritev` takes (IOV_MAX) on every system."""


class Map(Protocol):
    """The bytes of a file in memory, read-only; slices are copies."""

    @overload
    def __getitem__(self, where: int, /) -> int: ...
    @overload
    def __getitem__(self, where: slice, /) -> bytes: ...
    def __len__(self) -> int: ...


class Status(NamedTuple):
    """What stands behind a name or a descriptor."""

    size: int
    identity: tuple[int, int]
    """Device and inode number: the same for two names or descriptors of one file."""
    is_file: bool
    """Whether it is a plain file."""
    is_directory: bool
    changed_ns: int = 0
    """When the content last changed, in nanoseconds: of a directory, when its names did."""


class Syncing(Protocol):
    """A sync that is under way."""

    @property
    def done(self) -> bool:
        """Whether `finish` returns at once."""
        ...

    def finish(self) -> None:
        """Wait for its end. Raises OSError where it has failed."""
        ...


class FileSystem:
    """The operating system's calls that a store needs. It has no state."""

    def now(self) -> float:
        """The time in Unix seconds."""
        return time.time()

    # Directories by path

    def make_directories(self, path: str, mode: int | None) -> None:
        """Make a directory with exactly these permissions, or the default ones for None.

        `path` is absolute. Missing parents are made with default permissions. The name of each new
        directory would survive a power cut when this returns. Raises FileExistsError where there is one.

        """
        parent = os.path.dirname(path)
        if parent != path and not os.path.isdir(parent):
            with suppress(FileExistsError):  # another process has just made it
                self.make_directories(parent, None)
        os.mkdir(path, 0o777 if mode is None else mode)
        if mode is not None:
            os.chmod(path, mode)
        directory = self.open_directory(parent)
        try:
            self.sync_directory(directory)
        finally:
            self.close(directory)

    def open_directory(self, path: str) -> int:
        """A descriptor of the directory at a path.

        Raises FileNotFoundError or NotADirectoryError.
        """
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def path_status(self, path: str) -> Status | None:
        """What stands at a path, links followed; None where nothing does."""
        try:
            return _status(os.stat(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def remove_path(self, path: str) -> None:
        """Remove an empty directory at a path. Raises OSError."""
        os.rmdir(path)

    # Names in a directory

    def open_subdirectory(self, directory: int, name: str) -> int:
        """A descriptor of a directory in a directory; a symbolic link is refused.

        Raises FileNotFoundError, or NotADirectoryError or another OSError for anything else there.
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, dir_fd=directory)

    def make_subdirectory(self, directory: int, name: str) -> None:
        """Make a directory that only its owner may enter. Not synced.

        Raises FileExistsError.
        """
        os.mkdir(name, 0o700, dir_fd=directory)

    def remove_directory(self, directory: int, name: str) -> None:
        """Remove an empty directory in a directory. Not synced. Raises OSError."""
        os.rmdir(name, dir_fd=directory)

    def names(self, directory: int) -> list[str]:
        """All names in a directory, sorted."""
        # A descriptor has a place up to which it was read. On btrfs it also has a last name, which
        # leaves out what was made later. So each list has a descriptor of its own.
        listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            return sorted(os.listdir(listed))
        finally:
            os.close(listed)

    def status(self, directory: int, name: str) -> Status | None:
        """What stands at a name, links not followed; None where nothing does."""
        try:
            return _status(os.stat(name, dir_fd=directory, follow_symlinks=False))
        except FileNotFoundError:
            return None

    def rename(self, directory: int, name: str, new_name: str) -> None:
        """Let `new_name` stand for the file, in one step, whatever it stood for. Not synced."""
        os.rename(name, new_name, src_dir_fd=directory, dst_dir_fd=directory)

    def remove(self, directory: int, name: str) -> None:
        """Remove the name of a file; no error where there is none. Not synced."""
        try:  # noqa: SIM105 - a context manager is one more place for an interrupt to fall into
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass

    def sync_directory(self, directory: int) -> None:
        """Return when the names in the directory would survive a power cut."""
        _sync(directory, os.fsync)

    # Files

    def open_file(self, directory: int, name: str, *, write: bool) -> int:
        """A descriptor of a file that is there, to read, and to write where that is asked for.

        Raises FileNotFoundError, and OSError for a symbolic link. What is no plain file may be
        opened: `descriptor_status` says what it is.
        """
        return os.open(name, (os.O_RDWR if write else os.O_RDONLY) | _SAFE, dir_fd=directory)

    def create_file(self, directory: int, name: str) -> int:
        """Make an empty file that only its owner may read; return a descriptor to read and write.

        Its name is not synced. Raises FileExistsError where the name is taken, by a link too.
        """
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE, 0o600, dir_fd=directory)

    def close(self, descriptor: int) -> None:
        """Give a descriptor of a file or a directory back."""
        os.close(descriptor)

    def descriptor_status(self, descriptor: int) -> Status:
        """What a descriptor stands for, whatever has become of its name."""
        return _status(os.fstat(descriptor))

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes from an offset on; fewer at the file's end, or where it likes to."""
        return os.pread(descriptor, size, offset)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        """Write bytes at an offset, which may be the file's end; return how many were written.

        These are the first ones, fewer than all of them where a disk is full. A kill of the process
        leaves a first part of them written, a power cut any blocks of them. Bytes that were written
        are seen by every reader of the file at once, by maps too.
        """
        return os.pwrite(descriptor, data, offset)

    def pwritev(self, descriptor: int, parts: Sequence[bytes], offset: int) -> int:
        """Write up to MOST_PARTS parts, one after the other, as `pwrite` writes one."""
        if hasattr(os, "pwritev"):
            return os.pwritev(descriptor, parts, offset)
        return os.pwrite(descriptor, b"".join(parts), offset)  # before macOS 11

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file off. Neither the size nor the loss of the bytes is synced."""
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Return when the file's bytes and its size would survive a power cut.

        Its name is another thing: `sync_directory`. Once this has raised, what was written since
        the last sync may be lost although it can still be read, and although a later sync of the
        same file succeeds.
        """
        _sync(descriptor, getattr(os, "fdatasync", os.fsync))

    def begin_sync(self, descriptor: int) -> Syncing:
        """Begin what `sync` does. The file may be written to, and closed, meanwhile."""
        return _SyncingThread(self.sync, descriptor)

    def map(self, descriptor: int, size: int) -> Map:
        """The first `size` bytes of a file, more than 0, in memory; it stays when the file is closed.

        Bytes that are written later are not in it, unless they are among these. The file must not
        become shorter than the map.
        """
        # From 3.13 on the map needs no descriptor of its own beside the file's.
        more: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ, **more)

    # Ownership

    def lock(self, descriptor: int) -> bool:
        """Lock a file until the descriptor is closed; return whether nobody else has it locked.

        Raises OSError where the file system knows no locks.
        """
        return lock_descriptor(descriptor, blocking=False)


class _SyncingThread:
    """A sync in a thread of its own, which a process that exits does not wait for."""

    def __init__(self, sync: Callable[[int], None], descriptor: int) -> None:
        self._sync = sync
        # One of its own: the number may stand for another file when this one is closed.
        self._descriptor = os.dup(descriptor)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="kvmap sync", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # as many threads as there can be, or the interpreter is shutting down
            self._run()

    def _run(self) -> None:
        try:
            self._sync(self._descriptor)
        except BaseException as error:
            self._error = error
        finally:
            os.close(self._descriptor)

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def finish(self) -> None:
        if self._thread.is_alive():
            self._thread.join()
        if self._error is not None:
            raise self._error


@contextmanager
def named(path: str) -> Iterator[None]:
    """Give the OSErrors of calls on a descriptor the name of its file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


def _status(found: os.stat_result) -> Status:
    return Status(
        found.st_size,
        (found.st_dev, found.st_ino),
        stat.S_ISREG(found.st_mode),
        stat.S_ISDIR(found.st_mode),
        found.st_mtime_ns,
    )


def _sync(descriptor: int, sync: Any) -> None:
    # On macOS, fsync leaves the bytes in the drive's own cache.
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
            return
        except OSError as error:
            # Not every file system knows it; a disk's error is no reason to ask again.
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY, errno.ENODEV):
                raise
    sync(descriptor)
