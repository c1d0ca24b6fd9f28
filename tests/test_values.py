"""What comes out equals what went in, or the write raises, names the place and changes nothing."""

import enum
import math
import struct
import uuid
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import json_values
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stores import Store

import kvmap
from kvmap.values import add, decode_many, encode, encode_many


@pytest.fixture
def d(store: Store) -> Iterator[kvmap.KVMap[Any, Any]]:
    with store.open() as d:
        d["key"] = "kept"
        yield d


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    ADA = "ada"


@dataclass
class User:
    name: str


Point = namedtuple("Point", "x y")


class Scalar:
    """As a number or an array of numpy's: it can be converted, and is compared item by item."""

    def __int__(self) -> int:
        return 1

    __index__ = __len__ = __int__
    __float__ = lambda self: 1.0  # noqa: E731
    __array__ = tolist = lambda self: [1]
    __array_interface__ = __array_struct__ = ()
    __eq__ = lambda self, other: [True]  # type: ignore[assignment]  # noqa: E731
    __hash__ = None  # type: ignore[assignment]


class Text(str):
    pass


class Number(int):
    pass


class Real(float):
    pass


class Items(list[Any]):
    pass


class Shouting(str):
    """Not equal to its own text; for JSON it would be."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shouting) and str.__eq__(self, other)

    __hash__ = str.__hash__


class AnyCase(str):
    """Equal to its own text, yet found under another hash."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


