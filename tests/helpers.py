"""What tests need to stand in for the world: a clock, a kill, another process, another thread."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest

import kvmap

T = TypeVar("T")

AnyMap = kvmap.KVMap[Any, Any]

ROOT = Path(__file__).parent.parent

PATIENCE = 60.0
"""Seconds after which a test calls it a hang."""

LONG = False
"""Whether to take the minutes that thousands of cases need: set by the option `--long`."""


class Clock:
    """Time that only the test moves."""

    def __init__(self, time: float = 1_000_000_000.0) -> None:
        self.time = time
        self.step = 0.0
        """Seconds that pass with each look at the clock."""
        self.on_move: Callable[[float], object] = float
        """Called with the new time whenever the test moves it."""

    def now(self) -> float:
        self.time += self.step
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds
        self.on_move(self.time)


def killed(d: AnyMap, copy: Path) -> Path:
    """The directory as `kill -9` would leave it at this moment."""
    shutil.copytree(d.path, copy)
    return copy


def freeze() -> None:
    """What is there by now stays, so that no collection of garbage need look at it."""
    gc.collect()
    gc.freeze()


class Library:
    """A module that is imported at its first use: few of the processes that collect a test run it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def load(self) -> Any:
        """The module. Skips the test where it is missing."""
        return pytest.importorskip(self._name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("_", "pytest_")):  # which pytest asks every object for
            raise AttributeError(name)
        return getattr(self.load(), name)


@contextmanager
def directory_in_memory() -> Iterator[Path]:
    """A directory for much that is written, in memory where there is room."""
    with tempfile.TemporaryDirectory(prefix="kvmap-", dir=_memory()) as found:
        yield Path(found)


@cache
def _memory() -> str | None:
    """A file system in memory, or None. Containers often have one of 64 MB, which is too small."""
    memory = "/dev/shm"
    if not os.access(memory, os.W_OK):
        return None
    figures = os.statvfs(memory)
    return memory if figures.f_bavail * figures.f_frsize > 2**30 else None


def files_of(path: Path) -> dict[str, bytes]:
    """Every file under a directory, by name, with its bytes."""
    return {
        str(each.relative_to(path)): each.read_bytes()
        for each in sorted(path.rglob("*"))
        if each.is_file()
    }


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Another Python process, with this tree's kvmap, that runs `code`."""
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


class Work(threading.Thread):
    """A call in a thread of its own; `result` waits for it, and raises what it raised."""

    def __init__(self, call: Callable[[], Any], name: str | None = None) -> None:
        super().__init__(name=name, daemon=True)
        self._call = call
        self._outcome: Callable[[], Any] | None = None
        self.start()

    def run(self) -> None:
        try:
            found = self._call()
        except BaseException as error:
            caught = error
            self._outcome = lambda: _raise(caught)
        else:
            self._outcome = lambda: found

    def result(self, seconds: float = PATIENCE) -> Any:
        self.join(seconds)
        assert self._outcome is not None, "the call does not return"
        return self._outcome()

    def waits(self, seconds: float = 0.05) -> bool:
        """Whether the call has not returned by then."""
        self.join(seconds)
        return self.is_alive()


def _raise(error: BaseException) -> Any:
    raise error


def in_thread(call: Callable[[], T]) -> T:
    """What a call returns in another thread, which it ends before this one goes on."""
    found: T = Work(call).result()
    return found


def run_together(*calls: Callable[[], object]) -> None:
    """Run each call in a thread of its own, all from one moment; raise what one of them raised."""
    start = threading.Barrier(len(calls))

    def begin(call: Callable[[], object]) -> object:
        start.wait(PATIENCE)
        return call()

    works = [Work(lambda call=call: begin(call)) for call in calls]  # type: ignore[misc]
    for work in works:
        work.result()
