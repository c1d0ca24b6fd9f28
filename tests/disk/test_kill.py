"""SIGKILL at any moment loses nothing that was acknowledged, and leaves no batch in part."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from itertools import islice
from pathlib import Path
from typing import Any

from helpers import LONG, Clock
from model import Model, Step, contents, outcome, steps, take
from on_disk import open_on
from unsynced import Unsynced

import kvmap
from kvmap.disk.tuning import Tuning

KILLS = 1000 if LONG else 40
TUNING = Tuning(slack_bytes=20_000, step_bytes=8000, hint_bytes=5000, map_slack_bytes=4000)


def opened(path: Path, clock: Clock) -> Any:
    return open_on(Unsynced(clock), path, shards=4, tuning=TUNING)


def some_steps(seed: int) -> Any:
    return steps(seed, keys=90, largest=5000)


def work(path: Path, seed: int, start: float, acknowledge: int) -> None:
    """What the child does until it is killed: a second passes with every step."""
    clock = Clock(start)
    d = opened(path, clock)
    os.write(acknowledge, b".")
    for number, step in enumerate(some_steps(seed)):
        clock.wait(1)
        if number % 500 == 499:
            d.close()
            d = opened(path, clock)
        take(d, step)
        os.write(acknowledge, b".")


def run_and_kill(path: Path, seed: int, start: float, target: int, pause: float) -> int:
    """Fork, let the child acknowledge about `target` steps, kill it; return how many these were."""
    receive, acknowledge = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(receive)
            work(path, seed, start, acknowledge)
        finally:
            os._exit(1)
    os.close(acknowledge)
    count = 0
    while count < target and (got := os.read(receive, 4096)):
        count += len(got)
    time.sleep(pause)
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the child failed of its own"
    while got := os.read(receive, 65536):
        count += len(got)
    os.close(receive)
    return count


def test_kills(path_in_memory: Path) -> None:
    choose = random.Random(1)
    path = path_in_memory
    clock = Clock()
    model = Model(clock)
    acknowledged = 0
    for seed in range(KILLS):
        start = clock.time
        target = choose.choice((0, 1, 10, 100, choose.randint(1, 1000)))
        count = run_and_kill(path, seed, start, target, choose.random() * 0.02)
        acknowledged += count
        done: list[Step] = list(islice(some_steps(seed), count))
        cut_off = done.pop() if count else ("sync",)  # the first byte: the store is open
        for each in done:
            clock.wait(1)
            take(model, each)
        if count:
            clock.wait(1)
        if not path.exists():
            continue
        # Half of the time the next child opens what its killed brother left.
        copy = path if choose.random() < 0.5 else path.parent / "copy"
        if copy != path:
            shutil.copytree(path, copy)
        with opened(copy, clock) as d:
            model = outcome(contents(d), model, cut_off)
            if copy == path:
                for each in islice(some_steps(~seed), 20):
                    clock.wait(1)
                    take(d, each)
                    take(model, each)
                assert contents(d) == contents(model)
        if copy != path:
            shutil.rmtree(copy)
        assert kvmap.verify(path).ok
    print(f"{KILLS} kills, {acknowledged} acknowledged")


def test_a_large_update_is_all_or_nothing_for_a_kill(path_in_memory: Path) -> None:
    """3 of 30 killed stores held a part of the update, once."""
    choose, kept = random.Random(2), 0
    for number in range(200 if LONG else 20):
        path = path_in_memory / str(number)
        receive, ready = os.pipe()
        child = os.fork()
        if not child:
            try:
                with kvmap.open(path, shards=16) as d:
                    os.write(ready, b".")
                    d.update({str(key): "x" * 500 for key in range(4000)})
                    os.write(ready, b".")
                    time.sleep(60)
            finally:
                os._exit(1)
        os.close(ready)
        os.read(receive, 1)
        time.sleep(choose.random() * 0.06)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged = bool(os.read(receive, 1))
        os.close(receive)
        with kvmap.open(path) as d:
            assert len(d) in ((4000,) if acknowledged else (0, 4000))
            kept += len(d) == 4000
        shutil.rmtree(path)
    print(f"{kept} of {number + 1} updates done")
