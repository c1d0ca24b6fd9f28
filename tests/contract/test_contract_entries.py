"""The contract of an engine: one entry read, written, removed, on a condition or without."""

import pytest
from stores import Store

from kvmap.engine import INF, KEEP_DEADLINE, Engine, If

ALSO_OF_A_BLOCK = True


def content(engine: Engine) -> list[tuple[object, bytes]]:
    """All entries in their order."""
    return [
        (key, text) for keys, texts in engine.items() for key, text in zip(keys, texts, strict=True)
    ]


def test_an_empty_engine(engine: Engine) -> None:
    assert len(engine) == 0
    assert content(engine) == []
    assert engine.get("absent") is None
    assert "absent" not in engine
    assert engine.deadline("absent") is None
    assert engine.pop("absent") is None
    assert engine.popitem() is None
    assert engine.popitem(last=False) is None
    assert engine.delete("absent") is False
    assert engine.expire("absent", 5) is False
    assert engine.next_deadline == INF
    assert engine.closed is False


def test_what_is_put_is_got_byte_for_byte(engine: Engine) -> None:
    for number, text in enumerate(
        (b"1", b'"\\u0000"', b'{"a":[1.0,null]}', '"\N{SNAKE}"'.encode())
    ):
        assert engine.put(f"key {number}", text, INF) is True
        assert engine.get(f"key {number}") == text
        assert f"key {number}" in engine
        assert len(engine) == number + 1
    assert engine.get("absent") is None


def test_an_overwrite_replaces_the_text(engine: Engine) -> None:
    engine.put("a", b"1", INF)
    assert engine.put("a", b"2", INF) is True
    assert engine.get("a") == b"2"
    assert len(engine) == 1


def test_get_many_answers_for_each_key_in_turn(engine: Engine) -> None:
    engine.put_many({"a": b"1", "b": b"2"}, INF)
    assert engine.get_many(["b", "absent", "a", "b"]) == [b"2", None, b"1", b"2"]
    assert engine.get_many(iter([])) == []


@pytest.mark.parametrize(
    ("there", "condition", "written"),
    [
        (None, None, True),
        (None, If.ABSENT, True),
        (None, If.PRESENT, False),
        (None, b"1", False),
        (b"1", None, True),
        (b"1", If.ABSENT, False),
        (b"1", If.PRESENT, True),
        (b"1", b"1", True),
        (b"1", b"1.0", False),
    ],
)
def test_a_condition_is_on_the_entry_that_the_write_finds(
    engine: Engine, there: bytes | None, condition: If | bytes | None, written: bool
) -> None:
    if there is not None:
        engine.put("key", there, INF)
    assert engine.put("key", b"9", INF, condition) is written
    assert engine.get("key") == (b"9" if written else there)
    assert len(engine) == (written or there is not None)


def test_setdefault_returns_what_is_there_afterwards(engine: Engine) -> None:
    assert engine.setdefault("a", b"1", INF) == b"1"
    assert engine.setdefault("a", b"2", INF) == b"1"
    assert engine.get("a") == b"1"


def test_incr_adds_and_returns_the_sum(engine: Engine) -> None:
    assert engine.incr("n", 1, 0, KEEP_DEADLINE) == 1
    assert engine.incr("n", 41, 0, KEEP_DEADLINE) == 42
    assert engine.incr("n", -2, None, KEEP_DEADLINE) == 40
    assert engine.get("n") == b"40"
    assert engine.incr("n", 0.5, 0, KEEP_DEADLINE) == 40.5
    assert engine.get("n") == b"40.5"
    assert engine.incr("m", 1, 10, KEEP_DEADLINE) == 11


def test_incr_keeps_every_digit_of_64_bits(engine: Engine) -> None:
    engine.put("n", b"%d" % (2**64 - 2), INF)
    assert engine.incr("n", 1, 0, KEEP_DEADLINE) == 2**64 - 1
    engine.put("n", b"%d" % (2**53), INF)
    assert engine.incr("n", 1, 0, KEEP_DEADLINE) == 2**53 + 1
    assert engine.get("n") == b"%d" % (2**53 + 1)


