"""The contract of an engine: a write beyond the store's bounds raises and changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from stores import Store
from test_contract_batches import changed, commit
from test_contract_entries import content

import kvmap
from kvmap import LimitError, Limits
from kvmap.engine import INF, KEEP_DEADLINE, Engine
from kvmap.settings import Settings

INSERTS: dict[str, Callable[[Engine], Any]] = {
    "put": lambda e: e.put("new", b"1", INF),
    "put_many": lambda e: e.put_many({"a": b"9", "new": b"1"}, INF),
    "setdefault": lambda e: e.setdefault("new", b"1", INF),
    "incr": lambda e: e.incr("new", 1, 0, KEEP_DEADLINE),
    "commit": lambda e: commit(e, changed("", a=b"9", new=b"1")),
    "a commit that makes too little room": lambda e: commit(e, changed("b", x=b"1", y=b"1")),
}


@pytest.mark.parametrize("insert", INSERTS)
def test_no_more_entries_than_the_limit(store: Store, insert: str) -> None:
    engine = store.engine(limits=Limits(entries=3))
    engine.put_many({"a": b"1", "b": b"2", "c": b"3"}, INF)
    before = content(engine)
    with pytest.raises(LimitError, match="entries"):
        INSERTS[insert](engine)
    assert content(engine) == before
    assert len(engine) == 3


@pytest.mark.parametrize("insert", INSERTS)
def test_no_more_bytes_than_the_limit(store: Store, insert: str) -> None:
    engine = store.engine(limits=Limits(store_bytes=1_000))
    engine.put_many({"a": b"1", "b": b"2", "c": b"3"}, INF)
    fill(engine)
    before = content(engine)
    with pytest.raises(LimitError, match="bytes"):
        INSERTS[insert](engine)
    assert content(engine) == before


def fill(engine: Engine) -> None:
    """Make one entry as large as the limit allows."""
    size = 1
    for step in (512, 256, 128, 64, 32, 16, 8, 4, 2, 1, 1):
        try:
            engine.put("c", b'"%s"' % (b"x" * (size + step)), INF)
        except LimitError:
            continue
        size += step
    assert 100 < size < 1_000


def test_what_is_there_may_be_overwritten_at_the_bound(store: Store) -> None:
    engine = store.engine(limits=Limits(entries=2))
    engine.put_many({"a": b"1", "b": b"2"}, INF)
    engine.put("a", b"3", INF)
    engine.put_many({"b": b"4", "a": b"5"}, INF)
    engine.incr("a", 1, 0, KEEP_DEADLINE)
    engine.expire("b", 50)
    assert engine.setdefault("b", b"7", INF) == b"4"
    assert content(engine) == [("a", b"6"), ("b", b"4")]


def test_what_is_removed_makes_room(store: Store) -> None:
    engine = store.engine(limits=Limits(entries=2, store_bytes=1_000))
    large = b'"%s"' % (b"x" * 300)
    for _ in range(10):
        engine.put_many({"a": large, "b": large}, INF)
        engine.pop("a")
        engine.put("c", large, INF)
        engine.delete_many(["b"])
        engine.put("d", b"1", INF)
        engine.popitem()
        engine.put("d", b"1", INF)
        engine.clear()
    engine.put_many({"a": large, "b": large}, INF)
    commit(engine, changed("ab", c=large, d=large))
    assert content(engine) == [("c", large), ("d", large)]


def test_what_has_expired_makes_room(store: Store) -> None:
    engine = store.engine(limits=Limits(entries=2, store_bytes=1_000))
    for number in range(5):
        engine.put_many({f"a{number}": b'"%s"' % (b"x" * 200), f"b{number}": b"1"}, 5)
        store.clock.wait(5)
    assert len(engine) == 0


def test_settings_are_those_it_was_opened_with(store: Store) -> None:
    engine = store.engine(limits=Limits(entries=2, key_chars=9), ttl=60)
    assert engine.settings == Settings(limits=Limits(entries=2, key_chars=9), ttl=60)


def test_other_settings_hold_from_now_on(store: Store) -> None:
    engine = store.engine(limits=Limits(entries=1))
    engine.put("a", b"1", INF)
    engine.configure(Settings(limits=Limits(entries=2), ttl=60))
    assert engine.settings == Settings(limits=Limits(entries=2), ttl=60)
    engine.put("b", b"1", INF)
    with pytest.raises(LimitError):
        engine.put("c", b"1", INF)
    engine.configure(Settings(limits=Limits(entries=1)))
    assert len(engine) == 2, "nothing is lost to a tighter bound"
    with pytest.raises(LimitError):
        engine.put("c", b"1", INF)
    engine.delete("a")
    engine.put("b", b"2", INF)


@pytest.mark.parametrize("evict", ["oldest", "sieve"])
def test_with_eviction_the_newest_write_stays(local: Store, evict: str) -> None:
    engine = local.engine(limits=Limits(entries=50), evict=evict)
    for number in range(200):
        engine.put(number, b"%d" % number, INF)
        assert len(engine) <= 50
        assert engine.get(number) == b"%d" % number
    assert engine.stats().counts.evictions >= 150


def test_a_limit_of_one_entry_is_the_faces(store: Store) -> None:
    with store.open(limits=Limits(key_chars=3, value_bytes=10)) as d:
        d["abc"] = "x" * 8
        for key, value in (("abcd", 1), ("a", "x" * 9)):
            for write in (
                lambda: d.__setitem__(key, value),
                lambda: d.update({"ok": 1, key: value}),
                lambda: d.setdefault(key, value),
            ):
                with pytest.raises(kvmap.LimitError):
                    write()
        assert dict(d) == {"abc": "x" * 8}
