"""Time to live: an expired entry is gone at once and exactly. The test moves the clock."""

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from helpers import AnyMap, Ticking, files_of
from stores import MemoryStore, Store

import kvmap


def test_gone_at_its_deadline_and_not_before(path: Path, clock: Clock) -> None:
    with kvmap.open(path, files=clock) as d:
        d["stays"] = 1
        d.set("token", 2, ttl=5)
        assert d.ttl("token") == 5
        assert d.ttl("stays") is None
        clock.wait(4.75)
        assert d.ttl("token") == 0.25
        assert dict(d) == {"stays": 1, "token": 2}
        clock.wait(0.25)
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
        check(d)


@pytest.mark.parametrize(
    "look",
    [
        *(len, list, dict, lambda d: list(d.items()), lambda d: list(d.values())),
        *(lambda d: d.copy(), lambda d: list(reversed(d)), lambda d: d == {}, repr),
        *(lambda d: "token" in d, lambda d: d.get("token"), lambda d: "token" in d.keys()),  # noqa: SIM118
        *(lambda d: ("token", 2) in d.items(), lambda d: 2 in d.values(), lambda d: d | {}),
        *(lambda d: d.pop("token", None), lambda d: d.setdefault("token", 9)),
        *(lambda d: d.popitem(), lambda d: d.create("token", 9)),
    ],
)
def test_every_way_to_look_sees_it_gone(path: Path, clock: Clock, look: Any) -> None:
    # Each is the first call after the deadline, and answers as if the entry had never been.
    with (
        kvmap.open(path, files=clock) as d,
        kvmap.open(path / ".." / "other", files=clock) as never,
    ):
        d["stays"] = never["stays"] = 1
        d.set("token", 2, ttl=5)
        len(d), len(never)
        clock.wait(5)
        expected = look(never)
        found = look(d)
        if look is not repr:
            assert found == expected
        assert list(d.items()) == list(never.items())
        check(d)


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [(1, 1), (0.5, 0.5), (timedelta(hours=1), 3600), (timedelta(milliseconds=250), 0.25)],
)
def test_a_ttl_is_seconds_or_a_timedelta(
    path: Path, clock: Clock, ttl: Any, seconds: float
) -> None:
    with kvmap.open(path, ttl=ttl, files=clock) as d:
        d.set("set", 1, ttl=ttl)
        d.create("created", 1, ttl=ttl)
        d["plain"] = 1
        d.update(updated=1)
        d.setdefault("default", 1)
        with d.edit("edited", default=1):
            pass
        d.set("expire", 1, ttl=None)
        d.expire("expire", ttl)
        assert {d.ttl(key) for key in d} == {seconds}
        clock.wait(seconds)
        assert len(d) == 0
        check(d)


@pytest.mark.parametrize("ttl", [0, -1, 0.0, float("nan"), float("inf"), timedelta(0)])
def test_a_ttl_that_is_no_future_is_a_value_error(path: Path, ttl: Any) -> None:
    with kvmap.open(path) as d:
        d["key"] = 1
        for wrong in (
            lambda: d.set("key", 2, ttl=ttl),
            lambda: d.create("new", 2, ttl=ttl),
            lambda: d.expire("key", ttl),
            lambda: kvmap.open(path / ".." / "new", ttl=ttl),
        ):
            with pytest.raises(ValueError, match="ttl must be above 0"):
                wrong()
        assert dict(d) == {"key": 1}
        assert d.ttl("key") is None
    assert not path.with_name("new").exists()


@pytest.mark.parametrize("ttl", [True, "60", [60], 1j])
def test_a_ttl_that_is_no_time_is_a_type_error(path: Path, ttl: Any) -> None:
    with kvmap.open(path) as d:
        d["key"] = 1
        for wrong in (
            lambda: d.set("key", 2, ttl=ttl),
            lambda: d.create("new", 2, ttl=ttl),
            lambda: d.expire("key", ttl),
            lambda: kvmap.open(path / ".." / "new", ttl=ttl),
        ):
            with pytest.raises(TypeError, match="ttl must be seconds"):
                wrong()
        assert dict(d) == {"key": 1}


