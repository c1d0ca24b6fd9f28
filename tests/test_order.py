"""Order: iteration is in insertion order, as in a dict, whatever happens to the store."""

import random
import shutil
from collections.abc import Callable

import pytest
from helpers import AnyMap, in_thread
from stores import Store, each_life

Happen = Callable[[AnyMap], AnyMap]


@pytest.mark.parametrize("shards", [1, 4, 32])
@each_life
def test_order_of_each_kind_of_write(store: Store, happen: Happen, shards: int) -> None:
    d = store.open(shards=shards)
    d.update(dict.fromkeys("abcdefgh", 0))
    d = happen(d)
    d["c"] = 1  # an overwrite keeps its place
    d.expire("d", 60)
    d.set("e", 1, ttl=None)
    d.incr("f", 0)
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
    store.check(d)
    assert "".join(d) == "cdefhbaijgk"
    assert "".join(reversed(d)) == "kgjiabhfedc"
    assert [key for key, _ in d.items()] == list(d)
    assert list(d.values()) == [2, 0, 1, 0, 3, 2, 0, 2, 4, 3, 5]
    assert d.popitem() == ("k", 5)
    assert d.popitem() == ("g", 3)
    d.close()


def test_an_insertion_after_a_crash_comes_last(kept: Store) -> None:
    # A transaction's records are not written in the order in which its keys were inserted.
    # Whatever number the next write takes must be above all of theirs.
    for shards in (1, 2, 8):
        d = kept.open("store", "n", shards=shards)
        d["old"] = d["gone"] = 0
        with d.transaction():
            del d["gone"]
            d["x"] = 1
            d["y"] = 1
            d["x"] = 2
            d["old"] = 2
            d["z"] = 1
        d = kept.life()["killed"](d)
        for key in "abcdef":
            d[key] = 3
        expected = ["old", "x", "y", "z", *"abcdef"]
        assert list(d) == expected
        kept.check(d)
        d = kept.life()["reopened"](d)
        assert list(d) == expected
        kept.check(d)
        d.close()
        shutil.rmtree(d.path)


@each_life
def test_a_key_that_expired_comes_back_last(store: Store, happen: Happen) -> None:
    d = store.open()
    d.set("short", 1, ttl=5)
    d["long"] = 1
    store.clock.wait(5)
    d["short"] = 2
    assert list(d) == ["long", "short"]
    d = happen(d)
    store.check(d)
    assert list(d) == ["long", "short"]
    d.close()


@each_life
def test_clear_begins_anew(store: Store, happen: Happen) -> None:
    d = store.open()
    d.update(a=1, b=2)
    d.clear()
    d.update(b=1, a=2)
    assert list(d) == ["b", "a"]
    d = happen(d)
    assert list(d.items()) == [("b", 1), ("a", 2)]
    d.close()


@each_life
def test_update_inserts_in_the_order_it_was_given(store: Store, happen: Happen) -> None:
    names = [str(number) for number in range(300)]
    random.Random(5).shuffle(names)
    d = store.open()
    d.update(dict.fromkeys(names, 0))
    assert list(d) == names
    d = happen(d)
    d.update(dict.fromkeys(reversed(names), 1))
    assert list(d) == names
    store.check(d)
    d.close()


def test_a_map_serves_as_a_queue(store: Store) -> None:
    with store.open() as d:
        for number in range(1000):
            d[number] = number
            if number >= 50:
                assert d.popitem(last=False) == (number - 50, number - 50)
        d[950] = "over"
        assert d.popitem(last=False) == (950, "over")
        assert d.popitem() == (999, 999)
        with d.transaction():
            assert d.popitem(last=False) == (951, 951)
            d["new"] = 1
            assert d.popitem(last=False) == (952, 952)
            assert d.popitem() == ("new", 1)
            assert in_thread(lambda: next(iter(d))) == 951
        assert list(d) == list(range(953, 999))


@pytest.mark.parametrize("shards", [1, 8])
def test_random_order_against_a_dict(store: Store, shards: int) -> None:
    random_ = random.Random(shards)
    model: dict[int, int] = {}
    d = store.open(shards=shards)
    life = [happen for name, happen in store.life().items() if name != "backed up"]
    for number in range(1000):
        key = random_.randrange(30)
        if random_.random() < 0.4:
            assert d.pop(key, None) == model.pop(key, None)
        else:
            d[key] = model[key] = number
        if random_.random() < 0.02:
            d = random_.choice(life)(d)
            store.check(d)
            assert list(d) == list(model)
    assert list(d.items()) == list(model.items())
    d.close()
