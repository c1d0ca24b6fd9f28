"""A file system with a word to say before and after each call of another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvmap.disk.fs import FileSystem, Syncing

CALLS = tuple(name for name in vars(FileSystem) if not name.startswith("_") and name != "now")
"""Every call of the seam."""

WRITING = (
    "create_file",
    "make_directories",
    "make_subdirectory",
    "pwrite",
    "pwritev",
    "remove",
    "remove_directory",
    "remove_path",
    "rename",
    "sync",
    "sync_directory",
    "truncate",
)
"""Those that change something, or make it durable."""


OPENING = ("close", "open_directory", "open_subdirectory", "open_file", "create_file")
"""Calls that return a descriptor, or take it back."""


class Watched(FileSystem):
    """Calls `before` ahead of each call and `after` behind it, with the call's name."""

    def __init__(self, real: FileSystem) -> None:
        self.real = real
        self.before: Callable[[str], None] = lambda name: None
        self.after: Callable[[str], None] = lambda name: None

    def now(self) -> float:
        return self.real.now()

    def begin_sync(self, descriptor: int) -> Syncing:
        """Not in a thread: the calls come in an order that a test knows."""
        self.sync(descriptor)
        return Synced()


class Synced:
    """A sync that is over."""

    done = True

    def finish(self) -> None:
        pass


def _watched(name: str) -> Any:
    def watched(self: Watched, *arguments: Any, **options: Any) -> Any:
        self.before(name)
        found = getattr(self.real, name)(*arguments, **options)
        self.after(name)
        return found

    return watched


for _name in set(CALLS) - {"begin_sync"}:
    setattr(Watched, _name, _watched(_name))


class Failing(Watched):
    """Fails once, at the call of a number that is counted from `arm` on."""

    def __init__(self, real: FileSystem, error: int, *, late: bool = False) -> None:
        """`late`: the call is done, and said to have failed."""
        super().__init__(real)
        self.error = error
        self.calls = 0
        self.failed = ""
        """The name of the call that has failed."""
        self._at = -1
        self._passed = OPENING if late else ("close",)
        if late:
            self.after = self._count
        else:
            self.before = self._count

    def arm(self, at: int) -> None:
        """Let the call of this number fail."""
        self._at, self.calls, self.failed = at, 0, ""

    def disarm(self) -> None:
        """Let no call fail."""
        self._at = -1

    def _count(self, name: str) -> None:
        # No error of a close means that the file is still open. Where opening one is done and said
        # to have failed, nobody knows the descriptor.
        if self._at >= 0 and name not in self._passed:
            if self.calls == self._at:
                self.failed, self._at = name, -1
                raise OSError(self.error, "injected")
            self.calls += 1


class Short(Watched):
    """Writes at most so many bytes at a time, as a system under load may."""

    def __init__(self, real: FileSystem, most: int) -> None:
        super().__init__(real)
        self.most = most

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        return self.real.pwrite(descriptor, bytes(data)[: self.most], offset)

    def pwritev(self, descriptor: int, parts: Any, offset: int) -> int:
        return self.real.pwrite(descriptor, b"".join(parts)[: self.most], offset)
