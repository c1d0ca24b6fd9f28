"""Signals between any two bytecodes: the map in memory and its files agree, now and after reopening."""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import Any

import pytest
from helpers import LONG, freeze
from interrupting import Interrupt, Interrupted
from invariants import check
from model import Contents, contents
from on_disk import open_on
from simulated import Disk
from works import SEVERAL, SMALL, WORKS, Map, Work, clear, made, pop_oldest, read, undone

from kvmap.keys import bucket

TRIES = 100_000 if LONG else 10
"""At how many bytecodes of each piece of work there is an interrupt, about."""


def after_kill(disk: Disk) -> Contents:
    left = disk.copy()
    with open_on(left, tuning=SMALL) as d:
        found = contents(d)
        check(d, left)
    return found


def stages(work: Work, *, loaded: bool) -> list[Contents]:
    """What the store holds before the work, and after each of its writes."""
    disk = made(2)
    with open_on(disk, tuning=SMALL) as d:
        begin(d, loaded=loaded)
        seen = [contents(d)]
        if work in SEVERAL:
            disk.happened = lambda call: seen.append(after_kill(disk))
        work(d)
        disk.happened = lambda call: None
        return [*seen, contents(d)]


def begin(d: Map, *, loaded: bool) -> None:
    if loaded:
        assert len(d) == 9
        d["key 0"] = 0


