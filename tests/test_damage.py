"""Whatever is done to a store's bytes, no wrong value comes out, and every error names its place.

1,488 damaged stores; with KVMAP_SOAK=1 in the environment, 15,000.
"""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from disk import Unsynced
from helpers import killed

import kvmap
from kvmap import snapshot

CASES = 2_500 if os.environ.get("KVMAP_SOAK") else 250
PARTS = 8
"""Each a test of its own, so that a failure tells its part at once."""

State = dict[str, bytes]


class History:
    """All that ever was stored: a store not closed cleanly may tell an older value, never another."""

    def __init__(self) -> None:
        self.now: dict[Any, Any] = {}
        self.ever: dict[Any, list[Any]] = {}

    def put(self, d: kvmap.KVMap[Any], key: Any, value: Any) -> None:
        d[key] = self.now[key] = value
        self.ever.setdefault(key, []).append(value)


@pytest.fixture(scope="module", params=["closed", "indexed", "in use"])
def shape(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[str, State, History]:
    """A store's files and what was in it."""
    history, chance = History(), random.Random(3)
    path = tmp_path_factory.mktemp("shape") / "store"
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "indexed":
            patch.setattr(snapshot, "LEAST", 10)
        for _ in range(2):
            with kvmap.open(path, shards=4, files=Unsynced(1e9)) as d:
                for number in range(60):
                    key: Any = chance.choice([f"key {number % 40}", number % 9, (number % 5, "x")])
                    history.put(d, key, [number, "v" * chance.randrange(200)])
                d.expire("key 0", 1000) if "key 0" in d else None
                key = next(iter(d))
                del d[key], history.now[key]
                copy = killed(d, path.with_name(f"killed {len(history.ever)}"))
    source = path if request.param in ("closed", "indexed") else copy
    files = {str(f.relative_to(source)): f.read_bytes() for f in source.rglob("*") if f.is_file()}
    return request.param, files, history


def damaged(chance: random.Random, files: State) -> State:
    """The files after one or two accidents."""
    files = dict(files)
    names = sorted(name for name, data in files.items() if data and name != "lock")
    for _ in range(chance.choice((1, 1, 2))):
        name, other = chance.choice(names), chance.choice(names)
        data = files[name]
        at = chance.randrange(len(data.rstrip(b"\0")) + 1)
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
    return files


def lay(files: State, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    (path / "shards").mkdir(parents=True)
    for name, data in files.items():
        (path / name).write_bytes(data)


def read(path: Path, flag: Any, history: History, *, exact: bool) -> bool:
    """Read all there is; tell whether nothing was amiss."""
    whole = True
    try:
        with kvmap.open(path, flag, files=Unsynced(1e9)) as d:
            for key in history.ever:
                try:
                    found = d.get(key)
                except kvmap.CorruptStoreError as error:
                    assert Path(error.file).is_relative_to(path)
                    assert error.offset >= 0
                    whole = False
                else:
                    if exact:
                        assert found == history.now.get(key)
                    else:
                        assert found is None or found in history.ever[key]
            assert set(d) <= history.ever.keys()
            if whole and exact:
                assert dict(d) == history.now
    except (kvmap.CorruptStoreError, kvmap.NotAStoreError) as error:
        assert str(path) in str(error)
        whole = False
    return whole


@pytest.mark.parametrize("part", range(PARTS))
def test_no_wrong_value(tmp_path: Path, shape: tuple[str, State, History], part: int) -> None:
    name, files, history = shape
    exact = name in ("closed", "indexed")
    path = tmp_path / "store"
    lay(files, path)
    assert read(path, "r", history, exact=True)
    chance = random.Random(f"{name} {part}")
    for number in range(CASES // 4):
        case = damaged(chance, files)
        lay(case, path)
        # Damage to a closed store is told, whatever it is; only a crash explains what is missing.
        read(path, chance.choice("rc"), history, exact=exact)
        if number % 4 == 0:
            lay(case, path)
            try:
                kvmap.repair(path)
            except kvmap.NotAStoreError:
                continue
            assert read(path, "c", history, exact=False)
