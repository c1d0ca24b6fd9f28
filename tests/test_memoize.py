"""`@d.memoize`: computed once, kept under a readable key, forgotten by ttl or by hand."""

import dataclasses
import enum
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from helpers import PATIENCE, AnyMap, Clock, python
from stores import Store

import kvmap
from kvmap.memory import MemoryEngine
from kvmap.opening import before
from kvmap.settings import Settings


class ReadOnlyEngine(MemoryEngine):
    """A store that can be written only through `writable`."""

    writable = False

    def _check(self) -> None:
        if not self.writable:
            raise kvmap.ReadOnlyError("this store is open for reading")

    def put(self, *arguments: Any) -> bool:
        self._check()
        return super().put(*arguments)

    def delete_many(self, keys: Any, /) -> int:
        self._check()
        return super().delete_many(keys)


@pytest.fixture
def d() -> Iterator[AnyMap]:
    with kvmap.open(":memory:") as d:
        yield d


calls: list[Any] = []
"""Arguments with which `record` was called in the running test."""


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


def record(*args: Any, **kwargs: Any) -> list[Any]:
    calls.append((args, kwargs))
    return [*args, *kwargs.items()]


def arguments(key: Any) -> str:
    """What a key says about the arguments."""
    assert isinstance(key, str)
    return key[key.index("(") :]


# Results


@pytest.mark.parametrize("with_parentheses", [False, True])
def test_a_result_is_computed_once_and_kept_under_a_readable_key(
    d: AnyMap, with_parentheses: bool
) -> None:
    def forecast(city: str, days: int = 3) -> list[Any]:
        """What the weather will be."""
        return record(city, days)

    kept = d.memoize()(forecast) if with_parentheses else d.memoize(forecast)
    assert kept("Rome") == kept("Rome") == ["Rome", 3]
    assert len(calls) == 1
    assert list(d) == [f"{__name__}.{forecast.__qualname__}(city='Rome', days=3)"]
    assert list(d) == [kept.key("Rome")]
    assert d[kept.key("Rome")] == ["Rome", 3]
    assert (kept.__doc__, kept.__name__) == ("What the weather will be.", "forecast")
    assert kept.__wrapped__("Rome") == ["Rome", 3]
    assert len(calls) == 2, "__wrapped__ passes the map by"
    assert "forecast" in repr(kept)
    assert str(inspect.signature(kept)) == "(city: str, days: int = 3) -> list[typing.Any]"


@pytest.mark.parametrize("result", [None, False, 0, "", [], {}])
def test_a_result_that_is_false_is_a_result(d: AnyMap, result: Any) -> None:
    @d.memoize(ignore=["result"])
    def f(result: Any) -> Any:
        record()
        return result

    assert f(result) == f(result) == result
    assert len(calls) == 1


def test_the_first_call_returns_what_later_ones_do(d: AnyMap) -> None:
    made: dict[str, Any] = {"tags": (1, 2)}

    @d.memoize(version=1)
    def f() -> dict[str, Any]:
        return made

    first = f()
    assert first == f() == {"tags": [1, 2]}
    first["tags"].append("lost")
    assert f() == {"tags": [1, 2]}, "a result is the caller's own"
    assert made == {"tags": (1, 2)}


def test_an_exception_is_not_kept(d: AnyMap) -> None:
    answers: list[Any] = [ZeroDivisionError("once"), KeyError("twice"), 3]

    @d.memoize(version=1)
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


def test_a_result_that_the_map_cannot_hold_raises_and_says_whose_it_is(
    d: AnyMap,
) -> None:
    @d.memoize
    def f(n: int) -> Any:
        return {"found": [{n}]}

    with pytest.raises(TypeError, match=r"^value\['found'\]\[0\]: set") as caught:
        f(7)
    assert any("(n=7)" in note for note in caught.value.__notes__)
    assert not d


def test_a_result_lives_for_its_ttl(store: Store, clock: Clock) -> None:
    with store.open() as d:

        @d.memoize(ttl=timedelta(minutes=1))
        def f(n: int) -> list[Any]:
            return record(n)

        f(1)
        assert d.ttl(f.key(1)) == 60
        clock.wait(59)
        f(1)
        assert d.ttl(f.key(1)) == 1, "a read does not prolong it"
        clock.wait(1)
        f(1)
        assert len(calls) == 2
        clock.wait(30)
        f.refresh(1)
        assert d.ttl(f.key(1)) == 60
        for wrong, error in [(0, ValueError), ("60", TypeError), (float("nan"), ValueError)]:
            with pytest.raises(error, match="ttl"):
                d.memoize(ttl=wrong)  # type: ignore[call-overload]


