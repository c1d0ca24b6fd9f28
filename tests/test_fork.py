"""A forked child can't use the parent's map and harms nothing; the parent goes on.

A map in memory is the child's own from the fork on, as a dict is.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import AnyMap, Work, files_of
from stores import Store

import kvmap

USES: dict[str, Callable[[AnyMap], object]] = {
    "get": lambda d: d["a"],
    "get with default": lambda d: d.get("absent", 0),
    "contains": lambda d: "a" in d,
    "len": len,
    "iter": list,
    "items": lambda d: list(d.items()),
    "reversed": lambda d: list(reversed(d)),
    "set": lambda d: d.__setitem__("a", 2),
    "set with ttl": lambda d: d.set("a", 2, ttl=1),
    "create": lambda d: d.create("new", 2),
    "delete": lambda d: d.__delitem__("a"),
    "pop": lambda d: d.pop("a"),
    "popitem": lambda d: d.popitem(),
    "setdefault": lambda d: d.setdefault("new", 1),
    "update": lambda d: d.update(a=2),
    "clear": lambda d: d.clear(),
    "expire": lambda d: d.expire("a", 1),
    "ttl": lambda d: d.ttl("a"),
    "purge": lambda d: d.purge(),
    "compact": lambda d: d.compact(),
    "sync": lambda d: d.sync(),
    "stats": lambda d: d.stats(),
    "transaction": lambda d: d.transaction().__enter__(),
    "edit": lambda d: d.edit("a").__enter__(),
    "with": lambda d: d.__enter__(),
    "get_many": lambda d: d.get_many(["a"]),
    "set_many": lambda d: d.set_many({"a": 2}),
    "delete_many": lambda d: d.delete_many(["a"]),
    "incr": lambda d: d.incr("a"),
    "configure": lambda d: d.configure(ttl=5),
}


def not_refused(d: AnyMap) -> list[str]:
    """The uses that do not raise StoreClosedError."""
    wrong = []
    for name, use in USES.items():
        try:
            use(d)
        except kvmap.StoreClosedError as error:
            if "forked" not in str(error):
                wrong.append(f"{name}: {error}")
        except BaseException as error:
            wrong.append(f"{name}: {error!r}")
        else:
            wrong.append(name)
    return wrong


def forked(work: Callable[[], object]) -> list[Any]:
    """What `work` returns in a forked child that ends as a Python process does."""
    context: Any = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send(work()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a fork beside threads
        child.start()
    theirs.close()
    found = ours.recv() if ours.poll(20) else "the child hangs"
    ours.close()
    child.join(20)
    assert child.exitcode == 0
    return [found]


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "not loaded"])
@pytest.mark.parametrize("inside", [True, False], ids=["in a transaction", "outside"])
def test_every_use_in_the_child_is_refused(kept: Store, loaded: bool, inside: bool) -> None:
    with kept.open() as d:
        d.update(a=1, b=2)
    with kept.open() as d:
        if loaded:
            assert len(d) == 2
        if inside:
            with d.transaction():
                d["c"] = 3
                assert forked(lambda: not_refused(d)) == [[]]
                d["d"] = 4
        else:
            d.update(c=3, d=4)
            assert forked(lambda: not_refused(d)) == [[]]
        assert dict(d) == {"a": 1, "b": 2, "c": 3, "d": 4}
        kept.check(d)
    with kept.open() as d:
        assert dict(d) == {"a": 1, "b": 2, "c": 3, "d": 4}


@pytest.mark.parametrize("iterator", [iter, lambda d: iter(d.items()), reversed])
def test_an_iterator_under_way_ends_in_the_child(
    kept: Store, iterator: Callable[[Any], Any]
) -> None:
    def goes_on() -> str:
        try:
            list(under_way)
        except (kvmap.StoreClosedError, RuntimeError) as error:
            return type(error).__name__
        return "went on"

    with kept.open() as d:
        d.update(a=1, b=2, c=3)
        under_way = iterator(d)
        next(under_way)
        assert forked(goes_on) != ["went on"]
        assert len(list(under_way)) == 2


def test_no_end_of_a_child_touches_the_store(kept: Store) -> None:
    def closes() -> bool:
        d.close()
        d.__exit__(None, None, None)
        return d.closed

    with kept.open() as d:
        d.update(a=1, b=2)
        path = d.path
        before = files_of(path)
        assert forked(closes) == [True]
        assert forked(lambda: None) == [None]  # closed at exit
        assert files_of(path) == before
        with pytest.raises(kvmap.StoreLockedError):
            kept.open()
        assert forked(lambda: d.closed) == [True]
        d["c"] = 3
        kept.check(d)
    with kept.open() as d:
        assert dict(d) == {"a": 1, "b": 2, "c": 3}


def test_the_child_opens_the_store_once_the_parent_let_go(kept: Store) -> None:
    d = kept.open()
    d["a"] = 1

    def is_locked() -> str:
        try:
            kept.open().close()
        except kvmap.StoreLockedError:
            return "locked"
        return "free"

    def opens() -> dict[Any, Any]:
        with kept.open() as again:
            again["child"] = os.getpid()
            return again.copy()

    assert forked(is_locked) == ["locked"]
    d.close()
    (found,) = forked(opens)
    with kept.open() as d:
        assert dict(d) == found
        assert list(d) == ["a", "child"]


def test_forks_while_other_threads_write(kept: Store) -> None:
    stop = threading.Event()
    written = [0] * 3

    def writes(number: int) -> None:
        while not stop.is_set():
            written[number] += 1
            with d.transaction():
                d[f"thread {number}"] = written[number]
                d["last"] = number

    with kept.open() as d:
        threads = [threading.Thread(target=writes, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                assert forked(lambda: not_refused(d)) == [[]]
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert [d[f"thread {number}"] for number in range(3)] == written
        kept.check(d)


def opens_elsewhere(path: Path, key: str, parent: int) -> str:
    """What a worker process does; at the top level, so that spawn finds it."""
    assert os.getpid() != parent
    try:
        with kvmap.open(path, timeout=30) as d:
            d[key] = d.get(key, 0) + 1
            d["count"] = d.get("count", 0) + 1
    except kvmap.StoreLockedError:
        return "locked"
    return "done"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.disk
def test_workers_of_multiprocessing_take_turns(path: Path, method: str) -> None:
    with kvmap.open(path) as d:
        d["count"] = 0
        context: Any = multiprocessing.get_context(method)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pool = context.Pool(3)
        with pool:
            works = [
                pool.apply_async(opens_elsewhere, (path, f"key {i % 3}", os.getpid()))
                for i in range(9)
            ]
            d["parent"] = 1  # while they wait
            d.close()
            assert [each.get(60) for each in works] == ["done"] * 9
            pool.close()
            pool.join()
    with kvmap.open(path) as d:
        assert sorted(d.items()) == [
            ("count", 9),
            ("key 0", 3),
            ("key 1", 3),
            ("key 2", 3),
            ("parent", 1),
        ]


def test_a_map_is_not_sent_to_a_worker(store: Store) -> None:
    context: Any = multiprocessing.get_context("spawn")
    with store.open() as d, pytest.raises(TypeError, match="pickled"):
        context.Process(target=len, args=(d,)).start()


def test_a_map_in_memory_is_the_childs_own() -> None:
    def uses() -> tuple[Any, ...]:
        d["child"] = 1
        with d.transaction():
            d["a"] += 1
        with d.edit("list") as some:
            some.append(2)
        return d.copy(), d.incr("n"), d.in_block, d.closed

    with kvmap.open(":memory:") as d:
        d.update(a=1, list=[1])
        expected = ({"a": 2, "list": [1, 2], "child": 1}, 1, False, False)
        assert forked(uses) == [expected]
        with d.transaction():
            d["undone"] = 1
            assert forked(uses) == [expected], "none of the parent's threads is in the child"
        assert d.copy() == {"a": 1, "list": [1], "undone": 1}


def test_a_child_forked_while_another_thread_writes_in_memory_does_not_hang() -> None:
    stop = threading.Event()

    def writes() -> None:
        while not stop.is_set():
            with d.transaction():
                d.incr("n")
            d.update(dict.fromkeys("abc", 1))

    with kvmap.open(":memory:") as d:
        works = [Work(writes) for _ in range(3)]
        try:
            for _ in range(10):
                assert forked(lambda: d.incr("m")) == [1]
        finally:
            stop.set()
            for work in works:
                work.result()
        assert "m" not in d
