"""What goes where a store is at its bound: the queue, SIEVE, FIFO, and the two local engines."""

import itertools
import random
import time
from collections import OrderedDict

import pytest

from kvmap.errors import LimitError
from kvmap.eviction import Bounds, Queue
from kvmap.limits import Limits
from kvmap.settings import Settings


class Cache:
    """The smallest engine: a dict of (place, bytes) with bounds."""

    def __init__(self, evict=None, entries=None, store_bytes=None):
        limits = Limits(entries=entries, store_bytes=store_bytes)
        self.entries = {}
        self.places = itertools.count()
        self.bounds = Bounds(
            Settings(limits=limits, evict=evict),
            lambda: self.entries,
            place=lambda entry: entry[0],
            size=lambda key, entry: entry[1],
        )
        self.evicted = []

    def live(self):
        return sum(size for _, size in self.entries.values())

    def set(self, *written, size=1):
        live, new = self.live(), [key for key in written if key not in self.entries]
        after = live + size * len(written) - sum(self.entries.get(k, (0, 0))[1] for k in written)
        gone = self.bounds.victims(len(self.entries) + len(new), after, live, written)
        self.evicted += gone
        self.delete(*gone)
        for key in written:
            place = self.entries[key][0] if key in self.entries else next(self.places)
            if key in self.entries:
                self.read(key)
            self.entries[key] = (place, size)

    def read(self, key):
        if key in self.entries and self.bounds.marks is not None:
            self.bounds.marks.add(key)
            return True
        return key in self.entries

    def delete(self, *deleted):
        for key in deleted:
            del self.entries[key]
        self.bounds.forget(deleted)


class Sieve:
    """SIEVE as its authors describe it: a list from the oldest to the newest, marks and a hand."""

    def __init__(self, most):
        self.most, self.queue, self.marks, self.hand = most, [], set(), 0

    def access(self, key):
        if key in self.queue:
            self.marks.add(key)
            return None
        victim = None
        if len(self.queue) == self.most:
            while self.queue[self.hand] in self.marks:
                self.marks.remove(self.queue[self.hand])
                self.hand = (self.hand + 1) % self.most
            victim = self.queue.pop(self.hand)
            self.hand %= self.most - 1 or 1
        self.queue.append(key)
        return victim


# The queue


def queue_of(entries):
    return Queue(lambda: entries, lambda place: place)


def test_queue_goes_on_to_what_was_inserted_since_then_starts_anew():
    d = {"a": 0, "b": 1}
    queue = queue_of(d)
    assert queue.pop() == "a"
    d["c"] = 2
    assert [queue.pop() for _ in range(4)] == ["b", "c", "a", "b"]


def test_queue_passes_over_the_deleted_and_those_inserted_again():
    d = {"a": 0, "b": 1, "c": 2}
    queue = queue_of(d)
    assert queue.first() == "a"
    del d["a"], d["b"]
    d["b"] = 3
    assert [queue.pop() for _ in range(3)] == ["c", "b", "c"]


def test_queue_stands_at_the_first_key_until_it_is_gone():
    d = {"a": 0, "b": 1}
    queue = queue_of(d)
    assert queue.first() == queue.first() == "a"
    del d["a"]
    assert queue.first() == "b"
    d["a"] = 2
    assert queue.first() == "b"
    del d["b"]
    assert queue.first() == "a"
    del d["a"]
    with pytest.raises(KeyError, match="no entry"):
        queue.first()
    d["e"] = 3
    assert queue.first() == "e"


def test_queue_follows_a_dict_that_takes_another_s_place():
    entries = {"a": 0, "b": 1}
    queue = Queue(lambda: entries, lambda place: place)
    assert queue.pop() == "a"
    entries = {"b": 1, "c": 2}
    assert [queue.pop(), queue.pop()] == ["b", "c"]


def test_queue_holds_the_key_none():
    queue = queue_of({None: 0, "b": 1})
    assert [queue.pop(), queue.pop()] == [None, "b"]


@pytest.mark.parametrize("seed", range(20))
def test_first_is_the_oldest_whatever_happens(seed):
    rng, places, d = random.Random(seed), itertools.count(), {}
    queue = queue_of(d)
    for _ in range(400):
        key = rng.randrange(30)
        if rng.random() < 0.55:
            d.setdefault(key, next(places))
        else:
            d.pop(key, None)
        if d and rng.random() < 0.5:
            assert queue.first() == next(iter(d))
            if rng.random() < 0.5:
                del d[queue.first()]


