"""The contract of an engine: each operation is one step for all threads; who holds it goes first."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from helpers import Work, in_thread, run_together
from stores import Store
from test_contract_batches import changed
from test_contract_entries import content

import kvmap
from kvmap.engine import INF, KEEP_DEADLINE, Engine, If, Seen
from kvmap.turn import Turn

THREADS = 8


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def eight(work: Callable[[int], object]) -> None:
    """Run `work` in eight threads, with their numbers."""
    run_together(*[lambda number=number: work(number) for number in range(THREADS)])


def test_no_increment_is_lost(engine: Engine) -> None:
    eight(lambda _: [engine.incr("n", 1, 0, KEEP_DEADLINE) for _ in range(100)])
    assert engine.get("n") == b"800"


def test_no_increment_through_the_face_is_lost(d: kvmap.KVMap) -> None:
    eight(lambda _: [d.incr("n") for _ in range(100)])
    assert d["n"] == 800


def test_one_thread_inserts_where_absent(engine: Engine) -> None:
    won: list[tuple[int, int]] = []

    def work(number: int) -> None:
        for key in range(100):
            if engine.put(key, b"%d" % number, INF, If.ABSENT):
                won.append((key, number))

    eight(work)
    assert sorted(key for key, _ in won) == [*range(100)]
    assert dict(won) == {key: int(text) for key, text in content(engine)}


def test_compare_and_set_loses_no_increment(engine: Engine) -> None:
    engine.put("n", b"0", INF)

    def work(_: int) -> None:
        for _ in range(25):
            while True:
                text = engine.get("n")
                assert text is not None
                if engine.put("n", b"%d" % (int(text) + 1), INF, text):
                    break

    eight(work)
    assert engine.get("n") == b"200"


def test_setdefault_has_one_winner(engine: Engine) -> None:
    got: list[list[bytes]] = [[] for _ in range(THREADS)]
    eight(
        lambda number: got[number].extend(
            [engine.setdefault(key, b"%d" % number, INF) for key in range(100)]
        )
    )
    assert got == [got[0]] * THREADS


def test_each_entry_is_popped_by_one(engine: Engine) -> None:
    engine.put_many({number: b"%d" % number for number in range(800)}, INF)
    popped: list[int] = []

    def work(number: int) -> None:
        for key in range(200):
            text = engine.pop(key)
            if text is not None:
                popped.append(int(text))
        while found := engine.popitem(last=bool(number % 2)):
            assert found[1] == b"%d" % found[0]
            popped.append(int(found[1]))

    eight(work)
    assert sorted(popped) == [*range(800)]
    assert len(engine) == 0


def test_each_entry_is_deleted_by_one(engine: Engine) -> None:
    engine.put_many(dict.fromkeys(range(400), b"1"), INF)
    counts: list[int] = []
    eight(lambda _: counts.extend(engine.delete_many(range(n, n + 20)) for n in range(0, 400, 20)))
    assert sum(counts) == 400


def test_readers_see_a_batch_as_a_whole(engine: Engine) -> None:
    names = [f"key {number}" for number in range(20)]
    engine.put_many(dict.fromkeys(names, b"0"), INF)

    def work(number: int) -> None:
        for step in range(40):
            if number % 2:
                engine.put_many(dict.fromkeys(names, b"%d" % (100 * number + step)), INF)
            else:
                assert len(set(engine.get_many(names))) == 1

    eight(work)


def test_a_deadline_that_passes_is_no_change_of_size_for_others(local: Store) -> None:
    engine = local.engine()
    for number in range(2000):
        engine.put(number, b"1", INF if number % 2 else 1 + number / 100)
    stop = False

    def work(number: int) -> None:
        nonlocal stop
        if number == 0:
            for _ in range(100):
                local.clock.wait(0.2)
                len(engine)
            stop = True
            return
        while not stop:
            assert sum(map(len, engine.keys())) >= 1000

    eight(work)


# Who holds it


@contextmanager
def held(engine: Engine) -> Iterator[object]:
    holder = object()
    assert engine.hold(holder) is True
    try:
        yield holder
    finally:
        engine.release(holder)


WRITES: dict[str, Callable[[Engine], object]] = {
    "put": lambda e: e.put("a", b"9", INF),
    "put_many": lambda e: e.put_many({"a": b"9"}, INF),
    "setdefault": lambda e: e.setdefault("a", b"9", INF),
    "incr": lambda e: e.incr("a", 1, 0, KEEP_DEADLINE),
    "expire": lambda e: e.expire("a", 60),
    "pop": lambda e: e.pop("a"),
    "popitem": lambda e: e.popitem(),
    "delete": lambda e: e.delete("a"),
    "delete_many": lambda e: e.delete_many(["a"]),
    "clear": lambda e: e.clear(),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_waits_for_the_holder(local: Store, write: str) -> None:
    engine = local.engine()
    engine.put("a", b"1", INF)
    with held(engine):
        assert engine.held
        work = Work(lambda: WRITES[write](engine))
        assert work.waits()
        assert content(engine) == [("a", b"1")]
        engine.commit(changed("", a=b"5", b=b"6"), Seen())
        assert work.waits(0.01)
        assert content(engine) == [("a", b"5"), ("b", b"6")]
    work.result()
    assert not engine.held


def test_a_second_holder_waits_or_is_told_that_it_would(local: Store) -> None:
    engine = local.engine()
    second = object()
    with held(engine):
        assert engine.hold(second, wait=False) is False
        work = Work(lambda: engine.hold(second))
        assert work.waits()
        engine.release(second)  # who does not hold it releases nothing
        assert engine.held
    assert work.result() is True
    assert engine.held
    engine.release(second)
    assert engine.hold(second, wait=False) is True
    engine.release(second)


def test_another_thread_may_release_it(local: Store) -> None:
    engine = local.engine()
    holder = object()
    engine.hold(holder)
    in_thread(lambda: engine.release(holder))
    assert not engine.held
    in_thread(lambda: engine.put("a", b"1", INF))


def test_readers_do_not_wait_for_the_holder(local: Store) -> None:
    engine = local.engine()
    engine.put("a", b"1", 500)
    engine.put("timed", b"2", 5)
    with held(engine):
        local.clock.wait(5)  # an expiry is no write
        assert in_thread(lambda: (engine.get("a"), engine.get("timed"))) == (b"1", None)
        assert in_thread(lambda: (len(engine), "a" in engine)) == (1, True)
        assert in_thread(lambda: content(engine)) == [("a", b"1")]
        assert in_thread(lambda: engine.get_many(["a", "timed"])) == [b"1", None]
        assert in_thread(lambda: engine.expiring(600)) == {"a": b"1"}
        assert in_thread(lambda: engine.deadline("a")) == local.clock.now() + 495
        assert in_thread(lambda: engine.peek(1)[0]) in (1, None)
        assert in_thread(lambda: engine.stats().entries) == 1


def test_a_write_that_waits_in_vain_is_a_held_error(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = local.engine()
    monkeypatch.setattr(Turn, "PATIENCE", 0.02)
    engine.put("a", b"1", INF)
    with held(engine):
        for write in (*WRITES.values(), lambda e: e.hold(object())):
            with pytest.raises(kvmap.HeldError, match="nothing was written"):
                in_thread(lambda write=write: write(engine))  # type: ignore[misc]
    assert content(engine) == [("a", b"1")]
    engine.put("a", b"2", INF)


def test_closing_releases_it_and_those_who_wait_hear_of_it(local: Store) -> None:
    engine = local.engine()
    engine.hold(object())
    writer, holder = Work(lambda: engine.put("a", b"1", INF)), Work(lambda: engine.hold(object()))
    assert writer.waits()
    assert holder.waits()
    in_thread(engine.close)
    for work in (writer, holder):
        with pytest.raises(kvmap.StoreClosedError):
            work.result()
