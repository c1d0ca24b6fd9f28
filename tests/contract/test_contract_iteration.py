"""The contract of an engine: pages of keys and items, and what others write meanwhile."""

from collections.abc import Callable
from typing import Any

import pytest
from stores import Store
from test_contract_batches import changed, commit
from test_contract_entries import content

import kvmap
from kvmap.engine import INF, Engine

SIZE = 1200
"""More than an engine puts on one page."""


@pytest.fixture
def engine(engine: Engine) -> Engine:
    engine.put_many({number: b"%d" % number for number in range(SIZE)}, INF)
    return engine


def test_pages_hold_all_entries_and_none_is_very_large(engine: Engine) -> None:
    for reverse in (False, True):
        numbers = list(range(SIZE))[:: -1 if reverse else 1]
        keys, items = [], []
        for page in engine.keys(reverse=reverse):
            assert len(page) < SIZE
            keys += page
        for page, texts in engine.items(reverse=reverse):
            assert len(page) < SIZE
            items += zip(page, texts, strict=True)
        assert keys == numbers
        assert items == [(number, b"%d" % number) for number in numbers]


def test_two_iterations_side_by_side(engine: Engine) -> None:
    one, other = engine.keys(), engine.items(reverse=True)
    found = list(zip(one, other, strict=False))
    assert found
    assert found[0][0][0] == 0
    assert found[0][1][0][0] == SIZE - 1


RESIZES: dict[str, Callable[[Engine], Any]] = {
    "put": lambda e: e.put("new", b"1", INF),
    "put_many": lambda e: e.put_many({0: b"9", "new": b"1"}, INF),
    "setdefault": lambda e: e.setdefault("new", b"1", INF),
    "delete": lambda e: e.delete(SIZE - 1),
    "pop": lambda e: e.pop(0),
    "popitem": lambda e: e.popitem(),
    "popitem, the oldest": lambda e: e.popitem(last=False),
    "delete_many": lambda e: e.delete_many([1, 2]),
    "clear": lambda e: e.clear(),
    "commit": lambda e: commit(e, changed("", new=b"1")),
}


@pytest.mark.parametrize("iterate", [Engine.keys, Engine.items], ids=["keys", "items"])
@pytest.mark.parametrize("resize", RESIZES)
def test_an_insertion_or_deletion_ends_a_local_iteration(
    local: Store, resize: str, iterate: Any
) -> None:
    engine = local.engine()
    engine.put_many({number: b"%d" % number for number in range(SIZE)}, INF)
    for after in (0, 1):
        pages = getattr(engine, iterate.__name__)()
        for _ in range(after):
            next(pages)
        before = engine.net_size
        RESIZES[resize](engine)
        assert engine.net_size != before
        with pytest.raises(RuntimeError, match="changed size during iteration"):
            next(pages)
        engine.clear()
        engine.put_many({number: b"%d" % number for number in range(SIZE)}, INF)


def test_an_overwrite_does_not_end_a_local_iteration(local: Store) -> None:
    engine = local.engine()
    engine.put_many({number: b"%d" % number for number in range(SIZE)}, INF)
    pages = engine.items()
    next(pages)
    version, size = engine.version, engine.net_size
    engine.put_many(dict.fromkeys(range(SIZE), b"-1"), INF)
    engine.put(SIZE - 1, b"-2", 60)
    engine.expire(0, 60)
    assert engine.version > version
    assert engine.net_size == size
    texts = [text for _, texts in pages for text in texts]
    assert texts == [b"-1"] * (len(texts) - 1) + [b"-2"]


def test_every_write_changes_a_local_version(local: Store) -> None:
    engine = local.engine()
    writes: list[Callable[[], Any]] = [
        lambda: engine.put("a", b"1", INF),
        lambda: engine.put("a", b"1", INF),
        lambda: engine.put_many({"b": b"1", "c": b"2"}, INF),
        lambda: engine.setdefault("d", b"1", INF),
        lambda: engine.incr("a", 1, 0, INF),
        lambda: engine.expire("a", 60),
        lambda: engine.pop("a"),
        lambda: engine.delete("b"),
        lambda: engine.popitem(),
        lambda: engine.delete_many(["c"]),
        lambda: engine.put("a", b"1", INF),
        lambda: commit(engine, changed("", a=b"2")),
        lambda: engine.clear(),
    ]
    for number, write in enumerate(writes):
        before = engine.version
        write()
        assert engine.version > before, number
    before = engine.version
    engine.get("a"), len(engine), content(engine), engine.pop("absent")
    engine.setdefault("absent", b"1", INF), engine.delete_many(["absent"])
    assert engine.version >= before


def test_a_size_that_is_the_same_again_is_another_state(local: Store) -> None:
    engine = local.engine()
    engine.put_many(dict.fromkeys(range(SIZE), b"1"), INF)
    size = engine.net_size
    engine.put("new", b"1", INF)
    engine.delete("new")
    assert engine.net_size == size, "an iteration goes on, as a dict's does"


def test_an_iterator_of_a_closed_engine_says_so(local: Store) -> None:
    for number, iterate in enumerate(("keys", "items")):
        engine = local.engine(f"store {number}")
        engine.put_many(dict.fromkeys(range(SIZE), b"1"), INF)
        pages = getattr(engine, iterate)()
        next(pages)
        version = engine.version
        engine.close()
        assert engine.version > version
        with pytest.raises(kvmap.StoreClosedError):
            next(pages)


def test_values_that_are_far_larger_than_those_before(local: Store) -> None:
    with local.open() as d:
        d.update({f"key {n}": ["old", "x" * (100_000 if n > 40 else 10)] for n in range(100)})
        seen = []
        for number, (key, value) in enumerate(d.items()):
            seen.append((key, value[0]))
            if number in (35, 60):
                d.update({f"key {n}": [f"new {number}", ""] for n in range(100)})
        expected = ["old"] * 36 + ["new 35"] * 25 + ["new 60"] * 39
        assert seen == [(f"key {n}", first) for n, first in enumerate(expected)]
