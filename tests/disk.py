"""A disk in memory that knows what a power cut could leave of it.

`Disk` stands in for `kvmap.files.Files`. The page cache may write any page back at any time, so after
a cut each page holds what it held at the last sync or at any moment since, each name in a folder
stands for what it stood for at the last folder sync or at any moment since, and so does each file's
size.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from helpers import Clock

PAGE = 4096

T = TypeVar("T")
Choose = Callable[[Sequence[Any]], Any]
"""Takes one of the things that may be left, oldest first."""


def lost(versions: Sequence[T]) -> T:
    """As last synced."""
    return versions[0]


def kept(versions: Sequence[T]) -> T:
    """As the running system sees it, which is what a kill leaves."""
    return versions[-1]


class File:
    """A file's bytes now, and what its pages and its size were since the last sync."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.sizes = [0]
        self.pages: dict[int, list[bytes]] = {}

    def write(self, at: int, data: bytes) -> None:
        pages = range(at // PAGE, -(-(at + len(data)) // PAGE))
        self._remember(pages)
        self.data[at : at + len(data)] = data
        self._remember(pages)

    def resize(self, size: int) -> None:
        pages = range(size // PAGE, -(-len(self.data) // PAGE))  # none where the file grows
        self._remember(pages)
        self.data = self.data[:size].ljust(size, b"\0")
        self._remember(pages)
        self.sizes.append(size)

    def _remember(self, pages: range) -> None:
        for page in pages:
            now = bytes(self.data[page * PAGE : (page + 1) * PAGE]).ljust(PAGE, b"\0")
            versions = self.pages.setdefault(page, [now])
            if versions[-1] != now:
                versions.append(now)

    def sync_pages(self, at: int, size: int) -> None:
        for page in range(at // PAGE, -(-(at + size) // PAGE)):
            self.pages.pop(page, None)

    def sync(self) -> None:
        self.sizes = [len(self.data)]
        self.pages.clear()

    def left(self, choose: Choose) -> bytes:
        size = choose(self.sizes)
        data = bytearray(self.data)
        for page, versions in self.pages.items():
            at = page * PAGE
            data[at : at + PAGE] = choose(versions).ljust(PAGE, b"\0")
        return bytes(data[:size].ljust(size, b"\0"))


class Folder:
    """Names, each with what it stood for since the last sync, None where it was not there."""

    def __init__(self) -> None:
        self.names: dict[str, list[File | Folder | None]] = {}

    def get(self, name: str) -> File | Folder | None:
        return self.names.get(name, [None])[-1]

    def put(self, name: str, found: File | Folder | None) -> None:
        self.names.setdefault(name, [None]).append(found)

    def sync(self) -> None:
        self.names = {name: each[-1:] for name, each in self.names.items() if each[-1] is not None}

    def left(self, choose: Choose) -> dict[str, Any]:
        found = {name: choose(versions) for name, versions in self.names.items()}
        return {name: each.left(choose) for name, each in found.items() if each is not None}


class Memory:
    """A file's map."""

    def __init__(self, disk: Disk, file: File) -> None:
        self.disk, self.file, self.size = disk, file, len(file.data)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, where: Any) -> Any:
        found = self.file.data[: self.size][where]
        return bytes(found) if isinstance(where, slice) else found

    def __setitem__(self, where: slice, data: bytes) -> None:
        begin, end, _ = where.indices(self.size)
        assert end - begin == len(data), "a map does not grow by assignment"
        assert end <= len(self.file.data), "writing past a file's end is a SIGBUS"
        if self.disk.halves and len(data) > 1:
            # memcpy keeps no order: the part that a kill leaves uncopied may stand at either end.
            self.disk.halves *= -1
            cut = len(data) // 2
            first = slice(cut) if self.disk.halves > 0 else slice(cut, None)
            self.file.write(begin + (first.start or 0), data[first])
            self.disk.happened()
        self.file.write(begin, data)
        self.disk.happened()

    def find(self, sub: bytes, start: int) -> int:
        return self.file.data.find(sub, start, self.size)

    def resize(self, size: int) -> None:
        self.size = size
        if size != len(self.file.data):
            self.file.resize(size)


class Disk(Clock):
    """All that is under `root`, a real folder, so that the store's lock can be a real one."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.top = Folder()
        self.happened: Callable[[], None] = lambda: None
        """Called after each change and each sync."""
        self.halves = 0
        """Set to 1, it is also called in the middle of each copy into a map or a file's space."""

    def left(self, choose: Choose) -> dict[str, Any]:
        """What a power cut may leave: bytes by name, and folders as dicts."""
        return self.top.left(choose)

    def _at(self, path: str) -> tuple[Folder, str]:
        *folders, name = Path(path).relative_to(self.root).parts
        here = self.top
        for each in folders:
            found = here.get(each)
            if not isinstance(found, Folder):
                raise FileNotFoundError(errno.ENOENT, "no such folder", path)
            here = found
        return here, name

    def _find(self, path: str) -> File | Folder | None:
        if Path(path) == self.root:
            return self.top
        folder, name = self._at(path)
        return folder.get(name)

    def _file(self, path: str) -> File:
        found = self._find(path)
        if not isinstance(found, File):
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return found

    def map(self, path: str, *, writable: bool) -> Any:
        file = self._file(path)
        return Memory(self, file) if file.data else None

    def create(self, path: str, size: int) -> None:
        folder, name = self._at(path)
        assert folder.get(name) is None
        file = File()
        folder.put(name, file)
        self.happened()
        file.resize(size)
        self.happened()

    def reserve(self, path: str, mapped: Any, size: int) -> None:
        assert mapped.file is self._file(path), "the file that grows is the one that is mapped"
        mapped.file.resize(size)
        mapped.resize(size)
        self.happened()

    def truncate(self, path: str, size: int) -> None:
        self._file(path).resize(size)
        self.happened()

    def sync(self, path: str) -> None:
        self._file(path).sync()
        self.happened()

    def write_through(self, path: str, at: int, data: bytes) -> None:
        file = self._file(path)
        assert at + len(data) <= len(file.data), "only space that was reserved is written to"
        if self.halves and len(data) > 1:
            file.write(at, data[: len(data) // 2])  # a write, unlike memcpy, keeps the order
            self.happened()
        file.write(at, data)
        self.happened()
        self.flush(file, at, len(data))

    def flush(self, file: File, at: int, size: int) -> None:
        """The second half of `write_through`: no more than these bytes need be on disk after it."""
        file.sync_pages(at, size)
        self.happened()

    def sync_folder(self, path: str) -> None:
        found = self._find(path)
        assert isinstance(found, Folder)
        found.sync()
        self.happened()

    def read(self, path: str) -> bytes:
        return bytes(self._file(path).data)

    def write(self, path: str, parts: Iterable[bytes]) -> None:
        folder, name = self._at(path)
        file = folder.get(name)
        if file is None:
            file = File()
            folder.put(name, file)
        assert isinstance(file, File)
        file.resize(0)
        self.happened()
        data = b"".join(parts)
        file.resize(len(data))
        file.write(0, data)
        self.happened()

    def rename(self, path: str, target: str) -> None:
        file = self._file(path)
        for where, found in ((target, file), (path, None)):
            folder, name = self._at(where)
            folder.put(name, found)
        self.happened()

    def remove(self, path: str) -> None:
        folder, name = self._at(path)
        if folder.get(name) is not None:
            folder.put(name, None)
            self.happened()

    def make_folder(self, path: str, mode: int) -> None:
        folder, name = self._at(path)
        assert folder.get(name) is None
        folder.put(name, Folder())
        os.mkdir(path, mode)
        self.happened()

    def names(self, path: str) -> list[str]:
        folder = self._find(path)
        assert isinstance(folder, Folder)
        return sorted(name for name in folder.names if folder.get(name) is not None)

    def size(self, path: str) -> int | None:
        found = self._find(path)
        return len(found.data) if isinstance(found, File) else None

    def exists(self, path: str) -> bool:
        return self._find(path) is not None

    def is_folder(self, path: str) -> bool:
        return isinstance(self._find(path), Folder)

    def is_link(self, path: str) -> bool:
        return False

    def free_space(self, path: str) -> int:
        return 2**40


class Unsynced(Clock):
    """The real disk, for stores that need not outlive the test."""

    def sync(self, path: str) -> None:
        pass

    sync_folder = sync
    _through = 0


def lay(state: dict[str, Any], path: Path) -> None:
    """Make real files and folders of a state."""
    path.mkdir(parents=True, exist_ok=True)
    for name, found in state.items():
        if isinstance(found, dict):
            lay(found, path / name)
        else:
            (path / name).write_bytes(found)
