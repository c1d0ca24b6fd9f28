"""A full disk is an `OSError`, on every file system; the store stays whole and goes on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers import directory_in_memory, python
from mounted import ROOM, file_system

FILL = """
import errno, os, sys, kvmap
path, large = sys.argv[1], int(sys.argv[2])
reserve = path + ".reserve"
with open(reserve, "wb") as file:
    file.write(os.urandom(400_000))
    os.fsync(file.fileno())
with kvmap.open(path) as d:
    model = dict(d)
    refused = number = 0
    while refused < 30:
        number += 1
        key, value = f"key {number % 400}", "x" * (large if number % 3 else large // 50)
        try:
            if number % 5 == 0:
                d.update({key: value, f"batch {number % 50}": number})
            elif number % 7 == 0:
                d.pop(key, None)
            else:
                d[key] = value
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            assert error.filename, error
            refused += 1
        else:
            if number % 5 == 0:
                model.update({key: value, f"batch {number % 50}": number})
            elif number % 7 == 0:
                model.pop(key, None)
            else:
                model[key] = value
        if refused % 10 == 1:
            assert dict(d) == model
    assert dict(d) == model
    try:
        d.sync()
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
    print(len(model), "entries", number, "writes", refused, "refused")
    for key in list(model)[: len(model) // 2]:
        try:
            del d[key]
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        else:
            del model[key]
    assert dict(d) == model
    os.remove(reserve)  # without a free block, no manifest can be written
    os.sync()
    d.clear()
    d.update(model := {"again": "x" * large})
    assert dict(d) == model
with kvmap.open(path) as d:
    assert dict(d) == model
assert kvmap.verify(path).ok
"""
"""In a process of its own: a store through a map would end it with SIGBUS."""


def fill(path: Path, large: int) -> None:
    process = python(FILL, path, large)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-3000:]
    print(out.strip())


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_a_full_disk(kind: str) -> None:
    with directory_in_memory() as folder, file_system(kind, folder) as place:
        fill(place / "store", ROOM // 200)


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_a_full_disk_whose_blocks_are_shared_with_a_copy(kind: str) -> None:
    """`cp -a` shares blocks there, so that writing to a block that is there takes a new one."""
    with directory_in_memory() as folder, file_system(kind, folder) as place:
        make = """
import sys, kvmap
with kvmap.open(sys.argv[1], shards=4) as d:
    d.update({str(number): "x" * int(sys.argv[2]) for number in range(400)})
"""
        process = python(make, place / "made", ROOM // 8000)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        subprocess.run(
            ["cp", "-a", "--reflink=always", place / "made", place / "store"], check=True
        )
        fill(place / "store", ROOM // 200)


def test_a_store_at_the_root_of_a_new_file_system() -> None:
    """`lost+found` is there, and is no reason to refuse it."""
    with directory_in_memory() as folder, file_system("ext4", folder) as place:
        (place / "ballast").unlink()
        assert (place / "lost+found").is_dir()
        use = """
import sys, kvmap
for flag in "cwrn":
    with kvmap.open(sys.argv[1], flag) as d:
        print(len(d))
assert kvmap.verify(sys.argv[1]).ok
"""
        process = python(use, place)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out.split() == ["0"] * 4
        assert (place / "lost+found").is_dir()
