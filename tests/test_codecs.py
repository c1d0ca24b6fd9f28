"""Codecs, and encode= and decode=: every value passes through them, whichever way it goes."""

from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from stores import Store

import kvmap
from kvmap import codecs, values
from kvmap.codecs import Codec
from kvmap.disk.records import sealed

NEW_YEAR, EASTER = datetime(2020, 1, 1), datetime(2020, 4, 12)
Dates = kvmap.KVMap[str, datetime]

HOOKS: dict[str, Any] = {"encode": datetime.isoformat, "decode": datetime.fromisoformat}


@pytest.fixture
def d(store: Store) -> Iterator[Dates]:
    with store.open(**HOOKS) as d:
        yield d


# A codec


def test_json_calls_what_does_the_work() -> None:
    json = codecs.make("json")
    assert json.decode is orjson.loads
    assert json.encode is values.encode
    assert (json.name, json.may_fail) == ("json", False)


@pytest.mark.parametrize(
    ("codec", "value", "text"),
    [
        (codecs.make("json"), (1, None), b"[1,null]"),
        (codecs.make("extended"), {2, 1}, b'{"$set":[1,2]}'),
        (codecs.make("json", type=date), date(2020, 1, 2), b'"2020-01-02"'),
        (codecs.make("json", **HOOKS), NEW_YEAR, b'"2020-01-01T00:00:00"'),
        (codecs.make("extended", encode=sorted, decode=set), {(1,)}, b'[{"$tuple":[1]}]'),
        (codecs.make("json", encode=str), 5, b'"5"'),
        (codecs.make("extended", decode=list), (1, 2), b'{"$tuple":[1,2]}'),
    ],
    ids=["json", "extended", "type", "hooks", "extended with hooks", "encode", "decode"],
)
def test_a_codec_does_the_same_for_one_and_for_many(codec: Codec, value: Any, text: bytes) -> None:
    assert codec.encode(value) == text
    assert codec.encode_many([value] * 3) == [text] * 3
    decoded = codec.decode(text)
    assert [type(decoded), *codec.decode_many([text] * 3)] == [type(decoded), *[decoded] * 3]
    assert codec.encode_many([]) == codec.decode_many([]) == []
    for refused in (b"", b"[1", b"nan"):
        with pytest.raises(orjson.JSONDecodeError):
            codec.decode(refused)
        with pytest.raises(orjson.JSONDecodeError):
            codec.decode_many([text, refused])


