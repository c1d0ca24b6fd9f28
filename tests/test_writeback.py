"""writeback=True, as in shelve: what was handed out and then changed is written at sync() and close()."""

import gc
import weakref
from collections.abc import Callable, Iterator
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
    with kvmap.open(path, files=clock) as d:
        d.update({name: {"name": name, "tags": []} for name in ("ada", "bob", "eve")})
    with kvmap.open(path, writeback=True, files=clock) as d:
        yield d
        if not d.closed:
            check(d)


def on_disk(d: kvmap.KVMap[Any]) -> dict[str, bytes]:
    return files_of(d.path / "shards")


def closed(d: kvmap.KVMap[Any]) -> dict[Any, Any]:
    """What the next run finds."""
    d.close()
    with kvmap.open(d.path) as after:
        return after.copy()


def stored(d: kvmap.KVMap[Any], copy: Path) -> dict[Any, Any]:
    """What another run would find after a kill."""
    with kvmap.open(killed(d, copy)) as after:
        return after.copy()


def test_a_change_in_place_is_seen_at_once_and_written_at_sync(
    d: kvmap.KVMap[Any], tmp_path: Path
) -> None:
    before = on_disk(d)
    d["ada"]["tags"].append(1)
    assert d["ada"]["tags"] == [1]
    assert d["ada"] is d["ada"] is d.get("ada")
    assert d["bob"]["tags"] == []
    assert on_disk(d) == before, "not before sync()"
    d.sync()
    assert stored(d, tmp_path / "copy")["ada"] == {"name": "ada", "tags": [1]}
    d["ada"]["tags"].append(2)  # it is still the same object
    d.sync()
    assert stored(d, tmp_path / "again")["ada"]["tags"] == [1, 2]


def test_a_change_in_place_is_written_at_close(d: kvmap.KVMap[Any]) -> None:
    d["ada"]["tags"].append(1)
    for value in d.values():
        value["seen"] = True
    after = closed(d)
    assert list(after) == ["ada", "bob", "eve"], "each in its place"
    assert after["ada"] == {"name": "ada", "tags": [1], "seen": True}
    assert all(value["seen"] for value in after.values())


def test_without_writeback_a_change_in_place_is_the_callers_own(path: Path) -> None:
    with kvmap.open(path) as d:
        d["ada"] = []
        d["ada"].append(1)
        d.sync()
        assert d["ada"] == []


def test_only_what_has_changed_is_written(d: kvmap.KVMap[Any]) -> None:
    before = on_disk(d)
    assert len(list(d.items())) == len(d.copy()) == 3
    d["bob"]["tags"].append(1)
    d["bob"]["tags"].pop()
    d["bob"]["tags"] = ()
    d.sync()
    assert on_disk(d) == before
    d["bob"]["tags"] = [1]
    d.sync()
    lines = b"".join(on_disk(d).values()).rstrip(b"\0").count(b"\n")
    assert lines == 4, "three entries, and the one that has changed"
    after = on_disk(d)
    d.sync()
    assert on_disk(d) == after


def test_what_was_stored_is_what_is_handed_out(d: kvmap.KVMap[Any]) -> None:
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
    assert closed(d)["x"] == mine == [1, 1, 2, 3, 4, 5]


def test_every_way_of_reading_hands_out_the_same_object(d: kvmap.KVMap[Any]) -> None:
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


def test_iteration_hands_out_what_it_remembers(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    for key, value in d.items():
        value["n"] = len(key) - 2
    for value in d.values():
        value["n"] += 1
    assert [value["n"] for value in d.values()] == [2, 2, 2]
    d.sync()
    assert [value["n"] for value in stored(d, tmp_path / "copy").values()] == [2, 2, 2]


def test_a_key_that_was_removed_does_not_come_back(d: kvmap.KVMap[Any]) -> None:
    ada, bob, eve = d["ada"], d["bob"], d["eve"]
    del d["ada"]
    assert d.pop("bob") is bob
    assert d.popitem() == ("eve", eve)
    for value in (ada, bob, eve):
        value["tags"].append("lost")
    d.sync()
    assert dict(d) == {}
    d["ada"] = "new"
    assert closed(d) == {"ada": "new"}


def test_clear_forgets_what_was_handed_out(d: kvmap.KVMap[Any]) -> None:
    d["ada"]["tags"].append("lost")
    d.clear()
    d["bob"] = 1
    assert closed(d) == {"bob": 1}


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
        lambda d, clock: (d.expire("x", 1), clock.wait(1), len(d)),
    ],
    ids=["del", "pop", "popitem", "clear", "update", "expire"],
)
def test_what_was_removed_is_not_held_in_memory(
    d: kvmap.KVMap[Any], clock: Clock, remove: Callable[[kvmap.KVMap[Any], Clock], object]
) -> None:
    d["x"] = Kept()
    kept = weakref.ref(d["x"])
    gc.collect()
    assert kept() is not None
    remove(d, clock)
    gc.collect()
    assert kept() is None


def test_an_overwrite_takes_the_place_of_what_was_handed_out(d: kvmap.KVMap[Any]) -> None:
    old = d["ada"]
    d["ada"] = {"tags": ["new"]}
    old["tags"].append("lost")
    assert d["ada"] == {"tags": ["new"]}
    assert closed(d)["ada"] == {"tags": ["new"]}


def test_its_deadline_is_kept(d: kvmap.KVMap[Any], clock: Clock) -> None:
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


