"""The contract of an engine: equal keys are one, and any key of a map may be one."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from test_contract_batches import changed, commit
from test_contract_entries import content

import kvmap
from kvmap.engine import INF, KEEP_DEADLINE, Changes, Engine

ALSO_OF_A_BLOCK = True

KEYS: list[Any] = [
    *("", "a", "\0", "\n", '"', "\\", "a/b", "..", "é", "\u2028", "\U0001f40d", "x" * 10_000),
    *('{"key":"a"}', ',"value":', "1", "null", "true", "[1]", "{a}", "*", "a b", "%s"),
    *(0, -1, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 0.5, -1e300, 5e-324, None),
    *((), (1,), ("a", (None, (0.5, False))), ((),), ("a", "b"), ("\0", "\U0001f40d"), (1.0, "b")),
]


def test_every_kind_of_key_comes_back_as_it_was(engine: Engine) -> None:
    for number, key in enumerate(KEYS):
        engine.put(key, b"%d" % number, INF)
    for number, key in enumerate(KEYS):
        assert key in engine
        assert engine.get(key) == b"%d" % number
    found = [key for page in engine.keys() for key in page]
    assert repr(found) == repr(KEYS)
    assert engine.get_many(KEYS) == [b"%d" % number for number in range(len(KEYS))]
    assert engine.delete_many(KEYS[::2]) == len(KEYS[::2])
    for key in KEYS[1::2]:
        assert engine.pop(key) is not None
    assert len(engine) == 0


def test_one_batch_of_every_kind_of_key(engine: Engine) -> None:
    engine.put_many(dict.fromkeys(KEYS, b"1"), INF)
    assert repr([key for page in engine.keys(reverse=True) for key in page]) == repr(KEYS[::-1])
    changes = Changes()
    changes.deleted.update(KEYS)
    changes.written = dict.fromkeys(reversed(KEYS), (b"2", INF))
    commit(engine, changes)
    assert repr(content(engine)) == repr([(key, b"2") for key in reversed(KEYS)])


EQUAL: list[list[Any]] = [
    [1, 1.0, True],
    [True, 1, 1.0],
    [1.0, True],
    [0, -0.0, 0.0, False],
    [-0.0, 0],
    [2**63, 2.0**63],
    [2.0**63, 2**63],
    [(1, ("a", 0)), (True, ("a", -0.0)), (1.0, ("a", False))],
]


@pytest.mark.parametrize("equal", EQUAL, ids=repr)
def test_equal_keys_are_one_and_keep_the_first_form(engine: Engine, equal: list[Any]) -> None:
    first, *others = equal
    engine.put_many({"before": b"0", first: b"0", "after": b"0"}, INF)
    for other in others:
        assert other in engine
        assert engine.get(other) is not None
        engine.put(other, b"1", INF)
        engine.put_many({other: b"2"}, INF)
        engine.setdefault(other, b"9", INF)
        engine.incr(other, 1, 0, KEEP_DEADLINE)
        engine.expire(other, INF)
        commit(engine, one_written(other))
        assert len(engine) == 3
    assert repr(content(engine)) == repr([("before", b"0"), (first, b"4"), ("after", b"0")])
    assert engine.pop(equal[-1]) == b"4"
    assert first not in engine


def one_written(key: Any) -> Changes:
    changes = Changes()
    changes.written[key] = b"4", INF
    return changes


@pytest.mark.parametrize("equal", EQUAL, ids=repr)
def test_a_deleted_key_may_come_back_in_another_form(engine: Engine, equal: list[Any]) -> None:
    first, second, *_ = equal
    engine.put(first, b"1", INF)
    engine.delete(second)
    engine.put(second, b"2", INF)
    assert repr(content(engine)) == repr([(second, b"2")])
    changes = one_written(first)
    changes.deleted.add(first)
    commit(engine, changes)
    assert repr(content(engine)) == repr([(first, b"4")])


@pytest.mark.parametrize("key", [[], {}, set(), ("a", [])], ids=repr)
def test_an_unhashable_key_is_a_type_error(engine: Engine, key: Any) -> None:
    engine.put("a", b"1", INF)
    for use in (
        lambda: engine.get(key),
        lambda: engine.get_many([key]),
        lambda: key in engine,
        lambda: engine.deadline(key),
        lambda: engine.pop(key),
        lambda: engine.delete(key),
        lambda: engine.delete_many(["a", key]),
        lambda: engine.expire(key, 5),
    ):
        with pytest.raises(TypeError, match="unhashable"):
            use()
    assert content(engine) == [("a", b"1")]


@pytest.mark.parametrize("key", ["\ud800", "a\udfffb", ("a", "\ud800")], ids=ascii)
def test_a_key_without_a_text_is_a_value_error(engine: Engine, key: Any) -> None:
    engine.put("a", b"1", INF)
    for write in (
        lambda: engine.put(key, b"1", INF),
        lambda: engine.put_many({"a": b"2", key: b"1"}, INF),
        lambda: engine.setdefault(key, b"1", INF),
        lambda: engine.incr(key, 1, 0, KEEP_DEADLINE),
        lambda: commit(engine, one_written(key)),
    ):
        with pytest.raises(ValueError, match="key "):
            write()
    assert key not in engine
    assert engine.get(key) is None
    assert engine.get_many([key, "a"]) == [None, b"1"]
    assert engine.pop(key) is None
    assert engine.delete_many([key]) == 0
    assert content(engine) == [("a", b"1")]


@pytest.mark.parametrize(
    "key",
    [b"bytes", object(), frozenset(), 2**64, float("nan"), 1j],
    ids=lambda key: type(key).__name__,
)
def test_what_can_be_no_key_is_absent(d: kvmap.KVMap[Any, Any], key: Any) -> None:
    d["a"] = 1
    assert key not in d
    assert d.get(key, 3) == 3
    assert d.get_many([key, "a"]) == {"a": 1}
    assert d.pop(key, 3) == 3
    assert d.delete_many([key]) == 0
    with pytest.raises((TypeError, ValueError), match="^key "):
        d[key] = 1
    assert dict(d) == {"a": 1}


@pytest.mark.parametrize("key", [Decimal(1), Fraction(1)], ids=repr)
def test_what_is_equal_to_a_key_finds_it(engine: Engine, key: Any) -> None:
    for use in (
        lambda: engine.get(key) == b"1",
        lambda: key in engine,
        lambda: engine.get_many([key]) == [b"1"],
        lambda: engine.deadline(key) == INF,
        lambda: engine.pop(key) == b"1",
        lambda: engine.delete(key),
        lambda: engine.delete_many([key]) == 1,
    ):
        engine.put(1, b"1", INF)
        assert use()
        assert repr(content(engine)) in ("[]", "[(1, b'1')]")


def test_a_commit_of_keys_that_are_equal_to_those_there(engine: Engine) -> None:
    engine.put_many({1: b"1", 2.0: b"2"}, INF)
    changes = changed("")
    changes.deleted.add(True)
    changes.written[2] = b"20", INF
    commit(engine, changes)
    assert repr(content(engine)) == repr([(2.0, b"20")])
