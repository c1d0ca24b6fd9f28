"""Keys come back as the type they went in; equal keys are one; what JSON can't hold is refused."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import json_values
import pytest
from helpers import LONG, AnyMap, Clock
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import MemoryStore, Store, each_life

import kvmap
from kvmap.keys import bucket

Happen = Callable[[AnyMap], AnyMap]

SYNTAX = [
    *(
        ',"value":',
        ',"seq":',
        ',"crc":"00000000"}\n',
        '"}\n',
        '{"key":"a","seq":1,"crc":"51c2e7aa"}',
    ),
    *(
        '","seq":9,"value":1,"crc":"',
        "\\",
        '\\"',
        '"',
        "\n",
        "\r\n",
        "\0",
        "\u2028",
        "\x7f",
        "\ufeff",
    ),
]
KEYS: list[Any] = [
    *("", "a", "é", "\U0001f40d", "1", "null", "true", "[1]", "../..", *SYNTAX),
    *(0, -1, 42, 2**53 + 1, 2**63, 2**64 - 1, -(2**63)),
    *(0.5, -0.25, 1e300, 5e-324, 3.0, float(2**53), 2.0**64, -(2.0**70), 1.7976931348623157e308),
    *(True, None),
    *((), (1, "a"), ("a", (None, (0.5, False))), ((),), ("seq", 1), ("value", "crc")),
    *((text,) for text in SYNTAX),
]


@pytest.fixture
def d(store: Store) -> Iterator[AnyMap]:
    with store.open() as d:
        yield d
        store.check(d)


def lives(store: Store, happen: Happen, fill: Callable[[AnyMap], Any]) -> Iterator[AnyMap]:
    """A map that was filled by single writes, and one by a transaction, before and after `happen`."""
    d = store.open("store", shards=2)
    fill(d)
    yield d
    d = happen(d)
    yield d
    d.close()
    d = store.open("transaction", shards=2)
    with d.transaction():
        fill(d)
        yield d
    yield d
    d = happen(d)
    yield d
    d.close()


@each_life
def test_keys_come_back_as_the_type_they_went_in(store: Store, happen: Happen) -> None:
    def fill(d: AnyMap) -> None:
        for number, key in enumerate(KEYS):
            d["churned"] = d[key] = number
        del d["churned"]

    for d in lives(store, happen, fill):
        for number, key in enumerate(KEYS):
            assert key in d
            assert d[key] == number
        assert repr(list(d)) == repr(KEYS)
        assert len(d) == len(KEYS)


@settings(max_examples=20_000 if LONG else 300, deadline=None)
@given(found=st.lists(json_values.keys, max_size=12))
def test_any_keys_come_back_as_in_a_dict(found: list[Any]) -> None:
    model: dict[Any, Any] = {}
    store = MemoryStore(Path(), Clock())
    with store.open() as d:
        for number, key in enumerate(found):
            model[key] = d[key] = number
        assert all(d[key] == value for key, value in model.items())
        assert repr(list(d.items())) == repr(list(model.items()))
        store.check(d)


EQUAL: list[list[Any]] = [
    [1, 1.0, True],
    [True, 1, 1.0],
    [1.0, True],
    [0, -0.0, 0.0, False],
    [-0.0, 0],
    [False, 0.0],
    [2**63, 2.0**63],
    [2.0**63, 2**63],
    [(1, ("a", 0)), (True, ("a", -0.0)), (1.0, ("a", False))],
    [(1.0,), (1,)],
]


@each_life
@pytest.mark.parametrize("equal", EQUAL, ids=repr)
def test_equal_keys_are_one_and_the_first_stored_stays(
    store: Store, happen: Happen, equal: list[Any]
) -> None:
    first, *others = equal

    def fill(d: AnyMap) -> None:
        d["before"] = d[first] = d["after"] = 0
        for other in others:
            d[other] = repr(other)
            d.update({other: repr(other)})
            d.set(other, repr(other), ttl=100)
            d.setdefault(other, "never")
            with pytest.raises(kvmap.KeyExistsError):
                d.create(other, "never")
            d.expire(other, None)

    for d in lives(store, happen, fill):
        assert repr(list(d.items())) == repr(
            [("before", 0), (first, repr(others[-1])), ("after", 0)]
        )
        assert all(d[each] == repr(others[-1]) for each in equal)


@each_life
@pytest.mark.parametrize("equal", EQUAL, ids=repr)
def test_a_deleted_key_may_come_back_as_another_type(
    store: Store, happen: Happen, equal: list[Any]
) -> None:
    first, second, *_ = equal

    def fill(d: AnyMap) -> None:
        d[first] = 1
        d["between"] = 2
        del d[second]
        d[second] = 3

    for d in lives(store, happen, fill):
        assert repr(list(d.items())) == repr([("between", 2), (second, 3)])


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (42, "42"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (True, "true"),
        (None, "null"),
        ("a", '"a"'),
        ("42", '"42"'),
        ("é\n", '"é\\n"'),
        ((1, "a"), '[1,"a"]'),
        ((1, ("a", (), None)), '[1,["a",[],null]]'),
    ],
)
def test_a_key_is_plain_json_in_the_file(kept: Store, key: Any, text: str) -> None:
    with kept.open() as d:
        d[key] = 1
        d[key] = 2
        del d[key]
    shard = d.path / "shards" / f"{bucket(key, 3):02x}.jsonl"
    lines = shard.read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith(f'{{"key":{text},"seq":')
        assert json.loads(line)["key"] == json.loads(text)


# What can't be a key


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.Enum):
    RED = 1


class Nameless:
    """A key whose repr fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def nested(levels: int) -> Any:
    key: Any = ()
    for _ in range(levels):
        key = (key,)
    return key


