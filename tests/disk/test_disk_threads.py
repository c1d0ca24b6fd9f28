"""Threads on one store: each finds what it wrote, whatever the others, compaction and loading do."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import LONG, Clock, run_together
from invariants import check
from on_disk import open_on
from unsynced import Unsynced
from works import SMALL

import kvmap

STEPS = 6000 if LONG else 400
THREADS = 4


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def own(thread: int, number: int) -> Any:
    return f"{thread} {number}" if number % 3 else (thread, number)


@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "just opened"])
@pytest.mark.parametrize("seed", range(20 if LONG else 2))
def test_each_thread_finds_what_it_wrote(path: Path, seed: int, loaded: bool) -> None:
    fs = Unsynced(Clock())
    with open_on(fs, path, shards=4, tuning=SMALL) as d:
        d.update({own(thread, number): -1 for thread in range(THREADS) for number in range(12)})
        d["total"] = 0
    d = open_on(fs, path, tuning=SMALL)
    if loaded:
        len(d)
    models: list[dict[Any, Any]] = [
        {own(thread, number): -1 for number in range(12)} for thread in range(THREADS)
    ]

    added = [0] * THREADS

    def work(thread: int) -> None:
        chance, model = random.Random(seed * 100 + thread), models[thread]
        for step in range(STEPS):
            key = own(thread, chance.randrange(12))
            match chance.randrange(12):
                case 0:
                    assert d.pop(key, None) == model.pop(key, None)
                case 1:
                    some = {own(thread, number): [step] * 9 for number in range(4)}
                    d.update(some)
                    model.update(some)
                case 2:
                    with d.transaction():
                        d["total"] += 1
                        added[thread] += 1
                        d[key] = model[key] = step
                case 3:
                    d.incr("total")
                    added[thread] += 1
                case 4:
                    found = (
                        {k: v for k, v in d.copy().items() if k in model} if thread == 0 else model
                    )
                    assert found == model
                case 5:
                    assert d.get_many(list(model)) == model
                case 6 if step % 40 == 0:
                    d.compact()
                case 7 if step % 10 == 0:
                    d.sync()
                case 8:
                    assert len(d) > 0
                case 9:
                    found = d.get(key)
                    assert found == model.get(key)
                case _:
                    d[key] = model[key] = [step, "x" * chance.randrange(100)]

    try:
        run_together(*(lambda thread=thread: work(thread) for thread in range(THREADS)))  # type: ignore[misc]
        expected: dict[Any, Any] = {}
        for model in models:
            expected.update(model)
        found = dict(d)
        total = found.pop("total")
        assert found == expected
        assert total == sum(added)
        check(d, fs)
    finally:
        d.close()
    with open_on(fs, path) as d:
        assert dict(d) == {**expected, "total": total}


def test_readers_meet_no_half_moved_entry(path: Path) -> None:
    """Reads take no lock: beside compaction, growth, clear and expiry each is right or missing."""
    fs, done = Unsynced(Clock()), threading.Event()
    with open_on(fs, path, shards=2, tuning=SMALL) as d:
        d.update({number: [number, 0] for number in range(40)})

        def write() -> None:
            chance = random.Random(1)
            try:
                for step in range(STEPS * 2):
                    number = chance.randrange(40)
                    d[number] = [number, "x" * chance.randrange(200)]
                    if step % 100 == 50:
                        d.compact()
                    if step % 200 == 0:
                        d.update({number: [number, step] for number in range(40)})
                    d.set("passing", ["passing", step], ttl=1)
                    if step % 20 == 0:
                        fs.clock.wait(2)
            finally:
                done.set()

        def read() -> None:
            while not done.is_set():
                for number in range(40):
                    assert d[number][0] == number
                assert d.get("passing", ["passing"])[0] == "passing"
                assert "absent" not in d

        def read_all() -> None:
            while not done.is_set():
                try:
                    for key, value in d.items():
                        assert value[0] == key
                except RuntimeError as error:
                    assert "changed size" in str(error)

        run_together(write, read, read, read_all)
        check(d, fs)


def test_closing_beside_readers_and_writers(path: Path) -> None:
    for _ in range(30 if LONG else 5):
        with kvmap.open(path, shards=2) as d:
            d.update({number: number for number in range(50)})
        d = kvmap.open(path)
        started = threading.Barrier(4)

        def use(d: kvmap.KVMap[Any, Any] = d, started: threading.Barrier = started) -> None:
            started.wait()
            with pytest.raises(kvmap.StoreClosedError):
                for step in range(10**9):
                    assert d[step % 50] == step % 50
                    d[step % 50] = step % 50

        def close(d: kvmap.KVMap[Any, Any] = d, started: threading.Barrier = started) -> None:
            started.wait()
            d.close()

        run_together(use, use, use, close)
    with kvmap.open(path) as d:
        assert dict(d) == {number: number for number in range(50)}
        check(d)
