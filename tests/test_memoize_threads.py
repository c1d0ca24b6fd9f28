"""Threads that ask for one memoized result: one computes it, the others wait, and none for ever."""

import contextvars
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import PATIENCE, AnyMap, Work

import kvmap
from kvmap import codecs
from kvmap.memory import MemoryEngine
from kvmap.settings import Settings
from kvmap.wait_graph import GUARD


@pytest.fixture
def d() -> Iterator[AnyMap]:
    with kvmap.open(":memory:") as d:
        yield d


def until_waiting(*works: Work) -> None:
    """Return once each thread blocks in a wait of the threading module."""
    for work in works:
        end = time.monotonic() + PATIENCE
        while not _waits(work):
            assert work.is_alive()
            assert time.monotonic() < end, "it does not wait"
            time.sleep(0.001)


def _waits(work: Work) -> bool:
    frame = sys._current_frames().get(work.ident or 0)
    return frame is not None and frame.f_code.co_filename == threading.__file__


class Gate:
    """A place where the first thread that comes waits until the test lets it pass."""

    def __init__(self) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()
        self.passed = 0

    def __call__(self) -> None:
        self.passed += 1
        self.reached.set()
        while not self._opened.is_set():  # no wait of the threading module: see `until_waiting`
            time.sleep(0.001)

    def await_arrival(self) -> None:
        assert self.reached.wait(PATIENCE)

    def passes(self, times: int) -> bool:
        """Whether so many threads have come, or do so in time."""
        end = time.monotonic() + PATIENCE
        while self.passed < times and time.monotonic() < end:
            time.sleep(0.001)
        return self.passed >= times

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_one_computes_and_the_others_wait(d: AnyMap, gate: Gate) -> None:
    @d.memoize(version=1)
    def f(n: int) -> list[int]:
        gate()
        return [n, gate.passed]

    first = Work(partial(f, 7))
    gate.await_arrival()
    others = [Work(partial(f, 7)) for _ in range(5)]
    until_waiting(*others)
    gate.open()
    results = [each.result() for each in (first, *others)]
    assert results == [[7, 1]] * 6
    assert len(set(map(id, results))) == 6, "a result is the caller's own"
    assert f.cache_info() == (5, 1, 0)


def test_different_keys_are_computed_at_the_same_time(d: AnyMap) -> None:
    together = threading.Barrier(2)

    @d.memoize(version=1)
    def f(n: int) -> int:
        together.wait(PATIENCE)
        return n

    assert [each.result() for each in [Work(partial(f, 1)), Work(partial(f, 2))]] == [1, 2]


def test_an_exception_reaches_all_and_is_not_kept(d: AnyMap, gate: Gate) -> None:
    @d.memoize(version=1)
    def f() -> int:
        gate()
        return 1 // (gate.passed - 1)

    first = Work(f)
    gate.await_arrival()
    other = Work(f)
    until_waiting(other)
    gate.open()
    for each in (first, other):
        with pytest.raises(ZeroDivisionError):
            each.result()
    assert gate.passed == 1
    assert f() == 1, "the next call computes anew"


def test_when_the_one_that_computes_is_interrupted_another_computes(d: AnyMap, gate: Gate) -> None:
    @d.memoize(version=1)
    def f() -> int:
        gate()
        if gate.passed == 1:
            raise KeyboardInterrupt
        return gate.passed

    first = Work(f)
    gate.await_arrival()
    others = [Work(f), Work(f)]
    until_waiting(*others)
    gate.open()
    with pytest.raises(KeyboardInterrupt):
        first.result()
    assert [each.result() for each in others] == [2, 2]


def test_those_that_wait_get_a_result_for_which_there_is_no_room(gate: Gate) -> None:
    with kvmap.open(":memory:", limits=kvmap.Limits(value_bytes=2)) as d:

        @d.memoize(version=1)
        def f() -> list[int]:
            gate()
            return [1, 2, 3]

        first = Work(f)
        gate.await_arrival()
        other = Work(f)
        until_waiting(other)
        gate.open()
        assert first.result() == other.result() == [1, 2, 3]
        assert first.result() is not other.result()
        assert (gate.passed, len(d)) == (1, 0)
        assert f.cache_info() == (1, 1, 1)


