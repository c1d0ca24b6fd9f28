"""Random stores that lie under right checksums: what `verify` calls whole can be read and written.

300 stores; with `--long`, 10,000. After `repair`, every one of them can be read whole and written.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
from helpers import LONG
from invariants import check
from on_disk import open_on, snapshot_on
from simulated import Disk
from works import SMALL

import kvmap
from kvmap import disk as disk_engine
from kvmap.disk.records import sealed

PARTS = 4
CASES = 2500 if LONG else 75
MANIFEST, HINT, JOURNAL = "/store/kvmap.json", "/store/index.jsonl", "/store/journal.jsonl"
ODD: list[Any] = [
    *(0, 1, -1, 2, 31, 77, 2**31, 2**32, 2**53, 2**62, 2**63, 10**30, 1.5, 1e300, -0.5),
    *(None, True, False, "", "x", "0", "../x", [], [1], {}, {"a": 1}, [[]], [[0, True]]),
]


def made(seed: int) -> Disk:
    """An ordinary store: closed, or killed, with a hint file and dead records."""
    chance, disk = random.Random(seed), Disk()
    with open_on(disk, shards=chance.choice((1, 2, 4)), tuning=SMALL) as d:
        d.update({f"key {i}": [i, "x" * chance.randrange(60)] for i in range(8)})
        d.update({1: "one", None: "none", (1, "a"): "tuple"})
        d["key 1"] = "over"
        d.set("timed", 1, ttl=1000)
        del d["key 2"]
        len(d)
    if chance.random() < 0.5:
        with open_on(disk, tuning=SMALL) as d:
            d["key 3"] = "later"
            d.update({"more": 1, "key 4": 2})
            return disk.copy()
    return disk


def mutated(chance: random.Random, content: Any) -> Any:
    """The same JSON, with one thing in it changed."""
    if isinstance(content, dict) and content and chance.random() < 0.9:
        content = dict(content)
        key = chance.choice(list(content))
        match chance.randrange(6):
            case 0:
                del content[key]
            case 1:
                content[chance.choice(("other", "seq", "key", "value", "expires", "first"))] = (
                    chance.choice(ODD)
                )
            case _:
                content[key] = mutated(chance, content[key])
        return content
    if isinstance(content, list) and content and chance.random() < 0.9:
        content, at = list(content), chance.randrange(len(content))
        match chance.randrange(5):
            case 0:
                del content[at]
            case 1:
                content.insert(at, content[at])
            case _:
                content[at] = mutated(chance, content[at])
        return content
    if isinstance(content, int) and chance.random() < 0.5:
        return content + chance.choice((-2, -1, 1, 2, 100, -100))
    if isinstance(content, str) and content and chance.random() < 0.5:
        at = chance.randrange(len(content))
        return content[:at] + chance.choice('"\\xA,:{}0') + content[at + 1 :]
    return chance.choice(ODD)


def dumped(content: Any) -> bytes:
    try:
        return orjson.dumps(content)
    except TypeError:  # an int of more than 64 bits
        return repr(content).encode()


def lied_about(chance: random.Random, line: bytes) -> bytes:
    """A line with something changed, under a right checksum."""
    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line
    if isinstance(content, dict):
        content.pop("crc", None)
    text = dumped(mutated(chance, content))
    match chance.randrange(8):
        case 0:
            text = text.replace(b":", b": ", 1)
        case 1:
            text = text.replace(b'"', b"'", 1)
        case 2:
            at = chance.randrange(len(text) + 1)
            text = text[:at] + chance.choice((b"\0", b"\n", b"\xff", b" ", b"}", b",")) + text[at:]
    return sealed(text[:-1])


def lie(chance: random.Random, disk: Disk) -> None:
    """Let one file say something else."""
    state = disk.state()
    shards = [name for name in state if "/shards/" in name and state[name]]
    match chance.randrange(10):
        case 0 | 1:
            disk.put(MANIFEST, lied_about(chance, state[MANIFEST]))
        case 2 | 3 if HINT in state:
            lines = state[HINT].splitlines(keepends=True)
            at = chance.randrange(len(lines))
            with suppress(ValueError):  # where it lies already
                content = mutated(chance, orjson.loads(lines[at]))
                body = b"".join([*lines[:at], dumped(content) + b"\n", *lines[at + 1 :]])
                footer = orjson.loads(body.splitlines()[-1]) if at < len(lines) - 1 else content
                if isinstance(footer, dict):
                    footer.pop("crc", None)
                start = body.rindex(b"\n", 0, -1) + 1 if b"\n" in body[:-1] else 0
                disk.put(HINT, sealed((body[:start] + dumped(footer))[:-1]))
        case 4:
            content = {
                "first": chance.choice([1, 5, 30, *ODD]),
                "last": chance.choice([1, 9, 30, *ODD]),
                "ends": [[chance.choice([0, 1, *ODD]), chance.choice([0, 64, 200, *ODD])]],
            }
            disk.put(JOURNAL, sealed(dumped(content)[:-1]))
        case _:
            name = chance.choice(shards)
            lines = state[name].splitlines(keepends=True)
            at = chance.randrange(len(lines))
            match chance.randrange(5):
                case 0:
                    lines.insert(at, lines[-1])
                case 1:
                    other = state[chance.choice(shards)].splitlines(keepends=True)
                    lines.insert(at, chance.choice(other))
                case _:
                    lines[at] = lied_about(chance, lines[at])
            disk.put(name, b"".join(lines))
            if chance.random() < 0.8:  # the manifest goes along with it
                with suppress(ValueError, LookupError, TypeError):  # where it lies already
                    content = orjson.loads(disk.state()[MANIFEST])
                    del content["crc"]
                    number = int(name[-8:-6], 16)
                    if content["shards"][number][1]:
                        content["shards"][number][0] = sum(map(len, lines))
                    disk.put(MANIFEST, sealed(dumped(content)[:-1]))


def use(disk: Disk, *, write: bool) -> dict[Any, Any]:
    """Read everything in several orders; write too. Raises where anything is amiss."""
    with snapshot_on(disk) as d:
        then = dict(d)
        assert len(d) == len(then)
    with open_on(disk, "/store", "r") as d:
        assert d.get("key 1") == then.get("key 1")
        found = dict(d)
        assert found == then
        assert len(d) == len(found)
        assert list(reversed(list(d))) == list(reversed(d))
    with open_on(disk) as d:
        len(d)
        assert {key: d[key] for key in found} == found
        if write:
            d["key 1"] = "written"
            d["new"] = 1
            d.update({"key 3": 3, "another": 1})
            for key, value in found.items():
                d[key] = value
            d.pop("key 5", None)
            d.compact()
            check(d, disk, lied=True)
            written = dict(d)
    if write:
        with open_on(disk) as d:
            assert list(d.items()) == list(written.items())
    return found


def count(disk: Disk) -> int:
    """How many entries there are, before anything is read."""
    with open_on(disk) as d:
        return len(d)


def attempt(call: Callable[[], object]) -> bool:
    """Whether a call returned; any error but those that name the damage goes through."""
    try:
        call()
    except (kvmap.CorruptStoreError, kvmap.NotAStoreError) as error:
        assert "/store" in str(error)
        return False
    return True


@pytest.mark.parametrize("part", range(PARTS))
def test_what_verify_calls_whole_can_be_read_and_what_repair_leaves_written(part: int) -> None:
    refused = 0
    for number in range(CASES):
        seed = part * 1_000_000 + number
        chance, disk = random.Random(seed), made(seed)
        for _ in range(chance.choice((1, 1, 2))):
            lie(chance, disk)
        before = disk.state()
        try:
            try:
                report = disk_engine.verify("/store", fs=disk)
            except kvmap.NotAStoreError as error:
                assert "newer kvmap" in str(error)
                assert not attempt(lambda: use(disk.copy(), write=True))
                continue
            ok = report.ok
            after = disk.state()
            assert {**after, "/store/lock": b""} == {**before, "/store/lock": b""}
            read = attempt(lambda: use(disk.copy(), write=True))
            refused += not read
            assert ok is read, "verify and reads agree"
            if ok and report.index != "stale":
                assert count(disk.copy()) == len(use(disk.copy(), write=False))
            fixed = disk.copy()
            if attempt(lambda: disk_engine.repair("/store", fs=fixed)):
                report = disk_engine.verify("/store", fs=fixed)
                assert report.ok
                assert report.index != "stale"
                assert count(fixed.copy()) == len(use(fixed, write=True))
            assert not disk.descriptors
            assert not fixed.descriptors
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    print(f"{CASES} lying stores, {refused} refused")
