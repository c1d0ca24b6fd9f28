"""A sync that fails is never forgotten: the kernel drops the pages, and tells of it once."""

from __future__ import annotations

import errno
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count, islice
from typing import Any

import pytest
from cutter import Cutter, States
from helpers import LONG
from model import Contents, Model, contents, steps, take
from on_disk import open_on
from simulated import Choice, Disk, choices
from watched import Watched
from works import SMALL, Work, delete_many, made, transaction, update

RUNS = 40 if LONG else 1
SHARD = "/store/shards/00.jsonl"


def left(disk: Disk, choice: Choice | None = None) -> dict[Any, Any]:
    """What a store holds after a power cut that loses all that was not synced."""
    with open_on(disk.copy(choice or Choice("lost"))) as d:
        return dict(d)


def once(disk: Disk, name: str = "sync") -> None:
    """Let the next sync fail."""

    def fails(call: str) -> bool:
        if call != name:
            return False
        disk.sync_fails = lambda call: False
        return True

    disk.sync_fails = fails


def test_a_sync_that_returns_after_one_that_failed_has_synced_everything() -> None:
    disk = Disk()
    with open_on(disk, shards=1) as d:
        d["first"] = 1
        d.sync()
        d["second"] = 2
        once(disk)
        with pytest.raises(OSError, match="error"):
            d.sync()
        assert dict(d) == {"first": 1, "second": 2}
        d.sync()
        assert left(disk) == {"first": 1, "second": 2}
        d["third"] = 3
        d.sync()
        assert left(disk) == {"first": 1, "second": 2, "third": 3}


@pytest.mark.parametrize("fails", [True, False])
def test_an_emptied_store_is_synced_as_a_new_one(fails: bool) -> None:
    disk = Disk()
    with open_on(disk, shards=1) as d:
        d["first"] = 1
        disk = disk.copy()  # a kill
    fs = Watched(disk)
    with open_on(fs) as d:
        if fails:
            once(disk)
            with pytest.raises(OSError, match="error"):
                d.sync()
        d.clear()
        calls: list[str] = []
        fs.before = calls.append
        d["second"] = 2
        d.sync()
        assert (calls.count("pwrite"), calls.count("sync"), calls.count("rename")) == (1, 1, 0)
        assert left(disk) == {"second": 2}


def test_a_close_after_a_failed_sync_leaves_everything_on_disk() -> None:
    disk = Disk()
    d = open_on(disk, shards=1)
    d["first"] = 1
    once(disk)
    with pytest.raises(OSError, match="error"):
        d.sync()
    d.close()
    assert left(disk) == {"first": 1}
    with open_on(disk) as d:
        assert dict(d) == {"first": 1}


def test_a_close_that_fails_leaves_a_store_that_opens() -> None:
    disk = Disk()
    d = open_on(disk, shards=1)
    d["first"] = 1
    disk.sync_fails = lambda call: True
    with pytest.raises(OSError, match="error"):
        d.close()
    assert d.closed
    assert not disk.descriptors
    disk.sync_fails = lambda call: False
    with open_on(disk) as d:
        assert dict(d) == {"first": 1}
        d.sync()
        assert left(disk) == {"first": 1}
    assert left(disk) == {"first": 1}


def test_the_kernel_fails_to_write_back_and_another_descriptor_is_told_first() -> None:
    disk = Disk()
    with open_on(disk, shards=1) as d:
        d["first"] = 1
        disk.fail_to_write_back(SHARD)
        other = disk.open_directory("/store/shards")
        file = disk.open_file(other, "00.jsonl", write=False)
        disk.descriptors[file].seen = 0
        with pytest.raises(OSError, match="error"):
            disk.sync(file)
        disk.close(file)
        disk.close(other)
        with pytest.raises(OSError, match="error"):
            d.sync()
        d.sync()
        assert left(disk) == {"first": 1}


def test_a_synced_write_that_fails_is_not_there_and_the_next_one_is() -> None:
    disk = Disk()
    with open_on(disk, shards=1, sync=True) as d:
        d["first"] = 1
        once(disk)
        with pytest.raises(OSError, match="error") as caught:
            d["second"] = 2
        assert caught.value.errno == errno.EIO
        assert caught.value.filename
        assert dict(d) == {"first": 1}
        d["third"] = 3
        for choice in choices(random.Random(1), disk.moment + 1, 5):
            assert left(disk, choice) == {"first": 1, "third": 3}