@pytest.mark.parametrize(
    "options",
    [{"name": "extended"}, {"type": int}, {"decode": len}, {"encode": str, "decode": int}],
    ids=str,
)
def test_a_codec_whose_decode_may_refuse_json_says_so(options: dict[str, Any]) -> None:
    assert codecs.make(**{"name": "json", **options}).may_fail


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "pickle"}, ValueError, "'json' or 'extended', not 'pickle'"),
        ({"encode": "str"}, TypeError, "encode must be callable or None, not 'str'"),
        ({"decode": 5}, TypeError, "decode must be callable or None, not 5"),
        ({"type": int, "encode": str}, ValueError, "give either"),
        ({"type": int, "decode": str}, ValueError, "give either"),
        ({"type": int, "name": "extended"}, ValueError, "open another store, with codec='json'"),
    ],
    ids=str,
)
def test_options_that_make_no_codec_are_refused(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        codecs.make(**{"name": "json", **options})


def test_a_codec_stays_with_its_store(kept: Store) -> None:
    with kept.open(codec="extended") as d:
        d["ada"] = {"born": date(1815, 12, 10), "tags": {"a"}}
    with kept.open() as d:
        assert d.settings.codec == "extended"
        assert d["ada"] == {"born": date(1815, 12, 10), "tags": {"a"}}


def test_every_way_in_and_out_of_a_map_extends(store: Store) -> None:
    with store.open(codec="extended") as d:
        d["a"] = (1, 2)
        d.update(b={1}, c=b"x")
        with d.edit("b") as value:
            value.add((2,))
        with d.transaction():
            d["d"] = (d["a"], {2: 3})
        assert dict(d) == {"a": (1, 2), "b": {1, (2,)}, "c": b"x", "d": ((1, 2), {2: 3})}
        assert d.pop("c") == b"x"
        assert list(d.values()) == [(1, 2), {1, (2,)}, ((1, 2), {2: 3})]


# Hooks


def in_a_transaction(d: Dates) -> None:
    with d.transaction():
        d["x"] = NEW_YEAR
        assert d["x"] == NEW_YEAR


def memoized(d: Dates) -> None:
    @d.memoize(key=lambda: "x")
    def found() -> datetime:
        return NEW_YEAR

    assert found() == found() == NEW_YEAR


@pytest.mark.parametrize(
    "write",
    [
        lambda d: d.__setitem__("x", NEW_YEAR),
        lambda d: d.set("x", NEW_YEAR),
        lambda d: d.set("x", NEW_YEAR, ttl=None),
        lambda d: d.create("x", NEW_YEAR),
        lambda d: d.setdefault("x", NEW_YEAR),
        lambda d: d.update(x=NEW_YEAR),
        lambda d: d.update({"x": EASTER}, x=NEW_YEAR),
        lambda d: d.update([("x", NEW_YEAR)]),
        lambda d: d.__ior__({"x": NEW_YEAR}),
        in_a_transaction,
        memoized,
    ],
)
def test_every_way_in_encodes(d: Dates, write: Callable[[Dates], None]) -> None:
    write(d)
    assert d["x"] == NEW_YEAR


def test_what_encode_returned_is_what_is_stored(kept: Store) -> None:
    with kept.open(**HOOKS) as d:
        d["x"] = NEW_YEAR
    with kept.open() as raw:
        assert dict(raw) == {"x": "2020-01-01T00:00:00"}


@pytest.mark.parametrize(
    "read",
    [
        lambda d: d["x"],
        lambda d: d.get("x"),
        lambda d: d.setdefault("x", EASTER),
        lambda d: d.pop("x"),
        lambda d: d.pop("x", None),
        lambda d: d.popitem()[1],
        lambda d: next(iter(d.items()))[1],
        lambda d: next(reversed(d.items()))[1],
        lambda d: next(iter(d.values())),
        lambda d: next(reversed(d.values())),
        lambda d: d.values().mapping["x"],
        lambda d: d.copy()["x"],
        lambda d: dict(d)["x"],
        lambda d: (d | {})["x"],
        lambda d: ({} | d)["x"],
        lambda d: {**d}["x"],
    ],
)
def test_every_way_out_decodes(d: Dates, read: Callable[[Dates], Any]) -> None:
    d["x"] = NEW_YEAR
    assert read(d) == NEW_YEAR


def test_comparisons_are_of_decoded_values(d: Dates) -> None:
    d["x"] = NEW_YEAR
    assert d == {"x": NEW_YEAR}
    assert d != {"x": "2020-01-01T00:00:00"}
    assert NEW_YEAR in d.values()
    assert ("x", NEW_YEAR) in d.items()
    assert "2020-01-01T00:00:00" not in d.values()


def test_what_needs_no_value_calls_neither(store: Store) -> None:
    calls: list[Any] = []

    def told(value: Any) -> Any:
        calls.append(value)
        return value

    with store.open(encode=told, decode=told) as d:
        d.update(a=1, b=2)
        assert calls == [1, 2]  # each once
        calls.clear()
        d.expire("a", 60)
        assert (d.ttl("a"), "a" in d, len(d), list(d)) == (60, True, 2, ["a", "b"])
        d.sync()
        del d["a"]
        d.clear()
        assert calls == []
    assert calls == []


def test_an_edit_encodes_what_it_decoded(store: Store) -> None:
    with store.open(encode=sorted, decode=set) as d:
        d["ada"] = {3, 1, 2}
        with d.edit("ada") as tags:
            assert tags == {1, 2, 3}
        with d.edit("ada") as tags:
            tags.add(4)
        assert d["ada"] == {1, 2, 3, 4}
        default = {9}
        with d.edit("bob", default) as tags:
            tags.add(8)
        assert (default, d["bob"]) == ({9}, {8, 9})
        assert d.setdefault("eve", [2, 1]) == {1, 2}, "what was stored, not what was given"


def test_with_writeback_too(kept: Store) -> None:
    with kept.open(encode=sorted, decode=set, writeback=True) as d:
        d["ada"] = {1}
        d["ada"].add(2)
        d.sync()
        d["ada"].add(3)
    with kept.open(encode=sorted, decode=set, writeback=True) as d:
        assert d["ada"] == {1, 2, 3}
        assert d["ada"] is d["ada"]
        d["ada"].add(4)
    with kept.open() as raw:
        assert raw["ada"] == [1, 2, 3, 4]


def test_a_rolled_back_transaction_leaves_what_was_encoded_before(d: Dates) -> None:
    d["x"] = NEW_YEAR
    with pytest.raises(ZeroDivisionError), d.transaction():
        d["x"] = d["y"] = EASTER
        assert dict(d) == {"x": EASTER, "y": EASTER}
        1 / 0
    assert dict(d) == {"x": NEW_YEAR}


WRITES: list[Callable[[kvmap.KVMap[Any, Any]], Any]] = [
    lambda d: d.__setitem__("x", 0),
    lambda d: d.set("x", 0),
    lambda d: d.create("new", 0),
    lambda d: d.setdefault("new", 0),
    lambda d: d.update(before=1, x=0),
    lambda d: d.edit("new", default=0).__enter__(),
]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, TypeError, KeyboardInterrupt])
def test_what_encode_raises_comes_through_and_changes_nothing(
    store: Store, error: type[BaseException]
) -> None:
    def picky(value: int) -> int:
        if not value:
            raise error("picky")
        return value

    with store.open(encode=picky) as d:
        d["x"] = 1
        for write in WRITES:
            with pytest.raises(error, match="picky"):
                write(d)
            assert dict(d) == {"x": 1}
        with pytest.raises(error, match="picky"), d.transaction():
            d["y"] = 2
            d["x"] = 0
        assert dict(d) == {"x": 1}
        d["x"] = 2