@pytest.mark.parametrize("text", [b'"1"', b"null", b"true", b"[1]", b"{}"])
def test_incr_of_no_number_is_a_type_error(engine: Engine, text: bytes) -> None:
    engine.put("n", text, INF)
    with pytest.raises(TypeError, match="key 'n' is .*not a number"):
        engine.incr("n", 1, 0, KEEP_DEADLINE)
    assert engine.get("n") == text


@pytest.mark.parametrize(
    ("text", "by"),
    [(b"%d" % (2**64 - 1), 1), (b"%d" % -(2**63), -1), (b"1e308", 1e308), (b"-1e308", -1e308)],
)
def test_a_sum_that_does_not_fit_is_a_value_error(
    engine: Engine, text: bytes, by: int | float
) -> None:
    engine.put("n", text, INF)
    with pytest.raises(ValueError, match="key 'n'.*nothing was added"):
        engine.incr("n", by, 0, KEEP_DEADLINE)
    assert engine.get("n") == text


def test_incr_of_a_missing_key_without_a_default_is_a_key_error(engine: Engine) -> None:
    with pytest.raises(KeyError) as caught:
        engine.incr("absent", 1, None, KEEP_DEADLINE)
    assert caught.value.args == ("absent",)
    assert "absent" not in engine


def test_pop_and_delete_remove_one_entry(engine: Engine) -> None:
    engine.put_many({"a": b"1", "b": b"2", "c": b"3"}, INF)
    assert engine.pop("b") == b"2"
    assert engine.pop("b") is None
    assert engine.delete("a") is True
    assert engine.delete("a") is False
    assert content(engine) == [("c", b"3")]


def test_popitem_takes_from_either_end(engine: Engine) -> None:
    engine.put_many({name: b"%d" % number for number, name in enumerate("abcdef")}, INF)
    assert engine.popitem() == ("f", b"5")
    assert engine.popitem(last=False) == ("a", b"0")
    assert engine.popitem(last=True) == ("e", b"4")
    engine.put("b", b"9", INF)  # which keeps its place
    engine.delete("c")
    engine.put("c", b"8", INF)  # which is the newest
    assert engine.popitem(last=False) == ("b", b"9")
    assert engine.popitem() == ("c", b"8")
    assert engine.popitem(last=False) == ("d", b"3")
    assert engine.popitem(last=False) is None
    assert len(engine) == 0


def test_a_queue_of_many(engine: Engine) -> None:
    engine.put_many({number: b"%d" % number for number in range(500)}, INF)
    for number in range(500):
        engine.put(number + 500, b"0", INF)
        found = engine.popitem(last=False)
        assert found is not None
        assert found[0] == number
    assert len(engine) == 500


def test_clear_removes_all(engine: Engine) -> None:
    engine.put_many({"a": b"1", "b": b"2"}, INF)
    engine.clear()
    assert len(engine) == 0
    assert content(engine) == []
    engine.put("b", b"3", INF)
    engine.put("a", b"4", INF)
    assert content(engine) == [("b", b"3"), ("a", b"4")]
    engine.clear()
    engine.clear()
    assert content(engine) == []


def test_peek_shows_the_first_few_or_says_that_it_can_not(engine: Engine) -> None:
    engine.put_many({number: b"%d" % number for number in range(10)}, INF)
    len(engine)
    count, shown = engine.peek(3)
    assert (count, shown) in ((10, [(0, b"0"), (1, b"1"), (2, b"2")]), (None, []))


def test_entries_outlive_the_engine(kept: Store) -> None:
    with kept.open() as d:
        d.update(b=1, a=[2])
        d["b"] = 3
    with kept.open() as d:
        assert list(d.items()) == [("b", 3), ("a", [2])]