def test_a_write_of_the_next_owner_is_never_mixed_with_one_that_failed() -> None:
    chance = random.Random(1)
    disk = Disk()
    with open_on(disk, shards=1, sync=True) as d:
        d["first"] = 1
        once(disk)
        with pytest.raises(OSError, match="error"):
            d["second"] = "x" * 600
        disk = disk.copy()  # a kill
    new, states = "y" * 600, States()
    with open_on(disk, sync=True) as d:

        def look(call: str) -> None:
            for _ in range(200):
                cut = disk.copy(Choice("sectors", chance))
                if states.add(cut):
                    found = left(cut)
                    assert found.pop("third", new) == new
                    assert found in ({"first": 1}, {"first": 1, "second": "x" * 600})

        disk.happened = look
        d["third"] = new
        disk.happened = lambda call: None


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "no sync"])
@pytest.mark.parametrize("failures", [1, 3])
def test_a_write_after_one_that_failed_is_never_mixed_with_it(failures: int, sync: bool) -> None:
    """Once, what had been cut off was overwritten before the cut was on disk: a damaged record."""
    chance = random.Random(failures)
    disk = Disk()
    with open_on(disk, shards=1, sync=sync) as d:
        d["first"] = 1
        d.sync()
        if sync:
            left_to_fail = iter([True] * failures)
            disk.sync_fails = lambda call: call == "sync" and next(left_to_fail, False)
        else:
            disk.capacity = sum(map(len, disk.state().values())) + 2000
        for number in range(failures):
            with pytest.raises(OSError, match="error|space"):
                d["second"] = str(number) * 3000
        disk.capacity = None
        new = "y" * 3000

        def look(call: str) -> None:
            for choice in choices(chance, disk.moment + 1, 5):
                found = left(disk, choice)
                assert found.pop("first") == 1
                assert found.pop("third", new) == new
                assert found in ({}, {"second": "0" * 3000})

        for _ in range(5):
            disk.happened = look
            d["third"] = new
        disk.happened = lambda call: None
        d.sync()
        assert left(disk) == {"first": 1, "third": new}


def test_a_number_that_a_failed_write_used_is_not_given_again_after_a_kill() -> None:
    """A power cut brought the write back, and two entries had one place in the order."""
    chance, came_back = random.Random(1), 0
    for _ in range(20):
        disk = Disk()
        d = open_on(disk, shards=8, sync=True)
        d["first"] = 1
        disk.sync_fails = lambda call: call == "sync"
        for number in range(6):
            with pytest.raises(OSError, match="error"):
                d[f"failed {number}"] = number
        killed = disk.copy()
        disk.sync_fails = lambda call: False
        d.close()
        disk = killed
        with open_on(disk, sync=True) as d:
            assert dict(d) == {"first": 1}
            for number in range(6):
                d[f"later {number}"] = number
            later = list(d.items())
            for choice in choices(chance, disk.moment + 1, 5):
                with open_on(disk.copy(choice)) as left:
                    found = list(left.items())
                    assert [each for each in found if "failed" not in each[0]] == later
                    came_back += len(found) - len(later)
    assert came_back, "some of what has failed is there"


class Fails:
    """Lets syncs fail, counted from 0: those from `at` on, so many of them."""

    def __init__(self, at: int, times: int) -> None:
        self.failed = False
        self._at, self._end, self._syncs = at, at + times, count()

    def __call__(self, call: str) -> bool:
        found = self._at <= next(self._syncs) < self._end
        self.failed = self.failed or found
        return found


@pytest.mark.parametrize("times", [1, 2, 1000], ids=["once", "twice", "from then on"])
@pytest.mark.parametrize("work", [update, delete_many, transaction], ids=lambda work: work.__name__)
def test_a_batch_whose_sync_fails_is_done_or_not_after_a_kill_and_a_power_cut(
    work: Work, times: int
) -> None:
    chance = random.Random(times)
    done = made()
    with open_on(done, tuning=SMALL) as d:
        before = contents(d)
        work(d)
        after = contents(d)
    states = States()
    for at in count():
        disk = made()
        d = open_on(disk, sync=True, tuning=SMALL)
        d["key 7"] = [7] * 3  # the manifest says that the store is in use
        fails = Fails(at, times)

        def look(call: str) -> None:
            for choice in (None, *choices(chance, disk.moment + 1, 3)):
                if states.add(found := disk.copy(choice)):
                    with open_on(found, tuning=SMALL) as left:
                        assert contents(left) in (before, after), (at, call)

        disk.sync_fails, disk.happened = fails, look
        try:
            work(d)
        except OSError:
            assert contents(d) == before, "an error means that nothing was done"
        else:
            assert contents(d) == after
        look("the end")
        disk.sync_fails, disk.happened = lambda call: False, lambda call: None
        held = contents(d)
        d["later"] = 1
        d.update(one=1, two=2)
        expected = {**{key: value for key, value, _ in held}, "later": 1, "one": 1, "two": 2}
        assert left(disk) == expected
        d.close()
        assert left(disk) == expected
        if not fails.failed:
            break
    print(f"{len(states)} states")


@pytest.mark.parametrize("times", [1, 2, 1000], ids=["once", "twice", "from then on"])
def test_no_file_goes_before_it_is_on_disk_that_the_store_is_emptied(times: int) -> None:
    """The manifest said so, but its name was not synced: files that the older one knows were lost."""
    chance, states = random.Random(times), States()
    for at in count():
        disk = made()
        d = open_on(disk, tuning=SMALL)
        before = contents(d)
        d["key 7"] = [7] * 3  # the manifest says that the store is in use
        fails = Fails(at, times)

        def look(call: str) -> None:
            for choice in (None, *choices(chance, disk.moment + 1, 5)):
                if states.add(found := disk.copy(choice)):
                    with open_on(found, tuning=SMALL) as left:
                        assert contents(left) in (before, []), (at, call)

        disk.sync_fails, disk.happened = fails, look
        with suppress(OSError):
            d.clear()
        assert contents(d) in (before, [])
        disk.sync_fails, disk.happened = lambda call: False, lambda call: None
        d.clear()
        d.close()
        assert left(disk) == {}
        if not fails.failed:
            break