def points(work: Work, d: Map, tries: int) -> range:
    """At which bytecodes there is to be an interrupt: the first time they are only counted."""
    counting = Interrupt(sys.maxsize)
    counting.during(lambda: work(d))
    d.close()
    count = sys.maxsize - counting.left
    return range(0, count + 1, max(1, count // tries))


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "just opened"])
@pytest.mark.parametrize("sync", [False, True], ids=["no sync", "sync"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_an_interrupt_at_each_bytecode(work: Work, sync: bool, loaded: bool) -> None:
    if not LONG and sync == loaded:
        pytest.skip("two of the four will do; --long takes all")
    possible = stages(work, loaded=loaded)

    def prepared() -> tuple[Disk, Map]:
        disk = made(2)
        d = open_on(disk, sync=sync, tuning=SMALL)
        begin(d, loaded=loaded)
        return disk, d

    tried = 0
    for number, at in enumerate(points(work, prepared()[1], TRIES)):
        disk, d = prepared()
        interrupt = Interrupt(at)
        interrupt.during(lambda: work(d))
        where = f"{at} {interrupt.where}"
        tried += bool(interrupt.where)
        key = f"key {number % 8}"
        first = d.get(key) if number % 2 else None  # before anything loads what was left behind
        found = contents(d)
        assert first in (None, d.get(key)), where
        assert first is not None or number % 2 == 0 or key not in d, where
        assert found in possible, where
        try:
            check(d, disk)
        except AssertionError as error:
            raise AssertionError(where) from error
        assert after_kill(disk) == found, where
        # No interrupted write comes back over a newer one.
        d["key 3"] = "newer"
        d.pop("key 1", None)
        newer = contents(d)
        assert dict(d)["key 3"] == "newer", where
        assert "key 1" not in d, where
        assert after_kill(disk) == newer, where
        with d.transaction():
            d["key 4"] = "in a transaction"
        d.compact()
        check(d, disk)
        newer = contents(d)
        d.close()
        with open_on(disk, tuning=SMALL) as d:
            assert contents(d) == newer, where
    print(f"{tried} interrupts of {work.__name__}")
    assert tried > 5


# A map that was not closed says so when it is dropped. Python ignores an interrupt in `__del__`.
@pytest.mark.filterwarnings("ignore:.* was never closed:ResourceWarning")
@pytest.mark.filterwarnings("ignore:.*__del__.*:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_an_interrupt_of_opening_and_of_closing(killed: bool) -> None:
    before = made(2)
    if killed:
        with open_on(before, tuning=SMALL) as d:
            d.update({"key 3": "over", "more": 1})
            before = before.copy()
    with open_on(before.copy()) as d:
        expected = [*contents(d), ("after", 1, None)]

    def session(disk: Disk) -> Map | None:
        d = open_on(disk, tuning=SMALL)
        try:
            d["after"] = 1
        finally:
            d.close()
        return d

    counting = Interrupt(sys.maxsize)
    counting.during(lambda: session(before.copy()))
    count = sys.maxsize - counting.left
    tried = leaked = 0
    freeze()  # what other tests have left costs time in each collection
    for at in range(0, count, max(1, count // (TRIES * 4))):
        disk = before.copy()
        interrupt = Interrupt(at)
        interrupt.during(lambda: session(disk))
        tried += 1
        # Between a call that opens a file and the assignment of what it returns, nothing can be
        # done about a descriptor; but the lock is let go.
        leaked += len(disk.descriptors)
        after = disk.copy()
        gc.collect()
        open_on(disk).close()  # else it would be locked until the process ends
        disk = after
        with open_on(disk, tuning=SMALL) as d:
            assert contents(d) in (expected, expected[:-1]), interrupt.where
            check(d, disk)
    print(f"{tried} interrupts, {leaked} descriptors left")


def both(d: Map) -> None:
    with d.transaction():
        d["one"] = 1
        d["two"] = 2


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "just opened"])
@pytest.mark.parametrize(
    "work",
    [work for work in WORKS if work not in (pop_oldest, read, undone)],
    ids=lambda work: work.__name__,
)
def test_a_signal_handler_that_writes_at_each_bytecode(work: Work, loaded: bool) -> None:
    def prepared() -> tuple[Disk, Map]:
        disk = made(2)
        d = open_on(disk, tuning=SMALL)
        if loaded:
            assert len(d) == 9
        d.set("passing", 0, ttl=1)
        return disk, d

    disk, d = prepared()
    work(d)
    after = {key: value for key, value, _ in contents(d)}
    d.close()
    took: list[bool] = []

    def handle() -> None:
        with contextlib.suppress(RuntimeError, *([KeyError] if work is clear else [])):
            assert d["key 4"] in ([4] * 3, [4] * 3000, 4)
        try:
            d["meddled"] = "x" * 30
            took.append(True)
        except RuntimeError:
            took.append(False)
        uses: list[Any] = [
            lambda: d.__setitem__("key 6", 6),
            lambda: d.set("passing", 0, ttl=1),
            lambda: disk.wait(2),
            lambda: d.pop("passing", None),
            lambda: both(d),
            lambda: d.__delitem__("one"),
            lambda: d.sync(),
            lambda: d.purge(),
        ]
        for use in uses:
            with contextlib.suppress(RuntimeError, KeyError):
                use()
        with contextlib.suppress(RuntimeError):
            assert len(d) in range(16)
        if work is not clear:
            with contextlib.suppress(RuntimeError):
                assert ("meddled" in d) == took[-1]

    for at in points(work, prepared()[1], TRIES // 2):
        disk, d = prepared()
        interrupt = Interrupt(at, handle)
        interrupt.during(lambda: work(d))
        where = f"{at} {interrupt.where}"
        if interrupt.where and took[-1] and work is not clear:
            assert "meddled" in d, where
        disk.wait(2)
        found = contents(d)
        assert "passing" not in d, where
        assert "one" not in d or "two" in d, where
        others = {"meddled", "one", "two", "key 6", "passing"}
        assert {key: value for key, value, _ in found if key not in others} == {
            key: value for key, value in after.items() if key not in others
        }, where
        check(d, disk)
        assert after_kill(disk) == found, where
        d.compact()
        d.close()
        with open_on(disk, tuning=SMALL) as d:
            assert contents(d) == found, where
    print(f"{sum(took)} of {len(took)} writes taken in {work.__name__}")
    assert any(took)
    assert not all(took)


def test_an_interrupt_at_each_bytecode_while_entries_expire() -> None:
    def prepared() -> tuple[Disk, Map]:
        disk = made(2)
        d = open_on(disk, tuning=SMALL)
        for number in range(4):
            d.set(number, number, ttl=10)
        assert len(d) == 13
        return disk, d

    def work(d: Map) -> None:
        d["key 3"] = "over"

    disk, d = prepared()
    disk.wait(11)
    for at in points(work, d, 100):
        disk, d = prepared()
        rest = iter(d)
        assert next(rest) == "key 0"
        disk.wait(11)
        interrupt = Interrupt(at)
        interrupt.during(lambda: work(d))
        assert list(rest) == list(d)[1:], interrupt.where
        check(d, disk)
        assert d.stats().counts.expirations == d.purge() == 4, interrupt.where
        d.close()


# A second signal, while the first is dealt with


def test_a_transaction_first_settles_what_was_left_behind() -> None:
    disk = Disk()
    fs = Interrupted(disk)
    with open_on(fs, shards=1) as d:
        d["one"] = 1
        fs.interrupt("pwrite", "descriptor_status")
        with pytest.raises(KeyboardInterrupt):
            d["two"] = 2
        assert not fs.left
        with d.transaction():
            d["three"] = 3
        assert dict(d) == {"one": 1, "three": 3}
        check(d, disk)


def test_a_batch_is_undone_where_the_new_file_of_a_shard_is_given_up_amid_it() -> None:
    disk = Disk()
    fs = Interrupted(disk)
    zero, one = (next(key for key in "abcdef" if bucket(key, 1) == number) for number in (0, 1))
    with open_on(fs, shards=2, sync=True) as d:
        d.update({zero: 0, one: 0})
        disk.sync_fails = lambda call: call == "sync"
        with pytest.raises(OSError, match="error"):
            d[one] = 1
        disk.sync_fails = lambda call: False
        fs.interrupt("rename", "status")
        with pytest.raises(KeyboardInterrupt):
            d.update({zero: 2, one: 2})
        assert not fs.left
        assert dict(d) == {zero: 0, one: 0}
        check(d, disk)
        d.update({zero: 3, one: 3})
        assert dict(d) == {zero: 3, one: 3}
        check(d, disk)
