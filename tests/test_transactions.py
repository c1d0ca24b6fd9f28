"""A transaction is all or nothing: for readers, for exceptions, for a kill at any point."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from disk import Disk, Unsynced, kept, lay, lost
from faults import WatchedMaps
from helpers import Clock
from invariants import check
from model import contents

import kvmap


@pytest.fixture
def d(path: Path, clock: Clock) -> Iterator[kvmap.KVMap[Any]]:
    with kvmap.open(path, shards=4, files=clock) as d:
        d.update(a=1, b=2, c=3)
        yield d
        if not d.closed:
            check(d)


def reopened(d: kvmap.KVMap[Any], tmp_path: Path) -> list[Any]:
    """What is in a copy of the store, as after a kill at this moment."""
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    shutil.copytree(d.path, tmp_path / "copy")
    with kvmap.open(tmp_path / "copy", files=Clock(d._now())) as copy:
        found = contents(copy)
        check(copy)
    return found


def in_thread(work: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(10)
    assert found, "the reader waited for the transaction"
    return found[0]


def test_the_block_sees_its_writes_and_other_threads_see_none(d: kvmap.KVMap[Any]) -> None:
    before = dict(d)
    with d.transaction():
        d["a"] = "new"
        d["d"] = 4
        del d["b"]
        assert dict(d) == {"a": "new", "c": 3, "d": 4}
        assert (d["a"], d.get("b"), "b" in d, len(d)) == ("new", None, False, 3)
        assert in_thread(lambda: (dict(d.items()), len(d), "d" in d, d["a"], d.get("b"))) == (
            before,
            3,
            False,
            1,
            2,
        )
        assert in_thread(lambda: list(reversed(d))) == ["c", "b", "a"]
    assert in_thread(lambda: list(d.items())) == [("a", "new"), ("c", 3), ("d", 4)]


def test_readers_never_meet_half_of_one(d: kvmap.KVMap[Any]) -> None:
    d.update(one=0, two=0)
    stop, wrong = threading.Event(), []

    def reads() -> None:
        while not stop.is_set():
            # `two` is read first: it can't be ahead of `one` where both change in one step.
            two = d["two"]
            if d["one"] < two:
                wrong.append(two)
            pairs = d.copy()
            if pairs["one"] != pairs["two"]:
                wrong.append(pairs)

    threads = [threading.Thread(target=reads) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 300):
            with d.transaction():
                d["two"] = number
                d["one"] = number
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_an_exception_undoes_all(
    d: kvmap.KVMap[Any], error: type[BaseException], tmp_path: Path
) -> None:
    before = contents(d)
    block = d.transaction()
    block.__enter__()
    d.update(a=9, z=9)
    d.set("t", 1, ttl=5)
    del d["c"]
    d.popitem()
    raised = error()
    try:
        swallowed = block.__exit__(error, raised, None)
    except RuntimeError as other:  # what contextlib makes of a StopIteration
        assert other.__cause__ is raised
    except BaseException as other:
        assert other is raised
    else:
        assert not swallowed
    assert contents(d) == before == reopened(d, tmp_path)
    d["after"] = 1
    assert reopened(d, tmp_path) == [*before, ("after", 1, None)]


def test_what_is_refused_inside_leaves_the_rest(d: kvmap.KVMap[Any]) -> None:
    with d.transaction():
        d["x"] = 1
        for refused in (float("nan"), object(), {1: {2: float("inf")}}):
            with pytest.raises((TypeError, ValueError)):
                d["y"] = refused
        with pytest.raises(KeyError):
            del d["absent"]
        d["z"] = 2
    assert list(d.items())[-2:] == [("x", 1), ("z", 2)]


def test_a_nested_one_joins_the_outer(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    before = contents(d)
    with pytest.raises(ZeroDivisionError), d.transaction():
        with d.transaction():
            d["in"] = 1
        assert in_thread(lambda: "in" in d) is False
        assert d["in"] == 1
        1 / 0
    assert contents(d) == before
    with d.transaction():
        d["out"] = 1
        with pytest.raises(ZeroDivisionError), d.transaction():
            d["in"] = 2
            1 / 0
        d["out"] += 1
    # The inner block is a part of the outer, which went on.
    assert contents(d) == [*before, ("out", 2, None), ("in", 2, None)] == reopened(d, tmp_path)


def test_delete_and_insert_again_orders_as_a_dict(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    model: dict[Any, Any] = dict(d)

    def steps(target: Any) -> None:
        target["b"] = "over"
        del target["a"]
        target["d"] = 4
        target["a"] = "again"
        target["d"] = "over"
        del target["c"]
        target["e"] = 5
        del target["d"]
        target["c"] = 6
        target.update({"d": 7, "b": 8})
        del target["e"]

    steps(model)
    with d.transaction():
        steps(d)
        assert list(d.items()) == list(model.items())
        assert list(reversed(d)) == list(reversed(model))
    assert list(d.items()) == list(model.items())
    assert [each[:2] for each in reopened(d, tmp_path)] == list(model.items())
    d.compact()
    assert [each[:2] for each in reopened(d, tmp_path)] == list(model.items())


def test_deadlines_inside(d: kvmap.KVMap[Any], clock: Clock, tmp_path: Path) -> None:
    d.set("short", 1, ttl=10)
    d.set("undone", 1, ttl=50)
    with d.transaction():
        d.set("new", 1, ttl=20)
        d.set("gone", 1, ttl=5)
        d.expire("a", 30)
        clock.wait(10)
        assert "gone" not in d
        assert "short" not in d
        assert list(d) == ["a", "b", "c", "undone", "new"]
        assert d.ttl("new") == 10
    assert d.ttl("a") == 20
    assert contents(d) == reopened(d, tmp_path)
    with pytest.raises(ZeroDivisionError), d.transaction():
        d.expire("undone", None)
        d.expire("b", 1)
        clock.wait(1)
        assert "b" not in d
        1 / 0
    assert d["b"] == 2
    assert d.ttl("b") is None
    assert d.ttl("undone") == 39
    clock.wait(39)
    assert list(d) == ["b", "c"]
    assert contents(d) == reopened(d, tmp_path)


def test_clear_and_popitem_inside(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    with d.transaction():
        d["d"] = 4
        assert d.popitem() == ("d", 4)
        assert d.popitem() == ("c", 3)
        d.clear()
        assert (len(d), list(d), bool(d)) == (0, [], False)
        with pytest.raises(KeyError):
            d.popitem()
        d["b"] = "again"
        assert in_thread(lambda: list(d)) == ["a", "b", "c"]
    assert contents(d) == [("b", "again", None)] == reopened(d, tmp_path)


def test_iteration_inside_notices_a_change_of_size(d: kvmap.KVMap[Any]) -> None:
    with d.transaction():
        d["d"] = 4
        for key in d:
            d[key] = "over"
        assert set(d.values()) == {"over"}
        with pytest.raises(RuntimeError, match="changed size"):
            for key in d:
                d[f"{key} more"] = 1
        with pytest.raises(RuntimeError, match="changed size"):
            for key in d:
                del d[key]


def test_an_empty_one_writes_nothing(d: kvmap.KVMap[Any]) -> None:
    ends = [shard.end for shard in d._shards]
    with d.transaction():
        pass
    with d.transaction():
        d["x"] = 1
        del d["x"]
    assert "x" not in d
    assert [shard.end for shard in d._shards] == ends


@pytest.mark.parametrize("sync", [False, True])
def test_a_stop_at_each_call_leaves_all_or_nothing(tmp_path: Path, sync: bool) -> None:
    files = WatchedMaps()
    copies: list[Path] = []

    def stop(name: str) -> None:
        copies.append(tmp_path / "copies" / f"{len(copies)} {name}")
        shutil.copytree(tmp_path / "store", copies[-1])

    with kvmap.open(tmp_path / "store", shards=4, sync=sync, files=files) as d:
        d.update({f"key {i}": i for i in range(10)})
        d["large"] = "x" * 10_000
        d["timed"] = 0
        before = contents(d)
        files.before = files.after = stop
        with d.transaction():
            for i in range(0, 10, 2):
                d[f"key {i}"] = "over" * 3000
            del d["key 1"], d["key 3"], d["large"]
            d["key 3"] = "again"
            d.set("timed", 1, ttl=60)
            d["new"] = "y" * 20_000
            inside = len(copies)
        files.before = files.after = lambda name: None
        after = contents(d)
        check(d)
    outcomes = []
    for copy in copies:
        with kvmap.open(copy, files=Clock()) as d:
            found = contents(d)
            d.compact()  # for a journal that was applied twice has left repeats
            check(d)
            assert found in (before, after), copy.name
            outcomes.append(found == after)
            d["goes on"] = 1
        with kvmap.open(copy, files=Clock()) as d:
            assert contents(d) == [*found, ("goes on", 1, None)]
    assert not any(outcomes[:inside])
    assert outcomes == sorted(outcomes), "once it is there, it stays"
    assert outcomes[-1]
    assert len(copies) - inside > 20


def test_a_deadline_that_passes_inside_is_kept_for_when_it_is_undone(
    d: kvmap.KVMap[Any], clock: Clock
) -> None:
    d.set("short", 1, ttl=1)
    with pytest.raises(InterruptedError), d.transaction():
        d.clear()
        clock.wait(2)
        assert not d
        raise InterruptedError
    assert len(d) == 3
    assert "short" not in d


def test_an_empty_update_may_be_the_first_thing_inside(d: kvmap.KVMap[Any]) -> None:
    with d.transaction():
        d.update({})
        d |= []
    assert dict(d) == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize(
    ("sync", "fault", "number", "error"),
    [
        (True, "sync", 1, OSError),  # of the journal
        (True, "write_through", 1, OSError),
        (True, "write_through", 1, KeyboardInterrupt),
        (False, "copy", 1, KeyboardInterrupt),
    ],
)
def test_what_was_undone_stays_so_when_its_journal_can_not_be_removed(
    tmp_path: Path, sync: bool, fault: str, number: int, error: type[BaseException]
) -> None:
    files, path = WatchedMaps(), tmp_path / "store"
    journal = path / "journal.jsonl"
    calls = 0

    def fail(name: str) -> None:
        nonlocal calls
        if calls == number and name == "remove":
            raise OSError("injected")
        if calls < number and name == fault and journal.exists():
            calls += b'"commit"' in journal.read_bytes()
            if calls == number:
                raise error("injected")

    with kvmap.open(path, shards=4, sync=sync, files=files) as d:
        d.update({f"key {i}": "before" for i in range(9)})
        before = contents(d)
        files.before = fail
        with pytest.raises((OSError, error)), d.transaction():
            d.update({f"key {i}": "undone" for i in range(0, 9, 2)})
        assert calls == number, "nothing was injected"
        assert journal.exists()
        assert contents(d) == before
        shutil.copytree(path, tmp_path / "killed")
        files.before = lambda name: None
        check(d)
    for each in (path, tmp_path / "killed"):
        with kvmap.open(each, files=Clock()) as d:
            assert contents(d) == before
            check(d)


class Failing(Disk):
    """Fails once, at the sync of a number, and then at each removal."""

    at = 10**9
    refuses = False

    def sync(self, path: str) -> None:
        self.may_fail()
        super().sync(path)

    def flush(self, *written: Any) -> None:
        self.may_fail()
        super().flush(*written)

    def may_fail(self) -> None:
        self.at -= 1
        if self.at == 0:
            self.refuses = True
            raise OSError("injected")

    def remove(self, path: str) -> None:
        if self.refuses:
            raise OSError("injected")
        super().remove(path)


@pytest.mark.parametrize("at", range(1, 6))
def test_what_was_undone_stays_so_after_a_power_cut(tmp_path: Path, at: int) -> None:
    disk, chance = Failing(tmp_path / "disk"), random.Random(at)
    disk.root.mkdir()
    d = kvmap.open(disk.root / "store", shards=4, sync=True, files=disk)
    d.update({f"key {i}": "before" for i in range(9)})
    before = contents(d)
    disk.at = at
    with pytest.raises(OSError, match="injected"), d.transaction():
        d["key 0"] = "undone"
        disk.at = at  # from here on: the journal's sync, then each shard's
        d.update({f"key {i}": "undone" for i in range(1, 9)})
    assert contents(d) == before
    for number, choose in enumerate([lost, kept, *[chance.choice] * 40]):
        lay(disk.left(choose), tmp_path / str(number))
        with kvmap.open(tmp_path / str(number) / "store", files=Unsynced(disk.time)) as left:
            assert contents(left) == before
    disk.refuses = False
    d.close()