def test_a_call_of_itself_with_the_same_key_is_no_deadlock(d: AnyMap) -> None:
    @d.memoize(ignore=["attempt"])
    def fetch(url: str, attempt: int = 0) -> int:
        return fetch(url, attempt + 1) if attempt < 2 else attempt

    assert Work(partial(fetch, "/")).result() == 2
    assert fetch("/") == 2


def test_a_call_of_itself_in_another_context_is_no_deadlock(d: AnyMap) -> None:
    @d.memoize(ignore=["attempt"])
    def fetch(url: str, attempt: int = 0) -> int:
        if attempt == 2:
            return attempt
        return contextvars.Context().run(fetch, url, attempt + 1)

    assert Work(partial(fetch, "/")).result() == 2


def test_what_another_thread_kept_just_before_is_not_computed_again() -> None:
    class Beside(AnyMap):
        """A map in which another thread computes a result right after it was found missing."""

        armed = True
        other: Any = None

        def get(self, key: Any, default: Any = None, /) -> Any:
            found = super().get(key, default)
            if self.armed:
                self.armed = False
                self.other = Work(f)
                self.other.result()
            return found

    with Beside(MemoryEngine(Settings()), codecs.make("json")) as d:
        calls: list[int] = []

        @d.memoize(version=1)
        def f() -> int:
            calls.append(1)
            return len(calls)

        assert f() == 1
        assert d.other.result() == 1
        assert f.cache_info() == (1, 1, 0)


class Circle:
    """Functions that call each other in a circle, each kept under one key."""

    def __init__(self, d: AnyMap, length: int, first: Callable[[], object]) -> None:
        self.kept = [
            d.memoize(key=lambda depth, i=i: f"function {i}")(self._make(i, length))
            for i in range(length)
        ]
        self._first = first
        """Called by each function at the depth it is entered with."""

    def _make(self, i: int, length: int) -> Callable[[int], int]:
        def function(depth: int) -> int:
            if depth == length:
                self._first()
            return 0 if depth == 0 else 1 + self.kept[(i + 1) % length](depth - 1)

        return function


@pytest.mark.parametrize("length", [2, 3, 5])
def test_mutual_recursion_in_several_threads_is_no_deadlock(d: AnyMap, length: int) -> None:
    together = threading.Barrier(length)
    circle = Circle(d, length, lambda: together.wait(PATIENCE))
    threads = [Work(partial(function, length)) for function in circle.kept]
    for each in threads:
        assert each.result() in range(2 * length), "the depth at which its result was computed"
    assert len(d) == length
    assert all(function.cache_info().misses for function in circle.kept)


def test_a_circle_through_a_nested_call_is_no_deadlock(d: AnyMap) -> None:
    """One thread computes a and waits for b; the other, within b, computes c and needs a."""
    both = threading.Barrier(2)

    @d.memoize(key=lambda *_: "a")
    def a(ends: bool = False) -> str:
        if ends:
            return "a"
        both.wait(PATIENCE)
        waits.set()
        return "a" + b()

    @d.memoize(key=lambda: "b")
    def b() -> str:
        both.wait(PATIENCE)
        assert waits.wait(PATIENCE)
        until_waiting(first)
        return "b" + c()

    @d.memoize(key=lambda: "c")
    def c() -> str:
        return "c" + a(True)

    waits = threading.Event()
    first = Work(a)
    second = Work(b)
    assert (second.result(), first.result()) == ("bca", "abca")


def test_threads_that_wait_for_no_circle_wait(d: AnyMap, gate: Gate) -> None:
    """Two threads compute other results, which need the same third one."""

    @d.memoize(key=lambda: "third")
    def third() -> int:
        gate()
        return gate.passed

    @d.memoize(key=lambda n: n)
    def f(n: int) -> list[int]:
        return [n, third()]

    first = Work(partial(f, 1))
    gate.await_arrival()
    second = Work(partial(f, 2))
    until_waiting(second)
    gate.open()
    assert (first.result(), second.result()) == ([1, 1], [2, 1])


def test_a_transaction_does_not_wait_for_a_thread_that_waits_for_it(d: AnyMap, gate: Gate) -> None:
    @d.memoize(version=1)
    def f() -> int:
        if not gate.reached.is_set():
            gate()
        return 1

    other = Work(f)
    gate.await_arrival()
    with d.transaction():  # the other thread can't store its result before this ends
        gate.open()
        assert f() == 1
    assert other.result() == 1
    assert dict(d) == {f.key(): 1}


