"""A full disk or an I/O error at any one call: nothing acknowledged is lost, the map goes on."""

from __future__ import annotations

import errno
import random
from itertools import count
from typing import Any

import pytest
from cutter import States
from helpers import LONG
from invariants import check
from model import Contents, contents
from on_disk import open_on, snapshot_on
from simulated import Choice, Disk, choices
from watched import Failing, Short
from works import (
    ENTRIES,
    SEVERAL,
    SMALL,
    WORKS,
    Map,
    Work,
    compact,
    delete,
    made,
    overwrite,
    transaction,
    update,
)
from works import clear as clear_work

ERRORS = (errno.EIO, errno.ENOSPC, errno.EMFILE)


def after_kill(disk: Disk) -> Contents:
    """What the store holds when its process is killed now."""
    left = disk.copy()
    with open_on(left, tuning=SMALL) as d:
        found = contents(d)
        check(d, left)
        d.compact()
        check(d, left)
        assert contents(d) == found
    return found


def states(work: Work, *, fresh: bool) -> tuple[Contents, list[Contents]]:
    """What a store holds before the work, and after each of its writes."""
    disk = made()
    with open_on(disk, tuning=SMALL) as d:
        if not fresh:
            d["key 7"] = "in use"
        before = contents(d)
        seen = [before]
        if work in SEVERAL:
            disk.happened = lambda call: seen.append(after_kill(disk))
        work(d)
        disk.happened = lambda call: None
        return before, [*seen, contents(d)]


