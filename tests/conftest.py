"""Fixtures that several files of tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import helpers
import pytest
from helpers import AnyMap, Clock
from stores import DiskStore, MemoryStore, Store

collect_ignore_glob = ["conftest.py", "*/conftest.py"]  # no doctests: several modules of one name

ON_DISK = pytest.param(DiskStore, id="disk", marks=pytest.mark.disk)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="take the minutes of thousands of cases")


def pytest_configure(config: pytest.Config) -> None:
    # Before any file of tests is imported, for their numbers of cases depend on it.
    helpers.SOAK = helpers.SOAK or config.getoption("--long")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test's store goes; nothing is there yet."""
    return tmp_path / "store"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[pytest.param(MemoryStore, id="memory"), ON_DISK])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """Each kind of local store in turn."""
    store: Store = request.param(tmp_path, clock)
    yield store
    store.close()


@pytest.fixture(params=[ON_DISK])
def kept(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """A store that may be closed and opened again."""
    store: Store = request.param(tmp_path, clock)
    yield store
    store.close()


@pytest.fixture
def happen(request: pytest.FixtureRequest, store: Store) -> Callable[[AnyMap], AnyMap]:
    """One of the things that may happen to a map: see `stores.each_life`."""
    happen: Callable[[AnyMap], AnyMap] = store.life()[request.param]
    return happen


@pytest.fixture
def d(store: Store) -> Iterator[AnyMap]:
    """An empty map on each kind of local store."""
    with store.open() as d:
        yield d


OPEN = {
    "tests/disk/test_interrupt.py": "a few bytecodes at which an interrupt leaves a block or a step",
    "tests/disk/test_failing_calls.py::test_one_call_fails_and_then_the_power": "undoing after EIO",
    "tests/disk/test_failing_calls.py::test_a_full_disk_can_be_read": "clear() needs a block",
    "tests/disk/test_failed_sync.py::test_what_is_said_to_be_synced": "several failures in a row",
    "tests/disk/test_hint_file.py::test_a_wrong_one_serves_nothing": "a forged order of keys",
    "tests/disk/test_lies.py": "forged records with a repeated place in the order",
    "tests/disk/test_full_file_systems.py": "clear() on a full disk needs a block for the manifest",
    "tests/disk/test_block_device.py": "fewer states than wanted where the machine is busy",
    "tests/disk/test_file_system.py::test_more_parts": "more parts than one call takes",
    "tests/disk/test_file_system.py::test_windows": "the error comes from an import before",
    "tests/disk/test_file_system.py::test_only_one_file": "a method named open is taken for the call",
    "tests/disk/test_file_system.py::test_what_macos_lacks": "runs the files above",
}
"""Tests that find something that is not mended yet, by the beginning of their ids, and what it is."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for beginning, reason in OPEN.items():
            if item.nodeid.startswith(beginning):
                item.add_marker(pytest.mark.xfail(run=False, reason=f"open: {reason}"))
