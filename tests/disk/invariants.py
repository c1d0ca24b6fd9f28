"""What must be true of a store's files whenever no call is under way, its owner killed or not."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from helpers import files_of
from orjson import loads
from simulated import Disk
from watched import Watched

import kvmap
from kvmap import keys
from kvmap.disk.fs import FileSystem
from kvmap.disk.parser import Record, parse


def files(d: kvmap.KVMap[Any, Any], fs: FileSystem) -> dict[str, bytes]:
    """The bytes of a map's files, by their names in its directory."""
    while isinstance(fs, Watched):
        fs = fs.real
    if not isinstance(fs, Disk):
        return files_of(d.path)
    start = f"{d.path}/"
    state = fs.state().items()
    return {name.removeprefix(start): data for name, data in state if name.startswith(start)}


def check(d: kvmap.KVMap[Any, Any], fs: FileSystem | None = None, *, lied: bool = False) -> None:
    """Assert that an open map, outside a transaction, is what its files say.

    The files are whole lines of plain text, in which sequence numbers rise; what they hold, taken
    apart one by one and put in order, is what the map holds. O(bytes of the store).

    `lied`: records were forged, so two shards may have used one sequence number.
    """
    fs = fs or FileSystem()
    present = files(d, fs)
    assert "journal.jsonl" not in present, "no batch is under way"
    mask = len(loads(present["kvmap.json"])["shards"]) - 1
    entries: dict[Any, Record] = {}
    seqs: set[int] = set()
    total = 0
    for name, data in present.items():
        if not re.fullmatch(r"shards/[0-9a-f]{2}\.jsonl", name):
            continue  # `.new` ends the name of a file that a compaction is still writing
        shard, at, last = int(Path(name).stem, 16), 0, 0
        total += len(data)
        assert not data or data.endswith(b"\n"), "the file ends with a whole line"
        for line in data.splitlines(keepends=True):
            record = parse(line, shard, at)
            assert last < record.seq, "sequence numbers rise"
            assert keys.bucket(record.key, mask) == shard
            last, at = record.seq, at + len(line)
            assert last not in seqs or lied, "each is used once"
            seqs.add(last)
            entries[record.key] = record
    now = fs.now()
    alive = sorted(
        (each for each in entries.values() if each.text is not None and each.expires > now),
        key=lambda each: each.first,
    )
    assert len({each.first for each in alive}) == len(alive), "each has a place of its own"
    assert list(d.items()) == [(each.key, loads(each.text or b"")) for each in alive]
    for each in alive:
        left = math.inf if (ttl := d.ttl(each.key)) is None else ttl
        assert left == each.expires - now or abs(left - (each.expires - now)) < 10
    figures = d.stats()
    assert figures.entries == len(alive)
    assert figures.live_bytes == sum(each.size for each in alive)
    assert figures.live_bytes + figures.dead_bytes == total
