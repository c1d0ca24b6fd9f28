"""encode= and decode=: every value passes through them, whichever way it goes in or out."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from disk import Unsynced
from helpers import Clock, files_of
from invariants import check

import kvmap
from kvmap.writer import TOGETHER

NEW_YEAR, EASTER = datetime(2020, 1, 1), datetime(2020, 4, 12)


@pytest.fixture
def clock() -> Unsynced:
    return Unsynced()


@pytest.fixture
def d(path: Path, clock: Unsynced) -> Iterator[kvmap.KVMap[datetime]]:
    with kvmap.open(
        path, encode=datetime.isoformat, decode=datetime.fromisoformat, files=clock
    ) as d:
        yield d
        if not d.closed:
            check(d)


def in_a_transaction(d: kvmap.KVMap[datetime]) -> None:
    with d.transaction():
        d["x"] = NEW_YEAR
        assert d["x"] == NEW_YEAR


def in_an_edit(d: kvmap.KVMap[datetime]) -> None:
    with d.edit("x", default=NEW_YEAR) as value:
        assert value == NEW_YEAR


def memoized(d: kvmap.KVMap[datetime]) -> None:
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
        in_an_edit,
        memoized,
    ],
)
def test_every_way_in_encodes(
    d: kvmap.KVMap[datetime], write: Callable[[kvmap.KVMap[datetime]], None]
) -> None:
    write(d)
    assert d["x"] == NEW_YEAR
    d.close()
    with kvmap.open(d.path) as raw:
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
        lambda d: d.edit("x").__enter__(),
    ],
)
@pytest.mark.parametrize("again", [False, True], ids=["at once", "reopened"])
def test_every_way_out_decodes(
    d: kvmap.KVMap[datetime], read: Callable[[kvmap.KVMap[datetime]], Any], again: bool
) -> None:
    d["x"] = NEW_YEAR
    if not again:
        assert read(d) == NEW_YEAR
        return
    d.close()
    with kvmap.open(d.path, encode=datetime.isoformat, decode=datetime.fromisoformat) as reopened:
        assert read(reopened) == NEW_YEAR


def test_comparisons_are_of_decoded_values(d: kvmap.KVMap[datetime]) -> None:
    d["x"] = NEW_YEAR
    assert d == {"x": NEW_YEAR}
    assert d != {"x": "2020-01-01T00:00:00"}
    assert NEW_YEAR in d.values()
    assert ("x", NEW_YEAR) in d.items()
    assert "2020-01-01T00:00:00" not in d.values()


def test_what_needs_no_value_calls_neither(path: Path, clock: Clock) -> None:
    calls: list[Any] = []

    def told(value: Any) -> Any:
        calls.append(value)
        return value

    with kvmap.open(path, encode=told, decode=told, files=clock) as d:
        d.update(a=1, b=2)
        assert calls == [1, 2]  # each once
        calls.clear()
        d.expire("a", 60)
        assert (d.ttl("a"), "a" in d, len(d), list(d)) == (60, True, 2, ["a", "b"])
        d.compact()
        d.backup(path.with_name("copy"))
        d.sync()
        del d["a"]
        d.clear()
        assert calls == []
    assert calls == []


def test_an_edit_encodes_what_it_decoded(path: Path) -> None:
    with kvmap.open(path, shards=1, encode=sorted, decode=set) as d:
        d["ada"] = {3, 1, 2}
        on_disk = files_of(path / "shards")
        with d.edit("ada") as tags:
            assert tags == {1, 2, 3}
            tags.add(1)
        assert files_of(path / "shards") == on_disk  # nothing changed, nothing is written
        with d.edit("ada") as tags:
            tags.add(4)
        assert d["ada"] == {1, 2, 3, 4}
        default = {9}
        with d.edit("bob", default) as tags:
            tags.add(8)
        assert (default, d["bob"]) == ({9}, {8, 9})
        assert d.setdefault("eve", [2, 1]) == {1, 2}, "what was stored, not what was given"
        check(d)


def test_with_writeback_too(path: Path) -> None:
    with kvmap.open(path, encode=sorted, decode=set, writeback=True) as d:
        d["ada"] = {1}
        d["ada"].add(2)
        d.sync()
        d["ada"].add(3)
    with kvmap.open(path, encode=sorted, decode=set, writeback=True) as d:
        assert d["ada"] == {1, 2, 3}
        assert d["ada"] is d["ada"]
        d["ada"].add(4)
    with kvmap.open(path) as raw:
        assert raw["ada"] == [1, 2, 3, 4]


def test_a_rolled_back_transaction_leaves_what_was_encoded_before(
    d: kvmap.KVMap[datetime],
) -> None:
    d["x"] = NEW_YEAR
    with pytest.raises(ZeroDivisionError), d.transaction():
        d["x"] = d["y"] = EASTER
        assert dict(d) == {"x": EASTER, "y": EASTER}
        1 / 0
    assert dict(d) == {"x": NEW_YEAR}


WRITES: list[Callable[[kvmap.KVMap[Any]], Any]] = [
    lambda d: d.__setitem__("x", 0),
    lambda d: d.set("x", 0),
    lambda d: d.create("new", 0),
    lambda d: d.setdefault("new", 0),
    lambda d: d.update(before=1, x=0),
    lambda d: d.edit("new", default=0).__enter__(),
]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, TypeError, KeyboardInterrupt])
def test_what_encode_raises_comes_through_and_changes_nothing(
    path: Path, error: type[BaseException]
) -> None:
    def picky(value: int) -> int:
        if not value:
            raise error("picky")
        return value

    with kvmap.open(path, shards=1, encode=picky) as d:
        d["x"] = 1
        on_disk = files_of(path / "shards")
        for write in WRITES:
            with pytest.raises(error, match="picky"):
                write(d)
            assert dict(d) == {"x": 1}
        with pytest.raises(error, match="picky"), d.transaction():
            d["y"] = 2
            d["x"] = 0
        assert dict(d) == {"x": 1}
        assert files_of(path / "shards") == on_disk
        d["x"] = 2
        check(d)


def test_what_encode_returns_must_be_json(path: Path) -> None:
    with kvmap.open(path, encode=lambda value: {"at": [value]}) as d:
        for write in WRITES:
            write(d)
        d.clear()
        for value, error in [(EASTER, TypeError), (float("nan"), ValueError)]:
            with pytest.raises(error, match=r"^value\['at'\]\[0\]: "):
                d["x"] = value
        assert not d


def test_what_decode_raises_is_never_taken_for_a_missing_key(path: Path) -> None:
    def decode(value: dict[str, int]) -> int:
        return value["n"]

    with kvmap.open(path, encode=lambda value: value, decode=decode) as d:
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
        check(d)


def test_a_memoized_result_that_decode_refuses_is_not_computed_again(path: Path) -> None:
    with kvmap.open(path, decode=lambda value: value["n"]) as d:

        @d.memoize(key=lambda: "x")
        def found() -> dict[str, int]:
            return {}

        for _ in range(2):
            with pytest.raises(KeyError, match="n"):
                found()


def test_limits_count_the_encoded_json(path: Path) -> None:
    limits = kvmap.Limits(value_bytes=12)
    with kvmap.open(path, limits=limits, encode=lambda n: "x" * n, decode=len) as d:
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


def test_either_may_be_given_alone(path: Path) -> None:
    with kvmap.open(path, encode=str) as d:
        d["x"] = NEW_YEAR
        assert d["x"] == "2020-01-01 00:00:00"
    with kvmap.open(path, decode=len) as d:
        assert d["x"] == 19
        d["y"] = "four"
        assert d["y"] == 4


@pytest.mark.parametrize("hook", ["encode", "decode"])
def test_a_hook_is_something_to_call(path: Path, hook: str) -> None:
    with pytest.raises(TypeError, match=f"{hook} must be callable or None, not 'str'"):
        kvmap.open(path, **{hook: "str"})  # type: ignore[call-overload]
    assert not path.exists()


def test_encode_may_use_the_map_that_calls_it(path: Path) -> None:
    def encode(value: int) -> int:
        if value >= 0:
            d["calls"] = -len(d)
        return value

    with kvmap.open(path, shards=1, encode=encode) as d:
        d["calls"] = -1
        d["0"] = 0
        d.update({str(n): n for n in range(2 * TOGETHER)})
        expected = {"calls": -2, **{str(n): n for n in range(2 * TOGETHER)}}
        assert dict(d) == expected
        check(d)
    with kvmap.open(path) as d:
        assert dict(d) == expected
        check(d)
