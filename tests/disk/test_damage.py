"""Whatever is done to a store's bytes, no wrong value comes out, and every error names its place.

840 damaged stores; with `--long`, 20,160.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from helpers import LONG
from invariants import check
from model import Undo
from on_disk import open_on, snapshot_on
from simulated import Disk
from watched import Watched
from works import SMALL

import kvmap
from kvmap import disk as disk_engine
from kvmap.keys import bucket

CASES = 720 if LONG else 30
"""Damaged stores for each part of each shape."""
PARTS = 4
"""Each a test of its own, so that a failure names its part at once."""
SHARDS = 4
SHAPES = (
    "closed",
    "with a hint file",
    "in use",
    "compacting",
    "compacting, cut",
    "in a transaction",
    "in a commit",
)
JOURNAL = "/store/journal.jsonl"
HINT = "/store/index.jsonl"

State = dict[str, bytes]


class History:
    """All that ever was stored: a store not closed cleanly may hold an older value, never another."""

    def __init__(self) -> None:
        self.now: dict[Any, Any] = {}
        self.ever: dict[Any, list[Any]] = {}

    def put(self, d: kvmap.KVMap[Any, Any], key: Any, value: Any) -> None:
        d[key] = value
        self.note(key, value)

    def note(self, key: Any, value: Any) -> None:
        self.now[key] = value
        self.ever.setdefault(key, []).append(value)


@pytest.fixture(scope="module", params=SHAPES)
def shape(request: pytest.FixtureRequest) -> tuple[str, Disk, History]:
    """A store's disk and what was in it."""
    name, history, chance = request.param, History(), random.Random(3)
    disk = Disk()
    tuning = SMALL if name == "with a hint file" else None
    options = {} if tuning is None else {"tuning": tuning}
    left: Disk | None = None
    for again in (False, True):
        watched = Watched(disk)
        with open_on(watched, shards=SHARDS, **options) as d:
            for number in range(40):
                key: Any = chance.choice([f"key {number % 25}", number % 9, (number % 5, "x")])
                history.put(d, key, [number, "v" * chance.randrange(200)])
            key = next(iter(d))
            del d[key], history.now[key]
            if again:
                left = leave(name, d, watched, disk, history)
    if name == "with a hint file":
        assert HINT in disk.state()
    return name, left or disk, history


def leave(
    name: str, d: kvmap.KVMap[Any, Any], watched: Watched, disk: Disk, history: History
) -> Disk | None:
    """A copy of an open store's disk as a kill at the moment that this shape is of leaves it."""
    found: list[Disk] = []

    def stop(call: str) -> None:
        names = disk.state()
        renamed = call == "rename" and any(each.endswith(".jsonl.new") for each in names)
        appended = call == "pwrite" and JOURNAL in names
        if renamed or appended:
            found.append(disk.copy())

    match name:
        case "in use":
            return disk.copy()
        case "compacting" | "compacting, cut":
            watched.before = stop
            d.compact()
            left = found[1]
            if name == "compacting, cut":
                (new,) = [each for each in left.state() if each.endswith(".new")]
                left.put(new, left.state()[new][:500])
        case "in a transaction":
            with pytest.raises(Undo), d.transaction():
                for key in [*list(history.now)[::3], "never"]:
                    d[key] = "undone"
                left = disk.copy()
                raise Undo
        case "in a commit":
            with d.transaction():
                before = dict(history.now)
                for key in [*history.now][::3]:
                    history.put(d, key, f"committed {key}")
                watched.before = stop
            left = found[2]
            history.now = before
        case _:
            return None
    watched.before = lambda call: None
    return left


def damaged(chance: random.Random, disk: Disk) -> Disk:
    """The disk after one or two accidents."""
    files = {name: data for name, data in disk.state().items() if name != "/store/lock"}
    names = sorted(name for name, data in files.items() if data)
    for _ in range(chance.choice((1, 1, 2))):
        name, other = chance.choice(names), chance.choice(names)
        data = files[name]
        at = chance.randrange(len(data) + 1)
        size = chance.choice((1, 2, 8, 100, 5000))
        lines = data.splitlines(keepends=True)
        match chance.randrange(10):
            case 0 | 1 | 2:
                at = min(at, len(data) - 1) if data else 0
                flipped = bytes([data[at] ^ 1 << chance.randrange(8)]) if data else b""
                files[name] = data[:at] + flipped + data[at + 1 :]
            case 3:
                files[name] = data[:at]
            case 4:
                files[name] = data[:at] + data[at + size :]
            case 5:
                files[name] = data[:at] + chance.randbytes(size) + data[at:]
            case 6:
                files[name] = data[:at] + bytes(len(data[at : at + size])) + data[at + size :]
            case 7:
                chance.shuffle(lines)
                files[name] = b"".join(lines)
            case 8:
                files[name] = b"".join([*lines, *lines[: chance.randrange(4)]])
            case _:
                files[name], files[other] = files[other], data
    found = disk.copy()
    for name, data in files.items():
        found.put(name, data)
    return found


def read(disk: Disk, flag: str, history: History, chance: random.Random, *, exact: bool) -> bool:
    """Read all there is; tell whether nothing was amiss."""
    whole = True
    # Each read of a damaged shard reads all of it: a few tell as much as all.
    refused: Counter[int] = Counter()
    try:
        opened = snapshot_on(disk) if flag == "s" else open_on(disk, "/store", flag)
        with opened as d:
            for key in chance.sample([*history.ever], len(history.ever)):
                values, shard = history.ever[key], bucket(key, SHARDS - 1)
                if refused[shard] == 3:
                    continue
                try:
                    found = d.get(key)
                except kvmap.CorruptStoreError as error:
                    assert error.file.startswith("/store/")
                    assert error.offset >= 0
                    refused[shard] += 1
                    whole = False
                else:
                    if exact:
                        assert found == history.now.get(key)
                    else:
                        assert found is None or found in values
            assert set(d) <= history.ever.keys()
            if whole and exact:
                assert dict(d) == history.now
    except (kvmap.CorruptStoreError, kvmap.NotAStoreError) as error:
        assert "/store" in str(error)
        whole = False
    assert not disk.descriptors
    return whole


@pytest.mark.parametrize("part", range(PARTS))
def test_no_wrong_value(shape: tuple[str, Disk, History], part: int) -> None:
    name, disk, history = shape
    exact = name in ("closed", "with a hint file")
    chance = random.Random(f"{name} {part}")
    assert read(disk.copy(), "r", history, chance, exact=True)
    raised = 0
    for number in range(CASES):
        case = damaged(chance, disk)
        # Damage to a closed store raises, whatever it is; only a crash explains what is missing.
        flag = chance.choice("rcs")
        readable = read(case.copy(), flag, history, chance, exact=exact)
        raised += not readable
        whole = disk_engine.verify("/store", fs=case).ok
        if flag != "r":
            readable = read(case.copy(), "r", history, chance, exact=exact)
        assert readable >= whole, "verify says what reads do"
        if number % 4 == 0:
            try:
                disk_engine.repair("/store", fs=case)
            except kvmap.NotAStoreError:
                continue
            assert read(case, "c", history, chance, exact=False)
            assert disk_engine.verify("/store", fs=case).ok
            with open_on(case) as d:
                d["written"] = 1
                check(d, case)
    print(f"{name}: {CASES} damaged stores, {raised} raised")
