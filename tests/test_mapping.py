"""The mapping: what a dict does, kvmap does, and what cannot be stored changes nothing."""

import math
import random
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from helpers import AnyMap
from stores import Store

import kvmap


@pytest.fixture
def d(store: Store) -> Iterator[AnyMap]:
    with store.open() as d:
        yield d
        store.check(d)


def test_it_is_a_mutable_mapping(d: AnyMap) -> None:
    assert isinstance(d, MutableMapping)
    assert not d
    d["ada"] = {"visits": 1}
    assert d
    assert d["ada"] == {"visits": 1}
    assert "ada" in d
    assert "bob" not in d
    assert len(d) == 1
    assert d.get("ada") == {"visits": 1}
    assert d.get("bob") is None
    assert d.get("bob", 7) == 7


def test_missing_keys_are_plain_key_errors(d: AnyMap) -> None:
    for wrong in (
        lambda: d["absent"],
        lambda: d.__delitem__("absent"),
        lambda: d.pop("absent"),
        lambda: d.ttl("absent"),
        lambda: d.expire("absent", 1),
        lambda: d.edit("absent").__enter__(),
    ):
        with pytest.raises(KeyError) as caught:
            wrong()
        assert caught.type is KeyError
        assert caught.value.args == ("absent",)
    with pytest.raises(KeyError, match="empty"):
        d.popitem()
    assert d.pop("absent", 3) == 3
    assert d.pop("absent", None) is None


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -1, 2**64 - 1, -(2**63), 0.1, -0.0, 5e-324, 1.7976931348623157e308),
        *("", "\0", '","seq":1,"value":', "\n", "\u2028", "é\U0001f40d", "x" * 100_000),
        *([], {}, [[[]]], {"": {"": []}}, {"crc": "00000000", "value": [1, "two", None]}),
    ],
)
def test_what_goes_in_comes_out(d: AnyMap, value: Any) -> None:
    d["key"] = value
    found = d["key"]
    assert (found, type(found), repr(found)) == (value, type(value), repr(value))


@pytest.mark.parametrize(
    "key",
    [
        *("", "\0", "a/b", "..", '"', '\\","seq":9,', "\n", "é\U0001f40d", "x" * 100_000),
        *(0, -1, 2**64 - 1, -(2**63), 0.5, -1e300, None, (), (1, ("two", None)), ("a", 0.5)),
    ],
)
def test_keys_come_back_as_they_were(d: AnyMap, key: Any) -> None:
    d["before"], d[key], d["after"] = 1, 2, 3
    assert list(d) == ["before", key, "after"]
    assert [type(each) for each in d] == [str, type(key), str]
    assert d[key] == 2
    del d[key]
    assert key not in d


def test_equal_keys_are_one_key(d: AnyMap) -> None:
    d[1] = "int"
    d[True] = "bool"
    d[1.0] = "float"
    assert dict(d) == {1: "float"}
    assert type(next(iter(d))) is int  # a dict keeps the key it had
    assert len(d) == 1
    assert d[True] == d[1] == d[1.0] == "float"


@pytest.mark.parametrize(
    ("key", "value"),
    [(1, None), (True, 0.1), (1.5, {"": [2**64 - 1]}), (("a", (None, 1.0)), "\u2028\0"), ("", [])],
)
def test_both_come_back_when_the_store_is_opened_again(kept: Store, key: Any, value: Any) -> None:
    with kept.open() as d:
        d["before"], d[key], d["after"] = 1, value, 3
    for flag in ("r", "w", "c"):
        with kept.open("store", flag) as d:
            assert repr(list(d.items())) == repr([("before", 1), (key, value), ("after", 3)])


@pytest.mark.parametrize("key", [b"bytes", object(), frozenset(), ("a", b"b"), 1j])
def test_a_key_that_json_cannot_hold_is_refused(d: AnyMap, key: Any) -> None:
    with pytest.raises(TypeError, match="key"):
        d[key] = 1
    with pytest.raises(KeyError):
        d[key]
    assert key not in d
    assert d.get(key, 3) == 3
    assert not len(d)


@pytest.mark.parametrize("key", [math.nan, math.inf, 2**64, -(2**63) - 1, "\ud800"])
def test_a_key_out_of_range_is_refused(d: AnyMap, key: Any) -> None:
    with pytest.raises(ValueError, match="key"):
        d[key] = 1
    assert key not in d
    assert not len(d)