REFUSED: list[tuple[Any, type[Exception]]] = [
    (b"bytes", TypeError),
    (frozenset(), TypeError),
    (1j, TypeError),
    (object, TypeError),
    (object(), TypeError),
    (Nameless(), TypeError),
    (Decimal("0.1"), TypeError),
    (Fraction(1, 3), TypeError),
    (date(2024, 2, 29), TypeError),
    (Colour.RED, TypeError),
    (Point(1, 2), TypeError),
    (("a", (b"b",)), TypeError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    (-math.inf, ValueError),
    (("a", math.nan), ValueError),
    (2**64, ValueError),
    (-(2**63) - 1, ValueError),
    (10**5000, ValueError),
    ((2**64,), ValueError),
    ("\ud800", ValueError),
    ("a\udfff", ValueError),
    (("\ud800",), ValueError),
    (nested(300), ValueError),
]
UNHASHABLE: list[Any] = [[], {}, set(), bytearray(), ([],), ("a", ({},))]


def writes(d: AnyMap, key: Any) -> list[Callable[[], Any]]:
    return [
        lambda: d.__setitem__(key, 1),
        lambda: d.set(key, 1, ttl=1),
        lambda: d.create(key, 1),
        lambda: d.setdefault(key, 1),
    ]


def opened_again(store: Store, content: dict[Any, Any], loaded: bool) -> AnyMap:
    """A map of this content; where it can be kept, opened again, and maybe read as a whole."""
    d = store.open()
    d.update(content)
    if store.is_kept:
        d.close()
        d = store.open()
    if loaded:
        assert len(d) == len(content)
    return d


@pytest.mark.parametrize("loaded", [False, True], ids=["", "loaded"])
@pytest.mark.parametrize(
    ("key", "error"),
    REFUSED,
    ids=[f"{n}-{type(key).__name__}" for n, (key, _) in enumerate(REFUSED)],
)
def test_what_json_cannot_hold_is_no_key(
    store: Store, key: Any, error: type[Exception], loaded: bool
) -> None:
    with opened_again(store, {"kept": 1}, loaded) as d:
        assert key not in d
        assert (key, 1) not in d.items()
        assert d.get(key) is None
        assert d.get(key, "absent") == "absent"
        assert d.pop(key, "absent") == "absent"
        for read in (d.__getitem__, d.__delitem__, d.pop, d.ttl):
            with pytest.raises(KeyError) as caught:
                read(key)
            assert caught.value.args[0] is key
        for write in (*writes(d, key), lambda: d.update({"new": 1, key: 1})):
            with pytest.raises(error, match=r"^key ") as refused:
                write()
            assert refused.type is error
            assert len(str(refused.value)) < 400
        with pytest.raises(error, match=r"^key "), d.edit(key, default=[]) as value:
            value.append(1)
        with d.transaction(), pytest.raises(error, match=r"^key "):
            d[key] = 1
        assert dict(d) == {"kept": 1}
        store.check(d)


def test_the_message_names_the_key(d: AnyMap) -> None:
    for key, shown in (
        (b"abc", "b'abc'"),
        (("a", b"b"), "b'b'"),
        (math.nan, "nan"),
        (2**64, "18446744073709551616"),
        ("\ud800", r"\ud800"),
        (Nameless(), "Nameless"),
        (b"x" * 10**6, "xxx…xxx"),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            d[key] = 1
        assert shown in str(caught.value)


@pytest.mark.parametrize("key", UNHASHABLE, ids=repr)
def test_an_unhashable_key_fails_everywhere_as_in_a_dict(d: AnyMap, key: Any) -> None:
    for use in (
        lambda d: d[key],
        lambda d: key in d,
        lambda d: (key, 1) in d.items(),
        lambda d: d.get(key, 1),
        lambda d: d.setdefault(key, 1),
        lambda d: d.__setitem__(key, 1),
        lambda d: d.__delitem__(key),
    ):
        for target in (d, {}):
            with pytest.raises(TypeError, match="unhashable type"):
                use(target)
    d["kept"] = 1
    for use in (*writes(d, key), lambda: d.pop(key, 1), lambda: d.ttl(key)):
        with pytest.raises(TypeError, match="unhashable type"):
            use()
    assert dict(d) == {"kept": 1}


@pytest.mark.parametrize("loaded", [False, True], ids=["", "loaded"])
def test_a_foreign_key_that_is_equal_to_one_finds_it(store: Store, loaded: bool) -> None:
    content = {1: "one", 0.5: "half", (2, "a"): "pair", 2.0**64: "large"}
    foreign = [
        *(Decimal(1), Fraction(1), 1 + 0j, Decimal("0.5"), Fraction(1, 2)),
        *((Decimal(2), "a"), (2 + 0j, "a"), 2**64, Decimal(2**64), Decimal(3), ("a", Decimal(2))),
    ]
    for key in foreign:
        with opened_again(store, content, loaded) as d:
            assert (key in d) is (key in content)
            assert d.get(key) == content.get(key)
            if key in content:
                with pytest.raises((TypeError, ValueError), match=r"^key "):
                    d[key] = "written"
                assert repr(d.copy()) == repr(content)
                assert d.pop(key) == content[key]
                assert key not in d
                store.check(d)
            d.clear()


# Subclasses


class Name(str):
    pass


class Loud(str):
    """Not equal to its own text, as far as a dict can tell."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return self is other


class Size(enum.IntEnum):
    LARGE = 7


class Word(enum.StrEnum):
    HELLO = "hello"


class Metre(float):
    pass


@each_life
@pytest.mark.parametrize(
    ("key", "plain"),
    [
        (Name("ada"), "ada"),
        (Word.HELLO, "hello"),
        (Size.LARGE, 7),
        (Metre(0.5), 0.5),
        (Metre(2.0), 2.0),
        ((Name("a"), (Size.LARGE,)), ("a", (7,))),
        (True, True),
        ((True, False), (True, False)),
    ],
    ids=repr,
)
def test_a_subclass_is_stored_as_the_plain_type(
    store: Store, happen: Happen, key: Any, plain: Any
) -> None:
    for d in lives(store, happen, lambda d: d.update({key: 1})):
        assert d[key] == d[plain] == 1
        (found,) = d
        assert repr(found) == repr(plain)
        assert type(found) is type(plain)


def test_a_subclass_that_is_not_equal_to_its_text_is_refused(d: AnyMap) -> None:
    d["a"] = 1
    for write in writes(d, Loud("a")):
        with pytest.raises(TypeError, match="key"):
            write()
    assert Loud("a") not in d
    assert dict(d) == {"a": 1}


# Size


@each_life
def test_keys_may_be_long(store: Store, happen: Happen) -> None:
    keys = ["x" * 100_000, '"' * 30_000, "\n" * 30_000, "é" * 30_000]
    keys += [tuple(range(5_000)), ("x" * 30_000, 1), nested(200)]

    def fill(d: AnyMap) -> None:
        for number, key in enumerate(keys):
            d[key] = number

    for d in lives(store, happen, fill):
        assert list(d) == keys
        assert [d[key] for key in keys] == list(range(len(keys)))


@pytest.mark.parametrize("loaded", [False, True], ids=["", "loaded"])
def test_a_key_nested_too_deep_is_absent_as_any_other(store: Store, loaded: bool) -> None:
    key = nested(5000)
    with opened_again(store, {"kept": 1}, loaded) as d:
        assert key not in d
        assert d.get(key, 1) == 1
        with pytest.raises(KeyError):
            d[key]
        with pytest.raises(ValueError, match="deep"):
            d[key] = 1
        assert dict(d) == {"kept": 1}
