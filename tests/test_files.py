"""The calls to the operating system that have more than one line to them."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from kvmap.files import PAGE, Files


@pytest.mark.parametrize("there", [1, 2, 3])
def test_reserving_space_leaves_what_is_there_alone(tmp_path: Path, there: int) -> None:
    file, data = tmp_path / "file", bytes(range(1, 129)) * (there * PAGE // 128)
    file.write_bytes(data)
    with file.open("r+b") as opened:
        mapped = mmap.mmap(opened.fileno(), PAGE)
    Files().reserve(str(file), mapped, 3 * PAGE)
    assert file.read_bytes() == data.ljust(3 * PAGE, b"\0")
    assert mapped[: there * PAGE] == data


@pytest.mark.parametrize("size", [PAGE, 40 * PAGE])
def test_reserved_space_is_on_disk(tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    Files().create(str(file), size)
    assert file.read_bytes() == bytes(size)
    assert file.stat().st_blocks * 512 >= size