def test_an_unhashable_key_fails_as_in_a_dict(d: AnyMap) -> None:
    for use in (
        lambda: d[[]],
        lambda: d.__setitem__([], 1),
        lambda: d.pop([]),
        lambda: d.get([]),
        lambda: [] in d,
        lambda: d.__delitem__([]),
    ):
        with pytest.raises(TypeError, match="unhashable"):
            use()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.nan, "value"),
        ([1, math.inf], r"value\[1\]"),
        ({"a": [{}, {"b": b"x"}]}, r"value\['a'\]\[1\]\['b'\]"),
        ({"a": {1: 2}}, r"value\['a'\]: the key 1 is of type int"),
        ({1, 2}, "value: set"),
        ("\ud800", "value.*UTF-8"),
        (2**64, "value.*64 bits"),
    ],
)
def test_a_value_that_json_cannot_hold_changes_nothing(d: AnyMap, value: Any, place: str) -> None:
    d["key"] = "kept"
    for write in (
        lambda: d.__setitem__("key", value),
        lambda: d.set("key", value, ttl=5),
        lambda: d.create("new", value),
        lambda: d.setdefault("new", value),
        lambda: d.update({"a": 1, "key": value}),
    ):
        with pytest.raises((TypeError, ValueError), match=place):
            write()
        assert dict(d) == {"key": "kept"}


def test_a_value_got_is_the_callers_own(d: AnyMap) -> None:
    mine = {"groups": []}
    d["ada"] = mine
    mine["groups"].append("changed")
    d["ada"]["groups"].append("lost")
    d.get("ada")["groups"].append("lost")
    assert d["ada"] == {"groups": []}


def test_create_and_setdefault(d: AnyMap) -> None:
    d.create("ada", 1)
    with pytest.raises(kvmap.KeyExistsError, match="'ada'"):
        d.create("ada", 2)
    assert d.setdefault("ada", 3) == 1
    assert d.setdefault("bob", (1, 2)) == [1, 2]  # what was stored, not what was given
    assert d.setdefault("nil") is None
    assert dict(d) == {"ada": 1, "bob": [1, 2], "nil": None}


def test_edit_writes_back_what_the_block_changed(d: AnyMap) -> None:
    d["ada"] = {"visits": 1}
    with d.edit("ada") as user:
        user["visits"] += 1
    assert d["ada"] == {"visits": 2}
    with d.edit("bob", default=[]) as some:
        some.append(1)
    assert d["bob"] == [1]
    with pytest.raises(ZeroDivisionError), d.edit("ada") as user:
        user["visits"] = 1 / 0
    with pytest.raises(TypeError, match="set"), d.edit("ada") as user:
        user["visits"] = {1}
    assert d["ada"] == {"visits": 2}
    with d.edit("ada"):
        assert d.in_block
    assert d["ada"] == {"visits": 2}
    assert not d.in_block


def test_equality_and_union(d: AnyMap, store: Store) -> None:
    d.update(a=1, b=[2])
    assert d == {"b": [2], "a": 1}
    assert d != {"a": 1}
    assert d != {"a": 1, "b": [3]}
    assert d != 5
    assert d | {"c": 3} == {"a": 1, "b": [2], "c": 3}
    assert {"a": 0, "z": 9} | d == {"a": 1, "z": 9, "b": [2]}
    with store.open("other") as other:
        other |= d
        assert other == d
        other["c"] = 3
        assert other != d
    d |= [("c", 3)]
    assert d.copy() == {"a": 1, "b": [2], "c": 3}


def test_update_takes_what_a_dict_takes_and_is_all_or_nothing(d: AnyMap) -> None:
    d.update({"a": 1}, b=2)
    d.update([("c", 3), ("a", 4)])
    d.update(iter([]))
    d.update()
    assert dict(d) == {"a": 4, "b": 2, "c": 3}
    for wrong in ({"a": 5, "new": {1}}, {"a": 5, b"new": 1}):
        with pytest.raises(TypeError):
            d.update(wrong)
    with pytest.raises(ZeroDivisionError):
        d.update((key, 1 / (2 - i)) for i, key in enumerate("abc"))
    assert dict(d) == {"a": 4, "b": 2, "c": 3}


