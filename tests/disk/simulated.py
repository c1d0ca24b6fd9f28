"""A disk in memory behind the engine's seam, which computes what a power cut may leave of it.

The page cache may write any sector back at any time, in any order, or never before a sync. After a
cut each sector holds what it held at the last sync or at any moment since; each name in a directory
and each file's size stand for what they stood for at the last sync or at any moment since.

A sync that fails drops what it was to write, as Linux does: the bytes can still be read, later syncs
leave them out, and each descriptor that was open is told once.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from kvmap.disk.fs import FileSystem, Map, Status, Syncing

SECTOR = 512
PAGE = 4096

_devices = count(1)

Versions = list[tuple[int, Any]]
"""What something was since the last sync, oldest first: since which moment, and what."""


class Choice:
    """What a power cut leaves of each sector, name and size: one of its versions."""

    def __init__(self, kind: str, chance: random.Random | None = None, moment: int = 0) -> None:
        self.kind = kind
        """lost, kept, moment (all of the same one), pages, sectors, mostly lost, mostly kept."""
        self.chance = chance or random.Random(0)
        self.moment = moment

    def one(self, versions: Versions) -> Any:
        """One of the versions."""
        return versions[self._number(versions)][1]

    def _number(self, versions: Versions) -> int:
        match self.kind:
            case "lost":
                return 0
            case "kept":
                return -1
            case "moment":
                return self.at(versions, self.moment)
            case "mostly lost" if self.chance.random() < 0.9:
                return 0
            case "mostly kept" if self.chance.random() < 0.9:
                return -1
        return self.chance.randrange(len(versions))

    @staticmethod
    def at(versions: Versions, moment: int) -> int:
        """The number of the version of a moment."""
        return max([i for i, (since, _) in enumerate(versions) if since <= moment], default=0)

    def sectors(self, dirty: dict[int, Versions]) -> dict[int, bytes]:
        """What each sector holds; those of a page hold what they held at one moment, or not."""
        if self.kind != "pages":
            return {sector: self.one(versions) for sector, versions in dirty.items()}
        moments: dict[int, int] = {}
        found = {}
        for sector, versions in dirty.items():
            page = sector * SECTOR // PAGE
            if page not in moments:
                moments[page] = self.chance.choice(versions)[0]
            found[sector] = versions[self.at(versions, moments[page])][1]
        return found


class File:
    """A file's bytes as they are read, and what a power cut may leave of them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.data = bytearray()
        self.sizes: Versions = [(0, 0)]
        self.dirty: dict[int, Versions] = {}
        """By the number of the sector."""
        self.dropped: set[int] = set()
        """Sectors that no sync will write, unless something is written to their page again."""
        self.size_dropped = False
        self.errors = 0
        """How many times writing it back has failed."""

    def copy(self) -> File:
        same = File(self.number)
        same.data = bytearray(self.data)
        same.sizes = list(self.sizes)
        same.dirty = {sector: list(versions) for sector, versions in self.dirty.items()}
        same.dropped, same.size_dropped = set(self.dropped), self.size_dropped
        return same

    def write(self, at: int, data: bytes, moment: int) -> None:
        end = at + len(data)
        sectors = range(at // SECTOR, -(-end // SECTOR))
        before = {sector: self._sector(sector) for sector in sectors}
        if at > len(self.data):
            self.data += bytes(at - len(self.data))
        size = len(self.data)
        self.data[at:end] = data
        self._note(before, moment)
        if len(self.data) != size:
            self._resized(moment)
        elif end == size:
            self.size_dropped = False

    def resize(self, size: int, moment: int) -> None:
        sectors = range(size // SECTOR, -(-len(self.data) // SECTOR))
        before = {sector: self._sector(sector) for sector in sectors}
        self.data = self.data[:size].ljust(size, b"\0")
        self._note(before, moment)
        self._resized(moment)

    def _resized(self, moment: int) -> None:
        self.sizes.append((moment, len(self.data)))
        self.size_dropped = False

    def _sector(self, sector: int) -> bytes:
        return bytes(self.data[sector * SECTOR : (sector + 1) * SECTOR]).ljust(SECTOR, b"\0")

    def _note(self, before: dict[int, bytes], moment: int) -> None:
        for sector, data in before.items():
            versions = self.dirty.setdefault(sector, [(0, data)])
            versions.append((moment, self._sector(sector)))
        if self.dropped:
            pages = {sector * SECTOR // PAGE for sector in before}
            self.dropped -= {each for each in self.dropped if each * SECTOR // PAGE in pages}

    def sync(self) -> None:
        if not self.size_dropped:
            self.sizes = [(0, len(self.data))]
        if self.dropped:
            self.dirty = {each: self.dirty[each] for each in self.dropped}
        else:
            self.dirty.clear()

    def drop(self, *, reverts: bool) -> None:
        """Fail to write back: what is not synced may be on disk or not, and no sync will write it.

        `reverts`: what is read afterwards is what is on disk, as on a copy-on-write file system.
        """
        self.dropped = set(self.dirty)
        self.size_dropped = len(self.sizes) > 1
        self.errors += 1
        if reverts:
            for sector, versions in self.dirty.items():
                part = slice(sector * SECTOR, min((sector + 1) * SECTOR, len(self.data)))
                if part.start < len(self.data):
                    self.data[part] = versions[0][1][: part.stop - part.start]

    def left(self, choice: Choice) -> File:
        found = File(self.number)
        size = choice.one(self.sizes)
        data = bytearray(self.data)
        if self.dirty:
            data = data.ljust(max(len(data), (max(self.dirty) + 1) * SECTOR), b"\0")
            for sector, held in choice.sectors(self.dirty).items():
                data[sector * SECTOR : (sector + 1) * SECTOR] = held
        found.data = data[:size].ljust(size, b"\0")
        found.sizes = [(0, size)]
        return found


class Directory:
    """Names, each with what it stood for since the last sync; None where it was not there."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.names: dict[str, Versions] = {}
        self.errors = 0
        self.changes = 0
        """How many times names have changed."""

    def get(self, name: str) -> File | Directory | None:
        found: File | Directory | None = self.names.get(name, [(0, None)])[-1][1]
        return found

    def put(self, name: str, node: File | Directory | None, moment: int) -> None:
        self.changes += 1
        self.names.setdefault(name, [(0, None)]).append((moment, node))

    def sync(self) -> None:
        self.names = {
            name: [(0, versions[-1][1])]
            for name, versions in self.names.items()
            if versions[-1][1] is not None
        }


Node = File | Directory


class Open:
    """What a descriptor stands for."""

    def __init__(self, node: Node, *, write: bool = False) -> None:
        self.node = node
        self.write = write
        self.seen = node.errors
        """How many failures it has told of."""


class Memory:
    """A file's map: what is written to the mapped bytes is seen, and to cut them off is fatal."""

    def __init__(self, file: File, size: int) -> None:
        self.file, self.size = file, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, where: Any) -> Any:
        data = self.file.data
        if isinstance(where, slice):
            start, stop, step = where.indices(self.size)
            assert stop <= start or stop <= len(data), "reading beyond the file's end is a SIGBUS"
            return bytes(data[start:stop:step])
        return data[range(self.size)[where]]


class Slow:
    """A sync that is done when somebody has asked a few times, or waits for it."""

    def __init__(self, disk: Disk, descriptor: int) -> None:
        self.disk, self.opened, self.asked = disk, disk.descriptors[descriptor], 0

    @property
    def done(self) -> bool:
        self.asked += 1
        return self.asked > 5

    def finish(self) -> None:
        self.disk.sync_opened(self.opened)


class Disk(FileSystem):
    """A whole disk; paths begin at its root."""

    def __init__(self, time: float = 1_000_000_000.0) -> None:
        self.time = time
        self.root = Directory(1)
        self.capacity: int | None = None
        """Bytes that all files together may have; None: no bound."""
        self.happened: Callable[[str], None] = lambda call: None
        """Called with its name after each call that changes something, and amid each write."""
        self.sync_fails: Callable[[str], bool] = lambda call: False
        """Whether this sync is to fail; called with its name."""
        self.reverts = False
        """Whether a failed sync also undoes what can be read."""
        self.calls = 0
        self.moment = 0
        self.device = next(_devices)
        self.descriptors: dict[int, Open] = {}
        self._locks: dict[int, int] = {}
        self._numbers = count(2)

    # What a test does

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.time += seconds

    def copy(self, choice: Choice | None = None) -> Disk:
        """The disk after a kill of all processes, or after a power cut that leaves this."""
        found = Disk(self.time)
        found.moment = self.moment
        found._numbers = count(next(self._numbers))
        known: dict[int, Node] = {}

        def same(node: Node) -> Node:
            if node.number not in known:
                if isinstance(node, File):
                    known[node.number] = node.left(choice) if choice else node.copy()
                else:
                    known[node.number] = new = Directory(node.number)
                    for name, versions in node.names.items():
                        if choice:
                            if (kept := choice.one(versions)) is not None:
                                new.names[name] = [(0, same(kept))]
                        else:
                            new.names[name] = [(t, each and same(each)) for t, each in versions]
            return known[node.number]

        root = same(self.root)
        assert isinstance(root, Directory)
        found.root = root
        return found

    def state(self) -> dict[str, bytes]:
        """Each file's bytes, by its path."""
        found: dict[str, bytes] = {}
        stack: list[tuple[str, Directory]] = [("", self.root)]
        while stack:
            path, directory = stack.pop()
            for name in sorted(directory.names):
                node = directory.get(name)
                if isinstance(node, File):
                    found[f"{path}/{name}"] = bytes(node.data)
                elif node is not None:
                    stack.append((f"{path}/{name}", node))
        return found

    def file(self, path: str) -> File:
        """The file at a path."""
        found = self._find(path)
        assert isinstance(found, File), path
        return found

    def fail_to_write_back(self, path: str) -> None:
        """What the kernel does when it writes back on its own account, and fails."""
        self.file(path).drop(reverts=self.reverts)

    def put(self, path: str, data: bytes) -> None:
        """Let a file hold these bytes, synced."""
        directory, name = self._find(os.path.dirname(path)), os.path.basename(path)
        assert isinstance(directory, Directory)
        node = directory.get(name)
        if node is None:
            node = File(next(self._numbers))
            directory.names[name] = [(0, node)]
        assert isinstance(node, File)
        node.resize(0, self.moment)
        node.write(0, data, self.moment)
        node.sync()

    # Paths

    def _find(self, path: str) -> Node | None:
        here: Node | None = self.root
        for name in filter(None, path.split("/")):
            if not isinstance(here, Directory):
                return None
            here = here.get(name)
        return here

    def _changed(self, call: str) -> None:
        self.happened(call)
        self.moment += 1

    def _status(self, node: Node | None) -> Status | None:
        if node is None:
            return None
        size = len(node.data) if isinstance(node, File) else 0
        identity = self.device, node.number
        changes = 0 if isinstance(node, File) else node.changes
        is_file, is_directory = isinstance(node, File), isinstance(node, Directory)
        return Status(size, identity, is_file, is_directory, changes)

    def _open(self, node: Node, *, write: bool = False) -> int:
        self.calls += 1
        descriptor = 3
        while descriptor in self.descriptors:
            descriptor += 1
        self.descriptors[descriptor] = Open(node, write=write)
        return descriptor

    def _opened(self, descriptor: int) -> Open:
        self.calls += 1
        found = self.descriptors.get(descriptor)
        if found is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return found

    def _directory(self, descriptor: int) -> Directory:
        node = self._opened(descriptor).node
        if not isinstance(node, Directory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return node

    def _file(self, descriptor: int, *, write: bool = False) -> File:
        found = self._opened(descriptor)
        if isinstance(found.node, Directory):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if write and not found.write:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return found.node

    def make_directories(self, path: str, mode: int | None) -> None:
        here = self.root
        *parents, last = filter(None, path.split("/"))
        for name in parents:
            below = here.get(name)
            if below is None:
                below = Directory(next(self._numbers))
                here.put(name, below, self.moment + 1)
                self._changed("make_directories")
                here.sync()
            if not isinstance(below, Directory):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            here = below
        if here.get(last) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        here.put(last, Directory(next(self._numbers)), self.moment + 1)
        self._changed("make_directories")
        here.sync()

    def open_directory(self, path: str) -> int:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if not isinstance(node, Directory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return self._open(node)

    def path_status(self, path: str) -> Status | None:
        return self._status(self._find(path))

    def remove_path(self, path: str) -> None:
        parent, name = self._find(os.path.dirname(path)), os.path.basename(path)
        found = self._find(path)
        if not isinstance(parent, Directory) or not isinstance(found, Directory):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._remove_directory(parent, name)

    def _remove_directory(self, here: Directory, name: str) -> None:
        found = here.get(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if isinstance(found, File):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        if any(found.get(each) is not None for each in found.names):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), name)
        here.put(name, None, self.moment + 1)
        self._changed("remove_directory")

    # Names

    def remove_directory(self, directory: int, name: str) -> None:
        self._remove_directory(self._directory(directory), name)

    def open_subdirectory(self, directory: int, name: str) -> int:
        node = self._directory(directory).get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if not isinstance(node, Directory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        return self._open(node)

    def make_subdirectory(self, directory: int, name: str) -> None:
        here = self._directory(directory)
        if here.get(name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        here.put(name, Directory(next(self._numbers)), self.moment + 1)
        self._changed("make_subdirectory")

    def names(self, directory: int) -> list[str]:
        here = self._directory(directory)
        return sorted(name for name in here.names if here.get(name) is not None)

    def status(self, directory: int, name: str) -> Status | None:
        return self._status(self._directory(directory).get(name))

    def rename(self, directory: int, name: str, new_name: str) -> None:
        here = self._directory(directory)
        node = here.get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        here.put(new_name, node, self.moment + 1)
        here.put(name, None, self.moment + 1)
        self._changed("rename")

    def remove(self, directory: int, name: str) -> None:
        here = self._directory(directory)
        if here.get(name) is not None:
            here.put(name, None, self.moment + 1)
            self._changed("remove")

    def sync_directory(self, directory: int) -> None:
        here = self._directory(directory)
        if self.sync_fails("sync_directory"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        here.sync()
        self._changed("sync_directory")

    # Files

    def open_file(self, directory: int, name: str, *, write: bool) -> int:
        node = self._directory(directory).get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if write and isinstance(node, Directory):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        return self._open(node, write=write)

    def create_file(self, directory: int, name: str) -> int:
        here = self._directory(directory)
        if here.get(name) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        file = File(next(self._numbers))
        here.put(name, file, self.moment + 1)
        self._changed("create_file")
        return self._open(file, write=True)

    def close(self, descriptor: int) -> None:
        self._opened(descriptor)
        del self.descriptors[descriptor]
        for number, holder in list(self._locks.items()):
            if holder == descriptor:
                del self._locks[number]

    def descriptor_status(self, descriptor: int) -> Status:
        found = self._status(self._opened(descriptor).node)
        assert found is not None
        return found

    def pread(self, descriptor: int, size: int, offset: int) -> bytes:
        return bytes(self._file(descriptor).data[offset : offset + size])

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        file = self._file(descriptor, write=True)
        data = bytes(data)
        room = len(data)
        if self.capacity is not None:
            free = self.capacity - sum(map(len, self.state().values()))
            room = min(room, max(0, len(file.data) + free - offset))
            if data and not room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if room > 1:  # a kill leaves a first part
            file.write(offset, data[: room // 2], self.moment + 1)
            self._changed("half a pwrite")
        file.write(offset, data[:room], self.moment + 1)
        self._changed("pwrite")
        return room

    def pwritev(self, descriptor: int, parts: Sequence[Any], offset: int) -> int:
        return self.pwrite(descriptor, b"".join(parts[:1024]), offset)

    def truncate(self, descriptor: int, size: int) -> None:
        self._file(descriptor, write=True).resize(size, self.moment + 1)
        self._changed("truncate")

    def sync(self, descriptor: int) -> None:
        self.sync_opened(self._opened(descriptor))

    def sync_opened(self, opened: Open) -> None:
        """What `sync` does, for a file that may be closed by now."""
        file = opened.node
        assert isinstance(file, File)
        if self.sync_fails("sync"):
            file.drop(reverts=self.reverts)
            self._changed("failed sync")
        if opened.seen != file.errors:
            opened.seen = file.errors
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        file.sync()
        self._changed("sync")

    def begin_sync(self, descriptor: int) -> Syncing:
        return Slow(self, descriptor)

    def map(self, descriptor: int, size: int) -> Map:
        file = self._file(descriptor)
        assert 0 < size <= len(file.data), "a map reaches no farther than its file"
        return Memory(file, size)

    def lock(self, descriptor: int) -> bool:
        number = self._file(descriptor).number
        return self._locks.setdefault(number, descriptor) == descriptor


def choices(chance: random.Random, moment: int, some: int) -> Iterable[Choice]:
    """All lost, all kept, and some of the other things that a power cut at a moment may leave."""
    yield Choice("lost")
    yield Choice("kept")
    kinds = ["moment", "pages", "sectors", "mostly lost", "mostly kept"]
    for kind in chance.sample(kinds, some):
        yield Choice(kind, chance, chance.randint(0, moment))
