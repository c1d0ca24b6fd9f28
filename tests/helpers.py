"""What tests need to stand in for the world: a clock, a kill, another process."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import kvmap
from kvmap.files import Files

ROOT = Path(__file__).parent.parent


class Clock(Files):
    """The operating system, but for the time, which only the test moves."""

    def __init__(self, time: float = 1_000_000_000.0) -> None:
        self.time = time

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds


@contextmanager
def compacting_often(stretch: int) -> Iterator[None]:
    """Compaction sets in after few dead bytes, and looks through so many bytes at a time."""
    with ExitStack() as stack:
        for name in ("shard", "compaction", "writer"):
            stack.enter_context(patch(f"kvmap.{name}.SLACK", 300))
        stack.enter_context(patch("kvmap.compaction.STRETCH", stretch))
        yield


def killed(d: kvmap.KVMap[Any], copy: Path) -> Path:
    """The directory as `kill -9` would leave it at this moment."""
    shutil.copytree(d.path, copy)
    return copy


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


def files_of(path: Path) -> dict[str, bytes]:
    """Every file under a directory, by name, with its bytes."""
    return {
        str(each.relative_to(path)): each.read_bytes()
        for each in sorted(path.rglob("*"))
        if each.is_file()
    }