MANY = 700
"""Entries of a batch that is written as one, whatever the engine."""


@pytest.mark.parametrize("ttl", [None, 50])
def test_a_large_update_does_what_as_many_single_writes_do(store: Store, ttl: int | None) -> None:
    random_ = random.Random(7)
    numbers = random_.sample(range(2 * MANY), MANY)
    keys: list[Any] = [n if n % 5 == 0 else (n, str(n)) if n % 7 == 0 else str(n) for n in numbers]
    values: list[Any] = [random_.choice([n, {"a": [n, None]}, "x" * 300, (1.5,)]) for n in numbers]
    found = []
    for name in ("single", "update"):
        with store.open(name, ttl=ttl) as d:
            for key in keys[::3]:
                d[float(key) if type(key) is int else key] = "to be overwritten"
            if name == "single":
                for key, value in zip(keys, values, strict=True):
                    d[key] = value
            else:
                d.update(dict(zip(keys, values, strict=True)))
            store.check(d)
            found.append(repr(list(d.items())))
            assert {d.ttl(key) for key in d} == {ttl}
    assert found[0] == found[1]


class Meddler(str):
    """A str that writes to a map when it is compared."""

    d: AnyMap
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        self.d["meddled"] = len(self.d) * "x"
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other


def test_a_key_or_value_that_writes_when_it_is_looked_at_leaves_a_whole_map(d: AnyMap) -> None:
    Meddler.d = d
    before: dict[str, Any] = dict.fromkeys(map(str, range(MANY)), 0)
    for pairs in ({**before, "new": Meddler("a")}, {**before, Meddler("new"): 1}):
        try:
            d.update(pairs)
        except RuntimeError:
            assert set(d) <= {"meddled"}
        else:
            assert set(d) - {"meddled"} == set(pairs)
        assert dict(d) == {key: d[key] for key in d}
        d.clear()


def test_a_transaction_is_all_or_nothing(d: AnyMap) -> None:
    d.update(a=1, b=2, c=3)
    with d.transaction():
        d["a"] = 10
        del d["b"]
        d["new"] = 4
        with d.transaction():
            d["c"] = d.pop("c")  # to the end
        assert list(d.items()) == [("a", 10), ("new", 4), ("c", 3)]
    assert list(d.items()) == [("a", 10), ("new", 4), ("c", 3)]
    with pytest.raises(ZeroDivisionError), d.transaction():
        d.clear()
        d["a"] = 1 / 0
    assert list(d.items()) == [("a", 10), ("new", 4), ("c", 3)]


@pytest.mark.parametrize("shards", [1, 32])
@pytest.mark.parametrize("seed", range(3))
def test_random_steps_do_to_it_what_they_do_to_a_dict(store: Store, seed: int, shards: int) -> None:
    random_ = random.Random(seed)
    model: dict[Any, Any] = {}
    d = store.open(shards=shards)

    def step(d: Any, kind: int, key: Any, value: Any) -> Any:
        match kind:
            case 0 | 1 | 2:
                d[key] = value
            case 3:
                d.pop(key, None)
            case 4:
                return d.setdefault(key, value)
            case 5:
                return d.popitem() if len(d) > 20 else None
            case 6:
                d.update({key: value, f"{key}+": value, "last": value})
            case 7:
                return d.get(key), key in d, len(d)
            case 8:
                d.pop(key, None)
                d[key] = value

    for number in range(400):
        kind, key = random_.randrange(9), random_.choice([random_.randrange(40), f"k{number % 50}"])
        value = [number, "x" * random_.randrange(300)]
        in_transaction, undone = random_.random() < 0.2, random_.random() < 0.3
        if in_transaction and undone:
            with pytest.raises(InterruptedError), d.transaction():
                step(d, kind, key, value)
                raise InterruptedError
        elif in_transaction:
            with d.transaction():
                found = step(d, kind, key, value)
                assert list(d.items()) != [] or not len(d)
            assert found == step(model, kind, key, value)
        else:
            assert step(d, kind, key, value) == step(model, kind, key, value)
        if number % 10 == 0:
            store.check(d)
            assert list(d.items()) == list(model.items())
            assert list(reversed(d)) == list(reversed(model))
        if random_.random() < 0.03 and store.is_kept:
            d.close()
            d = store.open()
    store.check(d)
    assert d == model
    d.close()


