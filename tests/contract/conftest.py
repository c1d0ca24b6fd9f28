"""Each kind of store that there is; a contract test runs on all of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from helpers import Clock
from servers import RedisStore
from stores import DiskStore, MemoryStore, Store, opened

import kvmap
from kvmap import keys
from kvmap.buffer import Buffer
from kvmap.engine import INF, Changes, Engine, Seen


class Block(Buffer):
    """A transaction's block over an engine, which stays open as long as the test."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.name = "block"
        self.closed = False

    def hold(self, holder: object) -> bool:
        return True

    def release(self, holder: object) -> None:
        pass

    def commit(self, changes: Changes, seen: Seen) -> None:
        for key in changes.written:
            keys.text(key)
        self.delete_many(changes.deleted)
        for key, (text, deadline) in changes.written.items():
            self.put(key, text, deadline if deadline == INF else deadline - self.now())


class BlockStore(MemoryStore):
    """What a transaction's block sees and writes keeps the contract of a state too."""

    kind = "block"

    def engine(self, name: str = "store", flag: str = "c", **options: Any) -> Any:
        return Block(super().engine(name, flag, **options))


OF_A_WHOLE_ENGINE = {
    "test_purge_counts_what_has_expired_since_it_was_last_called",
    "test_a_deadline_of_a_commit_that_has_passed_leaves_no_entry",
}
"""A block has no entries of its own to count, and is committed, not committed to."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the tests of an engine, a block passes those in modules that say so."""
    items[:] = [item for item in items if not is_out_of_place(item)]


def is_out_of_place(item: Any) -> bool:
    call: Any = getattr(item, "callspec", None)
    if call is None or call.params.get("store") is not BlockStore:
        return False
    also = getattr(item.module, "ALSO_OF_A_BLOCK", False) and "engine" in item.fixturenames
    return not also or item.originalname in OF_A_WHOLE_ENGINE


MEMORY: Any = pytest.param(MemoryStore, id="memory")
DISK: Any = pytest.param(DiskStore, id="disk", marks=pytest.mark.disk)
REDIS: Any = pytest.param(RedisStore, id="redis", marks=pytest.mark.redis)


@pytest.fixture(params=[MEMORY, DISK, REDIS, pytest.param(BlockStore, id="block")])
def store(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Store]:
    """Each kind of store in turn."""
    with opened(request.param, clock) as store:
        yield store


@pytest.fixture(params=[MEMORY, DISK])
def local(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Store]:
    """Each kind that one process owns: its writers wait for each other, its iterations are live."""
    with opened(request.param, clock) as store:
        yield store


@pytest.fixture(params=[DISK, REDIS])
def kept(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Store]:
    """Each kind that may be closed and opened again."""
    with opened(request.param, clock) as store:
        yield store


@pytest.fixture
def engine(store: Store) -> Engine:
    """An empty engine, closed when the test ends."""
    return store.engine()


@pytest.fixture
def d(store: Store) -> Iterator[kvmap.KVMap[Any, Any]]:
    """An empty map."""
    with store.open() as d:
        yield d
