"""`with d.edit(key) as value`: written back at the end if it changed, and only then."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from disk import Unsynced
from helpers import Clock, files_of, killed
from invariants import check

import kvmap


@pytest.fixture
def clock() -> Unsynced:
    return Unsynced()


@pytest.fixture
def d(path: Path, clock: Clock) -> Iterator[kvmap.KVMap[Any]]:
    with kvmap.open(path, shards=2, files=clock) as d:
        d.update(ada={"visits": 1, "tags": []}, bob={"visits": 5, "tags": ["new"]})
        yield d
        check(d)


def on_disk(d: kvmap.KVMap[Any]) -> dict[str, bytes]:
    return files_of(d.path / "shards")


def test_a_change_is_written_when_the_block_ends(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    with d.edit("ada") as user:
        user["visits"] += 1
        user["tags"].append("seen")
        assert d["ada"] == {"visits": 1, "tags": []}, "not before"
    assert d["ada"] == {"visits": 2, "tags": ["seen"]}
    assert list(d) == ["ada", "bob"]
    with kvmap.open(killed(d, tmp_path / "copy")) as after:
        assert after["ada"] == {"visits": 2, "tags": ["seen"]}


@pytest.mark.parametrize("change", ["none", "and back", "to an equal value"])
def test_no_record_is_written_where_nothing_changed(d: kvmap.KVMap[Any], change: str) -> None:
    before = on_disk(d)
    with d.edit("bob") as user:
        if change == "and back":
            user["visits"] += 1
            user["visits"] -= 1
        elif change == "to an equal value":
            user["tags"] = ("new",)
    assert on_disk(d) == before


def test_a_change_that_python_calls_equal_is_a_change_all_the_same(d: kvmap.KVMap[Any]) -> None:
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


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, KeyboardInterrupt, GeneratorExit])
def test_a_block_that_raises_leaves_the_value_alone(
    d: kvmap.KVMap[Any], error: type[BaseException]
) -> None:
    before = on_disk(d)
    with pytest.raises(error), d.edit("ada") as user:
        user["visits"] = 99
        raise error
    with pytest.raises(error), d.edit("eve", {}) as user:
        user["visits"] = 99
        raise error
    assert d["ada"] == {"visits": 1, "tags": []}
    assert list(d) == ["ada", "bob"]
    assert on_disk(d) == before


def test_a_block_may_be_left_early(d: kvmap.KVMap[Any]) -> None:
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
    d: kvmap.KVMap[Any],
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
    with d.edit("none", default=None) as nothing:
        assert nothing is None
    assert d["none"] is None
    assert list(d) == ["ada", "bob", "eve", "none"]


def test_a_default_that_json_cannot_hold_is_refused_before_the_block(
    d: kvmap.KVMap[Any],
) -> None:
    with pytest.raises(TypeError, match=r"value\['tags'\]: set"), d.edit("eve", {"tags": {1}}):
        pytest.fail("the block does not run")
    with d.edit("ada", {"tags": {1}}) as user:  # not needed, so not looked at
        user["visits"] = 2
    assert d["ada"]["visits"] == 2


@pytest.mark.parametrize(
    ("part", "error"), [({1}, TypeError), (float("nan"), ValueError), (2**64, ValueError)]
)
def test_a_change_that_json_cannot_hold_names_the_place_and_leaves_what_was_stored(
    d: kvmap.KVMap[Any], part: Any, error: type[Exception]
) -> None:
    before = on_disk(d)
    with pytest.raises(error, match=r"^value\['tags'\]\[1\]: "), d.edit("bob") as user:
        user["visits"] = 6
        user["tags"].append(part)
    assert d["bob"] == {"visits": 5, "tags": ["new"]}
    assert on_disk(d) == before


def test_a_change_over_the_limit_leaves_what_was_stored(path: Path) -> None:
    with kvmap.open(path, limits=kvmap.Limits(value_bytes=10)) as d:
        d["x"] = []
        with pytest.raises(kvmap.LimitError), d.edit("x") as some:
            some.extend(range(20))
        assert d["x"] == []
        check(d)


def test_its_deadline_stays(d: kvmap.KVMap[Any], clock: Clock) -> None:
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


def test_an_entry_that_expires_in_the_block_stays_gone(d: kvmap.KVMap[Any], clock: Clock) -> None:
    d.set("token", {"uses": 0}, ttl=60)
    with d.edit("token") as token:
        token["uses"] += 1
        clock.wait(60)
    assert "token" not in d
    assert list(d) == ["ada", "bob"]


def test_a_new_entry_gets_the_stores_time_to_live(path: Path, clock: Clock) -> None:
    with kvmap.open(path, ttl=60, files=clock) as d:
        with d.edit("ada", {}) as user:
            user["visits"] = 1
        assert d.ttl("ada") == 60


def test_other_threads_writes_wait_and_their_reads_do_not(d: kvmap.KVMap[Any]) -> None:
    order: list[str] = []
    read = threading.Event()

    def other() -> None:
        assert d["ada"]["visits"] == 1
        assert len(d) == 2
        read.set()
        d["ada"] = {"visits": 100}
        order.append("wrote")

    thread = threading.Thread(target=other, daemon=True)
    with d.edit("ada") as user:
        thread.start()
        assert read.wait(60)
        time.sleep(0.05)  # so that a write that does not wait would be done by now
        user["visits"] += 1
        order.append("block ends")
    thread.join(60)
    assert order == ["block ends", "wrote"]
    assert d["ada"] == {"visits": 100}


def test_no_increment_of_four_threads_is_lost(d: kvmap.KVMap[Any]) -> None:
    def work() -> None:
        for _ in range(100):
            with d.edit("count", [0]) as count:
                count[0] += 1

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert d["count"] == [400]


def test_edits_of_several_keys_may_be_nested(d: kvmap.KVMap[Any]) -> None:
    with d.edit("ada") as ada, d.edit("bob") as bob:
        ada["visits"], bob["visits"] = bob["visits"], ada["visits"]
    assert (d["ada"]["visits"], d["bob"]["visits"]) == (5, 1)

    with pytest.raises(ZeroDivisionError), d.edit("ada") as ada:
        ada["visits"] = 99
        with d.edit("bob") as bob:
            bob["visits"] = 2
        1 / 0
    assert (d["ada"]["visits"], d["bob"]["visits"]) == (5, 2), "each block by itself"


def test_of_nested_edits_of_one_key_the_last_to_end_wins(d: kvmap.KVMap[Any]) -> None:
    with d.edit("ada") as outer:
        with d.edit("ada") as inner:
            inner["visits"] = 2
        assert d["ada"]["visits"] == 2
        outer["visits"] = 3
    assert d["ada"]["visits"] == 3
    with d.edit("ada"), d.edit("ada") as inner:
        inner["visits"] = 4
    assert d["ada"]["visits"] == 4, "the outer one changed nothing, so it wrote nothing"


def test_in_a_transaction_it_is_part_of_it(d: kvmap.KVMap[Any]) -> None:
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
            d["bob"] = "undone"
            1 / 0
        user["visits"] = 4
    assert (d["ada"]["visits"], d["bob"]["visits"]) == (4, 5)


def test_a_key_deleted_in_the_block_is_put_back_only_by_a_change(d: kvmap.KVMap[Any]) -> None:
    with d.edit("ada"):
        del d["ada"]
    assert list(d) == ["bob"]
    with d.edit("bob") as user:
        d.clear()
        user["visits"] = 6
        assert "bob" not in d
    assert dict(d) == {"bob": {"visits": 6, "tags": ["new"]}}


def test_a_map_closed_in_the_block_raises(path: Path) -> None:
    with kvmap.open(path) as d:
        d["x"] = []
        with pytest.raises(kvmap.StoreClosedError), d.edit("x") as some:
            some.append(1)
            d.close()
    with kvmap.open(path) as d:
        assert d["x"] == []


def test_a_store_that_is_open_to_read_is_not_edited(path: Path) -> None:
    with kvmap.open(path) as d:
        d["x"] = []
    with kvmap.open(path, "r") as d:
        with pytest.raises(kvmap.ReadOnlyError), d.edit("x"):
            pytest.fail("the block does not run")
        with pytest.raises(kvmap.ReadOnlyError), d.edit("y", []):
            pytest.fail("the block does not run")


def test_a_value_that_is_replaced_rather_than_changed_is_not_noticed(
    d: kvmap.KVMap[Any],
) -> None:
    d["n"] = 1
    with d.edit("n") as n:
        n += 1  # another int, which the map never sees
    assert d["n"] == 1
