"""Order: iteration is in insertion order, as in a dict, whatever happens to the store."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Clock, killed
from invariants import check

import kvmap


def reopened(d: kvmap.KVMap[Any]) -> kvmap.KVMap[Any]:
    d.close()
    return kvmap.open(d.path)


def crashed(d: kvmap.KVMap[Any]) -> kvmap.KVMap[Any]:
    copy = killed(d, d.path.with_name(d.path.name + "+"))
    d.close()
    return kvmap.open(copy)


def compacted(d: kvmap.KVMap[Any]) -> kvmap.KVMap[Any]:
    d.compact()
    return d


def left_alone(d: kvmap.KVMap[Any]) -> kvmap.KVMap[Any]:
    return d


LIFE: list[Callable[[kvmap.KVMap[Any]], kvmap.KVMap[Any]]] = [
    *(left_alone, reopened, crashed, compacted),
    lambda d: reopened(compacted(d)),
    lambda d: crashed(compacted(d)),
    lambda d: compacted(crashed(d)),
]


@pytest.mark.parametrize("shards", [1, 4, 64])
@pytest.mark.parametrize("happen", LIFE)
def test_order_of_each_kind_of_write(
    path: Path, happen: Callable[[kvmap.KVMap[Any]], kvmap.KVMap[Any]], shards: int
) -> None:
    d = kvmap.open(path, shards=shards)
    d.update(dict.fromkeys("abcdefgh", 0))
    d = happen(d)
    d["c"] = 1  # an overwrite keeps its place
    d.expire("d", 60)
    d.set("e", 1, ttl=None)
    with d.edit("f") as _:
        pass
    d = happen(d)
    del d["b"]
    d["b"] = 1  # a key that was deleted comes last
    d.setdefault("a", 1)
    d["a"] = d.pop("a")
    d = happen(d)
    d.update(c=2, i=2, b=2)
    with d.transaction():
        d["j"] = 3
        del d["g"]
        d["h"] = 3
        d["g"] = 3
        d["j"] = 4
    d = happen(d)
    d["k"] = 5
    d = happen(d)
    check(d)
    assert "".join(d) == "cdefhbaijgk"
    assert "".join(reversed(d)) == "kgjiabhfedc"
    assert [key for key, _ in d.items()] == list(d)
    assert list(d.values()) == [2, 0, 1, 0, 3, 2, 0, 2, 4, 3, 5]
    assert d.popitem() == ("k", 5)
    assert d.popitem() == ("g", 3)
    d.close()


def test_an_insertion_after_a_crash_comes_last(path: Path, tmp_path: Path) -> None:
    # A transaction's records are not written in the order in which its keys were inserted.
    # Whatever number the next write takes must be above all of theirs.
    for shards in (1, 2, 8):
        with kvmap.open(path, "n", shards=shards) as d:
            d["old"] = d["gone"] = 0
            with d.transaction():
                del d["gone"]
                d["x"] = 1
                d["y"] = 1
                d["x"] = 2
                d["old"] = 2
                d["z"] = 1
            copy = killed(d, tmp_path / f"killed{shards}")
        with kvmap.open(copy) as d:
            for key in "abcdef":
                d[key] = 3
            expected = ["old", "x", "y", "z", *"abcdef"]
            assert list(d) == expected
            check(d)
        with kvmap.open(copy) as d:
            assert list(d) == expected
            check(d)


def test_a_key_that_expired_comes_back_last(path: Path, clock: Clock) -> None:
    with kvmap.open(path, files=clock) as d:
        d.set("short", 1, ttl=5)
        d["long"] = 1
        clock.wait(5)
        d["short"] = 2
        assert list(d) == ["long", "short"]
        check(d)
    with kvmap.open(path, files=clock) as d:
        assert list(d) == ["long", "short"]


def test_clear_begins_anew(path: Path) -> None:
    with kvmap.open(path) as d:
        d.update(a=1, b=2)
        d.clear()
        d.update(b=1, a=2)
        assert list(d) == ["b", "a"]
    with kvmap.open(path) as d:
        assert list(d.items()) == [("b", 1), ("a", 2)]


def test_update_inserts_in_the_order_it_was_given(path: Path) -> None:
    names = [str(number) for number in range(300)]
    random.Random(5).shuffle(names)
    with kvmap.open(path) as d:
        d.update(dict.fromkeys(names, 0))
        assert list(d) == names
    with kvmap.open(path) as d:
        d.update(dict.fromkeys(reversed(names), 1))
        assert list(d) == names
        check(d)


@pytest.mark.parametrize("shards", [1, 8])
def test_random_order_against_a_dict(path: Path, shards: int) -> None:
    random_ = random.Random(shards)
    model: dict[int, int] = {}
    d = kvmap.open(path, shards=shards)
    for number in range(1000):
        key = random_.randrange(30)
        if random_.random() < 0.4:
            assert d.pop(key, None) == model.pop(key, None)
        else:
            d[key] = model[key] = number
        if random_.random() < 0.02:
            d = random_.choice(LIFE)(d)
            check(d)
            assert list(d) == list(model)
    assert list(d.items()) == list(model.items())
    d.close()