# What a dict has not


def test_many_at_once(d: AnyMap) -> None:
    d.set_many({"a": 1, "b": [2], 3: None})
    assert d.get_many(["b", "absent", 3.0, "b"]) == {"b": [2], 3: None}
    assert list(d.get_many(iter([3, "a"]))) == [3, "a"]
    assert d.get_many([]) == {}
    d.set_many({})
    d.set_many({"a": 9, "c": (4,)}, ttl=60)
    assert list(d.items()) == [("a", 9), ("b", [2]), (3, None), ("c", [4])]
    assert (d.ttl("a"), d.ttl("b"), d.ttl("c")) == (60, None, 60)
    assert d.delete_many(["a", "absent", True, 3, "a"]) == 2
    assert d.delete_many([]) == 0
    assert list(d) == ["b", "c"]
    for wrong in ({"new": 1, "bad": {1}}, {"new": 1, b"bad": 1}):
        with pytest.raises(TypeError):
            d.set_many(wrong)
    with pytest.raises(TypeError, match="unhashable"):
        d.delete_many(["b", []])
    with pytest.raises(TypeError, match="unhashable"):
        d.get_many([[]])
    assert list(d) == ["b", "c"]


def test_incr_adds_to_what_is_there(d: AnyMap) -> None:
    assert [d.incr("n"), d.incr("n", 5), d.incr("n", -2.5)] == [1, 6, 3.5]
    assert d.incr("m", default=10) == 11
    assert d.incr(("t", 1), by=2) == 2
    assert list(d.items()) == [("n", 3.5), ("m", 11), (("t", 1), 2)]
    with pytest.raises(KeyError) as caught:
        d.incr("absent", default=None)
    assert caught.value.args == ("absent",)
    d.update(text="1", none=None, list=[1], yes=True)
    for key in ("text", "none", "list", "yes"):
        before = d[key]
        with pytest.raises(TypeError, match="not a number"):
            d.incr(key)
        assert d[key] is before or d[key] == before
    for wrong in (True, "1", None, [1]):
        with pytest.raises(TypeError, match="by must be a number"):
            d.incr("n", wrong)  # type: ignore[arg-type]
    for wrong in (True, "1", [1]):
        with pytest.raises(TypeError, match="default must be a number"):
            d.incr("new", default=wrong)  # type: ignore[arg-type]
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not a finite number"):
            d.incr("n", wrong)
    with pytest.raises(ValueError, match="64 bits"):
        d.incr("m", 2**64)
    with pytest.raises(TypeError, match="^key "):
        d.incr(b"bytes")
    assert (d["n"], d["m"], "new" in d) == (3.5, 11, False)


def test_scan_finds_keys_by_their_beginning(d: AnyMap) -> None:
    d.update(
        {"user:ada": 1, "user:": 2, "User:eve": 3, ("user", 1): 4, ("user",): 5, 17: 6, None: 7}
    )
    assert list(d.scan("user:")) == ["user:ada", "user:"]
    assert list(d.scan("")) == ["user:ada", "user:", "User:eve"]
    assert list(d.scan(("user",))) == [("user", 1), ("user",)]
    assert list(d.scan(())) == [("user", 1), ("user",)]
    assert list(d.scan("absent")) == []
    for wrong in (None, 1, b"user", ["user"]):
        with pytest.raises(TypeError, match="prefix must be"):
            d.scan(wrong)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="changed size"):
        for key in d.scan("user:"):
            del d[key]


def test_create_keeps_what_is_there(d: AnyMap) -> None:
    d.create("a", 1, ttl=60)
    assert d.ttl("a") == 60
    with pytest.raises(kvmap.KeyExistsError, match="'a' is there"):
        d.create("a", 2, ttl=5)
    assert (d["a"], d.ttl("a")) == (1, 60)


def test_missing_parents_are_made(kept: Store) -> None:
    with kept.open("a/b/c") as d:
        d["a"] = 1
        assert d.path == kept.folder / "a" / "b" / "c"
    with kept.open("a/b/c", "r") as d:
        assert dict(d) == {"a": 1}
