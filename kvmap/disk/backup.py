"""A copy of a store that is in use: its live records alone, as they stand, line by line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

from kvmap.disk.folder import SHARDS, Folder, write_at
from kvmap.disk.fs import FileSystem, named
from kvmap.disk.manifest import NAME, Known, Manifest
from kvmap.disk.opening import Home
from kvmap.disk.records import TAIL, Entry, span, unpack_value
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.engine import Progress
from kvmap.errors import CorruptStoreError
from kvmap.keys import Key
from kvmap.settings import Settings


class NewStore:
    """The copy, while it is made. The manifest comes last: where there is one, it is complete."""

    def __init__(self, path: Path, home: Home, fs: FileSystem) -> None:
        name = str(path)
        if os.path.realpath(name).startswith(os.path.realpath(home.folder.path) + os.sep):
            raise ValueError(f"{name} is inside the store; a copy belongs elsewhere")
        found = fs.path_status(name)
        if found is not None:
            if not found.is_directory:
                raise _taken(name)
            folder = Folder.open(fs, name)
            try:
                if folder.names():
                    raise _taken(name)
            finally:
                folder.close()
        self._path = name
        self._fs = fs
        self._makes_directory = found is None
        self._folder = Folder(fs, name, -1)
        self._shards = Folder(fs, self._folder.file_path(SHARDS), -1)
        self._known: list[Known] = []
        self._seq = 0

    def make(self) -> None:
        """Make the directories. Where this raises, `remove` is due."""
        if self._makes_directory:
            self._fs.make_directories(self._path, 0o700)
        self._folder = Folder.open(self._fs, self._path)
        self._folder.make_subfolder(SHARDS)
        self._shards = self._folder.subfolder(SHARDS)

    def copy(
        self, shards: Shards, entries: Mapping[Key, Entry], seq: int, progress: Progress | None
    ) -> None:
        """Write the records that the index points to, in the order of their writes.

        Raises CorruptStoreError for a damaged record: a copy holds nothing that can't be read.
        """
        by_shard: list[list[tuple[int, Entry]]] = [[] for _ in shards.all]
        for entry in entries.values():
            start, _, _, _, number = unpack_value(entry)
            by_shard[number].append((start, entry))
        done, total = 0, shards.live
        for shard, some in zip(shards.all, by_shard, strict=True):
            length = self._copy_shard(shard, [entry for _, entry in sorted(some)])
            self._known.append(Known(length, exact=True))
            done += length
            if progress is not None:
                progress(done, total)
        self._seq = seq

    def _copy_shard(self, shard: Shard, entries: list[Entry]) -> int:
        if not entries:
            return 0
        descriptor = self._shards.create_file(shard.name)
        try:
            end = 0
            with named(self._shards.file_path(shard.name)):
                for entry in entries:
                    line = _line(shard, entry)
                    write_at(self._fs, descriptor, line, end)
                    end += len(line)
                self._fs.sync(descriptor)
            return end
        finally:
            self._fs.close(descriptor)

    def finish(self, settings: Settings) -> None:
        """Make the copy a store that would survive a power cut."""
        self._shards.sync()
        manifest = Manifest(settings, tuple(self._known), self._seq)
        self._folder.replace(NAME, manifest.to_bytes())
        self._shards.close()
        self._folder.close()

    def remove(self) -> None:
        """Leave nothing of it, however far it came."""
        fs = self._fs
        self._shards.close()
        self._folder.close()
        if fs.path_status(self._path) is None:
            return
        folder = Folder.open(fs, self._path)
        try:
            if SHARDS in folder.names():
                shards = folder.subfolder(SHARDS)
                for name in shards.names():
                    shards.remove(name)
                shards.close()
                fs.remove_directory(folder.descriptor, SHARDS)
            for name in folder.names():
                folder.remove(name)
        finally:
            folder.close()
        if self._makes_directory:
            fs.remove_path(self._path)


@contextmanager
def new_store(path: Path, home: Home, fs: FileSystem, settings: Settings) -> Iterator[NewStore]:
    """A copy to be filled: it is a store at the end of the block, or nothing of it is left."""
    copy = NewStore(path, home, fs)
    try:
        copy.make()
        yield copy
        copy.finish(settings)
    except BaseException:
        copy.remove()
        raise


def _taken(name: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "a backup needs a new or an empty directory", name)


def _line(shard: Shard, entry: Entry) -> bytes:
    begin, end = span(entry)
    line = shard.read(begin, end)
    if crc32(memoryview(line)[:-TAIL]) != unpack_value(entry)[3]:
        raise CorruptStoreError(shard.path, begin, "the record is damaged")
    return line