def test_without_a_ttl_the_stores_default_holds(store: Store) -> None:
    with store.open(ttl=30) as d:

        @d.memoize
        def default() -> int:
            return 1

        @d.memoize(ttl=None)
        def stays() -> int:
            return 2

        default(), stays()
        assert d.ttl(default.key()) == 30
        assert d.ttl(stays.key()) is None


def test_results_are_there_after_a_reopen(kept: Store) -> None:
    def f(n: int) -> int:
        return n * n

    def computed_again(n: int) -> int:
        return -1

    computed_again.__qualname__ = f.__qualname__
    with kept.open() as d:
        assert d.memoize(f)(3) == 9
    with kept.open(flag="r") as d:
        assert d.memoize(computed_again)(3) == 9
        assert d.memoize(computed_again)(4) == -1, "a read-only map keeps nothing"
    with kept.open() as d:
        assert len(d) == 1


def test_a_closed_map_raises() -> None:
    with kvmap.open(":memory:") as d:

        @d.memoize
        def f() -> int:
            return 1

        f()
    with pytest.raises(kvmap.StoreClosedError):
        f()


# A store that refuses


@pytest.mark.parametrize(
    "limits",
    [
        kvmap.Limits(entries=1),
        kvmap.Limits(value_bytes=8),
        kvmap.Limits(key_chars=20),
        kvmap.Limits(store_bytes=64),
    ],
    ids=lambda limits: str(limits).split("=")[0],
)
def test_a_result_for_which_there_is_no_room_is_returned(limits: kvmap.Limits) -> None:
    with kvmap.open(":memory:") as d:
        d["mine"] = 1
        d.configure(limits=limits)

        @d.memoize
        def f(n: int) -> list[Any]:
            return record("x" * 100, n)

        assert f(1) == f(1) == ["x" * 100, 1]
        assert len(calls) == 2
        assert f.cache_info() == (0, 2, 2)
        assert dict(d) == {"mine": 1}


def test_what_the_function_raises_is_its_own_even_a_limit_error(d: AnyMap) -> None:
    @d.memoize
    def f() -> None:
        raise kvmap.LimitError("of another map")

    with pytest.raises(kvmap.LimitError, match="of another map"):
        f()


def test_a_read_only_map_returns_what_it_lacks_and_keeps_nothing() -> None:
    engine = ReadOnlyEngine(Settings())
    with before(engine) as d:

        @d.memoize
        def f(n: int) -> list[Any]:
            return record(n)

        engine.writable = True
        f(1)
        engine.writable = False
        assert (f(1), f(2), f(2)) == ([1], [2], [2])
        assert f.cache_info() == (1, 3, 2)
        with pytest.raises(kvmap.ReadOnlyError) as caught:
            f.refresh(1)
        assert any("(n=1)" in note for note in caught.value.__notes__)
        for write in (lambda: f.forget(1), f.forget_all):
            with pytest.raises(kvmap.ReadOnlyError):
                write()


# Refresh, forget, counts


def test_refresh_computes_anew_and_keeps(d: AnyMap) -> None:
    @d.memoize
    def f(n: int) -> int:
        record(n)
        return len(calls)

    assert (f(7), f(7), f.refresh(7), f(7), f.refresh(n=8), f(8)) == (1, 1, 2, 2, 3, 3)
    assert f.cache_info() == (3, 3, 0)


def test_a_refresh_that_raises_leaves_what_is_kept(d: AnyMap) -> None:
    @d.memoize
    def f() -> int:
        record()
        return 1 // (2 - len(calls))

    assert f() == 1
    with pytest.raises(ZeroDivisionError):
        f.refresh()
    assert f() == 1


def test_a_refresh_that_finds_no_room_forgets_what_was_kept() -> None:
    with kvmap.open(":memory:", limits=kvmap.Limits(value_bytes=20)) as d:

        @d.memoize
        def f() -> str:
            record()
            return "x" * (10 * len(calls))

        assert f() == "x" * 10
        assert f.refresh() == "x" * 20
        assert f.key() not in d, "or the next call would return an older result than this one"
        assert f() == "x" * 30
        assert f.cache_info().unkept == 2


