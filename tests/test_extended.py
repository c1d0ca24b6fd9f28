"""The codec "extended": what comes out equals what went in, types included."""

import enum
import math
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Hashable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import json_values
import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import kvmap
from kvmap import extended, values
from kvmap.extended import decode, encode, encode_many

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
ZONES = [None, UTC, BERLIN, zoneinfo.ZoneInfo("Asia/Kathmandu"), zoneinfo.ZoneInfo("UTC")]

fixed_offsets = st.integers(-86399, 86399).map(lambda n: timezone(timedelta(seconds=n)))
zones = st.sampled_from(ZONES) | fixed_offsets
numbers = (
    json_values.scalars
    | st.integers()
    | st.integers(2**64, 2**200)
    | st.floats()
    | st.complex_numbers()
)
leaves = (
    numbers
    | st.binary(max_size=40)
    | st.binary(max_size=4).map(bytearray)
    | st.datetimes(timezones=zones, allow_imaginary=True)
    | st.dates()
    | st.times(timezones=zones)
    | st.timedeltas()
    | st.decimals(allow_nan=True).filter(lambda number: not number.is_snan())
    | st.uuids()
    | st.sampled_from(["$", "$set", "$$", '{"$set":1}'])
)
hashable = st.recursive(
    leaves.filter(lambda part: isinstance(part, Hashable)),
    lambda parts: st.lists(parts, max_size=3).map(tuple) | st.frozensets(parts, max_size=3),
    max_leaves=4,
)
names = st.sampled_from(["$", "$$", "$set", "$$set", "$date", "a"]) | json_values.strings
extended_values = st.recursive(
    leaves | hashable,
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.lists(parts, max_size=3).map(tuple)
        | st.sets(hashable, max_size=3)
        | st.dictionaries(names, parts, max_size=3)
        | st.dictionaries(hashable, parts, max_size=3)
    ),
    max_leaves=8,
)


def exact(value: Any) -> Any:
    """A form that is equal for values of the same types, order, zones and signs of zero."""
    kind = type(value)
    if kind is dict:
        return "dict", [(exact(key), exact(part)) for key, part in value.items()]
    if kind is list or kind is tuple:
        return kind.__name__, [exact(part) for part in value]
    if kind is set or kind is frozenset:
        return kind.__name__, sorted((exact(part) for part in value), key=repr)
    if kind is datetime or kind is time:
        return kind.__name__, value.replace(tzinfo=None), value.fold, zone_of(value)
    if kind is complex:
        return "complex", repr(value.real), repr(value.imag)
    if kind is int and abs(value) > 10**4000:
        return "int", hex(value)
    return kind.__name__, repr(value)


def zone_of(value: datetime | time) -> Any:
    if isinstance(value.tzinfo, timezone):
        return value.tzinfo.utcoffset(None)
    return value.tzinfo and str(value.tzinfo)


def looks_tagged(value: Any) -> bool:
    """Whether a dict in it has one key, and that starts with `$`."""
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)).startswith("$"):
            return True
        value = list(value.values())
    return isinstance(value, list) and any(map(looks_tagged, value))


@given(extended_values)
@example({"$set": [1]})
@example([{"$a": b"x"}, {"x": {"$b": (1,)}}])
@example([[i, (i,), {"$date": i}] for i in range(40)])
def test_everything_comes_back_as_it_was(value: Any) -> None:
    before = exact(value)
    text = encode(value)
    assert exact(decode(text)) == before
    assert exact(value) == before, "what went in was changed"
    assert b"\n" not in text
    orjson.loads(text)
    assert encode(decode(text)) == text, "the same value has another text"


@given(json_values.values | json_values.deep)
@example({"$a": 1, "b": 2})
@example(["$set", {"a": "$b"}])
def test_plain_values_have_the_same_text_as_with_json(value: Any) -> None:
    assume(not looks_tagged(value))
    assert encode(value) == values.encode(value)
    assert repr(decode(encode(value))) == repr(value)


