"""`with d.edit(key) as value`: written back at the end if it changed, and only then."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from helpers import AnyMap, Clock, Work, files_of, in_thread, killed, run_together
from stores import Store

import kvmap


@pytest.fixture
def d(store: Store) -> Iterator[AnyMap]:
    with store.open(shards=2) as d:
        d.update(ada={"visits": 1, "tags": []}, bob={"visits": 5, "tags": ["new"]})
        yield d
        store.check(d)


@pytest.fixture
def unwritten(store: Store, d: AnyMap) -> Iterator[None]:
    """Fails where a record is written while the test runs."""

    def written() -> object:
        return files_of(d.path / "shards") if store.is_kept else d.stats()

    before = written()
    yield
    assert written() == before


def test_a_change_is_written_when_the_block_ends(d: AnyMap, store: Store) -> None:
    with d.edit("ada") as user:
        user["visits"] += 1
        user["tags"].append("seen")
        assert d["ada"] == {"visits": 1, "tags": []}, "not before"
    assert d["ada"] == {"visits": 2, "tags": ["seen"]}
    assert list(d) == ["ada", "bob"]
    if store.is_kept:
        copy = killed(d, store.folder / "copy")
        with store.open(copy.name) as after:
            assert after["ada"] == {"visits": 2, "tags": ["seen"]}


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize("change", ["none", "and back", "to an equal value"])
def test_no_record_is_written_where_nothing_changed(d: AnyMap, change: str) -> None:
    with d.edit("bob") as user:
        if change == "and back":
            user["visits"] += 1
            user["visits"] -= 1
        elif change == "to an equal value":
            user["tags"] = ("new",)


def test_a_change_that_python_calls_equal_is_a_change_all_the_same(d: AnyMap) -> None:
    with d.edit("ada") as user:
        user["visits"] = 1.0
    assert repr(d["ada"]["visits"]) == "1.0"
    with d.edit("ada") as user:
        user["visits"] = True
        user["tags"] = user.pop("tags")
    assert d["ada"]["visits"] is True
    with d.edit("ada") as user:
        user["visits"] = user.pop("visits")
    assert list(d["ada"]) == ["tags", "visits"], "an object keeps the order it was given"


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, KeyboardInterrupt, GeneratorExit])
def test_a_block_that_raises_leaves_the_value_alone(d: AnyMap, error: type[BaseException]) -> None:
    with pytest.raises(error), d.edit("ada") as user:
        user["visits"] = 99
        raise error
    with pytest.raises(error), d.edit("eve", {}) as user:
        user["visits"] = 99
        raise error
    assert d["ada"] == {"visits": 1, "tags": []}
    assert list(d) == ["ada", "bob"]


def test_a_block_may_be_left_early(d: AnyMap) -> None:
    def visit() -> int:
        with d.edit("ada") as user:
            user["visits"] += 1
            return int(user["visits"])

    for _ in range(3):
        with d.edit("bob") as user:
            user["visits"] += 1
            if user["visits"] == 7:
                break
            continue
    assert visit() == d["ada"]["visits"] == 2
    assert d["bob"]["visits"] == 7


def test_a_missing_key_is_a_key_error_or_begins_as_a_copy_of_the_default(
    d: AnyMap,
) -> None:
    with pytest.raises(KeyError) as caught, d.edit("eve"):
        pytest.fail("the block does not run")
    assert caught.value.args == ("eve",)
    assert "eve" not in d

    default: dict[str, Any] = {"visits": 0, "tags": []}
    for visits in (1, 2):
        with d.edit("eve", default) as user:
            assert user is not default
            user["visits"] += 1
            user["tags"].append("x")
        assert d["eve"] == {"visits": visits, "tags": ["x"] * visits}
    assert default == {"visits": 0, "tags": []}
    assert list(d) == ["ada", "bob", "eve"]


def test_a_default_that_json_cannot_hold_is_refused_before_the_block(
    d: AnyMap,
) -> None:
    with pytest.raises(TypeError, match=r"value\['tags'\]: set"), d.edit("eve", {"tags": {1}}):
        pytest.fail("the block does not run")
    with d.edit("ada", {"tags": {1}}) as user:  # not needed, so not looked at
        user["visits"] = 2
    assert d["ada"]["visits"] == 2


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize(
    ("part", "error"), [({1}, TypeError), (float("nan"), ValueError), (2**64, ValueError)]
)
def test_a_change_that_json_cannot_hold_names_the_place_and_leaves_what_was_stored(
    d: AnyMap, part: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^value\['tags'\]\[1\]: "), d.edit("bob") as user:
        user["visits"] = 6
        user["tags"].append(part)
    assert d["bob"] == {"visits": 5, "tags": ["new"]}


def test_a_change_over_the_limit_leaves_what_was_stored(store: Store) -> None:
    with store.open("small", limits=kvmap.Limits(value_bytes=10)) as d:
        d["x"] = []
        with pytest.raises(kvmap.LimitError), d.edit("x") as some:
            some.extend(range(20))
        assert d["x"] == []
        store.check(d)


def test_its_deadline_stays(d: AnyMap, clock: Clock) -> None:
    d.set("token", {"uses": 0}, ttl=60)
    clock.wait(20)
    with d.edit("token") as token:
        token["uses"] += 1
    assert d.ttl("token") == 40
    with d.edit("ada") as user:
        user["visits"] += 1
    assert d.ttl("ada") is None
    clock.wait(40)
    assert "token" not in d
    with pytest.raises(KeyError), d.edit("token"):
        pass


def test_an_entry_that_expires_in_the_block_stays_gone(d: AnyMap, clock: Clock) -> None:
    d.set("token", {"uses": 0}, ttl=60)
    with d.edit("token") as token:
        token["uses"] += 1
        clock.wait(60)
    assert "token" not in d
    assert list(d) == ["ada", "bob"]


def test_a_new_entry_gets_the_stores_time_to_live(store: Store) -> None:
    with store.open("timed", ttl=60) as d:
        with d.edit("ada", {}) as user:
            user["visits"] = 1
        assert d.ttl("ada") == 60


def test_other_threads_writes_wait_and_their_reads_do_not(d: AnyMap) -> None:
    order: list[str] = []

    def other() -> None:
        assert d["ada"]["visits"] == 1
        assert len(d) == 2
        order.append("read")
        d["ada"] = {"visits": 100}
        order.append("wrote")

    with d.edit("ada") as user:
        work = Work(other)
        assert work.waits()
        user["visits"] += 1
        order.append("block ends")
    work.result()
    assert order == ["read", "block ends", "wrote"]
    assert d["ada"] == {"visits": 100}


def test_no_increment_of_four_threads_is_lost(d: AnyMap) -> None:
    def work() -> None:
        for _ in range(100):
            with d.edit("count", [0]) as count:
                count[0] += 1

    run_together(*[work] * 4)
    assert d["count"] == [400]


def test_edits_of_several_keys_may_be_nested(d: AnyMap) -> None:
    with d.edit("ada") as ada, d.edit("bob") as bob:
        ada["visits"], bob["visits"] = bob["visits"], ada["visits"]
    assert (d["ada"]["visits"], d["bob"]["visits"]) == (5, 1)

    with pytest.raises(ZeroDivisionError), d.edit("ada") as ada:
        ada["visits"] = 99
        with d.edit("bob") as bob:
            bob["visits"] = 2
        1 / 0
    assert (d["ada"]["visits"], d["bob"]["visits"]) == (5, 1), "the inner one is part of the outer"

    with d.edit("ada") as ada:
        with pytest.raises(ZeroDivisionError), d.edit("bob") as bob:
            bob["visits"] = 99
            1 / 0
        ada["visits"] = 6
    assert (d["ada"]["visits"], d["bob"]["visits"]) == (6, 1), "it writes at its own end, if at all"


def test_of_nested_edits_of_one_key_the_last_to_end_wins(d: AnyMap) -> None:
    with d.edit("ada") as outer:
        with d.edit("ada") as inner:
            inner["visits"] = 2
        assert d["ada"]["visits"] == 2
        outer["visits"] = 3
    assert d["ada"]["visits"] == 3
    with d.edit("ada"), d.edit("ada") as inner:
        inner["visits"] = 4
    assert d["ada"]["visits"] == 4, "the outer one changed nothing, so it wrote nothing"


def test_in_a_transaction_it_is_part_of_it(d: AnyMap) -> None:
    with d.transaction():
        with d.edit("ada") as user:
            user["visits"] = 2
        with d.edit("eve", {}) as user:
            user["visits"] = 3
        assert d["ada"]["visits"] == 2
    assert (d["ada"]["visits"], d["eve"]) == (2, {"visits": 3})
    with pytest.raises(ZeroDivisionError), d.transaction():
        with d.edit("ada") as user:
            user["visits"] = 99
        1 / 0
    assert d["ada"]["visits"] == 2

    with d.edit("ada") as user:
        with pytest.raises(ZeroDivisionError), d.transaction():
            d["bob"] = "part of the edit"
            1 / 0
        user["visits"] = 4
    assert (d["ada"]["visits"], d["bob"]) == (4, "part of the edit")
    with pytest.raises(ZeroDivisionError), d.edit("ada") as user:
        with d.transaction():
            d["bob"] = "undone"
        1 / 0
    assert d["bob"] == "part of the edit"


def test_a_key_deleted_in_the_block_is_put_back_only_by_a_change(d: AnyMap) -> None:
    with d.edit("ada"):
        del d["ada"]
    assert list(d) == ["bob"]
    with d.edit("bob") as user:
        d.clear()
        user["visits"] = 6
        assert "bob" not in d
    assert dict(d) == {"bob": {"visits": 6, "tags": ["new"]}}


def test_a_map_closed_in_the_block_raises(store: Store) -> None:
    d = store.open("closed")
    d["x"] = []
    with pytest.raises(kvmap.StoreClosedError), d.edit("x") as some:
        some.append(1)
        d.close()
    if store.is_kept:
        with store.open("closed") as d:
            assert d["x"] == []


def test_a_store_that_is_open_to_read_is_not_edited(kept: Store) -> None:
    with kept.open() as d:
        d["x"] = []
    with kept.open("store", "r") as d:
        with pytest.raises(kvmap.ReadOnlyError), d.edit("x"):
            pytest.fail("the block does not run")
        with pytest.raises(kvmap.ReadOnlyError), d.edit("y", []):
            pytest.fail("the block does not run")


@pytest.mark.parametrize("value", [1, 0.5, True, "text", None])
def test_a_value_that_cannot_be_changed_in_place_is_refused(d: AnyMap, value: Any) -> None:
    d["n"] = value
    for edit in (lambda: d.edit("n"), lambda: d.edit("new", value)):
        with (
            pytest.raises(TypeError, match=r"can't be changed in place; use d\[key\] = value"),
            edit(),
        ):
            pytest.fail("the block does not run")
    assert d["n"] is value or d["n"] == value
    assert "new" not in d
    d["ada"] = "nobody holds the map"


@pytest.mark.parametrize(
    "value",
    [
        *((1, [2]), frozenset({1}), b"x", 1j, Decimal(1), UUID(int=1)),
        *(datetime(2026, 1, 2), date(2026, 1, 2), time(1), timedelta(1)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_so_is_one_of_the_extended_codec(store: Store, value: Any) -> None:
    with store.open("extended", codec="extended") as d:
        d["n"] = value
        with (
            pytest.raises(TypeError, match=f"is of type {type(value).__name__}, which can't be"),
            d.edit("n"),
        ):
            pytest.fail("the block does not run")
        for changing in ([value], {1: value}, {2}, bytearray(b"x")):
            with d.edit(repr(changing), changing) as same:
                assert same == changing
        assert d["n"] == value


def test_an_edit_can_be_entered_only_once(d: AnyMap) -> None:
    edit = d.edit("ada")
    with edit as user:
        user["visits"] = 2
    with pytest.raises(RuntimeError, match="entered only once"), edit:
        pytest.fail("the block does not run")
    assert d["ada"]["visits"] == 2


@pytest.mark.parametrize("failure", ["begin", "block", "finish", "commit"])
def test_an_edit_that_fails_holds_nobody_up(store: Store, failure: str) -> None:
    with store.open("small", limits=kvmap.Limits(entries=1)) as d:
        d["x"] = []
        with pytest.raises((KeyError, ZeroDivisionError, TypeError, kvmap.LimitError)):
            if failure == "begin":
                with d.edit("absent"):
                    pytest.fail("the block does not run")
            with d.edit("x") as some:
                some.append({1} if failure == "finish" else 1)
                if failure == "commit":
                    d["one too many"] = 1
                if failure == "block":
                    1 / 0
        assert not d.in_block
        assert in_thread(lambda: d["x"]) == []
        in_thread(lambda: d.__setitem__("x", [2]))
        assert d["x"] == [2]