def test_forget_drops_one_and_forget_all_all(d: AnyMap) -> None:
    def f(n: int) -> list[Any]:
        return record(n)

    kept, kept_2 = d.memoize(f), d.memoize(version=2)(f)

    @d.memoize
    def f_too(n: int) -> int:
        return n

    d["mine"] = 1
    d[5, "mine"] = 2
    for n in range(5):
        kept(n), f_too(n)
    kept_2(1)
    assert kept.forget(n=3) is True
    assert kept.forget(3) is False
    assert kept.key(3) not in d
    assert kept(3) == [3]
    assert len(calls) == 7
    assert kept.forget_all() == 6, "those of all versions"
    assert kept.forget_all() == 0
    assert list(d) == ["mine", (5, "mine"), *(f_too.key(n) for n in range(5))]


def test_a_function_that_forgets_its_result_while_it_computes_it_keeps_none(
    d: AnyMap,
) -> None:
    @d.memoize
    def f() -> int:
        record()
        if len(calls) == 1:
            f.forget()
        if len(calls) == 2:
            f.forget_all()
        return len(calls)

    assert [f(), f(), f(), f()] == [1, 2, 3, 3]


def test_cache_info_counts(d: AnyMap) -> None:
    @d.memoize
    def f(n: int) -> float:
        return 1 / n

    f(1), f(1), f(2), f(1)
    with pytest.raises(ZeroDivisionError):
        f(0)
    info = f.cache_info()
    assert (info.hits, info.misses, info.unkept) == info == (2, 3, 0)
    assert repr(info) == "CacheInfo(hits=2, misses=3, unkept=0)"


def test_each_function_of_one_decorator_has_its_own_counts(d: AnyMap) -> None:
    decorate = d.memoize(ttl=60)
    f, g = decorate(record), decorate(arguments)
    f(1), f(1), g("(")
    assert (f.cache_info(), g.cache_info()) == ((1, 1, 0), (0, 1, 0))


# Keys


def test_one_call_in_all_ways_to_write_it_is_one_entry(d: AnyMap) -> None:
    @d.memoize
    def call(a: int, /, b: int, c: int = 3, *rest: int, e: int = 5, **more: int) -> list[Any]:
        return record(a, b, c, *rest, e=e, **more)

    for same in (call(1, 2), call(1, b=2), call(1, c=3, b=2), call(1, 2, 3, e=5)):
        assert same == [1, 2, 3, ["e", 5]]
    assert len(calls) == 1
    assert arguments(call.key(1, 2)) == "(a=1, b=2, c=3, rest=(), e=5, more={})"
    others = [call.key(1, 2, 3, 4), call.key(1, 2, e=6), call.key(1, 2, f=7), call.key(2, 1)]
    assert len({*others, call.key(1, 2)}) == 5
    wrong: Any = call
    for bad in (lambda: wrong(), lambda: wrong(a=1, b=2), lambda: wrong(1, 2, b=2)):
        with pytest.raises(TypeError, match="argument|positional"):
            bad()
    assert len(d) == 1


def test_equal_dicts_and_keyword_arguments_in_another_order_are_one_entry(
    d: AnyMap,
) -> None:
    @d.memoize
    def f(query: dict[str, Any], **more: int) -> list[Any]:
        return record(query, **more)

    first = f({"a": 1, "b": {"c": 2, "d": 3}}, x=1, y=2)
    assert f({"b": {"d": 3, "c": 2}, "a": 1}, y=2, x=1) == first
    assert len(d) == len(calls) == 1
    assert arguments(next(iter(d))) == (
        "(query={'a': 1, 'b': {'c': 2, 'd': 3}}, more={'x': 1, 'y': 2})"
    )


class Size(enum.Enum):
    SMALL = 1


class Weight(enum.Enum):
    SMALL = 1


@dataclasses.dataclass(frozen=True)
class Query:
    text: str
    tags: frozenset[str] = frozenset()
    trace: str = dataclasses.field(default="", compare=False)


class Point(NamedTuple):
    x: int
    y: int


