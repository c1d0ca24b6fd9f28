"""Each kind of store that there is; a contract test runs on all of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Clock
from servers import RedisStore
from stores import DiskStore, MemoryStore, Store

import kvmap
from kvmap.engine import Engine

MEMORY: Any = pytest.param(MemoryStore, id="memory")
DISK: Any = pytest.param(DiskStore, id="disk", marks=pytest.mark.disk)
REDIS: Any = pytest.param(RedisStore, id="redis", marks=pytest.mark.redis)


def opened(kind: type[Store], tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = kind(tmp_path, clock)
    yield store
    store.close()


@pytest.fixture(params=[MEMORY, DISK, REDIS])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """Each kind of store in turn."""
    yield from opened(request.param, tmp_path, clock)


@pytest.fixture(params=[MEMORY, DISK])
def local(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """Each kind that one process owns: its writers wait for each other, its iterations are live."""
    yield from opened(request.param, tmp_path, clock)


@pytest.fixture(params=[DISK, REDIS])
def kept(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """Each kind that may be closed and opened again."""
    yield from opened(request.param, tmp_path, clock)


@pytest.fixture
def engine(store: Store) -> Engine:
    """An empty engine, closed when the test ends."""
    return store.engine()


@pytest.fixture
def d(store: Store) -> Iterator[kvmap.KVMap[Any, Any]]:
    """An empty map."""
    with store.open() as d:
        yield d