def drain_seconds(count):
    d = dict(zip(range(count), range(count), strict=True))
    queue, start = queue_of(d), time.perf_counter()
    while d:
        del d[queue.first()]
    return time.perf_counter() - start


def test_taking_the_oldest_is_linear():
    # Quadratic, as with next(iter(d)), the factor would be 256.
    assert min(drain_seconds(64_000) for _ in range(3)) < 80 * min(
        drain_seconds(4_000) for _ in range(3)
    )


def test_a_short_queue_in_a_dict_that_was_long_is_quick():
    # The table of a dict stays as large as it was; each look at its front passes over all of it.
    d = dict(zip(range(300_000), range(300_000), strict=True))
    queue = queue_of(d)
    while len(d) > 10:
        del d[queue.first()]
    start = time.perf_counter()
    for place in range(300_000, 320_000):
        d[place] = place
        del d[queue.first()]
    assert time.perf_counter() - start < 2  # some 20 s, each with a look at the front


# Policies


@pytest.mark.parametrize("most", [1, 2, 3, 10, 63])
@pytest.mark.parametrize("seed", range(8))
def test_sieve_evicts_what_its_authors_evict(most, seed):
    rng = random.Random(seed)
    cache, model = Cache("sieve", entries=most), Sieve(most)
    span = most * rng.choice([2, 3]) + 2
    for step in range(3000):
        key = int(rng.paretovariate(0.7)) % span if step % 500 < 400 else step
        before = len(cache.evicted)
        if not cache.read(key):
            cache.set(key)
        victim = model.access(key)
        assert cache.evicted[before:] == ([] if victim is None else [victim])


@pytest.mark.parametrize("seed", range(8))
def test_oldest_evicts_in_insertion_order(seed):
    rng = random.Random(seed)
    cache, model = Cache("oldest", entries=10), OrderedDict()
    for _ in range(2000):
        key = rng.randrange(25)
        if rng.random() < 0.2:
            cache.read(key)
        elif rng.random() < 0.2:
            if model.pop(key, None):
                cache.delete(key)
        else:
            if key not in model and len(model) == 10:
                model.popitem(last=False)
            model[key] = True
            cache.set(key)
        assert list(cache.entries) == list(model)


def test_a_key_that_is_written_stays_and_is_still_the_oldest():
    cache = Cache("oldest", store_bytes=10)
    for key in "abcde":
        cache.set(key, size=2)
    cache.set("a", size=4)
    assert list(cache.entries) == ["a", "c", "d", "e"]
    cache.set("f", size=4)
    assert list(cache.entries) == ["c", "d", "e", "f"]


def test_an_entry_that_could_not_be_deleted_is_still_the_oldest():
    cache = Cache("oldest", entries=3)
    cache.set("a", "b", "c")
    for _ in range(3):
        assert cache.bounds.victims(4, 0, 0, ["d"]) == ["a"]


@pytest.mark.parametrize("policy", ["oldest", "sieve"])
def test_an_entry_that_is_inserted_again_has_its_turn_anew(policy):
    cache = Cache(policy, entries=3)
    cache.set("a", "b", "c")
    cache.read("a")
    cache.delete("a")
    cache.set("a")
    cache.set("d")
    assert list(cache.entries) == ["c", "a", "d"]
    cache.set("e")
    assert list(cache.entries) == ["a", "d", "e"]
    cache.set("f")
    assert list(cache.entries) == ["d", "e", "f"]


def test_sieve_keeps_what_is_read_or_overwritten():
    cache = Cache("sieve", entries=3)
    cache.set("a", "b", "c")
    cache.read("a")
    cache.set("b")
    cache.set("d")
    assert list(cache.entries) == ["a", "b", "d"]


@pytest.mark.parametrize("policy", ["oldest", "sieve"])
def test_a_batch_evicts_enough_and_never_its_own_keys(policy):
    cache = Cache(policy, entries=5)
    cache.set(*"abcde")
    cache.set("b", "d", "x", "y")
    assert set(cache.entries) == {"b", "d", "x", "y", "e"}
    cache.set(*"bdefg")
    assert set(cache.entries) == set("bdefg")


