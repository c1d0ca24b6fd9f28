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

KINDS: list[Any] = [
    pytest.param(MemoryStore, id="memory"),
    pytest.param(DiskStore, id="disk", marks=pytest.mark.disk),
    pytest.param(RedisStore, id="redis", marks=pytest.mark.redis),
]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Store]:
    """Each kind of store in turn."""
    store: Store = request.param(tmp_path, clock)
    yield store
    store.close()


@pytest.fixture
def engine(store: Store) -> Engine:
    """An empty engine, closed when the test ends."""
    return store.engine()


@pytest.fixture
def d(store: Store) -> Iterator[kvmap.KVMap[Any, Any]]:
    """An empty map."""
    with store.open() as d:
        yield d


@pytest.fixture
def local(store: Store) -> Store:
    """A store that one process owns."""
    if not store.is_local:
        pytest.skip(
            "a server's writers do not wait for each other, and its iterations are not live"
        )
    return store
