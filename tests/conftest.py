"""Fixtures that several files of tests share."""

from pathlib import Path

import pytest
from helpers import Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test's store goes; nothing is there yet."""
    return tmp_path / "store"


@pytest.fixture
def clock() -> Clock:
    return Clock()
