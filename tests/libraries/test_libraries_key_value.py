"""py-key-value-aio keeps its entries in a map.

Its tests of a store are not in its package. These ask for the same, of its own store in memory too,
so that they ask for nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from helpers import AnyMap, Clock, Library
from stores import Store

import kvmap

memory = Library("key_value.aio.stores.memory")
errors = Library("key_value.aio.errors")

Use = Callable[[Any], Awaitable[None]]
MOST = 50


@pytest.fixture
def d(store: Store) -> Iterator[AnyMap]:
    with store.open(limits=kvmap.Limits(entries=MOST), evict="oldest") as d:
        yield d


@pytest.fixture(params=["kvmap", "its own"])
def run(request: pytest.FixtureRequest, d: AnyMap, recipes: ModuleType) -> Callable[[Use], None]:
    """Runs a coroutine with an empty store."""
    if request.param == "kvmap":
        made = recipes.key_value_store(d)
    else:
        made = memory.MemoryStore(max_entries_per_collection=MOST)
    return lambda use: asyncio.run(use(made))  # type: ignore[arg-type]


def test_what_is_missing(run: Callable[[Use], None]) -> None:
    async def use(store: Any) -> None:
        assert await store.get("a") is None
        assert await store.ttl("a") == (None, None)
        assert await store.get_many(["a", "b"]) == [None, None]
        assert await store.ttl_many(["a"]) == [(None, None)]
        assert await store.delete("a") is False
        assert await store.delete_many(["a", "b"]) == 0

    run(use)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": None, "b": True, "c": 1, "d": -0.5, "e": "x", "f": "", "null": "null", "1": "1"},
        {"list": [1, [2, {"x": [None]}]], "dict": {"deep": {"deeper": {}}}},
        {"text": 'ä€😀\x00\n"\\', "big": 10**18, "more": 2**70, "small": 5e-324},
        {"long": ["x" * 100] * 1000},
    ],
    ids=["empty", "scalars", "nested", "unusual", "large"],
)
def test_values_come_back(run: Callable[[Use], None], value: dict[str, Any]) -> None:
    async def use(store: Any) -> None:
        await store.put("a", value, collection="c")
        assert await store.get("a", collection="c") == value
        await store.put("a", {"other": 1}, collection="c")
        assert await store.get("a", collection="c") == {"other": 1}

    run(use)


def test_what_is_no_json_is_refused_in_the_librarys_words(run: Callable[[Use], None]) -> None:
    async def use(store: Any) -> None:
        await store.put("a", {"n": 1})
        for wrong in (object(), {1, 2}, b"x", 3j):
            with pytest.raises(errors.SerializationError):
                await store.put("a", {"n": wrong})
        assert await store.get("a") == {"n": 1}

    run(use)


def test_collections_are_apart(run: Callable[[Use], None]) -> None:
    names = ["c", "C", "c" * 1000, "c!@#$%^&*(){}:/\\", "ü", "c::a"]

    async def use(store: Any) -> None:
        for number, name in enumerate(names):
            for key in ("a", *names):
                await store.put(key, {"n": number, "key": key}, collection=name)
        for number, name in enumerate(names):
            for key in ("a", *names):
                assert await store.get(key, collection=name) == {"n": number, "key": key}
        assert await store.get("a") is None
        assert await store.delete("a", collection="c")
        assert await store.get("a", collection="C") is not None

    run(use)


def test_many_at_once(run: Callable[[Use], None]) -> None:
    async def use(store: Any) -> None:
        names = [str(number) for number in range(10)]
        await store.put_many(names, [{"n": number} for number in range(10)], ttl=100)
        assert await store.get_many([*names, "x"]) == [{"n": n} for n in range(10)] + [None]
        assert [round(ttl) for _, ttl in await store.ttl_many(names)] == [100] * 10
        assert await store.delete_many([*names[:4], "x"]) == 4
        assert await store.get_many(names[3:5]) == [None, {"n": 4}]
        with pytest.raises(ValueError, match="number"):
            await store.put_many(["a"], [])

    run(use)


def test_times_to_live(run: Callable[[Use], None]) -> None:
    async def use(store: Any) -> None:
        await store.put("a", {"n": 1}, ttl=100)
        value, left = await store.ttl("a")
        assert (value, round(left)) == ({"n": 1}, 100)
        await store.put("a", {"n": 2})
        assert await store.ttl("a") == ({"n": 2}, None)
        for wrong in (0, -100):
            with pytest.raises(errors.InvalidTTLError):
                await store.put("a", {"n": 3}, ttl=wrong)
        assert await store.get("a") == {"n": 2}
        await store.put("b", {"n": 1}, ttl=0.05)
        assert await store.get("b") == {"n": 1}
        await asyncio.sleep(0.06)
        assert await store.get("b") is None
        assert await store.ttl("b") == (None, None)

    run(use)


def test_it_is_bounded(run: Callable[[Use], None]) -> None:
    async def use(store: Any) -> None:
        for number in range(2 * MOST):
            await store.put(str(number), {"n": number})
        assert await store.get("0") is None
        assert await store.get(str(2 * MOST - 1)) == {"n": 2 * MOST - 1}

    run(use)


def test_tasks_at_once(run: Callable[[Use], None]) -> None:
    async def work(store: Any, worker: int) -> None:
        for number in range(5):
            key = f"{worker}:{number}"
            for value in ({"n": number}, {"n": -number}):
                await store.put(key, value)
                await asyncio.sleep(0)
                assert await store.get(key) == value
            assert await store.delete(key)
            assert await store.get(key) is None

    async def use(store: Any) -> None:
        await asyncio.gather(*(work(store, worker) for worker in range(3)))

    run(use)


def test_the_map_keeps_the_time_too(d: AnyMap, clock: Clock, recipes: ModuleType) -> None:
    async def use() -> None:
        store = recipes.key_value_store(d)
        await store.put("a", {"n": 1}, collection="c", ttl=60)
        assert d.ttl(("c", "a")) == pytest.approx(60, abs=5)
        clock.wait(61)
        assert await store.get("a", collection="c") is None

    asyncio.run(use())
    assert d == {}
