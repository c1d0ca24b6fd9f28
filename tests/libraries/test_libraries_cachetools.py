"""cachetools keeps results in any mutable mapping."""

import pytest
from helpers import AnyMap

cachetools = pytest.importorskip("cachetools")


def test_cached(d: AnyMap) -> None:
    calls = []

    @cachetools.cached(cache=d, key=lambda n: f"square:{n}")
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    assert [square(3), square(3)] == [9, 9]
    assert calls == [3]
    assert d == {"square:3": 9}


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
