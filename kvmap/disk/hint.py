"""The hint file, so that a large store need not be read through to know its keys.

`index.jsonl` holds all keys in the map's order, and for each the packed entry that says where its
record stands; on its last line, how long the shards were then, and the checksum in the last line of
each. It is a copy of what the shards hold: whoever removes it loses nothing but time. Bitcask calls
such files hint files (Sheehy and Smith, "Bitcask", 2010).

What was appended to a shard since is read from its file. A shard that was compacted since has
another line where the hint file says that it ended, and is read as a whole. So a hint file is stale
or not, but never damage, and needs no word in the manifest. Nothing is read or written through an
entry of it until the shard itself was taken apart and found to agree.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from struct import error as StructError
from typing import Any, Final
from zlib import crc32

from orjson import OPT_APPEND_NEWLINE, dumps, loads

from kvmap import keys
from kvmap.disk import loader
from kvmap.disk.folder import HINT, NEW, Folder, write_at
from kvmap.disk.parser import Table
from kvmap.disk.records import (
    MOST_SEQ,
    TAIL,
    UNTIMED,
    Entry,
    deadline,
    line_size,
    pack_timed,
    place,
    tail,
    unpack,
    unpack_shard,
)
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.tuning import Tuning
from kvmap.errors import CorruptStoreError
from kvmap.keys import Key

_TOGETHER: Final = 1024
"""Entries on a line."""


@dataclass
class Coverage:
    """How much of each shard a hint file covers."""

    ends: list[int]
    """Empty where there is none."""

    def drop(self, shard: int) -> None:
        """The shard's file was replaced."""
        if self.ends:
            self.ends[shard] = 0


@dataclass
class Found:
    """What `load` returns."""

    entries: dict[Key, Entry]
    live: list[int]
    """Bytes of the records of these entries, by shard."""
    timed: bool
    """Whether any entry has a deadline."""
    coverage: Coverage


def load(shards: Shards) -> Found | None:
    """All keys, brought up to date from the shards' ends; None where the shards are to be read."""
    try:
        data = shards.store_folder.read(HINT)
        begin = data.rindex(b"\n", 0, -1) + 1 if b"\n" in data[:-1] else 0
        _check(data)
        footer = _Footer(data[begin:], len(shards.all))
        ends = footer.covered(shards)
        if 2 * sum(ends) < sum([shard.end for shard in shards.all]):
            return None
        entries, timed = _read(data[:begin], shards.mask)
        return _bring_up_to_date(shards, footer, ends, entries, timed)
    except (OSError, ValueError, TypeError, LookupError, StructError, CorruptStoreError):
        return None  # it is stale, or a shard is damaged, which loading that says better


def covered(shards: Shards) -> Coverage:
    """What the hint file covers, by its last line."""
    with suppress(OSError, ValueError, TypeError, LookupError, CorruptStoreError):
        data = shards.store_folder.read(HINT)
        footer = _Footer(data[data.rindex(b"\n", 0, -1) + 1 :], len(shards.all))
        return Coverage(footer.covered(shards))
    return Coverage([])


def save(shards: Shards, entries: dict[Key, Entry], there: Coverage, tuning: Tuning) -> None:
    """Write the hint file, unless reading the shards is as quick or what is there still serves.

    `entries` are all of the store's, in the map's order. O(entries).
    """
    folder = shards.store_folder
    ends = [shard.end for shard in shards.all]
    total = sum(ends)
    if total - sum(there.ends) <= max(tuning.hint_bytes, total >> 4):
        if total <= tuning.hint_bytes:
            with suppress(OSError):
                folder.remove(HINT)
        return
    footer: dict[str, Any] = {
        "shards": [
            [shard.end, _seal(shard, shard.end).decode(), shard.live, shard.last_seq]
            for shard in shards.all
        ]
    }
    with suppress(OSError):  # the shards hold everything; the next load reads them
        _write(folder, _lines(entries), dumps(footer)[:-1])


class _Footer:
    """The last line."""

    def __init__(self, line: bytes, count: int) -> None:
        listed = loads(line)["shards"]
        if len(listed) != count:
            raise ValueError("another number of shards")
        self.ends: list[int] = [each[0] for each in listed]
        if {type(each[1]) for each in listed} != {str}:
            raise ValueError("not the end of a line")
        self.seals: list[bytes] = [each[1].encode() for each in listed]
        self.live: list[int] = [each[2] for each in listed]
        self.last_seqs: list[int] = [each[3] for each in listed]
        numbers = self.ends + self.live + self.last_seqs
        if set(map(type, numbers)) != {int} or min(numbers) < 0 or max(numbers) > MOST_SEQ:
            raise ValueError("not the numbers of a shard")

    def covered(self, shards: Shards) -> list[int]:
        """Up to where the shards are as they were: their end then, or 0. Opens them."""
        for shard in shards.all:
            if not shard.loaded:
                shard.open()
        return [
            end if shard.end >= end and _seal(shard, end) == seal else 0
            for shard, end, seal in zip(shards.all, self.ends, self.seals, strict=True)
        ]