def test_a_write_without_a_ttl_takes_the_stores_default(path: Path, clock: Clock) -> None:
    with kvmap.open(path, files=clock) as d:
        d.set("key", 1, ttl=5)
        d["key"] = 2  # as Redis' SET: the deadline goes
        assert d.ttl("key") is None
    with kvmap.open(path, ttl=60, files=clock) as d:
        assert d.ttl("key") is None  # the default is for writes
        d["key"] = 3
        assert d.ttl("key") == 60
        d.set("key", 4, ttl=None)
        assert d.ttl("key") is None
    with kvmap.open(path, files=clock) as d:
        d["kept"] = 1
        assert d.ttl("kept") == 60, "the default is kept in the store"
    with kvmap.open(path, ttl=30, files=clock) as d:
        d["kept"] = 1
        assert d.ttl("kept") == 30


def test_expire_changes_the_deadline_alone(path: Path, clock: Clock) -> None:
    with kvmap.open(path, files=clock) as d:
        d.update(a=[1], b=2)
        d.expire("a", 10)
        clock.wait(9)
        d.expire("a", 10)
        clock.wait(9)
        assert list(d.items()) == [("a", [1]), ("b", 2)]
        with d.edit("a") as some:
            some.append(2)
        assert d.ttl("a") == 1, "an edit keeps the deadline"
        d.expire("a", None)
        clock.wait(100)
        assert d["a"] == [1, 2]
        check(d)


@pytest.mark.parametrize("end", ["close", "kill"])
def test_deadlines_outlive_the_process(path: Path, clock: Clock, end: str) -> None:
    d = kvmap.open(path, files=clock)
    d.set("a", 1, ttl=5)
    d.set("b", 1, ttl=15)
    copy = killed(d, path.with_name("copy"))
    d.close()
    clock.wait(10)
    with kvmap.open(copy if end == "kill" else path, files=clock) as d:
        assert "a" not in d
        assert d.ttl("b") == 5
        assert list(d) == ["b"]
        check(d)