HERE = __name__


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(("a", "'a'"), ("1", "'1'"), (1, "1"), (1.0, "1.0"), (True, "True"), (None, "None")),
        *((b"a", "b'a'"), ((1,), "(1,)"), ((), "()"), ([1], "[1]"), ({"a": [1]}, "{'a': [1]}")),
        *(
            (set("hgfedcba"), "{'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'}"),
            (set(), "set()"),
            ({}, "{}"),
            (range(3), "range(0, 3)"),
        ),
        *((date(2020, 1, 2), "datetime.date(2020, 1, 2)"), (Decimal("1.10"), "Decimal('1.10')")),
        (datetime(2020, 1, 2, tzinfo=UTC), repr(datetime(2020, 1, 2, tzinfo=UTC))),
        (ZoneInfo("Europe/Rome"), "zoneinfo.ZoneInfo(key='Europe/Rome')"),
        *((Size.SMALL, f"{HERE}.Size(1)"), (Weight.SMALL, f"{HERE}.Weight(1)")),
        (Query("x", frozenset("a"), "t"), f"{HERE}.Query(text='x', tags=frozenset({{'a'}}))"),
        (Point(1, 2), f"{HERE}.Point(x=1, y=2)"),
        *((Path("a"), "PosixPath('a')"), (len, "builtins.len"), (int, "builtins.int")),
        *((record, f"{HERE}.record"), ("abc".upper, "'abc'.upper"), (Query, f"{HERE}.Query")),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_an_arguments_text(d: AnyMap, value: Any, text: str) -> None:
    @d.memoize
    def show(x: Any) -> None:
        """Nothing."""

    assert arguments(show.key(value)) == f"(x={text})"


def test_arguments_that_differ_have_keys_that_differ(d: AnyMap) -> None:
    @d.memoize
    def f(x: Any, y: Any = 0) -> Any:
        return repr((x, y))

    different: list[tuple[Any, ...]] = [
        *((1,), (1.0,), (True,), ("1",), ("1, y=0",), (1, 2), ("1, y=2",), (Size.SMALL,)),
        *((Weight.SMALL,), ((1,),), ([1],), ({1},), (frozenset({1}),), ("(1,)",), (b"1",)),
        *(("x" * 1000,), ("x" * 1001,), ("x" * 1000, 1), (["x" * 1000],), (Point(1, 2),)),
        *(((1, 2),), ({},), (set(),), ({1: 2},), ({"1": 2},), ([1].append,), ([2].append,)),
    ]
    for _ in range(2):
        for call in different:
            assert f(*call) == f.__wrapped__(*call)
    assert len(d) == len(different)
    assert max(map(len, d)) < 700, "a key of long arguments ends in their digest"


class Zone(tzinfo):
    """A zone whose repr holds its address."""

    def __repr__(self) -> str:
        return f"<Zone at {id(self):x}>"

    def utcoffset(self, dt: datetime | None, /) -> timedelta:
        return timedelta(hours=1)


def local_class() -> type:
    @dataclasses.dataclass
    class Inner:
        n: int = 1

    return Inner


def local_function() -> Callable[[], None]:
    def inner() -> None:
        """Nothing."""

    return inner


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (object(), "x"),
        (iter([]), "x"),
        ([lambda: 0], r"x\[0\]"),
        ({"a": threading.Lock()}, r"x\['a'\]"),
        (Query([object()]), r"x.text\[0\]"),  # type: ignore[arg-type]
        (datetime(2020, 1, 2, tzinfo=Zone()), "x.tzinfo"),
        (local_function(), "x"),
        (local_class(), "x"),
        (threading.Lock().acquire, "x"),
        (functools.partial(record, 1), "x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_argument_without_a_stable_text_is_refused_with_its_place(
    d: AnyMap, value: Any, place: str
) -> None:
    @d.memoize
    def f(x: Any) -> Any:
        return record(x)

    for call in (f, f.key, f.forget, f.refresh):
        with pytest.raises(TypeError, match=rf"^argument {place}: .*ignore=.*key="):
            call(value)
    assert not calls
    assert not d


def test_an_argument_that_holds_itself_is_refused(d: AnyMap) -> None:
    @d.memoize
    def f(x: Any) -> Any:
        return record(x)

    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match=r"an argument of .*\.f is nested too deep"):
        f(endless)


