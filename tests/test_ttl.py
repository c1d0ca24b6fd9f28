"""Time to live: an expired entry is gone at once and exactly. The test moves the store.clock."""

import random
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from helpers import AnyMap, files_of, in_thread
from stores import Store, each_life

import kvmap


def test_gone_at_its_deadline_and_not_before(store: Store) -> None:
    with store.open() as d:
        d["stays"] = 1
        d.set("token", 2, ttl=5)
        assert d.ttl("token") == 5
        assert d.ttl("stays") is None
        store.clock.wait(4.75)
        assert d.ttl("token") == 0.25
        assert dict(d) == {"stays": 1, "token": 2}
        store.clock.wait(0.25)
        assert "token" not in d
        assert d.get("token") is None
        assert d.get("token", 3) == 3
        for gone in (
            lambda: d["token"],
            lambda: d.ttl("token"),
            lambda: d.expire("token", 5),
            lambda: d.pop("token"),
            lambda: d.__delitem__("token"),
        ):
            with pytest.raises(KeyError):
                gone()
        assert len(d) == 1
        store.check(d)


@pytest.mark.parametrize(
    "look",
    [
        *(len, list, dict, lambda d: list(d.items()), lambda d: list(d.values())),
        *(lambda d: d.copy(), lambda d: list(reversed(d)), lambda d: d == {}, repr),
        *(lambda d: "token" in d, lambda d: d.get("token"), lambda d: "token" in d.keys()),
        *(lambda d: ("token", 2) in d.items(), lambda d: 2 in d.values(), lambda d: d | {}),
        *(lambda d: d.pop("token", None), lambda d: d.setdefault("token", 9)),
        *(lambda d: d.popitem(), lambda d: d.create("token", 9)),
        *(
            lambda d: d.popitem(last=False),
            lambda d: d.incr("token"),
            lambda d: d.get_many(["token"]),
        ),
        *(lambda d: d.delete_many(["token"]), lambda d: list(d.scan("t"))),
    ],
)
def test_every_way_to_look_sees_it_gone(store: Store, look: Any) -> None:
    # Each is the first call after the deadline, and answers as if the entry had never been.
    with store.open() as d, store.open("other") as never:
        d["stays"] = never["stays"] = 1
        d.set("token", 2, ttl=5)
        len(d), len(never)
        store.clock.wait(5)
        expected = look(never)
        found = look(d)
        if look is not repr:
            assert found == expected
        assert list(d.items()) == list(never.items())
        store.check(d)


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [(1, 1), (0.5, 0.5), (timedelta(hours=1), 3600), (timedelta(milliseconds=250), 0.25)],
)
def test_a_ttl_is_seconds_or_a_timedelta(store: Store, ttl: Any, seconds: float) -> None:
    with store.open(ttl=ttl) as d:
        d.set("set", 1, ttl=ttl)
        d.create("created", 1, ttl=ttl)
        d["plain"] = 1
        d.update(updated=1)
        d.setdefault("default", 1)
        with d.edit("edited", default=[]) as edited:
            edited.append(1)
        d.set_many({"many": 1, "more": 1}, ttl=ttl)
        d.incr("sum")
        d.incr("other sum", ttl=ttl)
        d.set("kept", 1, ttl=kvmap.KEEP)
        d.set("expire", 1, ttl=None)
        d.expire("expire", ttl)
        assert {d.ttl(key) for key in d} == {seconds}
        store.clock.wait(seconds)
        assert len(d) == 0
        store.check(d)


@pytest.mark.parametrize("ttl", [0, -1, 0.0, float("nan"), float("inf"), timedelta(0)])
def test_a_ttl_that_is_no_future_is_a_value_error(store: Store, ttl: Any) -> None:
    with store.open() as d:
        d["key"] = 1
        for wrong in (
            lambda: d.set("key", 2, ttl=ttl),
            lambda: d.create("new", 2, ttl=ttl),
            lambda: d.expire("key", ttl),
            lambda: d.set_many({"new": 2}, ttl=ttl),
            lambda: d.incr("key", ttl=ttl),
            lambda: d.configure(ttl=ttl),
            lambda: store.open("new", ttl=ttl),
        ):
            with pytest.raises(ValueError, match="ttl must be above 0"):
                wrong()
        assert dict(d) == {"key": 1}
        assert d.ttl("key") is None
    assert not (store.folder / "new").exists()


