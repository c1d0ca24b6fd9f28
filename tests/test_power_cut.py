"""A power cut at any moment: what was synced is there, and nothing that was never written."""

from __future__ import annotations

import random
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from disk import Choose, Disk, Unsynced, kept, lay, lost
from model import SOAK, Model, Step, contents, outcome, steps, take

import kvmap

RUNS = 60 if SOAK else 6
STEPS = 120
OPTIONS: dict[str, Any] = {"shards": 2}


class Cutter:
    """Cuts the power at every moment of a run, in several ways, and opens what is left."""

    def __init__(self, tmp_path: Path, seed: int, *, sync: bool) -> None:
        self.random = random.Random(seed)
        self.place = tmp_path / f"state {seed}"
        self.disk = Disk(tmp_path / f"disk {seed}")
        self.disk.root.mkdir()
        self.disk.happened = self.cut
        self.path = self.disk.root / "store"
        self.sync = sync
        self.before = self.model = Model(self.disk)
        self.step: Step = ("sync",)
        self.durable = Model(self.disk)
        """What stands synced, for a map without `sync=True`."""
        self.since: dict[Any, list[tuple[Any, float] | None]] = {}
        """What each key has been since then."""
        self.states: set[int] = set()
        self.moment = 0

    def open(self) -> Any:
        return kvmap.open(self.path, sync=self.sync, files=self.disk, **OPTIONS)

    def run(self, count: int, seed: int) -> None:
        d = self.open()
        for number, step in enumerate(islice(steps(seed, keys=12), count)):
            self.disk.wait(1)
            self.step, after = step, self.model.copy()
            take(after, step)
            self.note(after, step)
            take(d, step)
            assert contents(d) == contents(after)
            self.before = self.model = after
            if step == ("sync",):
                self.settle()
            self.step = ("sync",)
            if number % 40 == 20:  # a kill: the next map finds what the system still has in memory
                d._after_fork()
                d._store.release()
                d = self.open()
            if number % 40 == 39:
                d.close()
                self.settle()
                d = self.open()
        d.close()

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

    def cut(self) -> None:
        self.moment += 1
        for choose in (lost, kept, self.random.choice, self.random.choice, self.some()):
            state = self.disk.left(choose)
            if (name := hash(repr(state))) not in self.states:
                self.states.add(name)
                self.open_and_check(state)

    def some(self) -> Choose:
        """Most of it lost or most of it kept."""
        rate, usual = self.random.choice((0.1, 0.5)), self.random.choice((lost, kept))
        return lambda versions: (self.random.choice if self.random.random() < rate else usual)(
            versions
        )

    def open_and_check(self, state: dict[str, Any]) -> None:
        lay(state, self.place)
        try:
            with kvmap.open(self.place / "store", files=self.here(), **OPTIONS) as d:
                found = contents(d)
                (self.check_synced if self.sync else self.check_unsynced)(found)
                d["after the cut"] = 1
            if self.moment % 10 == 0:
                with kvmap.open(self.place / "store", "r", files=self.here()) as d:
                    assert contents(d) == [*found, ("after the cut", 1, None)]
        finally:
            shutil.rmtree(self.place)

    def here(self) -> Unsynced:
        return Unsynced(self.disk.time)

    def check_synced(self, found: Any) -> None:
        outcome(found, self.before, self.step)

    def check_unsynced(self, found: Any) -> None:
        now = self.disk.now()
        values = {key: value for key, value, _ in found}
        sure = self.durable.alive()
        for key in {*values, *sure, *self.since}:
            known = self.since.get(key, [sure.get(key)])
            alive = [each[0] for each in known if each is not None and each[1] > now]
            if key in values:
                assert values[key] in alive, (key, values[key], self.step)
            else:
                assert len(alive) < len(known), (key, self.step)
        same = [key for key in sure if len(self.since.get(key, [None])) == 1]
        assert [key for key in values if key in set(same)] == same


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "no sync"])
def test_every_state_opens_and_holds_what_was_synced(tmp_path: Path, sync: bool) -> None:
    states = 0
    for seed in range(RUNS):
        cutter = Cutter(tmp_path, seed, sync=sync)
        cutter.run(STEPS, seed)
        states += len(cutter.states)
    print(f"{states} states")
    assert SOAK or states > 5000