@pytest.mark.parametrize("policy", ["oldest", "sieve"])
def test_bytes_evict_as_many_as_it_takes(policy):
    cache = Cache(policy, store_bytes=100)
    for number in range(10):
        cache.set(number, size=10)
    cache.set("large", size=35)
    assert list(cache.entries) == [4, 5, 6, 7, 8, 9, "large"]
    cache.set("all", size=100)
    assert list(cache.entries) == ["all"]


@pytest.mark.parametrize("policy", ["oldest", "sieve"])
def test_what_is_larger_than_the_bound_raises_and_evicts_nothing(policy):
    cache = Cache(policy, entries=3, store_bytes=30)
    cache.set("a", "b", size=10)
    with pytest.raises(LimitError, match=r"key 'c': 31 bytes.* limit of 30"):
        cache.set("c", size=31)
    with pytest.raises(LimitError, match=r"the write: 4 entries.* limit of 3"):
        cache.set(*"cdef", size=1)
    with pytest.raises(LimitError, match=r"key 'a': 31 bytes"):
        cache.set("a", size=31)
    assert list(cache.entries) == ["a", "b"]


def test_without_a_policy_nothing_goes():
    cache = Cache(entries=3, store_bytes=30)
    cache.set("a", "b", size=10)
    with pytest.raises(LimitError, match=r"would hold 40 bytes of records, the limit is 30"):
        cache.set("c", size=20)
    cache.set("c", size=10)
    with pytest.raises(LimitError, match=r'would hold 4 entries, the limit is 3.*evict="sieve"'):
        cache.set("d", size=0)
    assert list(cache.entries) == ["a", "b", "c"]


def test_a_store_beyond_its_bound_may_shrink_without_a_policy():
    # The limits were made smaller when it was opened.
    cache = Cache(entries=2, store_bytes=20)
    cache.entries = {key: (place, 10) for place, key in enumerate("abcd")}
    cache.set("a", size=9)
    with pytest.raises(LimitError):
        cache.set("a", size=10)


@pytest.mark.parametrize("policy", ["oldest", "sieve"])
def test_a_store_beyond_its_bound_is_cut_to_it_by_a_write(policy):
    cache = Cache(policy, entries=2)
    cache.entries = {key: (place, 1) for place, key in enumerate("abcd")}
    cache.set("e")
    assert list(cache.entries) == ["d", "e"]


@pytest.mark.parametrize("policy", ["oldest", "sieve"])
def test_a_large_store_evicts_a_few_ahead(policy):
    cache = Cache(policy, entries=6400)
    cache.set(*range(6400))
    cache.set("more")
    assert cache.evicted == list(range(101))


def test_all_marked_the_hand_takes_the_oldest():
    cache = Cache("sieve", entries=4)
    cache.set(*"abcd")
    for key in "abcd":
        cache.read(key)
    cache.set("e")
    assert cache.evicted == ["a"]
    assert not cache.bounds.marks


def test_marks_of_keys_that_are_gone_do_not_pile_up():
    cache = Cache("sieve", entries=4)
    for step in range(100):
        cache.set(step)
        cache.bounds.marks.add(f"read while it was deleted {step}")
    assert len(cache.bounds.marks) <= 6


def seconds_per_set(policy, count):
    cache = Cache(policy, entries=count)
    cache.entries = {number: (next(cache.places), 1) for number in range(count)}
    steps, victims = range(count, count + 20_000), cache.bounds.victims
    if cache.bounds.marks is not None:
        cache.bounds.marks.update(range(0, count, 2))
    start = time.perf_counter()
    for key in steps:
        cache.delete(*victims(len(cache.entries) + 1, 0, 0, (key,)))
        cache.entries[key] = (key, 1)
    return (time.perf_counter() - start) / len(steps)


@pytest.mark.parametrize("policy", ["oldest", "sieve"])
def test_eviction_costs_the_same_in_a_large_store(policy):
    # Each step a look at the front of the dict would be some hundred times slower in the large one.
    small = min(seconds_per_set(policy, 5_000) for _ in range(3))
    assert min(seconds_per_set(policy, 200_000) for _ in range(2)) < 12 * small