@pytest.mark.parametrize("ttl", [True, "60", [60], 1j])
def test_a_ttl_that_is_no_time_is_a_type_error(store: Store, ttl: Any) -> None:
    with store.open() as d:
        d["key"] = 1
        for wrong in (
            lambda: d.set("key", 2, ttl=ttl),
            lambda: d.create("new", 2, ttl=ttl),
            lambda: d.expire("key", ttl),
            lambda: d.set_many({"new": 2}, ttl=ttl),
            lambda: d.incr("key", ttl=ttl),
            lambda: d.configure(ttl=ttl),
            lambda: store.open("new", ttl=ttl),
        ):
            with pytest.raises(TypeError, match="ttl must be seconds"):
                wrong()
        assert dict(d) == {"key": 1}


def test_a_write_without_a_ttl_takes_the_stores_default(store: Store) -> None:
    with store.open() as d:
        d.set("key", 1, ttl=5)
        d["key"] = 2  # as Redis' SET: the deadline goes
        assert d.ttl("key") is None
        d.configure(ttl=60)
        assert d.ttl("key") is None  # the default is for writes
        d["key"] = 3
        assert d.ttl("key") == 60
        d.set("key", 4, ttl=None)
        assert d.ttl("key") is None


def test_the_default_is_kept_in_the_store(kept: Store) -> None:
    kept.open(ttl=60).close()
    with kept.open() as d:
        d["kept"] = 1
        assert d.ttl("kept") == 60
    with kept.open(ttl=30) as d:
        d["kept"] = 1
        assert d.ttl("kept") == 30
    with kept.open(ttl=None) as d:
        assert d.ttl("kept") == 30
        d["kept"] = 1
        assert d.ttl("kept") is None
    with kept.open() as d:
        assert d.settings.ttl == float("inf")


def test_keep_keeps_the_deadline(store: Store) -> None:
    with store.open(ttl=100) as d:
        d.set("a", 1, ttl=60)
        d.set("b", 1, ttl=None)
        store.clock.wait(20)
        with d.transaction():
            d.set("a", 2, ttl=kvmap.KEEP)
            assert d.ttl("a") == 40
        d.set("b", 2, ttl=kvmap.KEEP)
        d.set("new", 2, ttl=kvmap.KEEP)
        assert (d.ttl("a"), d.ttl("b"), d.ttl("new")) == (40, None, 100)
        d.set_many({"a": 3, "newer": 3}, ttl=kvmap.KEEP)
        assert (d.ttl("a"), d.ttl("newer")) == (40, 100)
        assert d.incr("a") == 4
        assert d.ttl("a") == 40
        assert d.incr("a", ttl=7) == 5
        assert d.ttl("a") == 7
        store.check(d)


def test_expire_changes_the_deadline_alone(store: Store) -> None:
    with store.open() as d:
        d.update(a=[1], b=2)
        d.expire("a", 10)
        store.clock.wait(9)
        d.expire("a", 10)
        store.clock.wait(9)
        assert list(d.items()) == [("a", [1]), ("b", 2)]
        with d.edit("a") as some:
            some.append(2)
        assert d.ttl("a") == 1, "an edit keeps the deadline"
        d.expire("a", None)
        store.clock.wait(100)
        assert d["a"] == [1, 2]
        store.check(d)


@each_life
def test_deadlines_outlive_the_process(store: Store, happen: Callable[[AnyMap], AnyMap]) -> None:
    d = store.open()
    d.set("a", 1, ttl=5)
    d.set("b", 1, ttl=15)
    d.set("c", 1, ttl=None)
    d = happen(d)
    store.clock.wait(10)
    d = happen(d) if store.kind == "memory" else d
    assert "a" not in d
    assert d.ttl("b") == 5
    assert list(d) == ["b", "c"]
    store.check(d)
    d.close()


def test_purge_returns_how_many_have_expired_since_it_was_last_called(store: Store) -> None:
    with store.open() as d:
        assert d.purge() == 0
        d.update(dict.fromkeys("xyz", 0))
        for number in range(20):
            d.set(str(number), number, ttl=5 + number % 2)
        store.clock.wait(5)
        assert len(d) == 13
        assert d.purge() == 10
        assert d.purge() == 0
        store.clock.wait(5)
        assert "1" not in d
        with d.transaction():
            assert d.purge() == 0
        assert d.purge() == 10
        assert d.purge() == 0
        store.check(d)


