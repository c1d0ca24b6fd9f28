"""A directory that is held open, and the files in it; and the names that a store has in its own."""

from __future__ import annotations

import errno
import os
from typing import Final

from kvmap.disk.fs import FileSystem, named
from kvmap.errors import CorruptStoreError, NotAStoreError

LOCK: Final = "lock"
JOURNAL: Final = "journal.jsonl"
HINT: Final = "index.jsonl"
SHARDS: Final = "shards"
QUARANTINE: Final = "damaged"
NEW: Final = ".new"
"""The end of the name of a file that is not complete; who finds one may remove it."""

_IS_A_LINK: Final = (errno.ELOOP, errno.EMLINK)
"""What an open that follows no links says of one: EMLINK on FreeBSD."""

_AT_ONCE: Final = 1 << 24
"""Bytes of one system call that reads a whole file."""


def shard_name(number: int) -> str:
    """The name of a shard's file in the directory of shards."""
    return f"{number:02x}.jsonl"


class Folder:
    """A directory, by its descriptor; `path` is what messages call it.

    Errors name the file. One thread at a time may change the directory.
    """

    __slots__ = ("descriptor", "fs", "path", "unsynced")

    def __init__(self, fs: FileSystem, path: str, descriptor: int) -> None:
        self.fs = fs
        self.path = path
        self.descriptor = descriptor
        self.unsynced = False
        """Whether names have changed since the last sync."""

    @classmethod
    def open(cls, fs: FileSystem, path: str) -> Folder:
        """The directory at a path. Raises FileNotFoundError or NotADirectoryError."""
        return cls(fs, path, fs.open_directory(path))

    @classmethod
    def of_store(cls, fs: FileSystem, path: str) -> Folder:
        """The directory at a path where a store should be.

        Raises FileNotFoundError where there is nothing, NotAStoreError for anything else.
        """
        found = fs.path_status(path)
        if found is None:
            raise FileNotFoundError(2, "no store here", path)
        if not found.is_directory:
            raise NotAStoreError(f"{path} is not a directory; a store is one")
        return cls.open(fs, path)

    def subfolder(self, name: str) -> Folder:
        """A directory in this one. Raises CorruptStoreError for a link or a file, FileNotFoundError."""
        found, path = self.fs.status(self.descriptor, name), self.file_path(name)
        if found is not None and not found.is_directory:
            raise CorruptStoreError(path, 0, "not a directory of the store")
        with named(path):
            return Folder(self.fs, path, self.fs.open_subdirectory(self.descriptor, name))

    def make_subfolder(self, name: str) -> None:
        """Make a directory in this one. Raises FileExistsError."""
        self.unsynced = True
        with named(self.file_path(name)):
            self.fs.make_subdirectory(self.descriptor, name)

    def close(self) -> None:
        """Give the descriptor back; harmless when that was done before."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            self.fs.close(descriptor)

    def file_path(self, name: str) -> str:
        """What messages call a file."""
        return os.path.join(self.path, name)

    def names(self) -> list[str]:
        """All names, sorted."""
        with named(self.path):
            return self.fs.names(self.descriptor)

    def size(self, name: str) -> int | None:
        """The size of a file in bytes, None where there is none.

        Raises CorruptStoreError for a link, a directory, a pipe or a device.
        """
        with named(self.file_path(name)):
            found = self.fs.status(self.descriptor, name)
        if found is not None and not found.is_file:
            raise CorruptStoreError(self.file_path(name), 0, "not a plain file")
        return None if found is None else found.size

    def stands_for(self, name: str, descriptor: int) -> bool:
        """Whether a name stands for the file that is open as a descriptor. Two system calls."""
        with named(self.file_path(name)):
            found = self.fs.status(self.descriptor, name)
            return (
                found is not None
                and found.identity == self.fs.descriptor_status(descriptor).identity
            )

    def open_file(self, name: str, *, write: bool) -> int:
        """A descriptor of a file that is there.

        Raises FileNotFoundError, and CorruptStoreError for what is no plain file.
        """
        with named(self.file_path(name)):
            try:
                descriptor = self.fs.open_file(self.descriptor, name, write=write)
            except OSError as error:
                if error.errno not in _IS_A_LINK:
                    raise
                raise CorruptStoreError(self.file_path(name), 0, "not a plain file") from None
            try:
                if not self.fs.descriptor_status(descriptor).is_file:
                    raise CorruptStoreError(self.file_path(name), 0, "not a plain file")
            except BaseException:
                self.fs.close(descriptor)
                raise
            return descriptor

    def create_file(self, name: str) -> int:
        """Make an empty file; return a descriptor to read and write. Raises FileExistsError."""
        self.unsynced = True
        with named(self.file_path(name)):
            return self.fs.create_file(self.descriptor, name)

    def read(self, name: str) -> bytes:
        """A whole file. Raises FileNotFoundError, and CorruptStoreError for what is no plain file."""
        descriptor = self.open_file(name, write=False)
        try:
            with named(self.file_path(name)):
                return _read(self.fs, descriptor)
        finally:
            self.fs.close(descriptor)

    def write(self, name: str, data: bytes, *, sync: bool) -> None:
        """Make a file that is not there. Raises FileExistsError, or OSError where there is no room."""
        descriptor = self.create_file(name)
        try:
            with named(self.file_path(name)):
                write_at(self.fs, descriptor, data, 0)
                if sync:
                    self.fs.sync(descriptor)
        finally:
            self.fs.close(descriptor)

    def replace(self, name: str, data: bytes, *, sync: bool = True) -> None:
        """Give a file new content in one step that a power cut can't halve, or leave it alone."""
        new = name + NEW
        self.remove(new)  # a crash may have left it, or someone put a link there
        try:
            self.write(new, data, sync=sync)
            self.rename(new, name)
        except BaseException:
            self.remove(new)
            raise
        if sync:
            self.sync()

    def rename(self, name: str, new_name: str) -> None:
        """Let `new_name` stand for the file, in one step."""
        self.unsynced = True
        with named(self.file_path(name)):
            self.fs.rename(self.descriptor, name, new_name)

    def remove(self, name: str) -> None:
        """Remove a file; no error where there is none."""
        self.unsynced = True
        with named(self.file_path(name)):
            self.fs.remove(self.descriptor, name)

    def sync(self) -> None:
        """Return when all names would survive a power cut."""
        if self.unsynced:
            with named(self.path):
                self.fs.sync_directory(self.descriptor)
            self.unsynced = False


def write_at(fs: FileSystem, descriptor: int, data: bytes, offset: int) -> None:
    """Write all of the bytes. Raises OSError where there is no room."""
    done = fs.pwrite(descriptor, data, offset)
    while done < len(data):  # the next call says why it was not all
        done += fs.pwrite(descriptor, data[done:], offset + done)


def _read(fs: FileSystem, descriptor: int) -> bytes:
    parts: list[bytes] = []
    done, size = 0, fs.descriptor_status(descriptor).size
    # A read allocates all that it asks for. One byte more finds out that nothing was added.
    while part := fs.pread(descriptor, min(_AT_ONCE, max(0, size - done) + 1), done):
        parts.append(part)
        done += len(part)
    return b"".join(parts)
