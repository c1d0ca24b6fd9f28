"""The operating system, with a word to say ahead of each of its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from disk import Unsynced

CALLS = (
    "create",
    "map",
    "names",
    "read",
    "remove",
    "rename",
    "reserve",
    "size",
    "sync",
    "sync_folder",
    "truncate",
    "write",
    "write_through",
)
"""All that a store asks for once it is open; `replace` is made of these."""

OPENING = ("exists", "is_folder", "make_folder")
"""What opening one asks for besides."""


class Watched(Unsynced):
    """Calls `before` ahead of each call and `after` behind it, with the call's name."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[str], None] = lambda name: None
        self.after: Callable[[str], None] = lambda name: None


def _watched(name: str) -> Any:
    call = getattr(Unsynced, name)

    def watched(self: Watched, *arguments: Any, **options: Any) -> Any:
        self.before(name)
        found = call(self, *arguments, **options)
        self.after(name)
        return found

    return watched


for _name in (*CALLS, *OPENING):
    setattr(Watched, _name, _watched(_name))


class Memory:
    """A file's map; a copy into it is a call named "copy"."""

    def __init__(self, files: Watched, mapped: Any) -> None:
        self.files, self.mapped = files, mapped

    def __len__(self) -> int:
        return len(self.mapped)

    def __getitem__(self, where: Any) -> Any:
        return self.mapped[where]

    def __setitem__(self, where: slice, data: bytes) -> None:
        self.files.before("copy")
        self.mapped[where] = data
        self.files.after("copy")

    def find(self, sub: bytes, start: int) -> int:
        found: int = self.mapped.find(sub, start)
        return found

    def resize(self, size: int) -> None:
        self.mapped.resize(size)


class WatchedMaps(Watched):
    """Watches also what is copied into maps."""

    def map(self, path: str, *, writable: bool) -> Any:
        mapped = super().map(path, writable=writable)
        return mapped and Memory(self, mapped)

    def reserve(self, path: str, mapped: Any, size: int) -> None:
        super().reserve(path, mapped.mapped, size)