def test_a_default_that_changes_makes_another_key(d: AnyMap) -> None:
    rates = {"EUR": 1}

    def convert(n: int, rates: dict[str, int] = rates) -> int:
        return n * rates["EUR"]

    kept = d.memoize(convert)
    assert kept(10) == 10
    rates["EUR"] = 2
    assert kept(10) == 20


def test_parameters_may_be_left_out_of_the_key(d: AnyMap) -> None:
    @d.memoize(ignore="session")
    def page(url: str, session: object = None) -> list[Any]:
        return record(url)

    assert page("/", object()) == page("/", session=object()) == ["/"]
    assert arguments(page.key("/")) == "(url='/')"
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("ignore", "message"),
    [
        (["sesion"], r"ignore names 'sesion', which is no parameter of .*page\(url, session\)"),
        (["b", "url", "a"], "ignore names 'b', 'a', which is no parameter of"),
        ([1, "a"], "ignore must be names of parameters, not 1"),
        ([["url"]], r"ignore must be names of parameters, not \['url'\]"),
        ([None], "ignore must be names of parameters, not None"),
    ],
    ids=str,
)
def test_ignore_with_names_that_are_not_there_is_refused(
    d: AnyMap, ignore: Any, message: str
) -> None:
    def page(url: str, session: object) -> None:
        """Nothing."""

    with pytest.raises(TypeError, match=message):
        d.memoize(ignore=ignore)(page)