def test_what_encode_returns_must_be_json(store: Store) -> None:
    with store.open(encode=lambda value: {"at": [value]}) as d:
        for write in WRITES:
            write(d)
        d.clear()
        for value, error in [(EASTER, TypeError), (float("nan"), ValueError)]:
            with pytest.raises(error, match=r"^value\['at'\]\[0\]: "):
                d["x"] = value
        assert not d


def test_what_decode_raises_is_never_taken_for_a_missing_key(store: Store) -> None:
    def decode(value: dict[str, int]) -> int:
        return value["n"]

    with store.open(encode=lambda value: value, decode=decode) as d:
        d.update(bad={}, good={"n": 1})
        for read in (
            lambda: d["bad"],
            lambda: d.get("bad"),
            lambda: d.get("bad", 7),
            lambda: d.setdefault("bad", 7),
            lambda: d.pop("bad"),
            lambda: d.pop("bad", 7),
            lambda: d.edit("bad", 7).__enter__(),
            lambda: list(d.values()),
            lambda: list(d.items()),
            lambda: d.copy(),
            lambda: d == {"a": 1, "b": 2},
        ):
            with pytest.raises(KeyError) as caught:
                read()
            assert caught.value.args == ("n",), "the hook's own error, not one about the key"
        assert "bad" in d
        assert list(d) == ["bad", "good"]
        assert d.get("absent", 7) == d.pop("absent", 7) == 7
        assert d["good"] == 1
        assert d.popitem() == ("good", 1)
        with pytest.raises(KeyError):
            d.popitem()
        assert len(d) == 1, "what could not be decoded was not removed"
        d["bad"] = {"n": 2}  # it can be overwritten
        assert d["bad"] == 2


READS: list[Callable[[kvmap.KVMap[Any, Any]], Any]] = [
    lambda d: d["bad"],
    lambda d: d.get("bad"),
    lambda d: d.get_many(["good", "bad"]),
    lambda d: d.pop("bad"),
    lambda d: d.edit("bad").__enter__(),
    lambda d: list(d.values()),
    lambda d: list(d.items()),
    lambda d: d.copy(),
]


def test_no_error_of_decode_is_taken_for_damage(store: Store) -> None:
    with store.open(decode=orjson.loads) as d:
        d.update(good="[1]", bad="no JSON")
        for read in READS:
            with pytest.raises(orjson.JSONDecodeError):
                read(d)
        assert d["good"] == [1]


