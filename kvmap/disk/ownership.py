"""One process owns a store: it holds the lock on the file `lock`, whose text says who that is."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from orjson import JSONDecodeError, dumps, loads

from kvmap.disk.folder import LOCK, Folder, write_at
from kvmap.disk.fs import named
from kvmap.errors import StoreLockedError

_PAUSE: Final = 0.05
"""Seconds between two tries."""

_open_here: dict[tuple[int, int], str] = {}
"""By the lock file's identity: since when this process has the store open."""


class Ownership:
    """The lock on a store's directory, until `release`, or until it is dropped."""

    _descriptor, _owns = -1, False  # for `__del__`, where an interrupt came ahead of `__init__`

    def __init__(self, folder: Folder) -> None:
        """Open the lock file. Raises FileNotFoundError where there is none."""
        self._folder = folder
        self._identity = (0, 0)
        self._descriptor = folder.open_file(LOCK, write=True)

    @classmethod
    def acquire(cls, folder: Folder, timeout: float) -> Ownership:
        """Take ownership, waiting up to `timeout` seconds for another process to let go.

        Raises StoreLockedError, which names the owner; at once where it is this very process.
        """
        until = time.monotonic() + timeout
        while True:
            found = cls._try(folder)
            if found is not None:
                found._write_name()
                return found
            if time.monotonic() >= until:
                raise StoreLockedError(
                    errno.EAGAIN, f"{folder.path} is open elsewhere: {_owner(folder)}"
                )
            time.sleep(min(_PAUSE, max(0.0, until - time.monotonic())))

    @classmethod
    def _try(cls, folder: Folder) -> Ownership | None:
        fs = folder.fs
        with suppress(FileExistsError):
            if folder.size(LOCK) is None:  # refuses what is no plain file
                fs.close(folder.create_file(LOCK))
        try:
            found = cls(folder)
        except FileNotFoundError:
            return None  # someone has just removed it
        try:
            if found._take():
                return found
        except BaseException:
            found.release()
            raise
        found.release()
        return None

    def _take(self) -> bool:
        identity = self._folder.fs.descriptor_status(self._descriptor).identity
        if identity in _open_here:
            raise StoreLockedError(
                errno.EAGAIN,
                f"{self._folder.path} is open in this process since {_open_here[identity]}; "
                "close that map first, or use it",
            )
        self._identity = identity
        self._owns = _lock(self._folder, self._descriptor) and _stands_for(self._folder, identity)
        if self._owns:
            _open_here[identity] = datetime.now(UTC).isoformat(timespec="seconds")
        return self._owns

    def _write_name(self) -> None:
        owner = {
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "since": _open_here[self._identity],
        }
        try:
            self._write(dumps(owner) + b"\n")
        except OSError as error:
            # A store on a full disk can still be read, and cleared: its owner goes without a name.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                self.release()
                raise
        except BaseException:
            self.release()
            raise

    def _write(self, data: bytes) -> None:
        fs = self._folder.fs
        with named(self._folder.file_path(LOCK)):
            fs.truncate(self._descriptor, 0)
            write_at(fs, self._descriptor, data, 0)

    def check(self) -> None:
        """Raise StoreLockedError where the lock file was removed or replaced. One system call.

        Called before a file is renamed or removed, and once in many writes.
        """
        if not _stands_for(self._folder, self._identity):
            raise StoreLockedError(
                errno.EAGAIN,
                f"{self._folder.file_path(LOCK)} was removed or replaced while the store was open, so "
                "another process may have opened it; nothing more is written there. Open it again",
            )

    def release(self, *, clean: bool = False) -> None:
        """Let go; harmless when that was done before.

        `clean`: the lock file names nobody then. One that names a process which is gone is the trace of a
        crash.
        """
        if clean and self._descriptor >= 0:
            with suppress(OSError):  # its text is for people
                self._folder.fs.truncate(self._descriptor, 0)
        self._let_go()

    def _let_go(self) -> None:
        if self._owns:
            _open_here.pop(self._identity, None)
            self._owns = False
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if descriptor >= 0:
                self._folder.fs.close(descriptor)
        except BaseException:
            # An interrupt ahead of the system call would leave the store locked.
            with suppress(OSError):
                if self._folder.fs.descriptor_status(descriptor).identity == self._identity:
                    self._folder.fs.close(descriptor)
            raise

    def __del__(self) -> None:
        self._let_go()

    def abandon(self) -> None:
        """In a forked child: close its copy of the descriptor. The parent stays the owner."""
        self._let_go()


class NoOwner:
    """Stands in for the ownership of a store that is only looked at."""

    def check(self) -> None:
        """Nothing is written, so nothing needs to be owned."""

    def release(self, *, clean: bool = False) -> None:
        """There is nothing to let go of."""

    def abandon(self) -> None:
        """There is nothing to let go of."""


def _lock(folder: Folder, descriptor: int) -> bool:
    try:
        with named(folder.file_path(LOCK)):
            return folder.fs.lock(descriptor)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        raise OSError(
            error.errno,
            "the file system has no locks (flock), so nothing would keep two processes from writing "
            "at once; put the store on a local file system",
            folder.file_path(LOCK),
        ) from None


def _stands_for(folder: Folder, identity: tuple[int, int]) -> bool:
    """Whether the lock file's name stands for this file."""
    with named(folder.file_path(LOCK)):
        found = folder.fs.status(folder.descriptor, LOCK)
    return found is not None and found.identity == identity


def _owner(folder: Folder) -> str:
    try:
        owner: dict[str, Any] = loads(folder.read(LOCK))
        return f"by process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (OSError, JSONDecodeError, KeyError, TypeError):
        return "by a process that has not said its name yet"
