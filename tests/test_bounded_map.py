"""A map within its bounds: what a write evicts on each local engine, and what it refuses."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

import kvmap
from kvmap import LimitError, Limits

POLICIES = ["oldest", "sieve"]


@pytest.fixture(params=["memory", "disk"])
def opened(request, tmp_path):
    """Opens a map on either engine; one on disk again at the same path."""
    maps = []

    def opened(**options):
        path = ":memory:" if request.param == "memory" else tmp_path / "store"
        maps.append(kvmap.open(path, **options))
        return maps[-1]

    yield opened
    for each in maps:
        each.close()


def counts(d):
    return d.stats().counts


@pytest.mark.parametrize("evict", POLICIES)
def test_a_write_evicts_the_oldest_of_those_that_nobody_read(opened, evict):
    d = opened(limits=Limits(entries=3), evict=evict)
    for key in "abcd":
        d[key] = key.upper()
    assert dict(d) == {"b": "B", "c": "C", "d": "D"}
    assert counts(d).evictions == 1


def read_by_get(d, key):
    assert d.get(key) is not None


def read_by_item(d, key):
    assert d[key] is not None


def read_by_get_many(d, key):
    assert d.get_many([key])


def read_in_a_transaction(d, key):
    with d.transaction():
        assert d[key] is not None


def overwrite(d, key):
    d[key] = "new"


def overwrite_by_update(d, key):
    d.update({key: "new"})


def overwrite_in_a_transaction(d, key):
    with d.transaction():
        d[key] = "new"


@pytest.mark.parametrize(
    "use",
    [
        read_by_get,
        read_by_item,
        read_by_get_many,
        read_in_a_transaction,
        overwrite,
        overwrite_by_update,
        overwrite_in_a_transaction,
    ],
)
def test_sieve_keeps_what_was_used(opened, use):
    d = opened(limits=Limits(entries=3), evict="sieve")
    d.update(a=1, b=2, c=3)
    use(d, "a")
    d["d"] = 4
    assert list(d) == ["a", "c", "d"]


def test_sieve_takes_no_iteration_for_a_use(opened):
    d = opened(limits=Limits(entries=3), evict="sieve")
    d.update(a=1, b=2, c=3)
    assert d["a"] == 1
    assert len(list(d)) == len(list(d.items())) == len(list(d.values())) == 3
    assert "b" in d
    d["d"] = 4
    assert list(d) == ["a", "c", "d"]


def test_oldest_takes_no_notice_of_reads(opened):
    d = opened(limits=Limits(entries=3), evict="oldest")
    d.update(a=1, b=2, c=3)
    d["a"] = d["a"] + 1
    d["d"] = 4
    assert list(d) == ["b", "c", "d"]


@pytest.mark.parametrize("evict", POLICIES)
def test_every_way_to_insert_makes_room(opened, evict):
    d = opened(limits=Limits(entries=3), evict=evict)
    d.update(a=1, b=2, c=3)
    for key, insert in {
        "item": lambda key: d.__setitem__(key, 1),
        "set": lambda key: d.set(key, 1, ttl=60),
        "setdefault": lambda key: d.setdefault(key, 1),
        "incr": lambda key: d.incr(key),
        "update": lambda key: d.update({key: 1}),
        "set_many": lambda key: d.set_many({key: 1}, ttl=60),
    }.items():
        insert(key)
        assert key in d
        assert len(d) == 3
    with d.transaction():
        d["in a transaction"] = 1
        d["another"] = 1
    assert list(d) == ["set_many", "in a transaction", "another"]
    assert counts(d).evictions == 8


@pytest.mark.parametrize("evict", POLICIES)
def test_a_batch_evicts_enough_and_none_of_its_own(opened, evict):
    d = opened(limits=Limits(entries=5), evict=evict)
    d.update(dict.fromkeys("abcde", 0))
    d.update(dict.fromkeys("bdxy", 1))
    assert d.copy() == {"b": 1, "d": 1, "e": 0, "x": 1, "y": 1}


@pytest.mark.parametrize("evict", POLICIES)
def test_a_transaction_that_deletes_needs_less_room(opened, evict):
    d = opened(limits=Limits(entries=3), evict=evict)
    d.update(a=1, b=2, c=3)
    with d.transaction():
        del d["c"]
        d["d"] = 4
    assert list(d) == ["a", "b", "d"]
    assert counts(d).evictions == 0
    with d.transaction():
        del d["a"]
        d["a"] = 5
        d["e"] = 6
    assert list(d) == ["d", "a", "e"]
    with d.transaction():
        del d["d"]
        d["f"] = 7
        d["g"] = 8
    assert list(d) == ["e", "f", "g"]


@pytest.mark.parametrize("evict", POLICIES)
def test_bytes_are_a_bound_too(opened, evict):
    d = opened(limits=Limits(store_bytes=4000), evict=evict)
    for number in range(200):
        d[number] = "x" * (number % 50 * 10)
        assert d.stats().live_bytes <= 4000
    assert list(d)[-1] == 199
    assert len(d) > 5
    d["large"] = "x" * 3500
    assert d.stats().live_bytes <= 4000
    assert list(d)[-1] == "large"


def test_bytes_are_counted_through_every_change(opened):
    d = opened(limits=Limits(store_bytes=1_000_000), evict="oldest")
    assert d.stats().live_bytes == 0
    d.update({number: "x" * number for number in range(20)})
    d.delete_many(range(5))
    d.pop(5)
    d.popitem()
    d.popitem(last=False)
    with d.transaction():
        del d[10]
        d[11] = "a longer value"
    d.set(12, "x", ttl=0.01)
    time.sleep(0.02)
    assert d.stats().live_bytes > 0
    d.delete_many(list(d)[2:])
    d.clear()
    assert d.stats().live_bytes == 0


def test_an_iteration_goes_on_when_an_overwrite_evicts(opened):
    d = opened(limits=Limits(store_bytes=4000), evict="oldest")
    d.update(dict.fromkeys(range(10), "x" * 200))
    seen = iter(d)
    assert next(seen) == 0
    d[9] = "x" * 2500
    assert counts(d).evictions > 0
    assert list(seen)[-1] == 9


@pytest.mark.parametrize("evict", POLICIES)
def test_what_is_larger_than_the_bound_raises_and_evicts_nothing(opened, evict):
    d = opened(limits=Limits(entries=3, store_bytes=2000), evict=evict)
    d.update(a=1, b=2)
    with pytest.raises(LimitError, match=r"key 'c': .* limit of 2000; nothing"):
        d["c"] = "x" * 3000
    with pytest.raises(LimitError, match=r"key 'a'"):
        d["a"] = "x" * 3000
    with pytest.raises(LimitError, match="4 entries alone"):
        d.update(dict.fromkeys("cdef", 0))
    with pytest.raises(LimitError), d.transaction():
        del d["a"]
        d["c"] = "x" * 3000
    assert dict(d) == {"a": 1, "b": 2}
    assert counts(d).evictions == 0


def test_without_evict_nothing_is_thrown_out(opened):
    d = opened(limits=Limits(entries=3))
    d.update(a=1, b=2, c=3)
    for write in (
        lambda: d.__setitem__("d", 4),
        lambda: d.setdefault("d", 4),
        lambda: d.incr("d"),
        lambda: d.update(d=4),
        lambda: d.update(a=5, d=4),
    ):
        with pytest.raises(LimitError, match="would hold 4 entries, the limit is 3"):
            write()
    d["a"] = 7
    assert dict(d) == {"a": 7, "b": 2, "c": 3}


@pytest.mark.parametrize("evict", POLICIES)
def test_what_has_expired_goes_first(opened, evict):
    d = opened(limits=Limits(entries=3), evict=evict)
    d["a"] = 1
    d.set("b", 2, ttl=0.01)
    d["c"] = 3
    time.sleep(0.02)
    d["d"] = 4
    assert list(d) == ["a", "c", "d"]
    assert (counts(d).evictions, counts(d).expirations) == (0, 1)


@pytest.mark.parametrize("evict", POLICIES)
def test_an_entry_that_was_deleted_and_inserted_again_is_new(opened, evict):
    d = opened(limits=Limits(entries=3), evict=evict)
    d.update(a=1, b=2, c=3)
    assert d.pop("a") == 1
    d["a"] = 4
    d["d"] = 5
    d["e"] = 6
    assert list(d) == ["a", "d", "e"]
    d["f"] = 7
    assert list(d) == ["d", "e", "f"]


@pytest.mark.parametrize("evict", POLICIES)
def test_clear_lets_it_start_anew(opened, evict):
    d = opened(limits=Limits(entries=2), evict=evict)
    for _ in range(3):
        d.update(a=1, b=2)
        assert d["a"] == 1
        d.clear()
    d.update(a=1, b=2)
    d["c"] = 3
    assert list(d) == ["b", "c"]


@pytest.mark.parametrize("evict", POLICIES)
def test_a_map_that_is_read_by_threads_keeps_its_bound(opened, evict):
    d, stop = opened(limits=Limits(entries=50), evict=evict), threading.Event()
    found = []

    def read():
        step = 0
        while not stop.is_set():
            step += 1
            value = d.get(step % 300)
            found.append(value is None or value == step % 300)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(3000):
            d[number % 300] = number % 300
            assert len(d) <= 50
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert all(found)


def test_the_oldest_entry_is_taken_as_from_a_queue(opened):
    d = opened()
    d.update(dict.fromkeys("abc", 0))
    assert d.popitem(last=False) == ("a", 0)
    d["a"] = 1
    assert d.popitem() == ("a", 1)
    d["d"] = 2
    assert [d.popitem(last=False)[0] for _ in range(3)] == ["b", "c", "d"]
    with pytest.raises(KeyError):
        d.popitem(last=False)


@pytest.mark.parametrize("evict", POLICIES)
@pytest.mark.parametrize("seed", range(3))
def test_any_writes_keep_the_bounds_and_lose_no_value(opened, evict, seed):
    rng, written = random.Random(seed), {}
    d = opened(limits=Limits(entries=40, store_bytes=6000), evict=evict)

    def some(count):
        return {rng.randrange(120): "x" * rng.randrange(300) for _ in range(count)}

    for _ in range(400):
        match rng.randrange(7):
            case 0:
                new = some(rng.randrange(1, 15))
                d.update(new)
            case 1:
                new = some(2)
                with d.transaction():
                    for key in list(d)[: rng.randrange(3)]:
                        del d[key]
                        written.pop(key, None)
                    d.update(new)
            case 2:
                new = {}
                if d:
                    key, _ = d.popitem(last=bool(rng.randrange(2)))
                    written.pop(key)
            case 3:
                new = {}
                for key in rng.sample(range(120), 5):
                    assert d.get(key) in (None, written.get(key))
            case _:
                new = some(1)
                d.update(new)
        written.update(new)
        found = dict(d)
        assert set(new) <= set(found)
        assert found.items() <= written.items()
        assert len(d) == len(found) <= 40
        assert d.stats().live_bytes <= 6000
    assert d.stats().counts.evictions > 50


# On disk


def disk_bytes(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize("evict", POLICIES)
def test_what_was_evicted_is_gone_after_a_reopen(tmp_path, evict):
    with kvmap.open(tmp_path / "store", limits=Limits(entries=100), evict=evict) as d:
        for number in range(500):
            d[number] = number
            d.get(number - 50)
        kept = list(d.items())
    with kvmap.open(tmp_path / "store") as d:
        assert list(d.items()) == kept
        assert len(d) == len(kept)
        d["one more"] = 1
        assert list(d)[-1] == "one more"
        assert 98 <= len(d) <= 100


WRITER = """
import sys, kvmap
with kvmap.open(sys.argv[1], limits=kvmap.Limits(entries=200, store_bytes=30_000), evict="sieve") as d:
    for number in range(10**9):
        d[number] = {"number": number}
        d.get(number - 90)
        if number == 1000:
            print("full", flush=True)
