"""`@d.memoize()`: computed once, kept under a readable key, forgotten by ttl or by hand."""

import dataclasses
import enum
import functools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from disk import Unsynced
from helpers import Clock
from invariants import check

import kvmap


@pytest.fixture
def clock() -> Unsynced:
    return Unsynced()


@pytest.fixture
def d(path: Path, clock: Clock) -> Iterator[kvmap.KVMap[Any]]:
    with kvmap.open(path, shards=2, files=clock) as d:
        yield d
        check(d)


class Counted:
    """A function that tells how often it was called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> list[Any]:
        self.calls.append((args, kwargs))
        return [*args, *kwargs.items()]


@pytest.fixture
def counted() -> Counted:
    return Counted()


def arguments(key: str) -> str:
    """What a key tells of the arguments."""
    return key[key.index("(") :]


def test_computed_once_and_kept_under_a_readable_key(d: kvmap.KVMap[Any], counted: Counted) -> None:
    @d.memoize()
    def forecast(city: str, days: int = 3) -> list[Any]:
        """What the weather will be."""
        return counted(city, days)

    assert forecast("Rome") == forecast("Rome") == ["Rome", 3]
    assert len(counted.calls) == 1
    (key,) = d
    assert key == f"{__name__}.{forecast.__qualname__}(city='Rome', days=3)"
    assert key == forecast.key("Rome")
    assert d[key] == ["Rome", 3]
    assert forecast.__doc__ == "What the weather will be."
    assert forecast.__name__ == "forecast"
    assert forecast.__wrapped__("Rome") == ["Rome", 3]
    assert len(counted.calls) == 2, "past the map"
    assert "forecast" in repr(forecast)


def test_one_call_in_all_ways_to_write_it_is_one_entry(
    d: kvmap.KVMap[Any], counted: Counted
) -> None:
    @d.memoize()
    def call(a: int, /, b: int, c: int = 3, *rest: int, e: int = 5, **more: int) -> list[Any]:
        return counted(a, b, c, *rest, e=e, **more)

    for same in (call(1, 2), call(1, b=2), call(1, c=3, b=2), call(1, 2, 3, e=5)):
        assert same == [1, 2, 3, ["e", 5]]
    assert len(counted.calls) == 1
    assert arguments(call.key(1, 2)) == "(a=1, b=2, c=3, rest=(), e=5, more={})"
    others = [call.key(1, 2, 3, 4), call.key(1, 2, e=6), call.key(1, 2, f=7), call.key(2, 1)]
    assert len({*others, call.key(1, 2)}) == 5
    for wrong in (lambda: call(), lambda: call(a=1, b=2), lambda: call(1, 2, b=2)):
        with pytest.raises(TypeError, match="argument|positional"):
            wrong()
    assert len(d) == 1


class Size(enum.Enum):
    SMALL = 1


class Weight(enum.Enum):
    SMALL = 1


@dataclasses.dataclass(frozen=True)
class Query:
    text: str
    tags: frozenset[str] = frozenset()
    trace: str = dataclasses.field(default="", compare=False)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *(("a", "'a'"), ("1", "'1'"), (1, "1"), (1.0, "1.0"), (True, "True"), (None, "None")),
        *((b"a", "b'a'"), ((1,), "(1,)"), ((), "()"), ([1], "[1]"), ({"a": [1]}, "{'a': [1]}")),
        *(({"b", "a"}, "set([\"'a'\", \"'b'\"])"), (date(2020, 1, 2), "datetime.date(2020, 1, 2)")),
        *(
            (Decimal("1.10"), "Decimal('1.10')"),
            (Size.SMALL, "Size(1)"),
            (Weight.SMALL, "Weight(1)"),
        ),
        (Query("x", frozenset("a"), "t"), "Query(text='x', tags=frozenset([\"'a'\"]))"),
        *((Path("a"), "PosixPath('a')"), (len, "builtins.len"), (int, "builtins.int")),
    ],
    ids=repr,
)
def test_what_a_key_tells_of_an_argument(d: kvmap.KVMap[Any], value: Any, told: str) -> None:
    @d.memoize()
    def show(x: Any) -> None:
        """Nothing."""

    assert arguments(show.key(value)) == f"(x={told})"


def test_arguments_that_differ_have_keys_that_differ(d: kvmap.KVMap[Any]) -> None:
    @d.memoize()
    def f(x: Any, y: Any = 0) -> Any:
        return repr((x, y))

    calls: list[tuple[Any, ...]] = [
        *((1,), (1.0,), (True,), ("1",), ("1, y=0",), (1, 2), ("1, y=2",), (Size.SMALL,)),
        *((Weight.SMALL,), ((1,),), ([1],), ({1},), (frozenset({1}),), ("(1,)",), (b"1",)),
        *(("x" * 1000,), ("x" * 1001,), ("x" * 1000, 1), (["x" * 1000],)),
    ]
    for _ in range(2):
        for call in calls:
            assert f(*call) == f.__wrapped__(*call)
    assert len(d) == len(calls)
    assert max(map(len, d)) < 700, "a key of long arguments ends in their digest"


@pytest.mark.parametrize("value", [object(), iter([]), [lambda: 0], {"a": threading.Lock()}])
def test_an_argument_that_cannot_be_told_is_refused_by_its_name(
    d: kvmap.KVMap[Any], counted: Counted, value: Any
) -> None:
    @d.memoize()
    def f(x: Any) -> Any:
        return counted(x)

    for call in (f, f.key, f.forget):
        with pytest.raises(TypeError, match=r"^argument x.*ignore=.*key="):
            call(value)
    assert not counted.calls
    assert not d


def test_a_result_lives_for_its_ttl(d: kvmap.KVMap[Any], clock: Clock, counted: Counted) -> None:
    @d.memoize(ttl=timedelta(minutes=1))
    def f(n: int) -> list[Any]:
        return counted(n)

    f(1)
    assert d.ttl(f.key(1)) == 60
    clock.wait(59)
    f(1)
    assert d.ttl(f.key(1)) == 1, "a read does not prolong it"
    clock.wait(1)
    f(1)
    assert len(counted.calls) == 2
    for wrong, error in [(0, ValueError), ("60", TypeError), (float("nan"), ValueError)]:
        with pytest.raises(error, match="ttl"):
            d.memoize(ttl=wrong)  # type: ignore[arg-type]


def test_without_a_ttl_the_stores_default_counts(path: Path, clock: Clock) -> None:
    with kvmap.open(path, ttl=30, files=clock) as d:

        @d.memoize()
        def default() -> int:
            return 1

        @d.memoize(ttl=None)
        def stays() -> int:
            return 2

        default(), stays()
        assert d.ttl(default.key()) == 30
        assert d.ttl(stays.key()) is None


@pytest.mark.parametrize("result", [None, False, 0, "", [], {}])
def test_a_result_that_is_false_is_a_result(
    d: kvmap.KVMap[Any], counted: Counted, result: Any
) -> None:
    @d.memoize()
    def f() -> Any:
        counted()
        return result

    assert f() == f() == result
    assert len(counted.calls) == 1


def test_the_first_call_returns_what_later_ones_do(d: kvmap.KVMap[Any]) -> None:
    made = {"tags": (1, 2)}

    @d.memoize()
    def f() -> dict[str, Any]:
        return made

    first = f()
    assert first == f() == {"tags": [1, 2]}
    first["tags"].append("lost")
    assert f() == {"tags": [1, 2]}, "a result is the caller's own"
    assert made == {"tags": (1, 2)}


def test_an_exception_is_not_kept(d: kvmap.KVMap[Any]) -> None:
    answers: list[Any] = [ZeroDivisionError("once"), KeyError("twice"), 3]

    @d.memoize()
    def f() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(ZeroDivisionError, match="once"):
        f()
    with pytest.raises(KeyError, match="twice"):
        f()
    assert not d
    assert f() == f() == 3


def test_a_result_that_json_cannot_hold_raises_and_says_whose_it_is(
    d: kvmap.KVMap[Any],
) -> None:
    @d.memoize()
    def f(n: int) -> Any:
        return {"found": [{n}]}

    with pytest.raises(TypeError, match=r"^value\['found'\]\[0\]: set is not JSON") as caught:
        f(7)
    assert any("f(n=7)" in note for note in caught.value.__notes__)
    assert not d


def test_forget_drops_one_and_forget_all_all(d: kvmap.KVMap[Any], counted: Counted) -> None:
    @d.memoize()
    def f(n: int) -> list[Any]:
        return counted(n)

    @d.memoize()
    def f_too(n: int) -> int:
        return n

    d["mine"] = 1
    for n in range(5):
        f(n), f_too(n)
    assert f.forget(n=3) is True
    assert f.forget(3) is False
    assert f.key(3) not in d
    assert f(3) == [3]
    assert len(counted.calls) == 6
    assert f.forget_all() == 5
    assert f.forget_all() == 0
    assert [*d] == ["mine", *(f_too.key(n) for n in range(5))]


def test_a_method_is_memoized_without_its_self(path: Path) -> None:
    with kvmap.open(path) as d:

        class Shop:
            calls = 0

            @d.memoize(ignore=("self",))
            def price(self, item: str) -> int:
                Shop.calls += 1
                return len(item)

            @d.memoize()
            def unfit(self) -> int:
                return 1

            @staticmethod
            @d.memoize()
            def tax(n: int) -> int:
                return n // 5

        one, other = Shop(), Shop()
        assert one.price("tea") == other.price(item="tea") == Shop.price(one, "tea") == 3
        assert Shop.calls == 1
        assert arguments(one.price.key("tea")) == "(item='tea')"
        with pytest.raises(TypeError, match="argument self: Shop can't be told"):
            one.unfit()
        assert one.price.forget("tea") is True
        one.price("tea"), one.price("milk")
        assert other.price.forget_all() == 2
        assert (one.tax(10), Shop.tax(10), Shop.tax.forget(10)) == (2, 2, True)


def test_parameters_may_be_left_out_of_the_key(d: kvmap.KVMap[Any], counted: Counted) -> None:
    @d.memoize(ignore="session")
    def page(url: str, session: object = None) -> list[Any]:
        return counted(url)

    assert page("/", object()) == page("/", session=object()) == ["/"]
    assert arguments(page.key("/")) == "(url='/')"
    assert len(counted.calls) == 1
    with pytest.raises(TypeError, match="ignore names 'sesion', which is no parameter of"):
        d.memoize(ignore=["sesion"])(page.__wrapped__)


def test_keys_of_ones_own_making(d: kvmap.KVMap[Any], counted: Counted) -> None:
    @d.memoize(key=lambda url, session: ("page", url))
    def page(url: str, session: object) -> list[Any]:
        return counted(url)

    assert page("/", object()) == page("/", object()) == ["/"]
    assert list(d) == [("page", "/")]
    with pytest.raises(TypeError, match="forget"):
        page.forget_all()
    assert page.forget("/", None) is True
    squares = d.memoize(key=lambda n: n)(lambda n: n * n)
    assert (squares(3), d[3]) == (9, 9)


def test_threads_that_ask_for_one_result_wait_for_the_one_that_computes_it(
    d: kvmap.KVMap[Any],
) -> None:
    computing: list[int] = []
    together = threading.Barrier(2)

    @d.memoize()
    def f(n: int) -> int:
        computing.append(n)
        if len(computing) <= 2:
            together.wait(60)  # two results are computed at the same time
        time.sleep(0.02)
        return n * n

    found: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(f(n)), daemon=True) for n in (1, 2) * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [1] * 4 + [4] * 4
    assert sorted(computing) == [1, 2]


def test_one_that_raises_lets_the_next_thread_compute(d: kvmap.KVMap[Any]) -> None:
    calls = 0
    started = threading.Event()

    @d.memoize()
    def f() -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            started.set()
            time.sleep(0.02)
            raise ZeroDivisionError
        return calls

    def first() -> None:
        with pytest.raises(ZeroDivisionError):
            f()

    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    assert started.wait(60)
    assert f() == 2
    thread.join(60)
    assert f() == 2


def test_recursion(d: kvmap.KVMap[Any]) -> None:
    @d.memoize()
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(60) == 1548008755920
    assert len(d) == 61


def test_a_call_of_itself_with_the_same_key_is_no_deadlock(d: kvmap.KVMap[Any]) -> None:
    @d.memoize(ignore=["attempt"])
    def fetch(url: str, attempt: int = 0) -> int:
        return fetch(url, attempt + 1) if attempt < 2 else attempt

    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(fetch("/")), daemon=True)
    thread.start()
    thread.join(10)
    assert results == [2]
    assert fetch("/") == 2


def test_a_transaction_that_waits_for_none_of_the_others(d: kvmap.KVMap[Any]) -> None:
    computing, may_end = threading.Event(), threading.Event()

    @d.memoize()
    def f() -> int:
        if not computing.is_set():
            computing.set()
            assert may_end.wait(60)
        return 1

    thread = threading.Thread(target=f, daemon=True)
    thread.start()
    assert computing.wait(60)
    with d.transaction():  # the other thread can't store its result before this ends
        assert f() == 1
        may_end.set()
    thread.join(60)
    assert not thread.is_alive()
    assert dict(d) == {f.key(): 1}


def test_in_a_transaction_that_is_undone_the_result_is_too(d: kvmap.KVMap[Any]) -> None:
    @d.memoize()
    def f() -> int:
        return 1

    with pytest.raises(ZeroDivisionError), d.transaction():
        f()
        1 / 0
    assert f.key() not in d


def test_results_are_there_after_a_reopen_and_can_be_read_with_flag_r(path: Path) -> None:
    def f(n: int) -> int:
        return n * n

    def computed_again(n: int) -> int:
        return -1

    computed_again.__qualname__ = f.__qualname__
    with kvmap.open(path) as d:
        assert d.memoize()(f)(3) == 9
    with kvmap.open(path) as d:
        assert d.memoize()(computed_again)(3) == 9
    with kvmap.open(path, "r") as d:
        memoized = d.memoize()(computed_again)
        assert memoized(3) == 9
        with pytest.raises(kvmap.ReadOnlyError) as caught:
            memoized(4)
        assert any("(n=4)" in note for note in caught.value.__notes__)
        for write in (lambda: memoized.forget(3), memoized.forget_all):
            with pytest.raises(kvmap.ReadOnlyError):
                write()


def test_a_closed_map_raises(path: Path) -> None:
    with kvmap.open(path) as d:

        @d.memoize()
        def f() -> int:
            return 1

        f()
    with pytest.raises(kvmap.StoreClosedError):
        f()


async def coroutine() -> int:
    return 1


async def generator() -> Any:
    yield 1


@pytest.mark.parametrize("function", [coroutine, generator, functools.partial(coroutine)], ids=repr)
def test_what_is_async_is_refused(d: kvmap.KVMap[Any], function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="is async; memoize what it awaits"):
        d.memoize()(function)


@pytest.mark.parametrize(
    "nameless",
    [lambda: 0, functools.partial(pow, 2), Counted()],
    ids=["lambda", "partial", "object"],
)
def test_what_has_no_name_is_refused_unless_it_comes_with_its_key(
    d: kvmap.KVMap[Any], nameless: Callable[..., Any]
) -> None:
    with pytest.raises(TypeError, match=r"has no name to make keys of.*memoize\(key="):
        d.memoize()(nameless)
    kept = d.memoize(key=lambda *args: "kept")(nameless)
    assert callable(kept)


def test_forgetting_the_parentheses_is_refused(d: kvmap.KVMap[Any]) -> None:
    with pytest.raises(TypeError):

        @d.memoize  # type: ignore[call-overload, misc]
        def f() -> Literal[1]:
            return 1
