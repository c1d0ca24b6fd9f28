"""The contract of an engine: after close() every operation raises; and what care it takes before."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stores import Store
from test_contract_entries import content

import kvmap
from kvmap.engine import INF, KEEP_DEADLINE, Changes, Engine, Seen
from kvmap.settings import Settings

READS: dict[str, Callable[[Engine], Any]] = {
    "get": lambda e: e.get("a"),
    "get, absent": lambda e: e.get("absent"),
    "get_many": lambda e: e.get_many(["a"]),
    "contains": lambda e: "a" in e,
    "len": len,
    "keys": lambda e: list(e.keys()),
    "items": lambda e: list(e.items(reverse=True)),
    "deadline": lambda e: e.deadline("a"),
    "expiring": lambda e: e.expiring(60),
    "stats": lambda e: e.stats(),
    "load": lambda e: e.load(),
    "refresh": lambda e: e.refresh(),
    "state": lambda e: e.state(),
}
WRITES: dict[str, Callable[[Engine], Any]] = {
    "put": lambda e: e.put("a", b"2", INF),
    "put_many": lambda e: e.put_many({"a": b"2"}, INF),
    "setdefault": lambda e: e.setdefault("new", b"2", INF),
    "incr": lambda e: e.incr("a", 1, 0, KEEP_DEADLINE),
    "expire": lambda e: e.expire("a", 5),
    "pop": lambda e: e.pop("a"),
    "popitem": lambda e: e.popitem(),
    "popitem, the oldest": lambda e: e.popitem(last=False),
    "delete": lambda e: e.delete("a"),
    "delete_many": lambda e: e.delete_many(["a"]),
    "clear": lambda e: e.clear(),
    "purge": lambda e: e.purge(),
    "hold": lambda e: e.hold(object()),
    "configure": lambda e: e.configure(Settings(ttl=5)),
}


@pytest.mark.parametrize("use", [*READS, *WRITES, "commit", "sync", "compact"])
def test_every_operation_of_a_closed_engine_raises(engine: Engine, use: str) -> None:
    engine.put("a", b"1", 600)
    holder = object()
    engine.hold(holder)
    engine.close()
    assert engine.closed is True
    care = {"commit": commit, "sync": lambda e: e.sync(), "compact": lambda e: e.compact()}
    calls = {**READS, **WRITES, **care}
    with pytest.raises(kvmap.StoreClosedError, match="closed"):
        calls[use](engine)
    engine.release(holder)  # harmless


def commit(engine: Engine) -> None:
    engine.commit(Changes(), Seen())


def test_closing_twice_is_harmless(engine: Engine) -> None:
    engine.put("a", b"1", INF)
    engine.close()
    engine.close()
    assert engine.closed is True


def test_the_name_outlives_the_engine(engine: Engine) -> None:
    name = engine.name
    assert name
    engine.close()
    assert engine.name == name


@pytest.mark.parametrize("use", WRITES)
def test_a_read_only_engine_refuses_every_write(kept: Store, use: str) -> None:
    with kept.open() as d:
        d["a"] = 1
    engine = kept.engine(flag="r")
    with pytest.raises(kvmap.ReadOnlyError):
        WRITES[use](engine)
    assert content(engine) == [("a", b"1")]
    for name, read in READS.items():
        assert read(engine) is not NotImplemented, name


def test_a_sync_returns_and_compaction_changes_no_entry(engine: Engine) -> None:
    for number in range(50):
        engine.put(number % 7, b"%d" % number, INF)
    before = content(engine)
    engine.sync()
    engine.compact()
    engine.load()
    engine.refresh()
    assert content(engine) == before
    engine.put("after", b"1", INF)
    assert len(engine) == 8


def test_stats_count_entries_and_their_bytes(engine: Engine) -> None:
    engine.put_many({"a": b"1", "b": b'"xyz"'}, INF)
    engine.put("b", b'"xy"', INF)
    found = engine.stats()
    assert found.entries == 2
    assert found.value_bytes == 5
    assert found.live_bytes >= 5


def test_a_backup_is_another_store_or_refused(store: Store, tmp_path: Path) -> None:
    engine = store.engine()
    engine.put_many({"a": b"1", "b": b"2"}, INF)
    if engine.path is None:
        with pytest.raises(io.UnsupportedOperation):
            engine.backup(tmp_path / "copy")
        return
    engine.backup(store.folder / "copy")
    engine.put("c", b"3", INF)
    assert content(store.engine("copy")) == [("a", b"1"), ("b", b"2")]


def test_an_error_for_a_damaged_text_names_the_key(engine: Engine) -> None:
    engine.put("ada", b"1", INF)
    error = engine.damaged("ada", "not JSON")
    assert isinstance(error, ValueError)
    assert "not JSON" in str(error)


def test_a_closed_map_raises_for_every_use(store: Store) -> None:
    d = store.open()
    d["a"] = 1
    views = (d.keys(), d.values(), d.items())
    d.close()
    d.close()
    assert d.closed
    for use in (
        lambda: d["a"],
        lambda: d.__enter__(),
        lambda: d.__setitem__("a", 1),
        lambda: d.transaction().__enter__(),
        lambda: d.edit("a").__enter__(),
        lambda: d.update({}),
        lambda: list(d.scan("a")),
        lambda: d.get_many([]),
        lambda: d.incr("n"),
        *[lambda view=view: list(view) for view in views],
        *[lambda view=view: len(view) for view in views],
    ):
        with pytest.raises(kvmap.StoreClosedError):
            use()
