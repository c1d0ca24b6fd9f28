"""Power cuts below a real file system: an ext4 image is copied while the store in it is written.

What the copy holds is what a disk would hold: ext4 has sent it there. 100 states, with `--long` 2,000.
"""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from helpers import LONG, Clock, directory_in_memory
from model import Contents, Model, Step, contents, outcome, steps, take
from mounted import make, mounted
from on_disk import open_on
from watched import WRITING, Watched

import kvmap
from kvmap.disk.fs import FileSystem
from kvmap.disk.tuning import Tuning

STATES = 2000 if LONG else 100
OPTIONS: dict[str, Any] = {"tuning": Tuning(slack_bytes=4000, step_bytes=2000, hint_bytes=1000)}


class Timed(FileSystem):
    """The operating system, but for the time."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def now(self) -> float:
        return self.clock.now()


class Cutter:
    """Copies the image at some of the calls, and opens the store in each copy."""

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.image, self.folder, self.sync = folder / "image", folder, sync
        self.clock = Clock()
        self.chance = random.Random(sync)
        self.model = self.before = Model(self.clock)
        self.step: Step = ("sync",)
        self.since: list[dict[Any, tuple[Any, float]]] = []
        """What the store has held since the last sync, for a map without `sync=True`."""
        self.states = 0
        self.last = b""

    def run(self, place: Path) -> None:
        fs = Watched(Timed(self.clock))
        fs.after = self.happened
        d = open_on(fs, place / "store", shards=2, sync=self.sync, **OPTIONS)
        for step in islice(steps(7, keys=20, largest=2000), 10 * STATES):
            self.clock.wait(1)
            self.step, after = step, self.model.copy()
            take(after, step)
            self.note(step)
            take(d, step)
            self.before = self.model = after
            if step == ("sync",) or self.sync:
                self.since = [dict(self.model.entries)]
            self.step = ("sync",)
            if self.chance.random() < 0.05:
                d.close()
                self.since = [dict(self.model.entries)]
                d = open_on(fs, place / "store", sync=self.sync, **OPTIONS)
            if self.states >= STATES // 2:
                break
        d.close()

    def note(self, step: Step) -> None:
        """Remember what each key may be: of a batch that is not synced, any part may be there."""
        model = self.model.copy()
        self.since.append(dict(model.entries))
        for each in step[1] if step[0] == "transaction" and not step[2] else [step]:
            take(model, each)
            self.since.append(dict(model.entries))

    def happened(self, call: str) -> None:
        if call in WRITING and self.states < STATES // 2 and self.chance.random() < 0.4:
            self.cut()

    def still(self) -> bytes:
        """The image at one moment: ext4 may write to it while it is read, which no disk shows."""
        data = self.image.read_bytes()
        while (again := self.image.read_bytes()) != data:
            data = again
        return data

    def cut(self) -> None:
        data = self.still()
        if data == self.last:
            return
        self.last = data
        copy = self.folder / "copy"
        copy.write_bytes(data)
        self.states += 1
        with mounted(copy, self.folder / "copied") as place:
            if not (place / "store" / "kvmap.json").exists():
                assert not contents(self.model), "the store was there, and synced"
                return
            fs = Timed(self.clock)
            with open_on(fs, place / "store", **OPTIONS) as d:
                found = contents(d)
                self.check(found)
                d["after the cut"] = 1
            with open_on(fs, place / "store", **OPTIONS) as d:
                assert contents(d) == [*found, ("after the cut", 1, None)]
            assert kvmap.verify(place / "store").ok

    def check(self, found: Contents) -> None:
        if self.sync:
            outcome(found, self.before, self.step)
            return
        now, values = self.clock.now(), {key: value for key, value, _ in found}
        for key in {key for held in self.since for key in held} | values.keys():
            known = [held.get(key) for held in self.since]
            alive = [each[0] for each in known if each is not None and each[1] > now]
            if key in values:
                assert values[key] in alive, key
            else:
                assert len(alive) < len(known), key


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "no sync"])
def test_an_ext4_image_that_is_copied_while_it_is_written(sync: bool) -> None:
    with directory_in_memory() as folder:
        make("ext4", folder / "image")
        cutter = Cutter(folder, sync=sync)
        with mounted(folder / "image", folder / "mounted", "loop,commit=1") as place:
            cutter.run(place)
    print(f"{cutter.states} states")
    assert cutter.states == STATES // 2
