"""The stored index, so that a large store need not be read through to know its keys.

`index.jsonl` is written at a clean close: all keys in the map's order, and for each the packed entry
that says where its record stands; on its last line, how long the shards were then. It is a copy of
what the shards tell: whoever removes it loses nothing but time. Bitcask calls such files hint files
(Sheehy and Smith, "Bitcask", 2010).

A shard that only grew since is read from where the stored index leaves off; one that was compacted
makes it useless, and the manifest no longer names it.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from struct import error as StructError
from typing import Any
from zlib import crc32

from orjson import OPT_APPEND_NEWLINE, dumps, loads

from kvmap import keys
from kvmap.errors import CorruptStoreError
from kvmap.files import Map
from kvmap.keys import Key
from kvmap.record import (
    INF,
    TAIL,
    UNTIMED,
    Entry,
    Record,
    deadline,
    seal,
    timed,
    unpack_order,
    walk,
)
from kvmap.store import Store

LEAST = 10_000
"""Number of entries below which reading the shards is as fast."""

TOGETHER = 1024
"""Entries on a line."""


def save(store: Store, index: dict[Key, Entry]) -> None:
    """Store the index, unless it is small or what was stored still serves. O(entries)."""
    ends = [shard.end for shard in store.shards]
    if store.index is not None and store.index_covers is not None:
        behind = sum(ends) - sum(store.index_covers)
        if behind <= sum(ends) >> 4:
            return
    store.index = store.index_covers = None
    path = store.index_path
    if len(index) < LEAST:
        with suppress(OSError):  # it is not used: the manifest no longer names it
            store.files.remove(path)
        return
    content = {
        "ends": ends,
        "checks": [shard.fold() for shard in store.shards],
        "live": [shard.live for shard in store.shards],
    }
    check = 0

    def lines() -> Iterator[bytes]:
        nonlocal check
        for line in chain(_lines(index), [dumps(content)[:-1]]):
            check = crc32(line, check)
            yield line
        yield seal(check)

    try:
        # Not synced: whatever a power cut makes of it, its checksum tells, and nothing is lost.
        store.files.write(path, lines())
    except OSError:
        return  # the shards hold everything; the next load reads them
    store.index, store.index_covers = f"{check:08x}", ends


def load(store: Store) -> tuple[dict[Key, Entry], bool] | None:
    """The whole index as stored, brought up to date from the shards' ends; None: read the shards.

    Tells also whether any entry has a deadline.

    Raises CorruptStoreError for damage in what was written since.
    """
    if store.index is None or not all(each.state and each.state.final for each in store.shards):
        return None
    try:
        data = store.files.map(store.index_path, writable=False)
        if data is None or data[-11:-3].decode() != store.index:
            return None
        index, has_deadlines, content = _read(data)
        ends, checks, live = [content[name] for name in ("ends", "checks", "live")]
        if any(len(each) != len(store.shards) for each in (ends, checks, live)):
            return None
        if set(map(type, chain(ends, checks, live))) != {int} or min(ends) < 0:
            return None
    except (OSError, ValueError, TypeError, LookupError, OverflowError, StructError):
        return None
    fresh: list[tuple[int, Record, Entry | None, int]] = []
    for shard, end, check, bytes_live in zip(store.shards, ends, checks, live, strict=True):
        tail: bytes | None = None
        if not shard.loaded:
            shard.attach(writable=not store.read_only)
            tail = shard.read(end)
            if shard.state is not None and crc32(tail, check) != shard.state.crc:
                raise CorruptStoreError(shard.path, end, "not the file that was closed")
        shard.live = bytes_live
        for begin, _, record in walk(shard.read(end) if tail is None else tail):
            if isinstance(record, str):
                raise CorruptStoreError(shard.path, end + begin, record)
            entry = None if record.value is None else record.entry(shard.number, end + begin)
            fresh.append((record.seq, record, entry, shard.number))
    fresh.sort(key=lambda each: each[0])
    for _, record, entry, number in fresh:
        _replay(store, index, record, entry, number)
    store.index_covers = ends
    return index, has_deadlines or any(each[1].expires < INF for each in fresh)


def _replay(
    store: Store, index: dict[Key, Entry], record: Record, entry: Entry | None, number: int
) -> None:
    shard = store.shards[number]
    old = index.get(record.key)
    if old is not None:
        shard.live -= unpack_order(old)[1]
        if entry is None or record.first == record.seq:
            del index[record.key]
    if entry is not None:
        index[record.key] = entry
        shard.live += record.size


def _lines(index: dict[Key, Entry]) -> Iterator[bytes]:
    """The keys and entries of an index, some on each line, so that no large copy is ever made."""
    names, entries = iter(index), iter(index.values())
    while some := list(islice(names, TOGETHER)):
        theirs = list(islice(entries, TOGETHER))
        packed, expires = b"".join(theirs), []
        if len(packed) != UNTIMED * len(theirs):
            expires = [(i, deadline(each)) for i, each in enumerate(theirs) if len(each) > UNTIMED]
            packed = b"".join([each[:UNTIMED] for each in theirs])
        text = b2a_base64(packed, newline=False).decode()
        yield dumps({"keys": some, "entries": text, "expires": expires}, None, OPT_APPEND_NEWLINE)


def _read(data: Map) -> tuple[dict[Key, Entry], bool, dict[str, Any]]:
    """A stored index, whether any entry of it has a deadline, and what its last line tells.

    Raises ValueError, TypeError or LookupError where it is not as it was written.
    """
    index: dict[Key, Entry] = {}
    begin, check, has_deadlines = 0, 0, False
    while (end := data.find(b"\n", begin) + 1) < len(data):
        line = data[begin:end]
        check = crc32(line, check)
        has_deadlines |= _add(index, line)
        begin = end
    last = data[begin:]
    if last[-TAIL:] != seal(crc32(last[:-TAIL], check)):
        raise ValueError("the checksum is wrong")
    return index, has_deadlines, loads(last)


def _add(index: dict[Key, Entry], line: bytes) -> bool:
    """Add a line's entries, and tell whether any of them has a deadline."""
    content = loads(line)
    names, packed = content["keys"], a2b_base64(content["entries"])
    if len(packed) % UNTIMED:
        raise ValueError("the last entry is cut")
    if set(map(type, names)) != {str}:
        names = [keys.from_json(name) for name in names]
    entries = [packed[at : at + UNTIMED] for at in range(0, len(packed), UNTIMED)]
    for number, when in content["expires"]:
        entries[number] = timed(entries[number], when)
    index.update(zip(names, entries, strict=True))
    return bool(content["expires"])
