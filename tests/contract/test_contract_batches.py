"""The contract of an engine: a batch or a commit is done as a whole or not at all."""

import pytest
from test_contract_entries import content

import kvmap
from kvmap.engine import INF, Changes, Engine, Seen

ALSO_OF_A_BLOCK = True


def commit(engine: Engine, changes: Changes) -> None:
    holder = object()
    engine.hold(holder)
    try:
        engine.commit(changes, Seen())
    finally:
        engine.release(holder)


def changed(deleted: str = "", **written: bytes) -> Changes:
    changes = Changes()
    changes.deleted.update(deleted)
    changes.written.update({key: (text, INF) for key, text in written.items()})
    return changes


@pytest.fixture
def engine(engine: Engine) -> Engine:
    engine.put_many({"a": b"1", "b": b"2", "c": b"3"}, INF)
    return engine


def test_put_many_writes_all(engine: Engine) -> None:
    engine.put_many({"b": b"20", "d": b"40"}, INF)
    assert content(engine) == [("a", b"1"), ("b", b"20"), ("c", b"3"), ("d", b"40")]
    engine.put_many({}, INF)
    assert len(engine) == 4


def test_a_batch_of_many(engine: Engine) -> None:
    engine.clear()
    many = {f"key {number}": b"%d" % number for number in range(3000)}
    engine.put_many(many, INF)
    assert content(engine) == list(many.items())
    assert engine.delete_many(list(many)[::2]) == 1500
    assert content(engine) == list(many.items())[1::2]
    assert engine.get_many(list(many)) == [
        text if number % 2 else None for number, text in enumerate(many.values())
    ]


def test_put_many_with_a_key_that_has_no_text_writes_nothing(engine: Engine) -> None:
    before = content(engine)
    with pytest.raises(ValueError, match=r"key .*\\ud800"):
        engine.put_many({"a": b"9", "new": b"9", "\ud800": b"9"}, INF)
    assert content(engine) == before


def test_delete_many_counts_what_was_there(engine: Engine) -> None:
    assert engine.delete_many(["a", "absent", "c", "a"]) == 2
    assert content(engine) == [("b", b"2")]
    assert engine.delete_many([]) == 0
    assert engine.delete_many(iter(["b"])) == 1
    assert len(engine) == 0


def test_delete_many_with_an_unhashable_key_deletes_nothing(engine: Engine) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        engine.delete_many(["a", []])
    assert len(engine) == 3


def test_a_commit_makes_all_changes(engine: Engine) -> None:
    commit(engine, changed("ab", b=b"20", d=b"40"))
    assert content(engine) == [("c", b"3"), ("b", b"20"), ("d", b"40")]
    commit(engine, changed("bcd"))
    assert content(engine) == []
    commit(engine, Changes())
    commit(engine, changed("absent", e=b"5"))
    assert content(engine) == [("e", b"5")]


def test_a_commit_with_a_key_that_has_no_text_changes_nothing(engine: Engine) -> None:
    before, changes = content(engine), changed("a", b=b"20")
    changes.written["\ud800"] = b"9", INF
    with pytest.raises(ValueError, match=r"key .*\\ud800"):
        commit(engine, changes)
    assert content(engine) == before


def test_a_commit_that_is_not_made_changes_nothing(engine: Engine) -> None:
    before, holder = content(engine), object()
    assert engine.hold(holder) is True
    engine.release(holder)
    engine.release(holder)
    assert content(engine) == before
    engine.put("d", b"4", INF)
    assert len(engine) == 4


def test_a_transaction_through_the_face_is_one_commit(d: kvmap.KVMap) -> None:
    d.update(a=1, b=2, c=3)
    with d.transaction():
        d["a"] = 10
        del d["b"]
        d["d"] = 4
        d["c"] = d.pop("c")
        assert list(d.items()) == [("a", 10), ("d", 4), ("c", 3)]
    assert list(d.items()) == [("a", 10), ("d", 4), ("c", 3)]
    with pytest.raises(ZeroDivisionError), d.transaction():
        d.clear()
        d["a"] = 1 / 0
    assert list(d.items()) == [("a", 10), ("d", 4), ("c", 3)]