def test_purge_tells_how_many_have_expired_since_it_was_last_called(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmap.snapshot.LEAST", 1)
    with kvmap.open(path, shards=4, files=clock) as d:
        assert d.purge() == 0
        d.update(dict.fromkeys("xyz", 0))
        for number in range(20):
            d.set(str(number), number, ttl=5 + number % 2)
        clock.wait(5)
        assert len(d) == 13
        assert d.purge() == 10
        assert d.purge() == 0
    clock.wait(5)
    with kvmap.open(path, files=clock) as d:
        assert "1" not in d  # reads one shard, before the stored index is read
        assert d.purge() == 10
        assert d.purge() == 0
        check(d)


def test_bytes_of_expired_entries_are_given_back(path: Path, clock: Clock) -> None:
    with kvmap.open(path, shards=1, files=clock) as d:
        d.update({str(number): "x" * 100 for number in range(100)})
        for number in range(3000):
            d.set(f"session {number}", "x" * 100, ttl=60)
        assert sum(map(len, files_of(path).values())) > 400_000
        clock.wait(60)
        assert d.purge() == 3000
        check(d)
        assert sum(map(len, files_of(path).values())) < 50_000
        assert len(d) == 100


def test_iteration_passes_over_what_expires_meanwhile(path: Path, clock: Clock) -> None:
    with kvmap.open(path, files=clock) as d:
        for number in range(10):
            d.set(number, number, ttl=10 + number)
        for walk in (iter(d), iter(d.keys()), iter(d.values()), (k for k, _ in d.items())):
            assert next(walk) == next(iter(d))
        seen = []
        for key in d:
            seen.append(key)
            clock.wait(2)  # past the deadline of every key that was seen, at the end
            len(d)  # takes what has expired out of the index
        assert seen == [*range(10)][: len(seen)]
        assert list(d) == [] or seen[-1] < min(d)
        d.set("new", 1, ttl=100)
        with pytest.raises(RuntimeError, match="changed size"):
            for _ in d:
                clock.wait(1)
                d["another"] = 1


def test_many_deadlines_in_one_write_or_one_load(path: Path, clock: Clock) -> None:
    # The heap of deadlines is trimmed now and then; never while entries are on their way in.
    many = {str(number): number for number in range(3000)}
    with kvmap.open(path, shards=1, ttl=60, files=clock) as d:
        d.update(many)
        check(d)
        with d.transaction():
            for key in many:
                d[key] = 0
            clock.wait(30)
        check(d)
    with kvmap.open(path, files=clock) as d:
        assert d["7"] == 0
        check(d)
        clock.wait(30)
        assert len(d) == 0
        with d.transaction():
            for key in many:
                d[key] = 0
            assert len(d) == 3000
            clock.wait(60)
            assert len(d) == 0


def test_replaced_deadlines_do_not_pile_up(path: Path, clock: Clock) -> None:
    with kvmap.open(path, shards=1, files=clock) as d:
        for number in range(20_000):
            d.set("session", number, ttl=1000)
        assert len(d._heap) < 2000
        for _ in range(20):
            d.update(dict.fromkeys(map(str, range(200)), 0))
            for key in map(str, range(200)):
                d.expire(key, 500)
        assert len(d._heap) < 2000
        check(d)


def test_what_a_transaction_let_expire_stays_gone(path: Path, clock: Clock) -> None:
    with kvmap.open(path, files=clock) as d:
        d.update(over=1, kept=1, deleted=1)
        d.set("short", 1, ttl=1)
        with d.transaction():
            d.set("over", 2, ttl=1)
            d.set("fresh", 2, ttl=1)
            del d["deleted"]
            d.set("deleted", 2, ttl=1)
            clock.wait(1)
            assert dict(d) == {"kept": 1}
        assert dict(d) == {"kept": 1}
        check(d)
    with kvmap.open(path, files=clock) as d:
        assert dict(d) == {"kept": 1}


def test_an_undone_transaction_leaves_the_deadlines(path: Path, clock: Clock) -> None:
    with kvmap.open(path, files=clock) as d:
        d.set("a", 1, ttl=10)
        d.set("b", 1, ttl=2)
        with pytest.raises(ZeroDivisionError), d.transaction():
            d.set("a", 2, ttl=1)
            d["b"] = 2
            clock.wait(1)
            assert dict(d) == {"b": 2}
            raise ZeroDivisionError
        assert d.ttl("a") == 9
        check(d)
        clock.wait(1)
        assert dict(d) == {"a": 1}


class Ticking(Clock):
    """Time that passes between any two looks at the clock."""

    def now(self) -> float:
        self.time += 0.001
        return self.time


def test_time_may_pass_in_the_middle_of_a_write(path: Path) -> None:
    # An entry that a write is to replace may expire between two looks at the clock.
    random_ = random.Random(1)
    clock = Ticking()
    limits = kvmap.Limits(store_bytes=1_000_000)
    for number in range(60):
        with kvmap.open(
            path, "n", shards=2, limits=limits if number % 2 else None, files=clock
        ) as d:
            for step in range(30):
                keys = random_.sample("abcdefgh", 4)
                for key in keys:
                    d.set(key, "x" * step, ttl=random_.randrange(1, 20) * 0.001)
                d.update(dict.fromkeys(keys, "y" * step))
                d[keys[0]] = "z" * (step + 1)
            len(d)
            check(d)


def test_random_steps_against_a_model(path: Path, clock: Clock) -> None:
    random_ = random.Random(3)
    model: dict[str, tuple[int, float]] = {}
    d = kvmap.open(path, shards=4, ttl=20, files=clock)
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
        if random_.random() < 0.02:
            d.close()
            d = kvmap.open(path, files=clock)
        if random_.random() < 0.05:
            assert list(d.items()) == [(key, value) for key, (value, _) in model.items()]
            check(d)
    d.close()