def test_keys_of_ones_own_making(d: AnyMap) -> None:
    @d.memoize(key=lambda url, session: ("page", url))
    def page(url: str, session: object) -> list[Any]:
        return record(url)

    assert page("/", object()) == page("/", object()) == ["/"]
    assert list(d) == [("page", "/")]
    with pytest.raises(TypeError, match="forget"):
        page.forget_all()
    assert page.forget("/", None) is True
    squares = d.memoize(key=lambda n: n)(lambda n: n * n)
    assert (squares(3), d[3]) == (9, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "x"}, "key must be a function"),
        ({"key": len, "ignore": ["x"]}, "ignore= changes nothing beside key="),
        ({"key": len, "version": 2}, "version= changes nothing beside key="),
        ({"version": 1.5}, "version must be a str or an int, not 1.5"),
        ({"version": True}, "version must be a str or an int, not True"),
        ({"ignore": 5}, "ignore must be names of parameters, not 5"),
        ({"ignore": [5]}, "ignore must be names of parameters, not 5"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(
    d: AnyMap, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        d.memoize(**options)(record)


def test_another_version_begins_without_results(d: AnyMap) -> None:
    def f(n: int) -> list[Any]:
        return record(n)

    versions: list[Any] = [1, 2, "1", "a(n=1)"]
    for count, version in enumerate(versions, 1):
        kept = d.memoize(version=version)(f)
        kept(1), kept(1)
        assert len(calls) == count
        assert kept.key(1).endswith(f".f@{version!r}(n=1)")
    assert len(d) == 4


# Functions that can't be told apart


def exchange(rate: int) -> Callable[[int], int]:
    def convert(amount: int) -> int:
        return amount * rate

    return convert


def test_closures_from_one_factory_are_refused_unless_told_apart(
    d: AnyMap,
) -> None:
    eur, yen = exchange(1), exchange(160)
    with pytest.raises(TypeError, match=r"convert may depend on .* \(rate\).*key=.*version="):
        d.memoize(eur)
    in_eur, in_yen = d.memoize(version="EUR")(eur), d.memoize(version="JPY")(yen)
    assert (in_eur(10), in_yen(10), in_eur(10), in_yen(10)) == (10, 1600, 10, 1600)
    in_eur, in_yen = (d.memoize(key=lambda n, c=c: (c, n))(f) for c, f in [("E", eur), ("Y", yen)])
    assert (in_eur(10), in_yen(10), in_eur(10), in_yen(10)) == (10, 1600, 10, 1600)


def test_a_variable_that_only_an_inner_function_uses_is_one_too(d: AnyMap) -> None:
    rate = 3

    def convert(amounts: list[int]) -> list[int]:
        return sorted(amounts, key=lambda amount: amount * rate)

    with pytest.raises(TypeError, match=r"\(rate\)"):
        d.memoize(convert)


def test_a_function_that_is_defined_later_is_a_variable_too(d: AnyMap) -> None:
    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    with pytest.raises(TypeError, match=r"\(odd\)"):
        d.memoize(even)

    def odd(n: int) -> bool:
        return n > 0 and even(n - 1)


def test_a_wrapper_is_a_closure_too(d: AnyMap) -> None:
    def times(factor: int) -> Callable[[Callable[[], int]], Callable[[], int]]:
        def decorate(function: Callable[[], int]) -> Callable[[], int]:
            @functools.wraps(function)
            def wrapper() -> int:
                return factor * function()

            return wrapper

        return decorate

    with pytest.raises(TypeError, match=r"\(factor, function\)"):

        @d.memoize
        @times(3)
        def one() -> int:
            return 1

    @d.memoize
    @functools.lru_cache
    def two() -> int:
        return 2

    assert two() == 2
    with pytest.raises(TypeError, match=r"\(rate\)"):
        d.memoize(functools.lru_cache(exchange(1)))


def test_what_is_the_same_in_every_run_may_be_used(d: AnyMap) -> None:
    import math

    @d.memoize
    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else math.floor(1.5)

    class Base:
        def __init__(self, n: int) -> None:
            self.n = n

        def value(self) -> int:
            return self.n

    class Derived(Base):
        @d.memoize(ignore=["self"])
        def value(self) -> int:
            return super().value() + 1

    assert factorial(5) == 120
    assert Derived(1).value() == 2


class Account:
    """An object whose repr holds its address."""

    def __init__(self, currency: str) -> None:
        self.currency = currency

    def convert(self, amount: int) -> str:
        return f"{amount} {self.currency}"

    @classmethod
    def rate(cls, amount: int) -> int:
        return amount * 2


@dataclasses.dataclass
class Rate:
    per_unit: int

    def convert(self, amount: int) -> int:
        return amount * self.per_unit


def test_a_method_of_an_object_that_a_key_cannot_hold_is_refused(d: AnyMap) -> None:
    eur, yen = Account("EUR"), Account("JPY")
    with pytest.raises(TypeError, match="argument self: Account has no stable text") as caught:
        d.memoize(eur.convert)
    assert any("version=" in note for note in caught.value.__notes__)
    in_eur, in_yen = d.memoize(version="EUR")(eur.convert), d.memoize(version="JPY")(yen.convert)
    assert (in_eur(10), in_yen(10), in_eur(10)) == ("10 EUR", "10 JPY", "10 EUR")
    shared = d.memoize(ignore=["self"])(eur.convert)
    assert arguments(shared.key(10)) == "(amount=10)"


def test_a_method_of_an_object_that_a_key_can_hold(d: AnyMap) -> None:
    one, two = Rate(1), Rate(2)
    by_one, by_two = d.memoize(one.convert), d.memoize(two.convert)
    assert (by_one(10), by_two(10)) == (10, 20)
    one.per_unit = 3
    assert by_one(10) == 30
    assert arguments(by_one.key(10)) == f"(self={HERE}.Rate(per_unit=3), amount=10)"
    assert d.memoize(Account.rate)(10) == 20


# Methods


def test_a_method_is_memoized_without_its_self(d: AnyMap) -> None:
    class Shop:
        @d.memoize(ignore=("self",))
        def price(self, item: str) -> int:
            """What it costs."""
            record(item)
            return len(item)

        @d.memoize
        def unfit(self) -> int:
            return 1

        @property
        @d.memoize(ignore=["self"])
        def sign(self) -> str:
            return "open"

    one, other = Shop(), Shop()
    assert one.price("tea") == other.price(item="tea") == Shop.price(one, "tea") == 3
    assert len(calls) == 1
    assert arguments(one.price.key("tea")) == "(item='tea')"
    with pytest.raises(TypeError, match="argument self: Shop has no stable text"):
        one.unfit()
    assert one.price.forget("tea") is True
    one.price("tea"), one.price("milk")
    assert one.price.refresh("milk") == one.price.__wrapped__("milk") == 4
    assert one.price.cache_info() == other.price.cache_info() == (2, 4, 0)
    assert other.price.forget_all() == 2
    assert one.sign == other.sign == "open"
    assert one.price.__name__ == "price"
    assert str(inspect.signature(one.price)) == "(item: str) -> int"
    assert "price" in repr(one.price)


def test_static_and_class_methods_go_above(d: AnyMap) -> None:
    class Shop:
        @staticmethod
        @d.memoize
        def tax(n: int) -> int:
            return n // 5

    assert (Shop().tax(10), Shop.tax(10), Shop.tax.forget(10)) == (2, 2, True)


class Named:
    name = "base"


class Other(Named):
    name = "other"


def test_a_class_method_keeps_the_results_of_each_class(d: AnyMap) -> None:
    def greet(cls: type[Named], n: int) -> str:
        return cls.name * n

    Named.greet = classmethod(d.memoize(greet))  # type: ignore[attr-defined]
    try:
        found = [Named.greet(1), Other.greet(1), Other().greet(2)]  # type: ignore[attr-defined]
    finally:
        del Named.greet  # type: ignore[attr-defined]
    assert found == ["base", "other", "otherother"]
    assert len(d) == 3


# What is refused


async def async_generator() -> Any:
    yield 1


def generator() -> Any:
    yield 1


class Generating:
    def __call__(self) -> Any:
        yield 1


@pytest.mark.parametrize(
    "function",
    [generator, async_generator, Generating()],
    ids=["function", "async function", "object"],
)
def test_a_generator_is_refused(d: AnyMap, function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="is a generator, which can be read only once"):
        d.memoize(key=lambda: "x")(function)


async def coroutine() -> int:
    return 1


class Promise:
    def __await__(self) -> Any:
        yield


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (coroutine, "returned a coroutine, to be awaited; memoize an async def"),
        (Promise, "returned a Promise, to be awaited"),
        (generator, "returned a generator, which can be read only once; return a list"),
        (async_generator, "returned a async_generator, which can be read only once"),
        (lambda: map(str, [1]), "returned a map, which can be read only once"),
    ],
    ids=["coroutine", "awaitable", "generator", "async generator", "map"],
)
def test_a_result_that_can_be_used_only_once_is_refused(
    d: AnyMap, make: Callable[[], Any], message: str
) -> None:
    @d.memoize(ignore=["make"])
    def f(make: Callable[[], Any]) -> Any:
        return make()

    with pytest.raises(TypeError, match=message):
        f(make)
    with pytest.raises(TypeError, match=message):
        f.refresh(make)
    assert not d