@given(json_values.values)
def test_a_text_of_the_json_codec_is_read_too(value: Any) -> None:
    assume(not looks_tagged(value))
    assert repr(decode(values.encode([value, "$"]))) == repr([value, "$"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"ab", '{"$bytes":"YWI="}'),
        (bytearray(b"ab"), '{"$bytearray":"YWI="}'),
        ((1, (2,)), '{"$tuple":[1,{"$tuple":[2]}]}'),
        ({2, 1}, '{"$set":[1,2]}'),
        (set(), '{"$set":[]}'),
        (frozenset({"b", "a"}), '{"$frozenset":["a","b"]}'),
        ({1: "a", (2,): None}, '{"$dict":[[1,"a"],[{"$tuple":[2]},null]]}'),
        ({1: 2, "a": 3}, '{"$dict":[[1,2],["a",3]]}'),
        ({"$set": 1}, '{"$$set":1}'),
        ({"$$set": {"$": ()}}, '{"$$$set":{"$$":{"$tuple":[]}}}'),
        ({"$set": 1, "a": 2}, '{"$set":1,"a":2}'),
        (datetime(2026, 1, 2, 12), '{"$datetime":"2026-01-02T12:00:00"}'),
        (datetime(2026, 1, 2, 12, tzinfo=UTC), '{"$datetime":"2026-01-02T12:00:00+00:00"}'),
        (
            datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
            '{"$datetime":"2020-10-25T02:30:00+01:00[Europe/Berlin][_fold=1]"}',
        ),
        (date(2026, 1, 2), '{"$date":"2026-01-02"}'),
        (time(12, 30), '{"$time":"12:30:00"}'),
        (time(12, 30, tzinfo=BERLIN), '{"$time":"12:30:00[Europe/Berlin]"}'),
        (timedelta(days=1, seconds=1.5), '{"$timedelta":"P1DT1.5S"}'),
        (timedelta(days=2), '{"$timedelta":"P2D"}'),
        (timedelta(seconds=5), '{"$timedelta":"PT5S"}'),
        (timedelta(0), '{"$timedelta":"PT0S"}'),
        (-timedelta(microseconds=1), '{"$timedelta":"-PT0.000001S"}'),
        (Decimal("1.50"), '{"$decimal":"1.50"}'),
        (Decimal("NaN"), '{"$decimal":"NaN"}'),
        (UUID(int=5), '{"$uuid":"00000000-0000-0000-0000-000000000005"}'),
        (1 + 2j, '{"$complex":[1.0,2.0]}'),
        (complex(math.inf, -0.0), '{"$complex":[{"$float":"inf"},-0.0]}'),
        (2**64, '{"$int":"18446744073709551616"}'),
        (math.nan, '{"$float":"nan"}'),
        (-math.inf, '{"$float":"-inf"}'),
        ({"a": [b"", None], "b": (0.5,)}, '{"a":[{"$bytes":""},null],"b":{"$tuple":[0.5]}}'),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_the_text_of_each_type(value: Any, text: str) -> None:
    assert encode(value).decode() == text
    assert encode([[value] * 2]).decode() == f"[[{text},{text}]]"
    assert exact(decode(text.encode())) == exact(value)


def test_the_table_in_the_docs_has_every_type() -> None:
    assert extended.__doc__ is not None
    for kind in extended.TYPES:
        assert f'{{"${kind.__name__.lower()}":' in extended.__doc__


@pytest.mark.parametrize("value", [timedelta.min, timedelta.max, 10**4300 - 1, -(10**4300) + 1])
def test_bounds_come_back(value: Any) -> None:
    assert decode(encode(value)) == value


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Zone(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(hours=1)


class Moment(datetime):
    pass


class Tags(set[str]):
    pass


class Frozen(dict[str, int]):
    __hash__ = lambda self: 1  # type: ignore[assignment]  # noqa: E731


class AnyCase(str):
    """Equal to its own text, yet found under another hash."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (OrderedDict(b=1, a=(1,)), {"b": 1, "a": (1,)}),
        (Counter([1, 1, None]), {1: 2, None: 1}),
        (defaultdict(list, {"$set": [1]}), {"$set": [1]}),
        ({Level.HIGH: Level.HIGH}, {3: 3}),
        ({Level.HIGH}, {3}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_that_is_equal_comes_back_as_its_plain_value(value: Any, plain: Any) -> None:
    assert exact(decode(encode([value]))) == exact([plain])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (Colour.RED, TypeError, "^value: Colour can't be kept; store its .value"),
        ([{"a": object()}], TypeError, r"^value\[0\]\['a'\]: object can't be kept; make it a dict"),
        ({"a": (1, {Colour.RED})}, TypeError, r"^value\['a'\]\[1\], its element <Colour.RED"),
        ({1: {2: object}}, TypeError, r"^value\[1\]\[2\]: type can't be kept"),
        ({(1, Colour.RED): 1}, TypeError, r"^value, its key \(1, <Colour.RED: 'red'>\)\[1\]: Col"),
        ([Point(1, 2)], TypeError, r"^value\[0\]: Point can't be kept"),
        ([Tags({"a"})], TypeError, r"^value\[0\]: Tags can't be kept"),
        ([Moment(2026, 1, 2)], TypeError, r"^value\[0\]: Moment can't be kept"),
        ([Fraction(1, 2)], TypeError, r"^value\[0\]: Fraction can't be kept"),
        ([range(3)], TypeError, r"^value\[0\]: range can't be kept"),
        ([{Frozen(a=1)}], TypeError, "unhashable"),
        ({(1, Frozen(a=1)): 1}, TypeError, "unhashable"),
        ({1: 2, AnyCase("A"): 1}, TypeError, "its key 'A': AnyCase .* has another hash"),
        ({AnyCase("A")}, TypeError, "its element 'A': AnyCase .* has another hash"),
        ([datetime(2026, 1, 2, tzinfo=Zone())], TypeError, r"^value\[0\]: .* of type Zone can't"),
        ([time(1, tzinfo=Zone())], TypeError, r"^value\[0\]: a time with a tzinfo of type Zone"),
        (
            [time(1, tzinfo=timezone(timedelta(microseconds=1)))],
            ValueError,
            r"^value\[0\]: the offset 0:00:00.000001 is no whole number of seconds",
        ),
        ([10**4300], ValueError, r"^value\[0\]: an int of more than 4300 digits can't be kept"),
        (["\ud800", b""], ValueError, r"^value\[0\]: the str is not valid UTF-8"),
        ({"\ud800": ()}, ValueError, "^value, its key .*: the str is not valid UTF-8"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_has_no_tag_is_refused_with_its_place(
    value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        encode(value)


def in_tuples(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = (inner,)
    return inner


def in_dicts(levels: int, inner: Any) -> Any:
    for _ in range(levels):
        inner = {1: inner}
    return inner


@pytest.mark.parametrize(
    ("fits", "too_deep"),
    [
        (in_tuples(127, 1), in_tuples(127, [])),
        (in_tuples(126, [[]]), in_tuples(126, [[[]]])),
        (in_tuples(126, [b""]), in_tuples(126, [[b""]])),
        (in_dicts(84, [[]]), in_dicts(84, [[[]]])),
    ],
    ids=["tuples", "lists", "bytes in a tuple", "dicts"],
)
def test_a_text_is_nested_254_levels_at_most(fits: Any, too_deep: Any) -> None:
    assert decode(encode(fits)) == fits
    with pytest.raises(ValueError, match="nested deeper than 254 levels"):
        encode(too_deep)


@pytest.mark.parametrize("beside", [0, ()], ids=["by the hook", "part by part"])
@pytest.mark.parametrize(
    ("part", "levels"),
    [(b"", 1), ({1}, 2), ({(1,)}, 4), (1j, 2), (complex(math.inf), 3), ({1: 1}, 3), ({1: (2,)}, 5)],
    ids=repr,
)
def test_a_tag_counts_as_the_levels_it_has(part: Any, levels: int, beside: Any) -> None:
    fits = [beside, json_values.nested(253 - levels, part)]
    assert exact(decode(encode(fits))) == exact(fits)
    with pytest.raises(ValueError, match=r"^value\[1\].*nested deeper than 254 levels"):
        encode([beside, json_values.nested(254 - levels, part)])


def test_what_is_inside_itself_is_refused() -> None:
    value: list[Any] = [b""]
    value.append((value,))
    with pytest.raises(ValueError, match="nested deeper than 254 levels, or in itself"):
        encode(value)


# Reading what someone else wrote


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"$gt":5}', r"^value: unknown tag '\$gt'; .* is written with '\$\$gt'"),
        ('[{"a":{"$":5}}]', r"^value\[0\]\['a'\]: unknown tag '\$'"),
        ('{"$tuple":[{"$x":1}]}', r"^value\['\$tuple'\]\[0\]: unknown tag"),
        ('[{"$pickle":"gASVBQ=="}]', r"^value\[0\]: unknown tag '\$pickle'"),
        *(
            (f'[{{"$bytes":{content}}}]', r"^value\[0\]: .* is no content of \$bytes: ")
            for content in ("1", '"é"', '"YQ"', '"Y W I="', "null", "[]")
        ),
        *((f'{{"$tuple":{content}}}', "no content of") for content in ("1", '"ab"', "{}")),
        ('{"$tuple":{"$tuple":[1]}}', "it holds an array"),
        ('{"$set":[1,1]}', "an element stands there twice"),
        ('{"$set":[1,1.0]}', "an element stands there twice"),
        ('{"$set":[[1]]}', "unhashable"),
        ('{"$frozenset":[{"a":1}]}', "unhashable"),
        ('{"$frozenset":{"a":1}}', "it holds an array"),
        ('{"$dict":[[1,2],[1,3]]}', "a key stands there twice"),
        *((f'{{"$dict":{content}}}', "no content of") for content in ("[[1]]", "[1]", '["ab"]')),
        ('{"$dict":[[[],1]]}', "unhashable"),
        ('{"$datetime":"2026-13-01"}', "no content of"),
        ('{"$datetime":5}', "it holds a string"),
        ('{"$datetime":"2026-01-02T12:00:00[../../etc/passwd]"}', "RFC 9557"),
        ('{"$datetime":"2026-01-02T12:00:00[/etc/passwd]"}', "RFC 9557"),
        ('{"$datetime":"2026-01-02T12:00:00[a/../../passwd]"}', "RFC 9557"),
        ('{"$datetime":"2026-01-02T12:00:00+00:00[No/Where]"}', "knows no such time zone"),
        ('{"$datetime":"2026-01-02T12:00:00+00:00[America]"}', "knows no such time zone"),
        ('{"$datetime":"0001-01-01T00:00:00+00:00[America/New_York]"}', "no content of"),
        ('{"$date":"2026-01-02T00:00:00"}', "no content of"),
        ('{"$time":"25:00"}', "no content of"),
        *(
            (f'{{"$timedelta":"{content}"}}', "not days and seconds")
            for content in (
                "",
                "P",
                "PT",
                "P1DT",
                "1",
                "P1Y",
                "PT1",
                "PT-1S",
                "P1.5D",
                "PT1.1234567S",
            )
        ),
        ('{"$decimal":"1.5.5"}', "no content of"),
        ('{"$decimal":1.5}', "it holds a string"),
        ('{"$uuid":"5"}', "no content of"),
        *(
            (f'{{"$complex":{content}}}', "no content of")
            for content in ("[1.0]", "[1,2.0]", "[1.0,2]", '"1j"')
        ),
        *(
            (f'{{"$int":"{content}"}}', "not an int of at most 4300 digits")
            for content in ("", "0x10", "1_0", " 1", "1.0", "٣", "9" * 4301)
        ),
        *(
            (f'{{"$float":{content}}}', "no content of")
            for content in ('"1.5"', "1", "[]", '"NaN"')
        ),
        ("[" * 300 + '{"$set":[]}' + "]" * 300, "nested deeper than 254 levels"),
        ('{"$set":' * 300 + "1" + "}" * 300, "nested deeper than 254 levels"),
    ],
    ids=lambda part: part[:60] if part[:1] in "[{" else "",
)
def test_a_tag_that_nobody_wrote_is_refused(text: str, message: str) -> None:
    for read in (decode, lambda text: extended.decode_many([b"1", text])):
        with pytest.raises(ValueError, match=message) as caught:
            read(text.encode())
        assert not isinstance(caught.value, orjson.JSONDecodeError)


@given(
    st.recursive(
        json_values.scalars | names,
        lambda parts: (
            st.lists(parts, max_size=3)
            | st.dictionaries(
                st.sampled_from([f"${kind.__name__}" for kind in extended.TYPES]), parts, max_size=1
            )
        ),
    )
)
def test_any_other_text_is_read_or_refused(value: Any) -> None:
    try:
        found = decode(orjson.dumps(value))
    except ValueError as error:
        assert str(error).startswith("value")
    else:
        assert exact(decode(encode(found))) == exact(found)


def test_a_moment_is_kept_where_its_zone_has_another_offset_now() -> None:
    found = decode(b'{"$datetime":"2026-01-02T12:00:00+05:00[Europe/Berlin]"}')
    assert found == datetime(2026, 1, 2, 7, tzinfo=UTC)
    assert found.tzinfo is BERLIN


@pytest.mark.parametrize("pretty", [False, True])
def test_a_tag_is_found_wherever_it_stands(pretty: bool) -> None:
    option = orjson.OPT_INDENT_2 if pretty else None
    for before in (0, 1, 31, 32, 33, 100):
        plain = {"prices": ["9.99 $ or $9.99"[: 9 - i % 2] for i in range(before)], "a": 1}
        text = orjson.dumps({**plain, "set": {"$set": [1]}}, option=option)
        assert decode(text) == {**plain, "set": {1}}


@pytest.mark.parametrize("start", ["", "$", '"$', '{"$', "\\"])
def test_no_str_is_taken_for_a_tag(start: str) -> None:
    for value in (start, [f"{start}set"], {"a": f'{start}set":1}}'}, {"a": 1, start: 2}):
        assert decode(encode(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        [1, 2.5, None, {"a": ["$", {"$b": 1, "c": 2}]}],
        [{"at": datetime(2026, 1, 2), "data": b"x", "n": i} for i in range(50)],
        {"price": Decimal(1), "tags": {"a"}, "moment": time(1)},
    ],
    ids=["plain", "many", "few"],
)
def test_what_the_hook_can_write_is_not_taken_apart(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = exact(value)
    plain, calls = extended.plain, []

    def counted(value: Any, depth: int, form: Any) -> Any:
        calls.append(value)
        return plain(value, depth, form)

    monkeypatch.setattr("kvmap.extended.plain", counted)
    assert exact(decode(encode(value))) == expected
    assert all(type(part) is str for part in calls), "only elements of a set"


@pytest.mark.parametrize("call", [encode, encode_many])
def test_an_interrupt_in_the_middle_comes_through(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[list[Any]], Any]
) -> None:
    interrupts = iter([KeyboardInterrupt])

    def interrupted(value: bytes) -> str:
        for each in interrupts:
            raise each
        return ""

    monkeypatch.setitem(extended.WRITERS, bytes, ("$bytes", interrupted))
    with pytest.raises(KeyboardInterrupt):
        call([b"x"])


@pytest.mark.parametrize(
    "wrong",
    [object(), {"$x": object()}, 10**5000, "\ud800"],
    ids=["object", "in a dict", "int", "str"],
)
def test_of_many_values_the_first_without_a_text_is_named(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as one:
        encode(["x", wrong])
    with pytest.raises(type(one.value)) as many:
        encode_many([1, {"$x": (1, 2)}, ["x", wrong], [object()]])
    assert str(many.value) == str(one.value)


def test_reads_and_writes_through_a_map() -> None:
    with kvmap.open(":memory:", codec="extended") as d:
        d.update(a={1: {"$x": (b"", 2**70)}}, b=[math.inf])
        assert dict(d) == {"a": {1: {"$x": (b"", 2**70)}}, "b": [math.inf]}
        with pytest.raises(TypeError, match="can't be kept"):
            d["c"] = object()
        assert "c" not in d
