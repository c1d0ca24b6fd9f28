"""The contract of an engine: entries stand in insertion order, as in a dict."""

import random

import pytest
from test_contract_entries import content

from kvmap.engine import INF, KEEP_DEADLINE, Changes, Engine, If, Seen

ALSO_OF_A_BLOCK = True


def order(engine: Engine, *, reverse: bool = False) -> str:
    return "".join(key for page in engine.keys(reverse=reverse) for key in page)


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """Six entries, a to f."""
    engine.put_many(dict.fromkeys("abcdef", b"0"), INF)
    return engine


def test_insertion_order_both_ways(engine: Engine) -> None:
    assert order(engine) == "abcdef"
    assert order(engine, reverse=True) == "fedcba"
    for reverse in (False, True):
        keys = [key for page in engine.keys(reverse=reverse) for key in page]
        found = [
            pair
            for page, texts in engine.items(reverse=reverse)
            for pair in zip(page, texts, strict=True)
        ]
        assert found == [(key, b"0") for key in keys]


def test_an_overwrite_keeps_the_place(engine: Engine) -> None:
    engine.put("b", b"1", INF)
    engine.put("c", b"1", INF, b"0")
    engine.put("d", b"1", 60, If.PRESENT)
    engine.put_many({"a": b"1", "e": b"1"}, INF)
    engine.setdefault("f", b"1", INF)
    assert order(engine) == "abcdef"


def test_a_new_deadline_or_sum_keeps_the_place(engine: Engine) -> None:
    engine.expire("a", 60)
    engine.incr("b", 1, 0, KEEP_DEADLINE)
    engine.incr("c", 1, 0, 60)
    engine.put("d", b"1", KEEP_DEADLINE)
    assert order(engine) == "abcdef"


def test_what_was_deleted_comes_back_last(engine: Engine) -> None:
    engine.delete("b")
    engine.put("b", b"1", INF)
    engine.pop("a")
    engine.setdefault("a", b"1", INF)
    engine.delete_many(["d", "c"])
    engine.put_many({"c": b"1", "d": b"1"}, INF)
    assert order(engine) == "efbacd"
    assert order(engine, reverse=True) == "dcabfe"
    assert engine.popitem() == ("d", b"1")
    engine.put("d", b"2", INF)
    assert engine.popitem(last=False) == ("e", b"0")
    engine.incr("e", 1, 0, KEEP_DEADLINE)
    assert order(engine) == "fbacde"


def test_a_batch_inserts_in_its_own_order(engine: Engine) -> None:
    names = [f"k{number}" for number in range(300)]
    random.Random(5).shuffle(names)
    engine.clear()
    engine.put_many(dict.fromkeys(names, b"1"), INF)
    assert [key for page in engine.keys() for key in page] == names
    engine.put_many(dict.fromkeys(reversed(names), b"2"), INF)
    assert [key for page in engine.keys() for key in page] == names
    assert [text for _, text in content(engine)] == [b"2"] * 300


def test_a_commit_deletes_first_and_then_inserts_in_its_order(engine: Engine) -> None:
    changes = Changes()
    changes.deleted.update("acf")
    changes.written["b"] = b"1", INF  # keeps its place
    changes.written["z"] = b"1", INF
    changes.written["a"] = b"1", INF  # comes last, for it is deleted first
    changes.written["e"] = b"1", INF
    changes.written["y"] = b"1", INF
    holder = object()
    engine.hold(holder)
    try:
        engine.commit(changes, Seen())
    finally:
        engine.release(holder)
    assert order(engine) == "bdezay"
    assert order(engine, reverse=True) == "yazedb"


@pytest.mark.parametrize("seed", range(5))
def test_random_steps_against_a_dict(engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    model: dict[object, bytes] = dict.fromkeys("abcdef", b"0")

    for number in range(400):
        key, text = chance.choice("abcdefghijklmnop"), b"%d" % number
        match chance.randrange(9):
            case 0 | 1:
                engine.put(key, text, INF)
                model[key] = text
            case 2 | 3:
                assert engine.pop(key) == model.pop(key, None)
            case 4:
                assert engine.setdefault(key, text, INF) == model.setdefault(key, text)
            case 5:
                batch = dict.fromkeys(chance.sample("abcdefghijklmnop", 5), text)
                engine.put_many(batch, INF)
                model.update(batch)
            case 6:
                gone = chance.sample("abcdefghijklmnop", 3)
                assert engine.delete_many(gone) == sum(k in model for k in gone)
                for each in gone:
                    model.pop(each, None)
            case 7:
                assert engine.popitem() == (model.popitem() if model else None)
            case 8:
                first = next(iter(model), None)
                expected = None if first is None else (first, model.pop(first))
                assert engine.popitem(last=False) == expected
        assert len(engine) == len(model)
        if number % 7 == 0:
            assert content(engine) == list(model.items())
            assert order(engine, reverse=True) == "".join(reversed(list(map(str, model))))