def test_nobody_waits_for_a_refresh_in_a_transaction(d: AnyMap, gate: Gate) -> None:
    """Its result is not there for others before the transaction ends, and may be undone."""

    @d.memoize(version=1)
    def f() -> int:
        gate()
        return gate.passed

    def refresh() -> int:
        with d.transaction():
            return f.refresh()

    first = Work(refresh)
    gate.await_arrival()
    second = Work(f)
    assert gate.passes(2)
    gate.open()
    assert {first.result(), second.result()} == {2}


def test_a_result_that_was_forgotten_meanwhile_is_not_kept(d: AnyMap, gate: Gate) -> None:
    @d.memoize(version=1)
    def f(n: int) -> int:
        gate()
        return gate.passed

    first = Work(partial(f, 0))
    gate.await_arrival()
    waiting = Work(partial(f, 0))
    until_waiting(waiting)
    assert f.forget(0) is False
    gate.open()
    assert first.result() == waiting.result() == 1
    assert f.key(0) not in d, "what it read may be what changed before forget()"
    assert f(0) == 2
    assert d[f.key(0)] == 2


def test_an_older_computation_does_not_replace_a_refresh(d: AnyMap, gate: Gate) -> None:
    data = ["old"]

    @d.memoize(version=1)
    def f() -> str:
        found = data[0]
        if found == "old":
            gate()
        return found

    older = Work(f)
    gate.await_arrival()
    data[0] = "new"
    assert Work(f.refresh).result() == "new", "a refresh waits for nobody"
    gate.open()
    assert older.result() == "old"
    assert f() == "new"


def test_a_forget_just_before_the_write_leaves_no_result() -> None:
    class Forgetful(AnyMap):
        """A map in which a result is forgotten at the last moment before it is stored."""

        def set(self, key: Any, value: Any, **options: Any) -> None:
            f.forget()
            super().set(key, value, **options)

    with Forgetful(MemoryEngine(Settings()), codecs.make("json")) as d:

        @d.memoize
        def f() -> int:
            return 1

        assert f() == 1
        assert not d


def test_forget_all_beside_writers(d: AnyMap) -> None:
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            d[f"other {n % 100}"] = n
            d.pop(f"other {(n + 50) % 100}", None)
            n += 1

    @d.memoize
    def f(n: int) -> int:
        return n

    writer = Work(write)
    try:
        for _ in range(10):
            for n in range(300):
                f(n)
            assert f.forget_all() == 300
    finally:
        stop.set()
    writer.result()


def test_counts_of_many_threads(d: AnyMap) -> None:
    @d.memoize
    def f(n: int) -> int:
        return n

    def use() -> None:
        for i in range(300):
            f(i % 10)

    for each in [Work(use) for _ in range(8)]:
        each.result()
    assert f.cache_info() == (2390, 10, 0)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_nothing_keeps_arguments_results_or_errors_alive(
    d: AnyMap, error: type[BaseException]
) -> None:
    class Thing:
        """Something that a weak reference can watch."""

    @d.memoize(ignore=["thing"])
    def g(thing: Thing, n: int) -> int:
        return n

    @d.memoize(ignore=["thing", "error"], version=1)
    def f(thing: Thing, n: int, error: type[BaseException] | None = None) -> int:
        if error is not None:
            raise error
        return g(thing, n)

    thing = Thing()
    alive = weakref.ref(thing)
    gc.collect()
    gc.disable()
    try:
        f(thing, 1)
        with suppress(error):
            f(thing, 2, error)
        del thing
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_computes_for_itself(tmp_path: Path, gate: Gate) -> None:
    """The thread that computes is not copied into the child, which must not wait for it."""
    found = tmp_path / "found"
    with kvmap.open(":memory:") as d:

        @d.memoize(version=1)
        def f() -> int:
            if not gate.reached.is_set():
                gate()
            return 7

        def hold() -> None:
            with GUARD:
                held.set()
                time.sleep(0.02)

        held = threading.Event()
        other = Work(f)
        gate.await_arrival()
        holder = Work(hold)  # a lock that another thread holds would stay held in the child
        assert held.wait(PATIENCE)
        child = os.fork()
        if child == 0:
            try:
                found.write_text(str(f()))
            finally:
                os._exit(0)
        end = time.monotonic() + PATIENCE
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(child, 9)
                os.waitpid(child, 0)
                raise AssertionError("the child waits for ever")
            time.sleep(0.005)
        gate.open()
        holder.result()
        assert other.result() == 7
        assert found.read_text() == "7"
