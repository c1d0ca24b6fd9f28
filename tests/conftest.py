"""Fixtures that several files of tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import helpers
import pytest
from helpers import AnyMap, Clock
from stores import DiskStore, MemoryStore, Store, opened

collect_ignore_glob = ["conftest.py", "*/conftest.py"]  # no doctests: several modules of one name

ON_DISK = pytest.param(DiskStore, id="disk", marks=pytest.mark.disk)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="take the minutes of thousands of cases")


def pytest_configure(config: pytest.Config) -> None:
    # Before any file of tests is imported, for their numbers of cases depend on it.
    helpers.LONG = config.getoption("--long")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    helpers.freeze()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test's store goes; nothing is there yet."""
    return tmp_path / "store"


@pytest.fixture
def path_in_memory() -> Iterator[Path]:
    """The same for a large store of which it does not matter where it is."""
    with helpers.directory_in_memory() as folder:
        yield folder / "store"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[pytest.param(MemoryStore, id="memory"), ON_DISK])
def store(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Store]:
    """Each kind of local store in turn."""
    with opened(request.param, clock) as store:
        yield store


@pytest.fixture(params=[ON_DISK])
def kept(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Store]:
    """A store that may be closed and opened again."""
    with opened(request.param, clock) as store:
        yield store


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