@pytest.mark.parametrize("kind", [staticmethod, classmethod, property])
def test_a_descriptor_is_refused_and_belongs_above(d: AnyMap, kind: Any) -> None:
    with pytest.raises(TypeError, match=f"write @{kind.__name__} above it, not below"):
        d.memoize(kind(record))


@pytest.mark.parametrize("thing", [60, "f", None])
def test_what_is_no_function_is_refused(d: AnyMap, thing: Any) -> None:
    with pytest.raises(TypeError, match=r"memoize takes a function.*@d.memoize\(ttl=60\)"):
        d.memoize(ttl=1)(thing)


@pytest.mark.parametrize(
    "nameless",
    [lambda: 0, functools.partial(pow, 2), Generating.__call__.__get__],
    ids=["lambda", "partial", "slot"],
)
@pytest.mark.parametrize("version", [None, 1])
def test_what_has_no_name_is_refused_unless_it_comes_with_its_key(
    d: AnyMap, nameless: Callable[..., Any], version: int | None
) -> None:
    if getattr(nameless, "__qualname__", "<lambda>").endswith("<lambda>"):
        with pytest.raises(TypeError, match=r"has no name for keys.*memoize\(key="):
            d.memoize(version=version)(nameless)
    assert callable(d.memoize(key=lambda *args: "kept")(nameless))


def test_a_function_without_a_signature_is_refused(d: AnyMap) -> None:
    with pytest.raises(TypeError, match=r"has no signature to make keys of.*key="):
        d.memoize(max)


# Blocks


def test_in_a_transaction_that_is_undone_the_result_is_too(d: AnyMap) -> None:
    @d.memoize
    def f() -> int:
        return 1

    with pytest.raises(ZeroDivisionError), d.transaction():
        f()
        1 / 0
    assert f.key() not in d
    with d.transaction():
        assert f() == f() == 1
    assert d[f.key()] == 1


# Recursion


def test_recursion(d: AnyMap) -> None:
    @d.memoize
    def fibonacci(n: int) -> int:
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(60) == 1548008755920
    assert len(d) == 61
    assert fibonacci.cache_info() == (58, 61, 0)


