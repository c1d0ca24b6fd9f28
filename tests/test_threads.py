"""Threads: each call is one step for all others, and none of eight loses a write."""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers import LONG, AnyMap, Clock, Work, in_thread
from stores import DiskStore, Store
from unsynced import Unsynced
from watched import Watched

import kvmap

THREADS = 8
SECONDS = 60 if LONG else 1


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def run(work: Callable[[int], None], *others: Callable[[int], None]) -> None:
    """Run `work` in eight threads, and each of the others in one; raise what one of them raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(THREADS + len(others))

    def guarded(work: Callable[[int], None], number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    jobs = [(work, number) for number in range(THREADS)] + [(other, 0) for other in others]
    threads = [threading.Thread(target=guarded, args=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 60)
        assert not thread.is_alive(), "a deadlock"
    if errors:
        raise errors[0]


@pytest.fixture
def d(store: Store) -> Iterator[AnyMap]:
    with store.open() as d:
        yield d
        store.check(d)


def test_eight_threads_increment_and_none_is_lost(d: AnyMap) -> None:
    d["transaction"] = 0

    def increment(_: int) -> None:
        for _ in range(100):
            with d.edit("edit", default=[0]) as count:
                count[0] += 1
            with d.transaction():
                d["transaction"] += 1

    run(increment)
    assert d["edit"] == [THREADS * 100]
    assert d["transaction"] == THREADS * 100


def test_setdefault_and_create_have_one_winner(d: AnyMap) -> None:
    got: list[list[int]] = [[] for _ in range(THREADS)]
    created: list[int] = []

    def work(number: int) -> None:
        for key in range(100):
            got[number].append(d.setdefault(str(key), number))
            try:
                d.create(f"created {key}", number)
            except kvmap.KeyExistsError:
                continue
            created.append(key)

    run(work)
    assert got == [got[0]] * THREADS
    assert sorted(created) == [*range(100)]


def test_pop_and_popitem_give_each_entry_to_one(d: AnyMap) -> None:
    d.update({str(key): key for key in range(600)})
    popped: list[int] = []

    def work(number: int) -> None:
        for key in range(100):
            value = d.pop(str(key), None)
            if value is not None:
                popped.append(value)
        try:
            while True:
                key, value = d.popitem()
                assert key == str(value)
                popped.append(value)
        except KeyError:
            pass

    run(work)
    assert sorted(popped) == [*range(600)]
    assert not d


def test_readers_see_an_update_or_a_transaction_whole(d: AnyMap) -> None:
    names = [str(number) for number in range(20)]
    d.update(dict.fromkeys(names, 0))
    running = threading.Semaphore(0)

    def write(number: int) -> None:
        for step in range(15):
            if number % 2:
                d.update(dict.fromkeys(names, [number, step]))
            else:
                with d.transaction():
                    for name in names:
                        d[name] = [number, step]
        running.release()

    def read(_: int) -> None:
        for _ in range(THREADS):
            while not running.acquire(blocking=False):
                assert len(d) == len(names)
                with d.transaction():  # reads of several keys at one moment
                    assert len({str(d[name]) for name in names}) == 1

    run(write, read)


def test_reads_go_on_during_compaction_and_clear(store: Store) -> None:
    with store.open(shards=1) as d:
        d["kept"] = "kept"
        done = threading.Event()

        def write(number: int) -> None:
            for step in range(100):
                d[f"{number} {step % 3}"] = "x" * 1000
            if number == 0:
                d.compact()

        def read(_: int) -> None:
            while not done.is_set():
                assert d["kept"] == "kept"
                assert d.get("absent") is None
                assert "kept" in d
                list_of(d)

        def finish(_: int) -> None:
            while len(d) < 3 * THREADS + 1:
                done.wait(0.01)
            done.set()

        run(write, read, finish)
        store.check(d)


def list_of(d: AnyMap) -> list[Any]:
    """All items; as with a dict, an insertion by another thread ends the iteration."""
    try:
        return list(d.items())
    except RuntimeError as error:
        assert "changed" in str(error)
        return []


def test_a_transaction_is_seen_by_its_own_thread_alone(d: AnyMap) -> None:
    d.update(a=1, b=1)
    seen: list[Any] = []

    def look() -> None:
        seen.append([d["a"], "b" in d, "new" in d, d.get("new"), len(d), dict(d)])

    with d.transaction():
        d["a"], d["new"] = 2, 2
        del d["b"]
        other = threading.Thread(target=look)
        other.start()
        other.join(60)
        assert dict(d) == {"a": 2, "new": 2}
    assert seen == [[1, True, False, None, 2, {"a": 1, "b": 1}]]
    look()
    assert seen[1] == [2, False, True, 2, 2, {"a": 2, "new": 2}]


def test_other_threads_writes_wait_for_a_transaction(d: AnyMap) -> None:
    d["a"] = 0
    with d.transaction():
        work = Work(lambda: d.__setitem__("a", "last"))
        assert work.waits()
        assert d["a"] == 0
        d["a"] = 1
    work.result()
    assert d["a"] == "last"


def test_a_map_closed_by_one_thread_is_closed_for_all(store: Store) -> None:
    d = store.open()
    d["a"] = 0

    def use(_: int) -> None:
        with pytest.raises(kvmap.StoreClosedError):
            while True:
                d["a"] = d["a"]
                len(d), dict(d)

    run(use, lambda _: d.close())
    if store.is_kept:
        with store.open() as d:
            assert dict(d) == {"a": 0}


def test_close_waits_for_the_transaction_of_another_thread(store: Store) -> None:
    d = store.open()
    d["a"] = 0
    with d.transaction():
        d["a"] = 1
        work = Work(d.close)
        assert work.waits()
        assert not d.closed
    work.result()
    assert d.closed
    if store.is_kept:
        with store.open() as d:
            assert d["a"] == 1


def test_threads_load_a_store_together(kept: Store) -> None:
    with kept.open(shards=32) as d:
        d.update({str(key): key for key in range(500)})
    for _ in range(5):
        with kept.open() as d:

            def work(number: int, d: AnyMap = d) -> None:
                if number % 2:
                    assert [*d.values()] == [*range(500)]
                for key in range(number, 500, 7):
                    assert d[str(key)] == key
                    d[str(key)] = key

            run(work)
            kept.check(d)
            assert list(d.values()) == [*range(500)]


def test_random_work_of_all_kinds(store: Store) -> None:
    with store.open(shards=2) as d:

        def work(number: int) -> None:
            mine: dict[str, Any] = {}
            for step in range(150):
                key = f"{number} {step % 7}"
                match step * 7919 % 5:
                    case 0:
                        d[key] = mine[key] = "x" * step * 5
                    case 1:
                        assert d.pop(key, None) == mine.pop(key, None)
                    case 2:
                        d.update({key: step})
                        mine[key] = step
                    case 3:
                        with d.transaction():
                            d[key] = -1
                            d[key] = step
                        mine[key] = step
                    case 4:
                        assert d.setdefault(key, 5) == mine.setdefault(key, 5)
                assert d.get(key) == mine.get(key)
                assert (key in d) == (key in mine)

        run(work)
        store.check(d)


def test_reads_go_on_while_another_thread_holds_the_map(d: AnyMap) -> None:
    d.update(a=1, b=2)
    with d.transaction():
        d["a"] = 9
        assert in_thread(lambda: (d["a"], d.get("a"), d.get("absent"), "a" in d, len(d))) == (
            *(1, 1, None, True),
            2,
        )
        assert in_thread(lambda: [*d]) == ["a", "b"]
        assert in_thread(lambda: [*d.items()]) == [("a", 1), ("b", 2)]
        assert in_thread(lambda: [*d.values()]) == [1, 2]
        assert in_thread(lambda: d.get_many(["b", "c"])) == {"b": 2}


@pytest.mark.disk
@pytest.mark.parametrize("load", [list, lambda d: [d[key] for key in "abcdefgh"]])
@pytest.mark.parametrize(
    "read", [lambda d: "e" in d, lambda d: d["e"], lambda d: d.get("e")], ids=["in", "[]", "get"]
)
def test_a_read_while_another_thread_loads_the_rest(
    tmp_path: Path, clock: Clock, load: Callable[[Any], object], read: Callable[[Any], object]
) -> None:
    """The other thread reads all shards while the first is reading its own."""
    files = Watched(Unsynced(clock))
    store = DiskStore(tmp_path, clock, files)
    with store.open() as d:
        d.update(dict.fromkeys("abcdefgh", True))
    for stop in range(12):
        with store.open() as d:
            calls = 0

            def elsewhere(
                name: str, d: AnyMap = d, stop: int = stop, me: int = threading.get_ident()
            ) -> None:
                nonlocal calls
                if threading.get_ident() == me:
                    calls += 1
                    if calls == stop:
                        work = Work(lambda: load(d))
                        work.waits(0.05)  # it may have to wait for this thread
                        works.append(work)

            works: list[Work] = []
            files.before = elsewhere
            assert read(d) is True
            files.before = lambda name: None
            for work in works:
                work.result()
            store.check(d)


def overwrite(d: AnyMap) -> None:
    d["a"] = 2


def compact(d: AnyMap) -> None:
    d.compact()


def commit(d: AnyMap) -> None:
    with d.transaction():
        d["a"] = 2


@pytest.mark.disk
@pytest.mark.parametrize("work", [overwrite, compact, commit])
def test_readers_do_not_wait_for_a_disk(
    tmp_path: Path, clock: Clock, work: Callable[[Any], None]
) -> None:
    files = Watched(Unsynced(clock))
    store = DiskStore(tmp_path, clock, files)
    stuck, go = threading.Event(), threading.Event()

    def wait(name: str) -> None:
        if name in ("sync", "sync_directory") and threading.current_thread() is worker:
            stuck.set()
            assert go.wait(60)

    with store.open(shards=1, sync=True) as d:
        d.update(a=0, b=0)
        d.set("later", 1, ttl=1000)
        d["a"] = 1
        assert len(d) == 3
        worker = threading.Thread(target=work, args=(d,))
        files.before = wait
        worker.start()
        try:
            assert stuck.wait(60)
            assert in_thread(
                lambda: (d["a"], d.get("a"), d["later"], d.get("absent"), "b" in d, len(d))
            ) == (1, 1, 1, None, True, 3)
            assert in_thread(lambda: dict(d.items())) == {"a": 1, "b": 0, "later": 1}
        finally:
            go.set()
            worker.join()
        assert d["a"] == (1 if work is compact else 2)
        store.check(d)


def test_eight_threads_do_all_there_is_for_a_while(store: Store) -> None:
    """No exception but those a dict would raise, no lost update, no value that was never written."""
    d = store.open()
    store.clock.step = 0.001
    numbers = [0] * THREADS
    """How many values each thread has made so far; it counts before it writes."""
    models: list[dict[str, Any]] = [{} for _ in range(THREADS)]
    counted = [0] * THREADS
    summed = [0] * THREADS
    done = [0] * THREADS
    end = time.monotonic() + SECONDS

    def value(number: int) -> list[Any]:
        numbers[number] += 1
        return [number, numbers[number], "x" * (numbers[number] * 7919 % 700)]

    def verify(found: Any) -> None:
        if isinstance(found, list):
            number, step, text = found
            assert 0 < step <= numbers[number]
            assert text == "x" * (step * 7919 % 700)
        else:
            assert found is None or 0 <= found <= sum(numbers) + THREADS

    def write(number: int, chance: random.Random) -> None:
        mine = models[number]
        key = f"{number} {chance.randrange(30)}"
        match chance.randrange(9):
            case 0 | 1 | 2:
                d[key] = mine[key] = value(number)
                d.incr("sum")
                summed[number] += 1
            case 3:
                assert d.pop(key, None) == mine.pop(key, None)
            case 4:
                more = {f"{number} {i}": value(number) for i in range(5)}
                d.update(more)
                mine.update(more)
            case 5:
                with d.transaction():
                    d[key] = value(number)
                    d[key] = mine[key] = value(number)
                    counted[number] += 1
                    d["count"] = d.get("count", 0) + 1
            case 6:
                d[f"shared {chance.randrange(9)}"] = value(number)
            case 7:
                d.set(f"timed {chance.randrange(9)}", value(number), ttl=chance.random())
            case 8:
                d.pop(f"shared {chance.randrange(9)}", None)
        assert d.get(key) == mine.get(key)

    def read(number: int, chance: random.Random) -> None:
        for _ in range(10):
            other = chance.randrange(THREADS)
            key = f"{other} {chance.randrange(30)}"
            before = d.get(key)
            verify(before)
            after = d.get(key)
            verify(after)
            if before and after:
                assert before[1] <= after[1], "an older value came back"
            verify(d.get(f"shared {chance.randrange(9)}"))
            verify(d.get(f"timed {chance.randrange(9)}"))
        with suppress(KeyError):
            verify(d[f"shared {chance.randrange(9)}"])

    def iterate(number: int, chance: random.Random) -> None:
        match chance.randrange(3):
            case 0:
                for _, found in list_of(d):
                    verify(found)
            case 1:
                for found in d.copy().values():
                    verify(found)
            case 2:
                known = d.get("count", 0)
                assert known <= d.copy().get("count", 0)

    def work(number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < end:
            match chance.choices("wric", (60, 20, 3, 1))[0]:
                case "w":
                    write(number, chance)
                case "r":
                    read(number, chance)
                case "i":
                    iterate(number, chance)
                case _:
                    chance.choice((d.compact, d.sync, d.purge, d.stats))()
            done[number] += 1

    with d:
        run(work)
        store.clock.step = 0
        store.check(d)
        found = d.copy()
    again = [found]
    if store.is_kept:
        with store.open() as d:
            store.check(d)
            again.append(d.copy())
    for found in again:
        assert found.get("count", 0) == sum(counted)
        assert found.get("sum", 0) == sum(summed)
        for number, mine in enumerate(models):
            assert {k: v for k, v in found.items() if str(k).startswith(f"{number} ")} == mine
    print(f"{sum(done)} steps, {sum(numbers)} values written in {SECONDS} s")
