"""writeback=True, as in shelve: what was handed out and then changed is written at sync() and close()."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from helpers import AnyMap, Clock, files_of, in_thread
from stores import Store

import kvmap
from kvmap.engine import INF, Engine
from kvmap.memory import MemoryEngine
from kvmap.opening import before as map_before
from kvmap.settings import Settings

Contents = Callable[[], dict[Any, Any]]


class Remembering(MemoryEngine):
    """A memory engine that can be looked into when it is closed."""

    def close(self) -> None:
        if not self.closed:
            self.last = contents(self)
        super().close()


def contents(engine: Engine) -> dict[Any, Any]:
    """What an engine holds, whatever the map before it has handed out."""
    return {
        key: orjson.loads(text)
        for keys, texts in engine.items()
        for key, text in zip(keys, texts, strict=True)
    }


@pytest.fixture
def engine(store: Store) -> Engine:
    """Holds three entries that nobody has been handed out."""
    engine = store.engine() if store.is_kept else Remembering(Settings(), store.clock.now)
    names = ("ada", "bob", "eve")
    engine.put_many({name: orjson.dumps({"name": name, "tags": []}) for name in names}, INF)
    return engine


@pytest.fixture
def d(store: Store, engine: Engine) -> Iterator[AnyMap]:
    with map_before(engine, writeback=True) as d:
        yield d
        if not d.closed:
            d.sync()
            store.check(d)


@pytest.fixture
def stored(engine: Engine) -> Contents:
    """Returns what was written."""
    return lambda: contents(engine)


@pytest.fixture
def closed(store: Store, engine: Engine, d: AnyMap) -> Contents:
    """Closes the map, and returns what the next one finds."""

    def closed() -> dict[Any, Any]:
        d.close()
        return engine.last if isinstance(engine, Remembering) else contents(store.engine())

    return closed


def test_a_change_in_place_is_seen_at_once_and_written_at_sync(
    d: AnyMap, stored: Contents, engine: Engine
) -> None:
    before = engine.version
    d["ada"]["tags"].append(1)
    assert d["ada"]["tags"] == [1]
    assert d["ada"] is d["ada"] is d.get("ada")
    assert d["bob"]["tags"] == []
    assert engine.version == before, "not before sync()"
    d.sync()
    assert stored()["ada"] == {"name": "ada", "tags": [1]}
    d["ada"]["tags"].append(2)  # it is still the same object
    d.sync()
    assert stored()["ada"]["tags"] == [1, 2]


def test_a_change_in_place_is_written_at_close(d: AnyMap, closed: Contents) -> None:
    d["ada"]["tags"].append(1)
    for value in d.values():
        value["seen"] = True
    after = closed()
    assert list(after) == ["ada", "bob", "eve"], "each in its place"
    assert after["ada"] == {"name": "ada", "tags": [1], "seen": True}
    assert all(value["seen"] for value in after.values())


def test_without_writeback_a_change_in_place_is_the_callers_own(store: Store) -> None:
    with store.open("plain") as d:
        d["ada"] = []
        d["ada"].append(1)
        d.sync()
        assert d["ada"] == []


def test_only_what_has_changed_is_written(d: AnyMap, engine: Engine) -> None:
    before = engine.version
    assert len(list(d.items())) == len(d.copy()) == 3
    d["bob"]["tags"].append(1)
    d["bob"]["tags"].pop()
    d["bob"]["tags"] = ()
    d.sync()
    assert engine.version == before
    d["bob"]["tags"] = [1]
    d.sync()
    assert engine.version == before + 1, "the one that has changed"
    d.sync()
    assert engine.version == before + 1


def test_what_was_stored_is_what_is_handed_out(d: AnyMap, closed: Contents) -> None:
    mine = [1]
    for store in (
        lambda: d.__setitem__("x", mine),
        lambda: d.set("x", mine),
        lambda: d.pop("x") and d.create("x", mine),
        lambda: d.update(x=mine),
        lambda: d.pop("x") and d.setdefault("x", mine),
    ):
        store()
        assert d["x"] is mine
        mine.append(len(mine))
    assert closed()["x"] == mine == [1, 1, 2, 3, 4, 5]


def test_every_way_of_reading_hands_out_the_same_object(d: AnyMap) -> None:
    ada = d["ada"]
    for again in (
        d["ada"],
        d.get("ada"),
        d.setdefault("ada", {}),
        dict(d.items())["ada"],
        next(iter(d.values())),
        list(reversed(d.values()))[-1],
        d.copy()["ada"],
        (d | {})["ada"],
        d.pop("ada"),
    ):
        assert again is ada
    eve = d["eve"]
    assert d.popitem()[1] is eve


def test_iteration_hands_out_what_it_remembers(d: AnyMap, stored: Contents) -> None:
    for key, value in d.items():
        value["n"] = len(key) - 2
    for value in d.values():
        value["n"] += 1
    assert [value["n"] for value in d.values()] == [2, 2, 2]
    d.sync()
    assert [value["n"] for value in stored().values()] == [2, 2, 2]


def test_a_key_that_was_removed_does_not_come_back(d: AnyMap, closed: Contents) -> None:
    ada, bob, eve = d["ada"], d["bob"], d["eve"]
    del d["ada"]
    assert d.pop("bob") is bob
    assert d.popitem() == ("eve", eve)
    for value in (ada, bob, eve):
        value["tags"].append("lost")
    d.sync()
    assert dict(d) == {}
    d["ada"] = "new"
    assert closed() == {"ada": "new"}


def test_clear_forgets_what_was_handed_out(d: AnyMap, closed: Contents) -> None:
    d["ada"]["tags"].append("lost")
    d.clear()
    d["bob"] = 1
    assert closed() == {"bob": 1}


class Kept(list[Any]):
    """A list that tells when nobody holds it any more."""


@pytest.mark.parametrize(
    "remove",
    [
        lambda d, _: d.__delitem__("x"),
        lambda d, _: d.pop("x"),
        lambda d, _: d.popitem(),
        lambda d, _: d.clear(),
        lambda d, _: d.update(x=1),
        lambda d, clock: (d.expire("x", 1), clock.wait(1), d.sync()),
    ],
    ids=["del", "pop", "popitem", "clear", "update", "expire"],
)
def test_what_was_removed_is_not_held_in_memory(
    d: AnyMap, clock: Clock, remove: Callable[[AnyMap, Clock], object]
) -> None:
    d["x"] = Kept()
    kept = weakref.ref(d["x"])
    gc.collect(0)  # all generations together take half a second in a process with many modules
    assert kept() is not None
    remove(d, clock)
    gc.collect(1)
    assert kept() is None


def test_an_overwrite_takes_the_place_of_what_was_handed_out(d: AnyMap, closed: Contents) -> None:
    old = d["ada"]
    d["ada"] = {"tags": ["new"]}
    old["tags"].append("lost")
    assert d["ada"] == {"tags": ["new"]}
    assert closed()["ada"] == {"tags": ["new"]}


def test_its_deadline_is_kept(d: AnyMap, clock: Clock) -> None:
    d.set("token", [], ttl=60)
    clock.wait(20)
    d["token"].append(1)
    d.sync()
    assert d.ttl("token") == 40
    assert d.ttl("ada") is None
    d["token"].append(2)
    d.expire("token", 100)
    assert d["token"] == [1, 2], "a new deadline does not touch the value"
    d.sync()
    assert d.ttl("token") == 100


def test_what_has_expired_does_not_come_back(d: AnyMap, clock: Clock, closed: Contents) -> None:
    for key in ("token", "other"):
        d.set(key, ["old"], ttl=60)
        d[key].append("lost")
    clock.wait(60)
    assert "token" not in d
    d["token"] = ["new"]
    assert d.setdefault("other", ["new"]) == ["new"]
    d.sync()
    assert (d["token"], d["other"]) == (["new"], ["new"])
    d.set("token", ["old"], ttl=60)
    d["token"].append("lost")
    clock.wait(60)
    with d.edit("token", []) as token:
        assert token == []
    d["token"].append(1)
    after = closed()
    assert (after["token"], after["other"]) == ([1], ["new"])


def test_what_a_transaction_changes_in_place_is_part_of_it(d: AnyMap, stored: Contents) -> None:
    with d.transaction():
        d["ada"]["tags"].append(1)
        d["bob"]["tags"].append(2)
        d["new"] = []
        d["new"].append(3)
    assert (d["ada"]["tags"], d["bob"]["tags"], d["new"]) == ([1], [2], [3])
    after = stored()
    assert (after["ada"]["tags"], after["bob"]["tags"], after["new"]) == ([1], [2], [3])


def test_a_transaction_that_is_undone_undoes_changes_in_place_too(
    d: AnyMap, closed: Contents
) -> None:
    d["ada"]["tags"].append("before")
    with pytest.raises(ZeroDivisionError), d.transaction():
        d["ada"]["tags"].append("undone")
        d["eve"]["tags"].append("undone")
        d["eve"] = ["undone"]
        d["new"] = ["undone"]
        del d["bob"]
        1 / 0
    expected = {name: {"name": name, "tags": []} for name in ("ada", "bob", "eve")}
    expected["ada"]["tags"] = ["before"]
    assert d.copy() == expected
    assert closed() == expected


def test_a_transaction_is_undone_where_json_cannot_hold_a_change_in_place(
    d: AnyMap,
) -> None:
    with pytest.raises(TypeError, match=r"value\['tags'\]\[0\]: set"), d.transaction():
        d["ada"]["tags"].append(1)
        d["bob"]["tags"].append({1})
    assert (d["ada"]["tags"], d["bob"]["tags"]) == ([], [])


def test_sync_in_a_transaction_writes_into_it(d: AnyMap, stored: Contents) -> None:
    with pytest.raises(ZeroDivisionError), d.transaction():
        d["ada"]["tags"].append("undone")
        d.sync()
        1 / 0
    assert d["ada"]["tags"] == []
    d.sync()
    assert stored()["ada"]["tags"] == []


def test_an_edit_works_on_what_was_handed_out(d: AnyMap, stored: Contents) -> None:
    ada = d["ada"]
    with d.edit("ada") as same:
        assert same is ada
        same["tags"].append(1)
    assert stored()["ada"]["tags"] == [1], "at the end of the block"
    with d.edit("new", []) as new:
        new.append(1)
    assert d["new"] is new


def test_an_edit_that_raises_undoes_its_own_changes_and_keeps_those_before(
    d: AnyMap, stored: Contents
) -> None:
    d["ada"]["tags"].append("before")
    with pytest.raises(ZeroDivisionError), d.edit("ada") as user:
        user["tags"].append("undone")
        1 / 0
    assert d["ada"]["tags"] == ["before"]
    d.sync()
    assert stored()["ada"]["tags"] == ["before"]


def test_what_json_can_no_longer_hold_raises_at_sync_and_the_others_are_written(
    d: AnyMap, stored: Contents
) -> None:
    d["ada"]["tags"].append(1)
    d["bob"]["tags"].append({1})
    d["eve"]["tags"].append(1)
    with pytest.raises(TypeError, match=r"value\['tags'\]\[0\]: set") as caught:
        d.sync()
    assert any("'bob'" in note for note in caught.value.__notes__), "which of the values it was"
    after = stored()
    assert [after[name]["tags"] for name in after] == [[1], [], [1]]
    d["bob"]["tags"].clear()  # it can be mended
    d["bob"]["tags"].append(2)
    d.sync()
    assert stored()["bob"]["tags"] == [2]


def test_what_json_can_no_longer_hold_raises_at_close_which_closes_all_the_same(
    d: AnyMap, closed: Contents
) -> None:
    d["ada"]["tags"].append(float("nan"))
    d["bob"]["tags"].append(1)
    with pytest.raises(ValueError, match=r"value\['tags'\]\[0\]: nan"):
        d.close()
    assert d.closed
    after = closed()
    assert (after["ada"]["tags"], after["bob"]["tags"]) == ([], [1])


def test_whatever_encode_raises_for_one_value_the_others_are_written(store: Store) -> None:
    engine = store.engine("encoded")
    with map_before(engine, encode=lambda value: value["x"], writeback=True) as d:
        d.update(bad={"x": 1}, good={"x": 1})
        d["bad"].clear()
        d["good"]["x"] = 2
        with pytest.raises(KeyError, match="x"):
            d.sync()
        assert contents(engine) == {"bad": 1, "good": 2}
        del d["bad"]


def test_a_value_that_has_grown_over_the_limit_raises_at_sync(store: Store) -> None:
    engine = store.engine("small", limits=kvmap.Limits(value_bytes=10))
    with map_before(engine, writeback=True) as d:
        d["x"] = [1]
        d["x"].extend(range(20))
        with pytest.raises(kvmap.LimitError):
            d.sync()
        assert contents(engine) == {"x": [1]}
        d["x"] = [2]
        d["x"].append(3)
        d.sync()
        assert contents(engine) == {"x": [2, 3]}


def test_a_committed_transaction_keeps_what_was_changed_in_place_before_it(
    d: AnyMap, stored: Contents
) -> None:
    d["ada"]["tags"].append("before")
    ada = d["ada"]
    with d.transaction():
        d["bob"]["tags"].append("inside")
        assert d["ada"]["tags"] == ["before"]
        assert in_thread(lambda: stored()["ada"]["tags"]) == ["before"], "no part of the block"
    assert d["ada"] is ada
    assert (d["ada"]["tags"], d["bob"]["tags"]) == (["before"], ["inside"])
    assert (stored()["ada"]["tags"], stored()["bob"]["tags"]) == (["before"], ["inside"])
    d["ada"]["tags"].append("after")
    d.sync()
    assert stored()["ada"]["tags"] == ["before", "after"]


@pytest.mark.parametrize("fails", [False, True])
def test_tasks_blocks_leave_what_was_changed_before_them(
    d: AnyMap, stored: Contents, fails: bool
) -> None:
    async def main() -> None:
        d["ada"]["tags"].append("before")
        with contextlib.suppress(ZeroDivisionError):
            async with d.transaction():
                d["bob"]["tags"].append("inside")
                assert stored()["ada"]["tags"] == ["before"]
                assert 1 / (not fails)

    asyncio.run(main())
    assert d["ada"]["tags"] == stored()["ada"]["tags"] == ["before"]
    assert d["bob"]["tags"] == stored()["bob"]["tags"] == ([] if fails else ["inside"])


def test_a_block_that_ends_in_another_thread_writes_what_was_changed_in_it(
    d: AnyMap, stored: Contents
) -> None:
    block = d.transaction()
    block.__enter__()
    d["ada"]["tags"].append("inside")
    assert stored()["ada"]["tags"] == []
    in_thread(lambda: block.__exit__(None, None, None))
    assert d["ada"]["tags"] == stored()["ada"]["tags"] == ["inside"]


def test_backup_has_the_changes(kept: Store) -> None:
    with kept.open(writeback=True) as d:
        d["ada"] = []
        d["ada"].append(1)
        d.backup(kept.folder / "copy")
    with kept.open("copy") as copy:
        assert copy["ada"] == [1]


def test_a_store_that_is_open_to_read_says_that_a_change_in_place_is_lost(kept: Store) -> None:
    with kept.open() as d:
        d["ada"] = []
    before = files_of(d.path)
    reading = kept.open("store", "r", writeback=True)
    assert reading["ada"] is reading["ada"]
    reading["ada"].append("lost")
    for write in (reading.sync, reading.close):
        with pytest.raises(kvmap.ReadOnlyError) as caught:
            write()
        assert any("'ada'" in note for note in caught.value.__notes__)
    assert reading.closed
    assert {**files_of(d.path), "lock": b""} == {**before, "lock": b""}


def test_memoized_results_are_remembered_too(d: AnyMap) -> None:
    @d.memoize(key=lambda: "result")
    def result() -> list[int]:
        return []

    result().append(1)
    assert result() == [1]
    d.sync()
    assert d["result"] == [1]