def test_bytes_of_expired_entries_are_given_back(kept: Store) -> None:
    def size() -> int:
        return sum(map(len, files_of(kept.folder).values()))

    with kept.open(shards=1) as d:
        d.update({str(number): "x" * 100 for number in range(100)})
        for number in range(3000):
            d.set(f"session {number}", "x" * 100, ttl=60)
        assert size() > 400_000
        kept.clock.wait(60)
        assert d.purge() == 3000
        for number in range(100):  # a write pays for a step of a compaction
            d[str(number)] = "y" * 100
        kept.check(d)
        assert size() < 80_000
        assert len(d) == 100


def test_iteration_passes_over_what_expires_meanwhile(store: Store) -> None:
    with store.open() as d:
        for number in range(10):
            d.set(number, number, ttl=10 + number)
        for walk in (iter(d), iter(d.keys()), iter(d.values()), (k for k, _ in d.items())):
            assert next(walk) == next(iter(d))
        seen = []
        for key in d:
            seen.append(key)
            store.clock.wait(2)  # past the deadline of every key that was seen, at the end
            len(d)  # takes what has expired out of the index
        assert seen == [*range(10)][: len(seen)]
        assert list(d) == [] or seen[-1] < min(d)
        d.set("new", 1, ttl=100)
        with pytest.raises(RuntimeError, match="changed size"):
            for _ in d:
                store.clock.wait(1)
                d["another"] = 1


@pytest.mark.parametrize("block", [False, True], ids=["", "in a block"])
def test_dict_of_a_map_has_no_hole_where_an_entry_expires_meanwhile(
    store: Store, block: bool
) -> None:
    def decode(value: Any) -> Any:
        store.clock.wait(0.001)
        return value

    with store.open(decode=decode) as d:
        for number in range(1000):
            d.set(number, number, ttl=0.01 + number / 2000)
        with d.transaction() if block else nullcontext():
            if block:
                d.set(5, 5, ttl=0.02)
                d.set(1000, 1000, ttl=0.6)
            found = dict(d)  # which lists the keys, and then reads each value
            assert list(found) == list(range(1000 + block))
            assert list(d.items()) == []
        store.check(d)


def test_what_was_listed_expires_all_the_same(store: Store) -> None:
    with store.open() as d:
        for call, gone in (
            (lambda: d["a"], 30.0),
            (lambda: d["a"], 1.1),
            (lambda: d.get("a") or d["a"], 0.6),
            (lambda: "a" not in d and d["a"], 0.6),
            (lambda: d.pop("a", 1) and d["a"], 0.6),
            (lambda: in_thread(lambda: d["a"]), 0.6),
        ):
            d.set("a", [1], ttl=0.5)
            assert list(d) == ["a"]
            store.clock.wait(gone)
            with pytest.raises(KeyError):
                call()
            store.clock.wait(100)


def test_many_deadlines_in_one_write_or_one_load(store: Store) -> None:
    # The heap of deadlines is trimmed now and then; never while entries are on their way in.
    many = {str(number): number for number in range(3000)}
    d = store.open(shards=1, ttl=60)
    d.update(many)
    store.check(d)
    with d.transaction():
        for key in many:
            d[key] = 0
        store.clock.wait(30)
    store.check(d)
    if store.is_kept:
        d.close()
        d = store.open()
    with d:
        assert d["7"] == 0
        store.check(d)
        store.clock.wait(30)
        assert len(d) == 0
        with d.transaction():
            for key in many:
                d[key] = 0
            assert len(d) == 3000
            store.clock.wait(60)
            assert len(d) == 0


def test_many_entries_with_deadlines_of_their_own(store: Store) -> None:
    with store.open(ttl=60) as d:
        d.update(a=0, b=0)
        now = store.clock.time
        moments = {"b": None, "c": now + 5, "d": now + 9.25, 1: now + 7, "past": now - 1}
        d.set_many(dict.fromkeys(moments, 1), deadlines=moments)
        assert d.deadlines([*moments, "a", "missing"]) == {
            "b": None, "c": now + 5, "d": now + 9.25, 1: now + 7, "a": now + 60,
        }  # fmt: skip
        assert list(d.items()) == [("a", 0), ("b", 1), ("c", 1), ("d", 1), (1, 1)]
        with pytest.raises(ZeroDivisionError), d.transaction():
            d.set_many({"c": 2, "x": 2}, deadlines={"c": now + 1, "x": None})
            assert d.deadlines(["c", "x"]) == {"c": now + 1, "x": None}
            raise ZeroDivisionError
        store.clock.wait(5)
        assert list(d) == ["a", "b", "d", 1]
        assert d.deadlines(["c", "d"]) == {"d": now + 9.25}
        for wrong, error in (({}, KeyError), ({"z": "1"}, TypeError), ({"z": True}, TypeError),
                             ({"z": float("nan")}, ValueError)):  # fmt: skip
            with pytest.raises(error):
                d.set_many({"z": 1}, deadlines=wrong)
        assert "z" not in d
        store.check(d)


