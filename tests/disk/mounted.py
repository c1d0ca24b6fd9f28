"""Real file systems on loop devices, where this machine and its user can make them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MAKE: dict[str, tuple[int, list[str]]] = {
    "ext4": (8, ["mkfs.ext4", "-q", "-F", "-b", "1024", "-J", "size=1"]),
    "xfs": (320, ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"]),
    "btrfs": (128, ["mkfs.btrfs", "-q", "-f"]),
}
"""Megabytes of a small image, and the command that makes a file system in it."""


ROOM = 4 << 20
"""Bytes that are left free, so that a test fills them soon."""


def run(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")


def make(kind: str, image: Path) -> None:
    """Make a file system in a new image; skips the test where this machine can't."""
    size, command = MAKE[kind]
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount")
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    with image.open("wb") as file:
        file.truncate(size << 20)
    try:
        run(*command, image)
    except OSError as error:
        pytest.skip(str(error))


@contextmanager
def mounted(image: Path, place: Path, options: str = "loop") -> Iterator[Path]:
    """Mount an image; skips the test where the kernel can't."""
    place.mkdir(exist_ok=True)
    try:
        run("mount", "-o", options, image, place)
    except OSError as error:
        pytest.skip(str(error))
    try:
        yield place
    finally:
        run("umount", place)


@contextmanager
def in_memory(place: Path, size: int) -> Iterator[Path]:
    """A tmpfs of so many bytes."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    place.mkdir(exist_ok=True)
    try:
        run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", place)
    except OSError as error:
        pytest.skip(str(error))
    try:
        yield place
    finally:
        run("umount", place)


@contextmanager
def file_system(kind: str, folder: Path) -> Iterator[Path]:
    """A small file system of its own, empty but for what its maker puts there."""
    if kind == "tmpfs":
        with in_memory(folder / "mounted", 4 << 20) as place:
            yield place
    else:
        make(kind, folder / "image")
        with mounted(folder / "image", folder / "mounted") as place:
            with (place / "ballast").open("wb") as file:
                size = shutil.disk_usage(place).free - ROOM
                if size > 0:
                    os.posix_fallocate(file.fileno(), 0, size)
                os.fsync(file.fileno())
            yield place
