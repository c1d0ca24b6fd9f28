"""A transaction is all or nothing: for readers, for exceptions, for a kill at any point."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import AnyMap, Clock, Work, files_of, in_thread
from model import contents
from stores import Store, each_life

import kvmap
from kvmap.blocks import Block, Blocks


@pytest.fixture
def d(store: Store) -> Iterator[AnyMap]:
    with store.open() as d:
        d.update(a=1, b=2, c=3)
        yield d
        if not d.closed:
            store.check(d)


def test_the_block_sees_its_writes_and_other_threads_see_none(d: AnyMap) -> None:
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


def test_readers_never_meet_half_of_one(d: AnyMap) -> None:
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
def test_an_exception_undoes_all(d: AnyMap, error: type[BaseException]) -> None:
    before = contents(d)
    with pytest.raises(error), d.transaction():
        d.update(a=9, z=9)
        d.set("t", 1, ttl=5)
        del d["c"]
        d.popitem()
        raise error
    assert contents(d) == before
    d["after"] = 1
    assert contents(d) == [*before, ("after", 1, None)]


def test_what_is_refused_inside_leaves_the_rest(d: AnyMap) -> None:
    with d.transaction():
        d["x"] = 1
        for refused in (float("nan"), object(), {1: {2: float("inf")}}):
            with pytest.raises((TypeError, ValueError)):
                d["y"] = refused
        with pytest.raises(KeyError):
            del d["absent"]
        d["z"] = 2
    assert list(d.items())[-2:] == [("x", 1), ("z", 2)]


def test_a_nested_one_joins_the_outer(d: AnyMap) -> None:
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
    assert contents(d) == [*before, ("out", 2, None), ("in", 2, None)]


def test_delete_and_insert_again_orders_as_a_dict(d: AnyMap) -> None:
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
    assert list(d.items()) == list(model.items())
    d.compact()
    assert list(d.items()) == list(model.items())


def test_deadlines_inside(d: AnyMap, clock: Clock) -> None:
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


def test_clear_and_popitem_inside(d: AnyMap) -> None:
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
    assert contents(d) == [("b", "again", None)]


def test_iteration_inside_notices_a_change_of_size(d: AnyMap) -> None:
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


def test_an_empty_one_writes_nothing(kept: Store) -> None:
    with kept.open() as d:
        d["a"] = 1
        before = files_of(d.path / "shards")
        with d.transaction():
            pass
        with d.transaction():
            d["x"] = 1
            del d["x"]
        assert "x" not in d
        assert files_of(d.path / "shards") == before


@each_life
def test_what_was_committed_is_there_whatever_happens_then(
    store: Store, happen: Callable[[AnyMap], AnyMap]
) -> None:
    d = store.open()
    d.update({number: number for number in range(20)}, large="x" * 5000)
    d.set("timed", 1, ttl=50)
    for number in range(5):
        with d.transaction():
            d[number] = "over"
            del d[number + 10]
            d["large"] = "y" * 5000
            d[number + 5] = d.pop(number + 5)
            d.set(("new", number), 1, ttl=60 + number)
        with pytest.raises(InterruptedError), d.transaction():
            d.clear()
            d["undone"] = 1
            raise InterruptedError
    before = contents(d)
    assert len(before) == 22
    d = happen(d)
    assert contents(d) == before
    store.check(d)
    d.close()


def test_it_can_be_entered_only_once(d: AnyMap) -> None:
    block = d.transaction()
    with block:
        d["a"] = 2
        with pytest.raises(RuntimeError, match="entered only once"), block:
            pytest.fail("the block does not run")
    with pytest.raises(RuntimeError, match="entered only once"), block:
        pytest.fail("the block does not run")
    assert d["a"] == 2
    d["a"] = 3


def test_what_has_no_place_in_a_block_is_refused(d: AnyMap, tmp_path: Path) -> None:
    with d.transaction():
        d["a"] = 2
        for call in (d.compact, lambda: d.backup(tmp_path / "copy"), lambda: d.configure(ttl=5)):
            with pytest.raises(RuntimeError, match="inside a transaction"):
                call()
        d.sync()  # what was before it
    assert d["a"] == 2


def test_an_iterator_that_outlives_its_block_goes_no_further(d: AnyMap) -> None:
    for iterate in (iter, lambda d: iter(d.items()), lambda d: iter(d.values()), reversed):
        for after in (0, 1):
            with d.transaction():
                d["d"] = 4
                iterator = iterate(d)
                for _ in range(after):
                    next(iterator)
            with pytest.raises(RuntimeError, match="has ended|changed size"):
                list(iterator)


def test_batches_and_conditions_inside(d: AnyMap) -> None:
    with d.transaction():
        d.set_many({"a": 10, "d": 40})
        assert d.get_many(["a", "b", "absent"]) == {"a": 10, "b": 2}
        assert d.delete_many(["b", "d", "absent"]) == 2
        assert d.incr("a", 5) == 15
        assert d.incr("new", default=7) == 8
        with pytest.raises(KeyError):
            d.incr("absent", default=None)
        with pytest.raises(kvmap.KeyExistsError):
            d.create("a", 1)
        d.create("b", "again")
        assert d.setdefault("c", 9) == 3
        assert list(d.scan("b")) == ["b"]
        assert in_thread(lambda: dict(d)) == {"a": 1, "b": 2, "c": 3}
    assert list(d.items()) == [("a", 15), ("c", 3), ("new", 8), ("b", "again")]


def test_a_lone_block_in_another_thread_waits_for_its_turn(d: AnyMap) -> None:
    order: list[str] = []

    def other() -> None:
        with d.transaction():
            order.append("second")
            d["a"] += 1

    with d.transaction():
        work = Work(other)
        assert work.waits()
        d["a"] = 10
        order.append("first")
    work.result()
    assert order == ["first", "second"]
    assert d["a"] == 11


def test_a_limit_met_at_the_end_undoes_all(store: Store) -> None:
    with store.open(limits=kvmap.Limits(entries=2)) as d:
        d["a"] = 1
        with pytest.raises(kvmap.LimitError), d.transaction():
            d["a"] = 2
            d["b"] = 2
            d["c"] = 2
        assert dict(d) == {"a": 1}
        d["b"] = 3  # nobody waits for a block that has failed
        assert in_thread(lambda: d.pop("b")) == 3


def test_another_threads_len_does_not_wait_where_a_deadline_has_passed(
    d: AnyMap, clock: Clock
) -> None:
    d.set("short", 1, ttl=1)
    with d.transaction():
        d["new"] = 1
        clock.wait(1)
        assert in_thread(lambda: (len(d), bool(d), "short" in d, list(d))) == (
            *(3, True, False),
            ["a", "b", "c"],
        )
        assert len(d) == 4
    assert list(d) == ["a", "b", "c", "new"]


def test_a_deadline_that_passes_inside_is_kept_for_when_it_is_undone(
    d: AnyMap, clock: Clock
) -> None:
    d.set("short", 1, ttl=1)
    with pytest.raises(InterruptedError), d.transaction():
        d.clear()
        clock.wait(2)
        assert not d
        raise InterruptedError
    assert len(d) == 3
    assert "short" not in d


def test_an_empty_update_may_be_the_first_thing_inside(d: AnyMap) -> None:
    with d.transaction():
        d.update({})
        d |= []
    assert dict(d) == {"a": 1, "b": 2, "c": 3}


def test_what_a_block_gave_another_deadline_stays_when_the_first_one_passes(
    d: AnyMap, clock: Clock
) -> None:
    d.set("stays", 1, ttl=5)
    d.set("later", 1, ttl=5)
    d.set("gone", 1, ttl=5)
    with d.transaction():
        d.set("stays", 2, ttl=None)
        d.expire("later", 10)
        d["new"] = 1
        iterator, backwards = iter(d), reversed(d)
        assert next(iterator) == "a"
        assert next(backwards) == "new"
        clock.wait(5)
        for keys in (set(d), {"a", *iterator}, {"new", *backwards}):
            assert keys == {"a", "b", "c", "stays", "later", "new"}
        assert len(d) == len(list(d)) == len(list(reversed(d))) == 6
        assert (d["stays"], d["later"], d.ttl("stays"), d.ttl("later")) == (2, 1, None, 5)
        order = list(d)
    assert list(d) == order
    assert (d["stays"], d.ttl("stays"), d.ttl("later")) == (2, None, 5)
    clock.wait(5)
    assert set(d) == {"a", "b", "c", "stays", "new"}


def test_what_a_block_has_deleted_may_expire_meanwhile(d: AnyMap, clock: Clock) -> None:
    d.set("short", 1, ttl=5)
    with d.transaction():
        d.clear()
        d.set("timed", 1, ttl=2)
        d.pop("timed")
        assert (list(d), len(d)) == ([], 0)
        clock.wait(5)
        assert (list(d), len(d)) == ([], 0)
        d["new"] = 1
        assert (list(d), len(d)) == (["new"], 1)
    assert dict(d) == {"new": 1}


def test_an_entry_that_was_iterated_over_is_not_met_again(d: AnyMap, clock: Clock) -> None:
    d.clear()
    d.set("timed", 1, ttl=5)
    with d.transaction():
        d.set("timed", 2, ttl=None)
        d["new"] = 1
        iterator = iter(d)
        assert next(iterator) == "timed"
        clock.wait(5)
        assert list(iterator) == ["new"]


def test_reads_and_writes_take_the_short_way_outside_of_blocks(store: Store) -> None:
    engine = store.engine()
    blocks = Blocks(engine)
    for _ in range(3):
        block = blocks.enter(Block(engine))
        assert blocks.open == [block]
        assert blocks.view() is blocks.writer() is block.buffer
        blocks.leave(block)
        blocks.leave(block)
        assert blocks.open == []