@pytest.mark.parametrize("late", [False, True], ids=["not done", "done but said to have failed"])
@pytest.mark.parametrize("sync", [False, True], ids=["no sync", "sync"])
@pytest.mark.parametrize("fresh", [True, False], ids=["just opened", "in use"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_one_call_fails(work: Work, fresh: bool, sync: bool, late: bool) -> None:
    # Each work with each value of each parameter, each three values together with some of the works.
    number = WORKS.index(work)
    if not LONG and (fresh == sync, fresh == late) != (number % 2 == 0, number % 4 < 2):
        pytest.skip("a quarter will do; --long takes all")
    _, possible = states(work, fresh=fresh)
    for at in count():
        disk = made()
        failing = Failing(disk, ERRORS[at % len(ERRORS)], late=late)
        d = open_on(failing, sync=sync, tuning=SMALL)
        if not fresh:
            d["key 7"] = "in use"
            assert len(d) == 9
        failing.arm(at)
        raised = False
        try:
            work(d)
        except OSError as error:
            assert error.strerror == "injected", "another error than the injected one"
            raised = True
        failing.disarm()
        found = contents(d)
        where = f"call {at}, {failing.failed}"
        assert found in (possible if raised else possible[-1:]), where
        check(d, failing)
        assert after_kill(disk) == found, where
        goes_on(d, disk, where)
        if not failing.failed:
            break
    print(f"{at} failures")


def goes_on(d: Map, disk: Disk, where: str) -> None:
    """Write, delete and close as if nothing had happened, and find it all."""
    model: dict[Any, Any] = dict(d)
    for key in ("key 1", "new", "key 5"):
        for target in (d, model):
            target.pop(key, None)
    d.compact()
    assert dict(d) == model == {key: value for key, value, _ in after_kill(disk)}, where
    for target in (d, model):
        target["key 3"] = "room"
    with d.transaction():
        d["large"] = model["large"] = "w" * 20_000
        d["key 1"] = model["key 1"] = 1
    expected = list(model.items())
    assert list(d.items()) == expected, where
    check(d, disk)
    d.sync()
    d.close()
    assert not disk.descriptors, where
    with open_on(disk.copy(Choice("lost"))) as again:
        assert list(again.items()) == expected, where


@pytest.mark.parametrize("late", [False, True], ids=["not done", "done but said to have failed"])
@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_a_call_of_opening_or_closing_fails(killed: bool, late: bool) -> None:
    before = made()
    if killed:
        with open_on(before, tuning=SMALL) as d:
            d["key 3"] = "over"
            d.update(more=1)
            disk = before.copy()
        before = disk
    with open_on(before.copy()) as d:
        expected = contents(d)
    for at in count():
        disk = before.copy()
        failing = Failing(disk, ERRORS[at % len(ERRORS)], late=late)
        failing.arm(at)
        try:
            with open_on(failing, tuning=SMALL) as d:
                assert contents(d) == expected
                d["after"] = 1
        except OSError as error:
            assert error.strerror == "injected"
        failing.disarm()
        assert not disk.descriptors, failing.failed
        with open_on(disk, tuning=SMALL) as d:
            found = contents(d)
            assert found in (expected, [*expected, ("after", 1, None)]), failing.failed
            check(d, disk)
        if not failing.failed:
            break
    print(f"{at} failures")


@pytest.mark.parametrize("late", [False, True], ids=["not done", "done but said to have failed"])
def test_a_call_of_making_a_store_fails(late: bool) -> None:
    for at in count():
        disk = Disk()
        failing = Failing(disk, ERRORS[at % len(ERRORS)], late=late)
        failing.arm(at)
        try:
            with open_on(failing, "/a/b/store") as d:
                d["a"] = 1
        except OSError as error:
            assert error.strerror == "injected"
        failing.disarm()
        assert not disk.descriptors, failing.failed
        with open_on(disk, "/a/b/store") as d:
            assert dict(d) in ({}, {"a": 1})
            d["b"] = 2
            check(d, disk)
        if not failing.failed:
            break


@pytest.mark.parametrize(
    "work", [overwrite, delete, update, transaction, compact, clear_work], ids=lambda w: w.__name__
)
def test_one_call_fails_and_then_the_power(work: Work) -> None:
    """With `sync=True`, what an error has undone does not come back after the next sync."""
    cuts = 0
    for at in count():
        disk, chance = made(), random.Random(at)
        failing = Failing(disk, errno.EIO)
        d = open_on(failing, sync=True, tuning=SMALL)
        before = contents(d)
        failing.arm(at)
        try:
            work(d)
        except OSError as error:
            assert error.strerror == "injected"
        failing.disarm()
        found = contents(d)
        where = f"call {at}, {failing.failed}"

        def comes_back(*expected: Contents) -> None:
            nonlocal cuts
            left = States()
            for choice in choices(chance, disk.moment + 1, 5):
                if left.add(cut := disk.copy(choice)):
                    cuts += 1
                    with open_on(cut) as d:
                        assert contents(d) in expected, where

        if work not in (update, transaction):  # the undoing of a batch may be on disk in part
            comes_back(before, found)
        d["after"] = 1
        d.sync()
        comes_back([*found, ("after", 1, None)])
        d.close()
        if not failing.failed:
            break
    print(f"{at} failures, {cuts} power cuts")


@pytest.mark.parametrize("capacity", range(0, 6000, 250))
def test_a_full_disk_takes_what_fits_and_keeps_it(capacity: int) -> None:
    """Wherever a write is cut short, it is undone, and the store goes on when there is room."""
    disk = made()
    used = sum(map(len, disk.state().values()))
    model: dict[Any, Any] = {**ENTRIES, "timed": 1}
    refused = 0
    with open_on(disk, tuning=SMALL) as d:
        disk.capacity = used + capacity
        for number in range(30):
            changes = {f"key {number % 8}": "x" * 400, f"new {number}": "y" * 150}
            try:
                if number % 3:
                    d.update(changes)
                else:
                    with d.transaction():
                        for key, value in changes.items():
                            d[key] = value
            except OSError as error:
                assert error.errno == errno.ENOSPC
                assert error.filename
                refused += 1
            else:
                model.update(changes)
            assert dict(d) == model
            check(d, disk)
        assert refused
        assert dict(snapshot_items(disk)) == model
        disk.capacity = None
        d["room"] = model["room"] = 1
        check(d, disk)
    with open_on(disk) as d:
        assert dict(d) == model


def snapshot_items(disk: Disk) -> dict[Any, Any]:
    with snapshot_on(disk) as then:
        return dict(then)


def test_a_full_disk_can_be_read_emptied_and_closed() -> None:
    disk = made()
    disk.capacity = sum(map(len, disk.state().values())) + 1000
    with open_on(disk) as d:
        assert d["key 3"] == [3] * 3
        with pytest.raises(OSError, match="No space"):
            d["large"] = "x" * 10_000
        d.clear()
        assert not d
    with open_on(disk) as d:
        assert not d
    with open_on(disk, "/store", "r") as d:
        assert not d


def test_writes_that_the_system_cuts_short_are_completed() -> None:
    disk = Disk()
    short = Short(disk, 7)
    model: dict[Any, Any] = {}
    with open_on(short, shards=2, tuning=SMALL) as d:
        for number in range(60):
            d[f"key {number % 9}"] = model[f"key {number % 9}"] = "x" * number
            if number % 5 == 0:
                changes = {str(each): [number] * 30 for each in range(4)}
                d.update(changes)
                model.update(changes)
            check(d, disk)
        assert dict(d) == model
    with open_on(disk) as d:
        assert dict(d) == model
