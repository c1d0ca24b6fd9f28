"""The contract of an engine: an entry is gone at its deadline, exactly, for every operation."""

from collections.abc import Callable
from typing import Any

import pytest
from stores import Store
from test_contract_batches import commit
from test_contract_entries import content

from kvmap.engine import INF, KEEP_DEADLINE, Changes, Engine, If
from kvmap.settings import Settings

ALSO_OF_A_BLOCK = True


def test_a_deadline_is_so_many_seconds_from_now(engine: Engine, store: Store) -> None:
    engine.put("stays", b"1", INF)
    engine.put("timed", b"1", 5)
    assert engine.deadline("stays") == INF
    assert engine.deadline("timed") == store.clock.now() + 5
    assert engine.deadline("absent") is None
    assert engine.now() == store.clock.now()


def test_gone_at_its_deadline_and_not_before(engine: Engine, store: Store) -> None:
    engine.put("a", b"1", 5)
    engine.put("stays", b"2", INF)
    store.clock.wait(4.75)
    assert engine.get("a") == b"1"
    assert len(engine) == 2
    store.clock.wait(0.25)
    assert engine.get("a") is None
    assert len(engine) == 1
    assert content(engine) == [("stays", b"2")]


LOOKS: dict[str, tuple[Callable[[Engine], Any], Any]] = {
    "get": (lambda e: e.get("a"), None),
    "get_many": (lambda e: e.get_many(["a", "stays"]), [None, b"2"]),
    "contains": (lambda e: "a" in e, False),
    "len": (len, 1),
    "keys": (lambda e: [k for page in e.keys() for k in page], ["stays"]),
    "keys, reversed": (lambda e: [k for page in e.keys(reverse=True) for k in page], ["stays"]),
    "items": (content, [("stays", b"2")]),
    "deadline": (lambda e: e.deadline("a"), None),
    "expiring": (lambda e: e.expiring(100), {}),
    "put if absent": (lambda e: e.put("a", b"3", INF, If.ABSENT), True),
    "put if present": (lambda e: e.put("a", b"3", INF, If.PRESENT), False),
    "put if unchanged": (lambda e: e.put("a", b"3", INF, b"1"), False),
    "setdefault": (lambda e: e.setdefault("a", b"3", INF), b"3"),
    "incr": (lambda e: e.incr("a", 1, 10, KEEP_DEADLINE), 11),
    "expire": (lambda e: e.expire("a", 5), False),
    "pop": (lambda e: e.pop("a"), None),
    "popitem": (lambda e: e.popitem(last=False), ("stays", b"2")),
    "delete": (lambda e: e.delete("a"), False),
    "delete_many": (lambda e: e.delete_many(["a"]), 0),
}


@pytest.mark.parametrize("look", LOOKS)
def test_every_operation_finds_it_gone(engine: Engine, store: Store, look: str) -> None:
    # Each is the first call after the deadline.
    call, expected = LOOKS[look]
    engine.put("a", b"1", 5)
    engine.put("stays", b"2", INF)
    store.clock.wait(5)
    assert call(engine) == expected


def test_what_is_written_again_is_new(engine: Engine, store: Store) -> None:
    engine.put("a", b"1", 5)
    engine.put("b", b"2", INF)
    store.clock.wait(5)
    engine.put("a", b"3", KEEP_DEADLINE)
    assert engine.deadline("a") == INF
    assert content(engine) == [("b", b"2"), ("a", b"3")]


def test_keep_keeps_the_deadline_of_what_is_there(engine: Engine, store: Store) -> None:
    engine.put("a", b"1", 60)
    deadline = engine.deadline("a")
    store.clock.wait(20)
    for write in (
        lambda: engine.put("a", b"2", KEEP_DEADLINE),
        lambda: engine.put_many({"a": b"3"}, KEEP_DEADLINE),
        lambda: engine.put("a", b"4", KEEP_DEADLINE, b"3"),
        lambda: engine.incr("a", 1, 0, KEEP_DEADLINE),
    ):
        write()
        assert engine.deadline("a") == deadline
    assert engine.get("a") == b"5"
    engine.put("b", b"1", INF)
    engine.put("b", b"2", KEEP_DEADLINE)
    assert engine.deadline("b") == INF