def test_what_has_expired_does_not_come_back(d: kvmap.KVMap[Any], clock: Clock) -> None:
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
    after = closed(d)
    assert (after["token"], after["other"]) == ([1], ["new"])


def test_what_a_transaction_changes_in_place_is_part_of_it(
    d: kvmap.KVMap[Any], tmp_path: Path
) -> None:
    with d.transaction():
        d["ada"]["tags"].append(1)
        d["bob"]["tags"].append(2)
        d["new"] = []
        d["new"].append(3)
    assert (d["ada"]["tags"], d["bob"]["tags"], d["new"]) == ([1], [2], [3])
    after = stored(d, tmp_path / "copy")
    assert (after["ada"]["tags"], after["bob"]["tags"], after["new"]) == ([1], [2], [3])


def test_a_transaction_that_is_undone_undoes_changes_in_place_too(d: kvmap.KVMap[Any]) -> None:
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
    assert closed(d) == expected


def test_a_transaction_is_undone_where_json_cannot_hold_a_change_in_place(
    d: kvmap.KVMap[Any],
) -> None:
    with pytest.raises(TypeError, match=r"value\['tags'\]\[0\]: set"), d.transaction():
        d["ada"]["tags"].append(1)
        d["bob"]["tags"].append({1})
    assert (d["ada"]["tags"], d["bob"]["tags"]) == ([], [])


def test_sync_in_a_transaction_writes_into_it(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), d.transaction():
        d["ada"]["tags"].append("undone")
        d.sync()
        1 / 0
    assert d["ada"]["tags"] == []
    d.sync()
    assert stored(d, tmp_path / "copy")["ada"]["tags"] == []


def test_an_edit_works_on_what_was_handed_out(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    ada = d["ada"]
    with d.edit("ada") as same:
        assert same is ada
        same["tags"].append(1)
    assert stored(d, tmp_path / "copy")["ada"]["tags"] == [1], "at the end of the block"
    with d.edit("new", []) as new:
        new.append(1)
    assert d["new"] is new


def test_an_edit_that_raises_undoes_its_own_changes_and_keeps_those_before(
    d: kvmap.KVMap[Any], tmp_path: Path
) -> None:
    d["ada"]["tags"].append("before")
    with pytest.raises(ZeroDivisionError), d.edit("ada") as user:
        user["tags"].append("undone")
        1 / 0
    assert d["ada"]["tags"] == ["before"]
    d.sync()
    assert stored(d, tmp_path / "copy")["ada"]["tags"] == ["before"]


def test_what_json_can_no_longer_hold_raises_at_sync_and_the_others_are_written(
    d: kvmap.KVMap[Any], tmp_path: Path
) -> None:
    d["ada"]["tags"].append(1)
    d["bob"]["tags"].append({1})
    d["eve"]["tags"].append(1)
    with pytest.raises(TypeError, match=r"value\['tags'\]\[0\]: set") as caught:
        d.sync()
    assert any("'bob'" in note for note in caught.value.__notes__), "which of the values it was"
    after = stored(d, tmp_path / "copy")
    assert [after[name]["tags"] for name in after] == [[1], [], [1]]
    d["bob"]["tags"].clear()  # it can be mended
    d["bob"]["tags"].append(2)
    d.sync()
    assert stored(d, tmp_path / "again")["bob"]["tags"] == [2]


def test_what_json_can_no_longer_hold_raises_at_close_which_closes_all_the_same(
    d: kvmap.KVMap[Any],
) -> None:
    d["ada"]["tags"].append(float("nan"))
    d["bob"]["tags"].append(1)
    with pytest.raises(ValueError, match=r"value\['tags'\]\[0\]: nan"):
        d.close()
    assert d.closed
    after = closed(d)
    assert (after["ada"]["tags"], after["bob"]["tags"]) == ([], [1])


def test_whatever_encode_raises_for_one_value_the_others_are_written(
    path: Path, tmp_path: Path
) -> None:
    with kvmap.open(path, encode=lambda value: value["x"], writeback=True) as d:
        d.update(bad={"x": 1}, good={"x": 1})
        d["bad"].clear()
        d["good"]["x"] = 2
        with pytest.raises(KeyError, match="x"):
            d.sync()
        assert stored(d, tmp_path / "copy") == {"bad": 1, "good": 2}
        del d["bad"]


def test_a_value_that_has_grown_over_the_limit_raises_at_sync(path: Path) -> None:
    with kvmap.open(path, limits=kvmap.Limits(value_bytes=10), writeback=True) as d:
        d["x"] = [1]
        d["x"].extend(range(20))
        with pytest.raises(kvmap.LimitError):
            d.sync()
        d["x"] = [2]
    with kvmap.open(path) as d:
        assert d["x"] == [2]


def test_backup_has_the_changes(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    d["ada"]["tags"].append(1)
    d.backup(tmp_path / "copy")
    with kvmap.open(tmp_path / "copy") as copy:
        assert copy["ada"]["tags"] == [1]


def test_a_store_that_is_open_to_read_hands_out_and_writes_nothing(d: kvmap.KVMap[Any]) -> None:
    d.close()
    before = on_disk(d)
    with kvmap.open(d.path, "r", writeback=True) as reading:
        assert reading["ada"] is reading["ada"]
        reading["ada"]["tags"].append("lost")
    assert on_disk(d) == before


def test_memoized_results_are_remembered_too(d: kvmap.KVMap[Any]) -> None:
    @d.memoize(key=lambda: "result")
    def result() -> list[int]:
        return []

    result().append(1)
    assert result() == [1]
    d.sync()
    assert d["result"] == [1]