def test_replaced_deadlines_do_not_pile_up(store: Store) -> None:
    with store.open(shards=1) as d:
        tracemalloc.start()
        try:
            for number in range(20_000):
                d.set("session", number, ttl=1000)
            assert tracemalloc.get_traced_memory()[0] < 1_000_000
        finally:
            tracemalloc.stop()
        for _ in range(20):
            d.update(dict.fromkeys(map(str, range(200)), 0))
            for key in map(str, range(200)):
                d.expire(key, 500)
        store.check(d)


def test_what_a_transaction_let_expire_stays_gone(store: Store) -> None:
    with store.open() as d:
        d.update(over=1, kept=1, deleted=1)
        d.set("short", 1, ttl=1)
        with d.transaction():
            d.set("over", 2, ttl=1)
            d.set("fresh", 2, ttl=1)
            del d["deleted"]
            d.set("deleted", 2, ttl=1)
            store.clock.wait(1)
            assert dict(d) == {"kept": 1}
        assert dict(d) == {"kept": 1}
        store.check(d)
    if store.is_kept:
        with store.open() as d:
            assert dict(d) == {"kept": 1}


def test_an_undone_transaction_leaves_the_deadlines(store: Store) -> None:
    with store.open() as d:
        d.set("a", 1, ttl=10)
        d.set("b", 1, ttl=2)
        with pytest.raises(ZeroDivisionError), d.transaction():
            d.set("a", 2, ttl=1)
            d["b"] = 2
            store.clock.wait(1)
            assert dict(d) == {"b": 2}
            raise ZeroDivisionError
        assert d.ttl("a") == 9
        store.check(d)
        store.clock.wait(1)
        assert dict(d) == {"a": 1}


def test_time_may_pass_in_the_middle_of_a_write(store: Store) -> None:
    # An entry that a write is to replace may expire between two looks at the clock.
    random_ = random.Random(1)
    bounded = kvmap.Limits(store_bytes=1_000_000)
    store.clock.step = 0.001
    for number in range(60 if store.kind == "memory" else 10):
        limits = bounded if number % 2 else kvmap.Limits()
        with store.open(str(number), shards=2, limits=limits) as d:
            for step in range(30):
                keys = random_.sample("abcdefgh", 4)
                for key in keys:
                    d.set(key, "x" * step, ttl=random_.randrange(1, 20) * 0.001)
                d.update(dict.fromkeys(keys, "y" * step))
                d[keys[0]] = "z" * (step + 1)
                d.set(keys[1], 1, ttl=kvmap.KEEP)
                d.incr(keys[1], ttl=0.002)
                with d.transaction():
                    d.set(keys[2], 1, ttl=0.004)
                    d.set(keys[3], 1, ttl=0.001)
                    d.pop(keys[2], None)
            assert set(d) <= set("abcdefgh")
            store.clock.wait(1)
            store.check(d)


def test_random_steps_against_a_model(store: Store) -> None:
    clock = store.clock
    random_ = random.Random(3)
    model: dict[str, tuple[int, float]] = {}
    d = store.open(ttl=20)
    for number in range(1500):
        clock.wait(random_.random())
        for key in [key for key, (_, end) in model.items() if end <= clock.time]:
            del model[key]
        key = str(random_.randrange(50))
        match random_.randrange(8):
            case 0:
                d[key] = number
                model[key] = number, clock.time + 20
            case 1 | 2:
                ttl = random_.choice([0.5, 1, 7, 1000])
                d.set(key, number, ttl=ttl)
                model[key] = number, clock.time + ttl
            case 3:
                d.set(key, number, ttl=None)
                model[key] = number, float("inf")
            case 4 if key in model:
                d.expire(key, 3)
                model[key] = model[key][0], clock.time + 3
            case 5:
                assert d.pop(key, None) == model.pop(key, (None,))[0]
            case 6:
                assert d.get(key) == model.get(key, (None,))[0]
                assert (key in d) == (key in model)
            case 7:
                assert len(d) == len(model)
        if random_.random() < 0.02 and store.is_kept:
            d.close()
            d = store.open()
        if random_.random() < 0.05:
            assert list(d.items()) == [(key, value) for key, (value, _) in model.items()]
            store.check(d)
    d.close()
