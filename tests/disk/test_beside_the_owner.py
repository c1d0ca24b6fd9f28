"""A snapshot while the owner is amid anything: a state between two writes, or an error; no change."""

from __future__ import annotations

import threading
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from helpers import LONG, Work
from model import Contents, contents
from on_disk import open_on, snapshot_on
from watched import Watched
from works import SEVERAL, SMALL, WORKS, Map, made
from works import Work as Piece

import kvmap


def stages(work: Piece) -> list[Contents]:
    """What the store holds before the work, and after each of its writes."""
    disk = made()
    with open_on(disk, tuning=SMALL) as d:
        seen = [contents(d)]

        def note(call: str) -> None:
            with open_on(disk.copy()) as left:
                seen.append(contents(left))

        if work in SEVERAL:
            disk.happened = note
        work(d)
        disk.happened = lambda call: None
        return [*seen, contents(d)]


@pytest.mark.parametrize("sync", [False, True], ids=["no sync", "sync"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_amid_each_call_of_the_owner(work: Piece, sync: bool) -> None:
    possible = stages(work)
    disk = made()
    seen: list[Contents] = []

    def look(call: str) -> None:
        before = disk.state()
        with snapshot_on(disk) as then:
            seen.append(contents(then))
            assert len(then) == len(seen[-1])
        assert seen[-1] in possible, call
        assert disk.state() == before

    d = open_on(disk, sync=sync, tuning=SMALL)
    disk.happened = look
    work(d)
    d.close()
    disk.happened = lambda call: None
    assert seen[-1] == possible[-1]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_the_owner_goes_on_between_any_two_calls_of_the_snapshot(work: Piece) -> None:
    """The store may be written, compacted, emptied or closed while it is being read."""
    possible = stages(work)
    for at in count():
        disk, done, calls = made(), False, 0
        owner = open_on(disk, tuning=SMALL)

        def before(owner: Map = owner) -> None:
            nonlocal done
            done = True
            work(owner)
            owner.close()

        watched = Watched(disk)

        def counting(call: str) -> None:
            nonlocal calls
            if calls == at:
                calls += 1
                before()
            calls += 1

        watched.before = counting
        try:
            with snapshot_on(watched) as then:
                found = contents(then)
                assert found in possible, at
                then.refresh()
                assert contents(then) in possible, at
        finally:
            if not owner.closed:
                owner.close()
        assert not disk.descriptors
        if not done:
            break
    print(f"{at} places")


def test_a_snapshot_stays_as_it_was() -> None:
    disk = made()
    with open_on(disk, tuning=SMALL) as d, snapshot_on(disk) as then, snapshot_on(disk) as other:
        before = contents(d)
        assert contents(other) == before
        d.update({f"key {number}": "later" for number in range(20)})
        d.compact()
        assert contents(other) == before
        after = contents(then)
        assert after in (before, contents(d))
        then.refresh()
        assert contents(then) == contents(d)
        d.clear()
        assert contents(other) == before
        then.refresh()
        assert not contents(then)


def test_a_snapshot_refuses_writes() -> None:
    disk = made()
    with open_on(disk) as d, snapshot_on(disk) as then:
        writes: list[Any] = [
            lambda: then.__setitem__("a", 1),
            lambda: then.pop("key 1"),
            lambda: then.clear(),
            lambda: then.update(a=1),
            lambda: then.compact(),
            lambda: then.transaction().__enter__(),
        ]
        for write in writes:
            with pytest.raises(kvmap.ReadOnlyError):
                write()
        d["key 1"] = "the owner writes"


def test_while_threads_write(path_in_memory: Path) -> None:
    """All keys of an update are of one age, in every snapshot."""
    path, done = path_in_memory, threading.Event()
    names = [f"key {number}" for number in range(30)]

    def write() -> int:
        number = 0
        with kvmap.open(path, shards=4) as d:
            while not done.is_set():
                number += 1
                d.update(dict.fromkeys(names, [number, "x" * (number % 2000)]))
                if number % 50 == 0:
                    d.compact()
                if number % 70 == 0:
                    d.clear()
        return number

    kvmap.open(path, shards=4).close()
    writer = Work(write)
    looks = seen = 0
    try:
        for _ in range(2000 if LONG else 60):
            with kvmap.snapshot(path) as then:
                found = dict(then)
                assert len(found) in (0, 30)
                assert len({value[0] for value in found.values()}) <= 1
                seen += bool(found)
                then.refresh()
                assert len({value[0] for value in then.values()}) <= 1
            looks += 1
    finally:
        done.set()
    assert writer.result() > 10
    print(f"{looks} snapshots, {seen} with entries")