@pytest.mark.parametrize("call", ["sync", "sync_directory"])
@pytest.mark.parametrize(
    "work",
    [
        lambda d: d.update(a=2, b=2, c=2, d=2),
        lambda d: d.compact(),
        lambda d: d.clear(),
        lambda d: d.__delitem__("a"),
        lambda d: d.sync(),
    ],
    ids=["update", "compact", "clear", "delete", "sync"],
)
@pytest.mark.parametrize("number", range(4))
def test_each_sync_of_a_piece_of_work_fails_for_a_while(
    work: Callable[[Any], object], call: str, number: int
) -> None:
    disk = Disk()
    with open_on(disk, shards=2) as d:
        d.update(a=1, b=1, c=1)
        d.sync()
        d["b"] = 0
        before: Contents = contents(d)
        calls = 0

        def fails(name: str) -> bool:
            nonlocal calls
            calls += name == call
            return name == call and number <= calls - 1 < number + 2

        disk.sync_fails = fails
        try:
            work(d)
            d.sync()
        except OSError as error:
            assert error.errno == errno.EIO
        disk.sync_fails = lambda name: False
        now = contents(d)
        if call == "sync":
            assert now == before or d.get("a") != 1 or work is not None
        d.sync()
        assert left(disk) == {key: value for key, value, _ in now}
        d["e"] = 5
        d.sync()
        assert left(disk) == {**{key: value for key, value, _ in now}, "e": 5}


class FailingCutter(Cutter):
    """Some syncs fail, in a row or one at a time."""

    failures = 0

    def __init__(self, seed: int, *, sync: bool) -> None:
        super().__init__(seed, sync=sync)
        self.rate = 0.0
        self.undone: dict[Any, list[Any]] = {}
        """What writes that raised would have written: the undoing is not on disk before the next
        sync, or the next write to the shard."""

    def settle(self) -> None:
        super().settle()
        for key, written in self.undone.items():
            self.since[key] = [*written, self.model.entries.get(key)]

    def failed(self, after: Model) -> None:
        """The step has raised, and nothing of it is to be seen."""
        for key in {*after.entries, *self.model.entries}:
            new = after.entries.get(key)
            if new != self.model.entries.get(key):
                self.undone.setdefault(key, []).append(new)

    def done(self, after: Model) -> None:
        """The step has returned."""
        for key in {*after.entries, *self.model.entries}:
            if after.entries.get(key) != self.model.entries.get(key):
                self.undone.pop(key, None)

    def fails(self, call: str) -> bool:
        if self.random.random() < self.rate:
            self.failures += 1
            return True
        return False

    def run(self, seed: int, *, count: int | None = None, states: int = sys.maxsize) -> None:
        d = self.open()
        for step in islice(steps(seed, keys=12), count):
            if len(self.states) >= states:
                break
            self.rate = self.random.choice((0, 0, 0, 0.3, 0.7))
            self.disk.sync_fails = self.fails
            self.disk.wait(1)
            self.step, after = step, self.model.copy()
            take(after, step)
            self.note(after, step)
            try:
                take(d, step)
            except OSError as error:
                assert error.errno == errno.EIO
                found = contents(d)
                assert found in (contents(self.model), contents(after)), step
                if found == contents(after):
                    self.before = self.model = after
                else:
                    self.failed(after)
            else:
                assert contents(d) == contents(after), step
                self.done(after)
                self.before = self.model = after
                if step == ("sync",):
                    self.undone.clear()
                if self.sync or step == ("sync",):
                    self.settle()
            self.step = ("sync",)
            if self.random.random() < 0.1:
                d = self.reopened(d)
        self.disk.sync_fails = lambda call: False
        d.close()
        self.undone.clear()
        self.settle()
        self.cut("the end")

    def reopened(self, d: Any) -> Any:
        try:
            d.close()
        except OSError as error:
            assert error.errno == errno.EIO
        else:
            self.undone.clear()
            self.settle()
        assert not self.disk.descriptors
        while True:
            try:
                d = self.open()
                assert contents(d) == contents(self.model)
            except OSError as error:
                assert error.errno == errno.EIO
            else:
                return d

    def check(self, found: Contents) -> None:
        self.check_unsynced(found)


@pytest.mark.parametrize("seed", range(RUNS))
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "no sync"])
def test_what_is_said_to_be_synced_is_there_after_any_failures(sync: bool, seed: int) -> None:
    cutter = FailingCutter(seed, sync=sync)
    cutter.run(seed, count=60)
    print(f"{len(cutter.states)} states, {cutter.failures} failed syncs")
    assert cutter.failures