def _seal(shard: Shard, end: int) -> bytes:
    """The last bytes of the line that ends at a byte of a shard, its checksum among them."""
    return shard.read(max(0, end - TAIL), end)[:-1]


def _bring_up_to_date(
    shards: Shards, footer: _Footer, ends: list[int], entries: dict[Key, Entry], timed: bool
) -> Found:
    live = list(footer.live)
    stale = {number for number, end in enumerate(ends) if not end and footer.ends[number]}
    if stale:
        entries = {k: entry for k, entry in entries.items() if unpack_shard(entry)[0] not in stale}
        for number in stale:
            live[number] = 0
    tables = [
        loader.read_on(shards, shard, end, footer.last_seqs[number] if end else 0)
        for number, (shard, end) in enumerate(zip(shards.all, ends, strict=True))
    ]
    _replay(entries, live, tables)
    if stale:
        entries = dict(sorted(entries.items(), key=lambda each: place(each[1])))
    for shard, table, last_seq in zip(shards.all, tables, footer.last_seqs, strict=True):
        shard.last_seq = table.last_seq or last_seq
    return Found(
        entries,
        live,
        timed or any(table.timed for table in tables),
        Coverage(ends),
    )


def _replay(entries: dict[Key, Entry], live: list[int], tables: Iterable[Table]) -> None:
    rows = [
        (seq, key, entry, table.shard)
        for table in tables
        for seq, key, entry in zip(table.seqs, table.keys, table.entries, strict=True)
    ]
    rows.sort(key=lambda row: row[0])
    for seq, key, entry, number in rows:
        old = entries.get(key)
        if old is not None:
            live[number] -= line_size(old)
            if entry is None or place(entry) == seq:
                del entries[key]
        if entry is not None:
            entries[key] = entry
            live[number] += line_size(entry)


def _lines(entries: dict[Key, Entry]) -> Iterator[bytes]:
    """Keys and entries, some on each line, so that no large copy is ever made."""
    names, packed = iter(entries), iter(entries.values())
    while some := list(islice(names, _TOGETHER)):
        theirs = list(islice(packed, _TOGETHER))
        joined, expires = b"".join(theirs), list[tuple[int, float]]()
        if len(joined) != UNTIMED * len(theirs):
            expires = [(i, deadline(each)) for i, each in enumerate(theirs) if len(each) > UNTIMED]
            joined = b"".join([each[:UNTIMED] for each in theirs])
        text = b2a_base64(joined, newline=False).decode()
        yield dumps({"keys": some, "entries": text, "expires": expires}, None, OPT_APPEND_NEWLINE)


def _write(folder: Folder, lines: Iterable[bytes], footer: bytes) -> None:
    """Not synced: whatever a power cut makes of it, its checksum finds out, and nothing is lost."""
    folder.remove(HINT + NEW)
    descriptor = folder.create_file(HINT + NEW)
    check = end = 0
    try:
        for line in lines:
            check = crc32(line, check)
            write_at(folder.fs, descriptor, line, end)
            end += len(line)
        write_at(folder.fs, descriptor, footer + tail(crc32(footer, check)), end)
        folder.rename(HINT + NEW, HINT)
    except BaseException:
        folder.remove(HINT + NEW)
        raise
    finally:
        folder.fs.close(descriptor)


def _check(data: bytes) -> None:
    """Raise ValueError unless the checksum at the end is that of all bytes before it."""
    if data[-TAIL:] != tail(crc32(memoryview(data)[:-TAIL])):
        raise ValueError("the checksum is wrong")


def _read(data: bytes, mask: int) -> tuple[dict[Key, Entry], bool]:
    """The entries, and whether any of them has a deadline."""
    entries: dict[Key, Entry] = {}
    timed = False
    count = 0
    for line in data.splitlines():
        content = loads(line)
        names, packed = content["keys"], a2b_base64(content["entries"])
        if len(packed) % UNTIMED or max(packed[16::UNTIMED]) > mask or any(packed[17::UNTIMED]):
            raise ValueError("not the entries of these shards")
        if set(map(type, names)) != {str}:
            names = [keys.from_json(name) for name in names]
        some = [packed[at : at + UNTIMED] for at in range(0, len(packed), UNTIMED)]
        for number, when in content["expires"]:
            some[number] = pack_timed(*unpack(some[number]), when)
            timed = True
        entries.update(zip(names, some, strict=True))
        count += len(some)
    if len(entries) != count:
        raise ValueError("a key stands there twice")
    return entries, timed