def test_keep_gives_a_new_entry_the_stores_default(store: Store) -> None:
    engine = store.engine(ttl=30)
    assert engine.settings == Settings(ttl=30)
    now = store.clock.now()
    engine.put("put", b"1", KEEP_DEADLINE)
    engine.put_many({"put_many": b"1"}, KEEP_DEADLINE)
    engine.setdefault("setdefault", b"1", KEEP_DEADLINE)
    engine.incr("incr", 1, 0, KEEP_DEADLINE)
    assert {engine.deadline(key) for page in engine.keys() for key in page} == {now + 30}


def test_a_write_with_a_time_to_live_sets_another_deadline(engine: Engine, store: Store) -> None:
    engine.put("a", b"1", 5)
    engine.put("a", b"1", 50)
    store.clock.wait(10)
    assert engine.deadline("a") == store.clock.now() + 40
    engine.incr("a", 1, 0, 7)
    assert engine.deadline("a") == store.clock.now() + 7
    engine.put("a", b"1", INF)
    store.clock.wait(1000)
    assert engine.get("a") == b"1"


def test_expire_changes_the_deadline_alone(engine: Engine, store: Store) -> None:
    engine.put_many({"a": b"1", "b": b"2"}, INF)
    assert engine.expire("a", 10) is True
    assert engine.deadline("a") == store.clock.now() + 10
    assert content(engine) == [("a", b"1"), ("b", b"2")]
    assert engine.expire("a", INF) is True
    store.clock.wait(100)
    assert content(engine) == [("a", b"1"), ("b", b"2")]


def test_next_deadline_is_never_later_than_the_first(local: Store) -> None:
    engine, store = local.engine(), local
    engine.put("late", b"1", 100)
    engine.put("soon", b"1", 10)
    assert engine.next_deadline <= store.clock.now() + 10
    store.clock.wait(10)
    assert len(engine) == 1
    assert store.clock.now() < engine.next_deadline <= store.clock.now() + 90


def test_expiring_finds_what_expires_soon(engine: Engine) -> None:
    for seconds in (5, 50, 500, 20, 7):
        engine.put(f"in {seconds}", b"%d" % seconds, seconds)
    engine.put("never", b"0", INF)
    engine.put("in 5", b"1", 1000)  # another deadline than at first
    engine.put("in 500", b"2", 1)
    engine.put("in 7", b"3", 7)  # the same again
    assert engine.expiring(30) == {"in 20": b"20", "in 500": b"2", "in 7": b"3"}
    assert engine.expiring(0) == {}


def test_many_deadlines_of_one_key(engine: Engine, store: Store) -> None:
    for number in range(5000):
        engine.put("session", b"%d" % number, 1000)
        store.clock.wait(0.01)
    assert len(engine) == 1
    store.clock.wait(990)
    assert engine.get("session") == b"4999"
    store.clock.wait(11)
    assert len(engine) == 0


def test_purge_counts_what_has_expired_since_it_was_last_called(
    engine: Engine, store: Store
) -> None:
    assert engine.purge() == 0
    for number in range(20):
        engine.put(number, b"1", 5 + number % 2)
    engine.put("stays", b"1", INF)
    store.clock.wait(5)
    assert len(engine) == 11
    assert engine.purge() == 10
    assert engine.purge() == 0
    store.clock.wait(1)
    assert engine.purge() == 10
    assert content(engine) == [("stays", b"1")]


def test_a_deadline_of_a_commit_that_has_passed_leaves_no_entry(
    engine: Engine, store: Store
) -> None:
    engine.put_many({"over": b"1", "kept": b"1"}, INF)
    changes = Changes()
    now = store.clock.now()
    changes.written["over"] = b"2", now + 1
    changes.written["fresh"] = b"2", now + 1
    changes.written["later"] = b"2", now + 5
    store.clock.wait(1)
    commit(engine, changes)
    assert content(engine) == [("kept", b"1"), ("later", b"2")]
    store.clock.wait(4)
    assert content(engine) == [("kept", b"1")]
    assert engine.next_deadline == INF


def test_what_has_expired_makes_no_iteration_fail(engine: Engine, store: Store) -> None:
    for number in range(1000):
        engine.put(number, b"1", 5 if number % 2 else 500)
    pages = engine.keys()
    first = next(pages)
    store.clock.wait(5)
    assert len(engine) == 500
    rest = [key for page in pages for key in page]
    assert first + rest == [*first, *[n for n in range(len(first), 1000) if n % 2 == 0]]