"""


def test_a_kill_leaves_a_store_within_its_bounds(tmp_path):
    for turn in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path / "store"], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout.readline() == b"full\n"
            time.sleep(turn / 50)
            os.kill(writer.pid, signal.SIGKILL)
        with kvmap.open(tmp_path / "store") as d:
            d["new"] = 1  # before anything else has put the entries in order
            kept = list(d)
            assert kept == [*sorted(kept[:-1]), "new"]
            assert 100 < len(kept) <= 200
            assert d.stats().live_bytes <= 30_000
            assert all(d[number] == {"number": number} for number in kept[:-1])
            d.clear()


@pytest.mark.parametrize("evict", POLICIES)
def test_bytes_on_disk_stay_under_twice_the_bound_and_a_constant(tmp_path, evict):
    bound, rng, most = 500_000, random.Random(1), 0
    constant = 600_000  # the slack of four shards and one shard's copy
    with kvmap.open(
        tmp_path / "store", shards=4, limits=Limits(store_bytes=bound), evict=evict
    ) as d:
        for number in range(16_000):
            size = 2000 if number % 2000 < 50 else 200
            d[rng.randrange(20_000)] = "x" * rng.randrange(size)
            if number % 100 == 0:
                most = max(most, disk_bytes(tmp_path / "store"))
        assert d.stats().live_bytes > bound * 0.8
    assert bound < most < 2 * bound + constant
    assert disk_bytes(tmp_path / "store") < 2 * bound + constant


# Options


@pytest.mark.parametrize("evict", ["lru", "", 1, "SIEVE"])
def test_an_unknown_policy_is_refused_with_those_there_are(opened, evict):
    with pytest.raises(ValueError, match=r"'oldest', 'sieve' or None, not "):
        opened(limits=Limits(entries=3), evict=evict)


@pytest.mark.parametrize("limits", [{}, {"limits": Limits(value_bytes=9, key_chars=9)}])
def test_a_policy_without_a_bound_is_refused(opened, limits):
    with pytest.raises(ValueError, match=r"evict='sieve' needs a bound: Limits\(entries="):
        opened(evict="sieve", **limits)


def test_configure_changes_the_policy_at_once(opened):
    d = opened(limits=Limits(entries=3))
    d.update(a=1, b=2, c=3)
    d.configure(evict="sieve")
    assert d["a"] == 1
    d["d"] = 4
    assert list(d) == ["a", "c", "d"]
    d.configure(evict="oldest", limits=Limits(entries=2))
    d["e"] = 5
    assert list(d) == ["d", "e"]
    d.configure(evict=None)
    with pytest.raises(LimitError):
        d["f"] = 6
    with pytest.raises(ValueError, match="needs a bound"):
        d.configure(evict="sieve", limits=Limits())
    assert list(d) == ["d", "e"]


def test_the_policy_is_kept_in_the_store(tmp_path):
    with kvmap.open(tmp_path / "store", limits=Limits(entries=3), evict="sieve") as d:
        d.update(a=1, b=2, c=3)
    with kvmap.open(tmp_path / "store") as d:
        assert d.settings.evict == "sieve"
        assert d["a"] == 1
        d["d"] = 4
        assert list(d) == ["a", "c", "d"]
    with kvmap.open(tmp_path / "store", evict="oldest") as d:
        assert d.settings.limits == Limits(entries=3)
        d["e"] = 5
        assert list(d) == ["c", "d", "e"]
    with kvmap.open(tmp_path / "store") as d:
        assert d.settings.evict == "oldest"
    with kvmap.open(tmp_path / "store", evict=None) as d, pytest.raises(LimitError):
        d["f"] = 6
    with (
        kvmap.open(tmp_path / "store") as d,
        pytest.raises(LimitError, match="limit is 3"),
    ):
        d["f"] = 6
    with pytest.raises(ValueError, match="'oldest', 'sieve' or None"):
        kvmap.open(tmp_path / "store", evict="lru")
    with pytest.raises(ValueError, match="needs a bound"):
        kvmap.open(tmp_path / "store", evict="sieve", limits=Limits())
    with kvmap.open(tmp_path / "store") as d:
        assert (d.settings.evict, list(d)) == (None, ["c", "d", "e"])


# Figures


def test_reads_are_counted_for_those_who_ask(opened):
    d = opened(limits=Limits(entries=2), evict="sieve", count_reads=True)
    d.update(a=1, b=2)
    assert (d["a"], d.get("b"), d.get("c")) == (1, 2, None)
    with pytest.raises(KeyError):
        d["d"]
    d.get_many(["a", "e", "f"])
    d["g"] = 1
    assert counts(d).hits == 3
    assert counts(d).misses == 4
    assert counts(d).hit_ratio == 3 / 7
    assert counts(d).evictions == 1


def test_reads_are_not_counted_for_others(opened):
    d = opened()
    assert d.get("a") is None
    assert (counts(d).hits, counts(d).misses, counts(d).hit_ratio) == (None, None, None)