def test_a_recursion_may_be_deep(d: AnyMap) -> None:
    @d.memoize
    def depth(n: int) -> int:
        return 0 if n == 0 else 1 + depth(n - 1)

    assert depth(280) == 280  # at the default limit of 1000 frames


def test_results_may_be_kept_in_two_maps(d: AnyMap) -> None:
    with kvmap.open(":memory:") as near:

        def f(n: int) -> list[Any]:
            return record(n)

        far = d.memoize(f)
        both = near.memoize(far)
        assert both(1) == both(1) == far(1) == [1]
        assert (len(calls), list(d), list(near)) == (1, [f_key := far.key(1)], [f_key])
        assert far.cache_info() == (1, 1, 0)


def test_asyncio_is_not_loaded_where_nothing_is_async() -> None:
    code = (
        "import json, sys, kvmap\n"
        "with kvmap.open(':memory:') as d:\n"
        "    print(d.memoize(json.dumps)([1]), 'asyncio' in sys.modules)"
    )
    out, err = python(code).communicate(timeout=PATIENCE)
    assert (out, err) == ("[1] False\n", "")


# Types


@dataclasses.dataclass
class User:
    name: str
    born: date


def test_results_come_back_as_what_they_were(d: AnyMap) -> None:
    pytest.importorskip("msgspec")

    @d.memoize(type=User)
    def user(name: str) -> User:
        record(name)
        return User(name, date(1815, 12, 10))

    ada = User("Ada", date(1815, 12, 10))
    assert user("Ada") == user("Ada") == ada
    assert len(calls) == 1
    assert d[user.key("Ada")] == {"name": "Ada", "born": "1815-12-10"}
    user("Ada").name = "Eve"
    assert user("Ada") == ada, "a result is the caller's own"
    assert user.refresh("Ada") == ada


def test_a_list_of_a_type(d: AnyMap) -> None:
    pytest.importorskip("msgspec")

    @d.memoize(type=list[User])
    def users() -> list[User]:
        return [User("Ada", date(1815, 12, 10))]

    assert users() == users() == [User("Ada", date(1815, 12, 10))]


def test_a_pydantic_model(d: AnyMap) -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Model", n=(int, ...), when=(datetime, ...))

    @d.memoize(version=1, type=model)
    def make(n: int) -> Any:
        return model(n=n, when=datetime(2020, 1, 2, tzinfo=UTC))

    assert make(1) == make(1) == model(n=1, when=datetime(2020, 1, 2, tzinfo=UTC))
    assert type(make(1)) is model


def test_a_msgspec_struct(d: AnyMap) -> None:
    msgspec = pytest.importorskip("msgspec")
    struct = msgspec.defstruct("Struct", [("n", int), ("data", bytes)])

    @d.memoize(version=1, type=struct)
    def make(n: int) -> Any:
        return struct(n, b"\x00")

    assert make(1) == make(1) == struct(1, b"\x00")


def test_a_result_of_another_type_raises_and_says_whose_it_is(d: AnyMap) -> None:
    pytest.importorskip("msgspec")

    @d.memoize(type=User)
    def user(name: str) -> Any:
        return {"name": 3}

    with pytest.raises(TypeError) as caught:
        user("Ada")
    assert any("(name='Ada')" in note for note in caught.value.__notes__)
    assert not d


def test_a_kept_result_of_an_older_type_raises_and_can_be_forgotten(
    d: AnyMap,
) -> None:
    pytest.importorskip("msgspec")

    @d.memoize(type=User)
    def user(name: str) -> User:
        return User(name, date(1815, 12, 10))

    d[user.key("Ada")] = {"nickname": "Ada"}
    with pytest.raises((TypeError, ValueError)) as caught:
        user("Ada")
    assert any("forget()" in note for note in caught.value.__notes__)
    assert user.forget("Ada") is True
    assert user("Ada").name == "Ada"


def test_a_type_of_its_own_is_refused_on_a_map_that_has_one() -> None:
    pytest.importorskip("msgspec")
    with kvmap.open(":memory:", type=User) as d:
        with pytest.raises(ValueError, match=r"opened with type=User.*leave type out"):
            d.memoize(type=User)
        with pytest.raises(ValueError, match="another map for results of list"):
            d.memoize(type=list[User])
        assert not d
