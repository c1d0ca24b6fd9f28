"""Cuts the power after each system call of a random run, and opens the store in what is left."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from itertools import islice
from typing import Any

from helpers import LONG
from model import Contents, Model, Step, contents, outcome, steps, take
from on_disk import open_on, snapshot_on
from simulated import Choice, Disk, choices

from kvmap import disk as disk_engine
from kvmap.disk.tuning import Tuning

OPTIONS: dict[str, Any] = {
    "shards": 2,
    "tuning": Tuning(slack_bytes=2000, step_bytes=1500, hint_bytes=100, map_slack_bytes=600),
}
LOST = Choice("lost")
GOES_ON = 3 if LONG else 6
"""Of so many states, one is written to as well."""
AFTER = "after the cut"


class States:
    """The states of a disk that there were, each of which needs to be opened once."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, disk: Disk) -> bool:
        """Whether this one is new."""
        state = disk.state()
        state.pop("/store/lock", None)  # its text is for people
        before = len(self._known)
        self._known.add(hash(tuple(state.items())))
        return len(self._known) > before


class Cutter:
    """Cuts the power at every moment of a run, in several ways, and opens what is left."""

    def __init__(self, seed: int, *, sync: bool) -> None:
        self.random = random.Random(seed)
        self.disk = Disk()
        self.disk.happened = self.happened
        self.sync = sync
        self.before = self.model = Model(self.disk)
        self.step: Step = ("sync",)
        self.durable = Model(self.disk)
        """What stands synced, for a map without `sync=True`."""
        self.since: dict[Any, list[tuple[Any, float] | None]] = {}
        """What each key has been since then."""
        self.states = States()
        self.kills = 0
        self.kill_in = -1
        """The number of changes until the process is killed amid a step; below 0: it is not."""
        self.killed: Disk | None = None

    def open(self) -> Any:
        return open_on(self.disk, sync=self.sync, **OPTIONS)

    # The run

    def run(self, seed: int, *, count: int | None = None, states: int = sys.maxsize) -> None:
        """Take this many steps, or as many as leave this many states of the disk."""
        d = self.open()
        looks = True
        for step in islice(steps(seed, keys=12), count):
            if len(self.states) >= states:
                break
            self.disk.wait(1)
            self.model.clock = self.durable.clock = self.disk
            self.step, after = step, self.model.copy()
            take(after, step)
            self.note(after, step)
            self.kill_in = self.random.randrange(12) if self.random.random() < 0.08 else -1
            take(d, step)
            self.kill_in = -1
            if self.killed is not None:
                d = self.go_on_after(d, step)
                continue
            if looks:
                assert contents(d) == contents(after), step
            self.before = self.model = after
            if step == ("sync",):
                self.settle()
            self.step = ("sync",)
            if self.random.random() < 0.15:
                looks = self.random.random() < 0.5
                d = self.meddle(d)
        d.close()
        self.settle()
        self.cut("the end")

    def go_on_after(self, d: Any, step: Step) -> Any:
        """Open what a kill amid the last step has left."""
        self.abandon(d)
        d = self.open()
        after = outcome(contents(d), self.model, step)
        if self.sync:
            d.sync()  # nobody has said that the step was done, so until now it might be lost
        self.before = self.model = after
        self.step = ("sync",)
        return d

    def abandon(self, d: Any) -> None:
        """Kill the process: its disk goes on with what the system has in memory."""
        left = self.disk
        self.disk, self.killed = self.killed or left.copy(), None
        self.kills += 1
        left.happened = lambda call: None
        d.close()
        self.disk.happened = self.happened
        for model in (self.before, self.model, self.durable):
            model.clock = self.disk

    def meddle(self, d: Any) -> Any:
        """Do what happens between two writes: a close, a kill, a partial load, a repair."""
        match self.random.randrange(7):
            case 0:
                d.close()
                self.settle()
            case 1:
                self.abandon(d)
            case 2:  # a kill, and a session that reads one shard
                self.abandon(d)
                d = self.open()
                self.read_some(d)
                d.close()
                self.settle()
            case 3:  # a kill, and a session that reads nothing
                self.abandon(d)
                self.open().close()
                self.settle()
            case 4:
                self.abandon(d)
                disk_engine.repair("/store", fs=self.disk)
                self.settle()
            case 5:
                self.abandon(d)
                d = self.open()
                d.sync()
                self.settle()
                self.read_some(d)
                return d
            case _:
                with snapshot_on(self.disk) as then:
                    assert contents(then) == contents(self.model)
                return d
        return self.open()

    def read_some(self, d: Any) -> None:
        key = f"key {self.random.randrange(10)}"
        alive = self.model.alive()
        assert d.get(key) == alive.get(key, (None,))[0]

    # What is known

    def note(self, after: Model, step: Step) -> None:
        """Remember what each key may be from now on, until the next sync."""
        inner = step[1] if step[0] == "transaction" and not step[2] else [step]
        model = self.model.copy()
        for each in inner:
            take(model, each)
            for key in {*model.entries, *self.since, *self.before.entries}:
                known = self.since.setdefault(key, [self.durable.entries.get(key)])
                if (now := model.entries.get(key)) != known[-1]:
                    known.append(now)

    def settle(self) -> None:
        self.durable, self.since = self.model.copy(), {}

    # The cuts

    def happened(self, call: str) -> None:
        self.cut(call)
        if self.kill_in >= 0:
            self.kill_in -= 1
            if self.kill_in < 0 and self.killed is None:
                self.killed = self.disk.copy()

    def cut(self, call: str) -> None:
        for choice in choices(self.random, self.disk.moment + 1, 5):
            left = self.disk.copy(choice)
            if self.states.add(left):
                try:
                    self.open_and_check(left)
                except Exception as error:
                    error.add_note(f"{choice.kind} at {self.disk.moment}, {call}, {self.step[:2]}")
                    raise

    def open_and_check(self, left: Disk) -> None:
        if len(self.states) % 50 == 0:  # the recovery may be cut off, too
            left.happened = lambda call: self.check_only(left.copy(Choice("pages", self.random)))
        with open_on(left, **OPTIONS) as d:
            found = contents(d)
            self.check(found)
            left.happened = lambda call: None
            if goes_on := len(self.states) % GOES_ON == 0:
                d[AFTER] = 1
        assert not left.descriptors, "a descriptor was not given back"
        if not goes_on:
            return
        closed = left.copy(LOST)
        with open_on(closed, **OPTIONS) as d:
            assert contents(d) == [*found, (AFTER, 1, None)]
        if len(self.states) % (2 * GOES_ON) == 0:
            assert disk_engine.verify("/store", fs=closed).ok

    def check_only(self, left: Disk) -> None:
        with open_on(left, **OPTIONS) as d:
            self.check(contents(d))

    def check(self, found: Contents) -> None:
        if self.sync:
            outcome(found, self.before, self.step)
        else:
            self.check_unsynced(found)

    def check_unsynced(self, found: Iterable[Any]) -> None:
        now = self.disk.now()
        values = {key: value for key, value, _ in found}
        sure = self.durable.copy().alive()
        for key in {*values, *sure, *self.since}:
            known = self.since.get(key, [sure.get(key)])
            alive = [each[0] for each in known if each is not None and each[1] > now]
            if key in values:
                assert values[key] in alive, (key, values[key], self.step)
            else:
                assert len(alive) < len(known), (key, self.step)
        same = [key for key in sure if len(self.since.get(key, [None])) == 1]
        assert [key for key in values if key in set(same)] == same