class Odd(dict[str, Any]):
    """It has something that its items do not tell."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd)

    __hash__ = None  # type: ignore[assignment]


def inside_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def inside_its_own_object() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["me"] = [value]
    return value


NOT_JSON = [
    *(datetime(2020, 1, 2), date(2020, 1, 2), time(3), timedelta(4), uuid.UUID(int=5)),
    *(Colour.RED, User("Ada"), Point(1, 2), Decimal("1.5"), Fraction(1, 2), 1j),
    *({1}, frozenset(), b"", bytearray(b"x"), memoryview(b"x"), range(3), iter([]), deque([1])),
    *(object(), int, len, ..., Path("x"), UserDict(a=1), MappingProxyType({}), SimpleNamespace()),
    *(Scalar(), orjson.Fragment(b"1"), {}.keys(), (x for x in "ab"), Shouting("x"), Odd(a=1)),
]
NOT_A_NUMBER_OF_JSON = [
    *(math.nan, math.inf, -math.inf, Real("nan"), Real("-inf")),
    *struct.unpack("<3d", b"\xff" * 8 + b"\1\0\0\0\0\0\xf0\x7f" + b"\xff" * 7 + b"\x7f"),
]
LONG = "x" * 300
TOO_LARGE = [2**64, -(2**63) - 1, 10**400, Number(2**64)]
NOT_TEXT = ["\ud800", "a\udfffb", Text("\udc00")]


@pytest.mark.parametrize("value", NOT_JSON, ids=lambda value: type(value).__name__)
def test_what_is_not_json_is_a_type_error_that_names_its_place(
    d: kvmap.KVMap[Any, Any], value: Any
) -> None:
    refused(d, value, TypeError, rf"^value: {type(value).__name__} is not (JSON|equal)")
    refused(d, {"tags": ["a", "b", value]}, TypeError, r"^value\['tags'\]\[2\]: ")
    refused(d, {"": LONG, "tags": [value]}, TypeError, r"^value\['tags'\]\[0\]: ")
    refused(d, {"": [LONG] * 99, "tags": [value]}, TypeError, r"^value\['tags'\]\[0\]: ")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (Decimal("1.5"), 'codec="extended" keeps it'),
        (b"x", 'codec="extended" keeps it'),
        (2**64, 'codec="extended" keeps it'),
        (math.nan, "store null .None. instead"),
        ({1: 2}, 'codec="extended" keeps others'),
        (Colour.RED, "store its .value"),
        (Point(1, 2), "make it a dict, list, str or number, or open with type= or encode="),
        (Shouting("x"), "convert it first"),
    ],
    ids=repr,
)
def test_a_refusal_says_what_to_do(value: Any, hint: str) -> None:
    with pytest.raises((TypeError, ValueError), match=hint):
        encode(value)


@pytest.mark.parametrize("value", [*NOT_A_NUMBER_OF_JSON, *TOO_LARGE, *NOT_TEXT], ids=ascii)
def test_what_json_has_no_text_for_is_a_value_error_that_names_its_place(
    d: kvmap.KVMap[Any, Any], value: Any
) -> None:
    refused(d, value, ValueError, "^value: ")
    refused(d, ({"a": [0, value]},), ValueError, r"^value\[0\]\['a'\]\[1\]: ")
    refused(d, [1.5] * 20 + [value], ValueError, r"^value\[20\]: ")
    refused(d, [LONG, {"a": value}], ValueError, r"^value\[1\]\['a'\]: ")


@pytest.mark.parametrize("key", [1, 1.5, None, True, (), b"a", Level.HIGH, uuid.UUID(int=5)])
def test_an_object_has_only_str_keys(d: kvmap.KVMap[Any, Any], key: Any) -> None:
    refused(d, {key: 1}, TypeError, rf"^value: the key .* is of type {type(key).__name__}")
    refused(d, [{}, {"a": 0, key: 1}], TypeError, r"^value\[1\]: the key ")
    refused(d, [LONG, {key: 1}], TypeError, r"^value\[1\]: the key ")


def test_the_keys_of_an_object_are_checked_as_its_values_are(d: kvmap.KVMap[Any, Any]) -> None:
    refused(d, {"a": {"\ud800": 1}}, ValueError, r"^value\['a'\], its key .*: .* not valid UTF-8")
    refused(d, {Shouting("a"): 1}, TypeError, "^value, its key 'a': Shouting is not equal")
    refused(d, {AnyCase("A"): 1}, TypeError, "^value, its key 'A': .* has another hash")


@pytest.mark.parametrize("inner", [[], {}, "x", [1.5] * 20])
def test_values_are_nested_254_levels_at_most(d: kvmap.KVMap[Any, Any], inner: Any) -> None:
    levels = 254 - isinstance(inner, (list, dict))
    for outer in (list, Items):  # taken as it is, and made plain first
        d["deep"] = deepest = outer([json_values.nested(levels - 1, inner)])
        assert d["deep"] == deepest
    for extra in (1, 2, 50, 2000):
        refused(d, json_values.nested(levels + extra, inner), ValueError, "deeper than 254")


@pytest.mark.parametrize("make", [inside_itself, inside_its_own_object])
def test_what_is_inside_itself_is_refused(
    d: kvmap.KVMap[Any, Any], make: Callable[[], Any]
) -> None:
    refused(d, make(), ValueError, r"^value\[.*: nested deeper than 254 levels, or in itself")


def test_a_long_place_is_cut_short_in_the_message(d: kvmap.KVMap[Any, Any]) -> None:
    with pytest.raises(TypeError) as caught:
        d["x"] = {"k" * 5000: json_values.nested(200, {1})}
    assert len(str(caught.value)) < 400
    assert "set is not JSON" in str(caught.value)


def test_a_part_whose_repr_raises_is_refused_all_the_same(d: kvmap.KVMap[Any, Any]) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    refused(d, [Broken()], TypeError, r"^value\[0\]: Broken is not JSON")
    refused(d, {Broken(): 1}, TypeError, r"^value: the key <Broken> is of type Broken")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (Counter(a=0), {"a": 0}),
        (Items([1, Items()]), [1, []]),
        (Text("x"), "x"),
        (Number(5), 5),
        (Number(2**64 - 1), 2**64 - 1),
        (Real(0.5), 0.5),
        (Level.HIGH, 3),
        (HTTPStatus.OK, 200),
        (Name.ADA, "ada"),
        ({Text("k"): 1, Name.ADA: 2}, {"k": 1, "ada": 2}),
    ],
    ids=repr,
)
def test_a_subclass_that_is_equal_to_its_plain_value_comes_back_as_that(
    d: kvmap.KVMap[Any, Any], value: Any, plain: Any
) -> None:
    for wrapped, bare in [
        (value, plain),
        ({"a": [value]}, {"a": [plain]}),
        ([LONG, value], [LONG, plain]),
    ]:
        d["key"] = wrapped
        assert d["key"] == wrapped
        assert repr(d["key"]) == repr(bare)  # plain types all the way down, in the same order


@pytest.mark.parametrize("value", [(), (1, "a"), [(), [(1,)]], {"a": (1, (2,))}, (1.5,) * 20])
def test_a_tuple_comes_back_as_a_list(d: kvmap.KVMap[Any, Any], value: Any) -> None:
    def lists(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: lists(part) for key, part in value.items()}
        return [lists(part) for part in value] if isinstance(value, (tuple, list)) else value

    d["key"] = value
    assert repr(d["key"]) == repr(lists(value))
    d["key"] = Items([value])  # a way that makes it plain first
    assert repr(d["key"]) == repr([lists(value)])


def test_many_numbers_whose_sum_is_infinite_are_numbers(d: kvmap.KVMap[Any, Any]) -> None:
    for value in ([1.7e308] * 20, [-1.7e308, 2**64 - 1] * 20, [2**64 - 1] * 20, [LONG, 1.7e308]):
        d["key"] = value
        assert d["key"] == value


@given(json_values.values | json_values.deep)
@example({"": -0.0, '","seq":9': [2**64 - 1, 5e-324]})
def test_all_of_json_comes_back_exactly(value: Any) -> None:
    text = encode(value)
    assert repr(orjson.loads(text)) == repr(value)  # which tells 1 from 1.0, and 0.0 from -0.0
    assert b"\n" not in text


@given(json_values.unfit_values)
def test_what_json_cannot_hold_is_refused_wherever_it_stands(value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^value[\[:, ]"):
        encode(value)


@pytest.mark.parametrize("seed", range(3))
def test_what_went_in_is_there_after_a_reopen(kept: Store, seed: int) -> None:
    written: dict[Any, Any] = {}

    @given(json_values.keys, json_values.values | json_values.deep)
    def write(key: Any, value: Any) -> None:
        d[key] = written[key] = value

    with kept.open() as d:
        write()
    with kept.open() as d:
        assert repr(dict(d)) == repr(written)


def refused(d: kvmap.KVMap[Any, Any], value: Any, error: type[Exception], message: str) -> None:
    """Every way in raises, and nothing in the map is another."""
    before = d.copy()
    for write in (
        lambda: d.__setitem__("key", value),
        lambda: d.set("key", value, ttl=5),
        lambda: d.set_many({"new": 1, "key": value}),
        lambda: d.create("new", value),
        lambda: d.setdefault("new", value),
        lambda: d.update({"new": 1, "key": value}),
        lambda: d.__ior__([("key", value), ("new", 1)]),
        lambda: d.edit("new", default=value).__enter__(),
    ):
        with pytest.raises(error, match=message):
            write()
        assert d == before


MANY = [{"a": i, "b": None, "c": i / 7} for i in range(500)]


@pytest.mark.parametrize(
    "value",
    [
        *(None, "null", [None, 1.5], {"a": None, "b": ["null", (0.5,)]}),
        *([LONG, None, 1.5], [LONG, None, -1], [LONG, {"a": -1, "b": [1.7e308]}]),
        *(MANY, [[0.5, "x"]] * 50, [1.7e308] * 50, [-1, None] * 50),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_plain_is_not_taken_apart(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("taken apart, which is ten times as slow")

    monkeypatch.setattr("kvmap.values.plain", refuse)
    assert encode(value) == orjson.dumps(value)


def test_a_value_of_many_parts_is_checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("looked at one by one, which takes twice as long")

    monkeypatch.setattr("kvmap.values.SCALARS", None)
    monkeypatch.setattr("kvmap.values.math", None)
    assert encode(MANY) == orjson.dumps(MANY)


# Many values


@given(
    st.lists(json_values.values | json_values.unfit_values, max_size=5),
    st.sampled_from(["", "x" * 3000]),
)
def test_many_values_are_encoded_as_each_of_them(values: list[Any], long: str) -> None:
    values = [[long, value] for value in values]
    try:
        expected: Any = [encode(value) for value in values]
    except (TypeError, ValueError) as error:
        with pytest.raises(type(error)) as caught:
            encode_many(values)
        assert str(caught.value) == str(error)
    else:
        assert encode_many(values) == expected


@given(st.lists(json_values.values, max_size=5), st.sampled_from(["", "x" * 3000]))
def test_many_texts_are_decoded_as_each_of_them(values: list[Any], long: str) -> None:
    texts = [encode([long, value]) for value in values]
    assert repr(decode_many(texts)) == repr([orjson.loads(text) for text in texts])


@pytest.mark.parametrize(
    "texts",
    [
        [b"1", b"", b"3"],
        [b"1", b"[2", b"3]"],
        [b"1,2", b"3"],
        [b"1", b"2]"],
        [b"null", b"nan"],
        [b"1" * 3000, b'"'],
    ],
)
def test_what_is_not_json_among_many_texts_is_an_error(texts: list[bytes]) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        decode_many(texts)


# Numbers that something is added to


@pytest.mark.parametrize(
    ("text", "by", "total"),
    [
        (b"41", 1, 42),
        (b"41", -1, 40),
        (b"41", 0.5, 41.5),
        (b"1.5", 1, 2.5),
        (b"0.5", 0.5, 1.0),
        (b"0", 2**64 - 1, 2**64 - 1),
        (b"18446744073709551615", -(2**64) + 1, 0),
        (b"-1", -(2**63) + 1, -(2**63)),
        (b"1", Level.HIGH, 4),
        (b"1", Real(0.5), 1.5),
    ],
)
def test_a_number_is_added_to(text: bytes, by: Any, total: Any) -> None:
    added, result = add("n", text, by)
    assert (result, type(result)) == (total, type(total))
    assert added == orjson.dumps(total)


@pytest.mark.parametrize("text", [b'"1"', b"true", b"null", b"[1]", b"{}", b'{"$int":"5"}'])
def test_nothing_is_added_to_what_is_no_number(text: bytes) -> None:
    name = type(orjson.loads(text)).__name__.replace("NoneType", "None")
    with pytest.raises(TypeError, match=f"^the value of key 'n' is (a )?{name}.*, not a number"):
        add("n", text, 1)


@pytest.mark.parametrize("by", [True, None, "1", 1j, Decimal(1)])
def test_only_numbers_of_json_are_added(by: Any) -> None:
    with pytest.raises(TypeError, match="an int or float can be added"):
        add("n", b"1", by)


@pytest.mark.parametrize(
    ("text", "by"),
    [
        (b"1", 2**64 - 1),
        (b"18446744073709551615", 1),
        (b"-9223372036854775808", -1),
        (b"0", 10**5000),
        (b"0.5", 10**400),
        (b"1.7e308", 1.7e308),
        (b"1", math.nan),
        (b"1", -math.inf),
    ],
    ids=lambda part: repr(part)[:20] if part != 10**5000 else "10**5000",
)
def test_a_sum_that_json_cannot_hold_is_refused(text: bytes, by: Any) -> None:
    with pytest.raises(ValueError, match="^key 'n': .*; nothing was added$"):
        add("n", text, by)