@pytest.mark.parametrize(
    ("options", "good", "bad"),
    [
        ({"decode": lambda value: value["n"]}, {"n": 1}, {}),
        ({"type": dict[str, int]}, {"n": 1}, {"n": "x"}),
        ({"codec": "extended"}, {"n": 1}, {"$x": 1}),
    ],
    ids=["hook", "type", "extended"],
)
def test_an_error_of_decoding_names_the_key(
    kept: Store, options: dict[str, Any], good: Any, bad: Any
) -> None:
    codec = options.get("codec", "json")
    with kept.open(codec=codec) as d:
        d.update(good=good, bad=bad)
    if codec == "extended":
        change_text(d.path, b'"$$x"', b'"$yz"')
    with kept.open(**options) as d:
        for read in READS:
            with pytest.raises((KeyError, ValueError)) as caught:
                read(d)
            assert caught.value.__notes__ == ["that is the value of key 'bad'"]
        assert "bad" in d


def change_text(path: Path, old: bytes, new: bytes) -> None:
    """Replace a text in a store's records, whose checksums are right then."""
    for shard in path.glob("shards/*.jsonl"):
        lines = [line.partition(b',"crc"')[0] for line in shard.read_bytes().splitlines()]
        shard.write_bytes(b"".join(sealed(line.replace(old, new)) for line in lines))


@pytest.mark.parametrize(
    ("options", "bad"),
    [
        ({}, [3j]),
        ({"codec": "extended"}, [object()]),
        ({"type": list[int]}, ["x"]),
        ({"encode": lambda value: value[0] and value}, []),
    ],
    ids=["json", "extended", "type", "hook"],
)
@pytest.mark.parametrize("write", ["update", "set_many"])
def test_of_many_values_the_one_without_a_text_is_named(
    store: Store, options: dict[str, Any], bad: Any, write: str
) -> None:
    with store.open(**options) as d:
        d["a"] = [1]
        with pytest.raises((TypeError, IndexError)) as caught:
            getattr(d, write)({"a": [2], "b": [3], "c": bad, "d": bad})
        assert caught.value.__notes__ == ["that is the value of key 'c'"]
        assert d == {"a": [1]}


@pytest.mark.parametrize("wrong", [[("a", 1)], "ab", 5, None, {"a"}], ids=str)
def test_set_many_takes_a_mapping(store: Store, wrong: Any) -> None:
    with store.open() as d:
        with pytest.raises(TypeError, match="set_many takes a mapping, not"):
            d.set_many(wrong)
        assert not d


def test_a_memoized_result_that_decode_refuses_is_not_computed_again(store: Store) -> None:
    with store.open(decode=lambda value: value["n"]) as d:

        @d.memoize(key=lambda: "x")
        def found() -> dict[str, int]:
            return {}

        for _ in range(2):
            with pytest.raises(KeyError, match="n"):
                found()


def test_limits_count_the_encoded_json(store: Store) -> None:
    limits = kvmap.Limits(value_bytes=12)
    with store.open(limits=limits, encode=lambda n: "x" * n, decode=len) as d:
        d["x"] = 10  # and two quotes
        for write in (
            lambda: d.__setitem__("x", 11),
            lambda: d.set("x", 11),
            lambda: d.create("new", 11),
            lambda: d.setdefault("new", 11),
            lambda: d.update(new=1, x=11),
            lambda: d.edit("new", default=11).__enter__(),
        ):
            with pytest.raises(kvmap.LimitError, match="13 bytes as JSON, the limit is 12"):
                write()
        assert dict(d) == {"x": 10}


def test_either_may_be_given_alone(store: Store) -> None:
    with store.open(encode=str) as d:
        d["x"] = NEW_YEAR
        assert d["x"] == "2020-01-01 00:00:00"
    with store.open("other", decode=len) as d:
        d["y"] = "four"
        assert d["y"] == 4


@pytest.mark.parametrize("hook", ["encode", "decode"])
def test_a_hook_is_something_to_call(path: Path, hook: str) -> None:
    with pytest.raises(TypeError, match=f"{hook} must be callable or None, not 'str'"):
        kvmap.open(path, **{hook: "str"})  # type: ignore[call-overload]
    assert not path.exists()


def test_encode_may_use_the_map_that_calls_it(store: Store) -> None:
    def encode(value: int) -> int:
        if value >= 0:
            d["calls"] = -len(d)
        return value

    with store.open(encode=encode) as d:
        d["calls"] = -1
        d["0"] = 0
        d.update({str(n): n for n in range(500)})
        assert dict(d) == {"calls": -2, **{str(n): n for n in range(500)}}
