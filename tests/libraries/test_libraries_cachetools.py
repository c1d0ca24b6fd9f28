"""cachetools keeps results in a map, as in any mutable mapping."""

import threading

import pytest
from helpers import AnyMap, Library, run_together

cachetools = Library("cachetools")


def test_cached(d: AnyMap) -> None:
    calls = []

    @cachetools.cached(cache=d, key=lambda n: f"square:{n}")
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    assert [square(3), square(3), square(4)] == [9, 9, 16]
    assert calls == [3, 4]
    assert d == {"square:3": 9, "square:4": 16}


def test_cached_with_the_librarys_own_keys(d: AnyMap) -> None:
    calls = []

    @cachetools.cached(d)
    def area(width: int, height: int) -> int:
        calls.append(width)
        return width * height

    assert [area(2, 3), area(2, 3)] == [6, 6]
    assert calls == [2]
    assert d == {(2, 3): 6}
    with pytest.raises(TypeError, match="can.t be a key"):
        area(2, height=3)  # its keys for keyword arguments hold an object
    assert d == {(2, 3): 6}


def test_cached_from_threads_with_a_lock(d: AnyMap) -> None:
    calls = []

    @cachetools.cached(d, key=str, lock=threading.Lock())
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    run_together(*[lambda n=n: square(n % 5) for n in range(20)])  # type: ignore[misc]
    assert d == {str(n): n * n for n in range(5)}
    assert set(calls) == set(range(5))


def test_cachedmethod(d: AnyMap) -> None:
    class Squares:
        calls = 0

        @cachetools.cachedmethod(lambda self: d, key=lambda self, n: str(n))
        def of(self, n: int) -> int:
            self.calls += 1
            return n * n

    squares = Squares()
    assert [squares.of(3), squares.of(3)] == [9, 9]
    assert squares.calls == 1
    assert d == {"3": 9}
