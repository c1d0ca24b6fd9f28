"""The stored index, so that a large store need not be read through to know its keys.

`index.json` is written at a clean close: all keys in the map's order, and for each the packed entry
that says where its record stands. It is a copy of what the shards tell: whoever removes it loses
nothing but time. Bitcask calls such files hint files (Sheehy and Smith, "Bitcask", 2010).

A shard that only grew since is read from where the stored index leaves off; one that was compacted
makes it useless, and the manifest no longer names it.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from contextlib import suppress
from itertools import chain
from struct import error as StructError
from typing import Any
from zlib import crc32

from orjson import dumps, loads

from kvmap import keys
from kvmap.errors import CorruptStoreError
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

_ENTRIES, _KEYS = b',"entries":"', b'","keys":'
LEAST = 10_000
"""Number of entries below which reading the shards is as fast."""


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
    entries = list(index.values())
    packed = b"".join(entries)
    expires: list[tuple[int, float]] = []
    if len(packed) != UNTIMED * len(entries):
        expires = [(i, deadline(each)) for i, each in enumerate(entries) if len(each) > UNTIMED]
        packed = b"".join([each[:UNTIMED] for each in entries])
    content = {
        "ends": ends,
        "checks": [shard.fold() for shard in store.shards],
        "live": [shard.live for shard in store.shards],
        "expires": expires,
    }
    # Part by part, here and in `load`, since each copy of tens of megabytes counts.
    parts = [
        dumps(content)[:-1],
        _ENTRIES,
        b2a_base64(packed, newline=False),
        _KEYS,
        dumps(list(index)),
    ]
    check = 0
    for part in parts:
        check = crc32(part, check)
    data = b"".join((*parts, seal(check)))
    try:
        # Not synced: whatever a power cut makes of it, its checksum tells, and nothing is lost.
        store.files.write(path, data)
    except OSError:
        return  # the shards hold everything; the next load reads them
    store.index, store.index_covers = _told(data), ends


def load(store: Store) -> tuple[dict[Key, Entry], bool] | None:
    """The whole index as stored, brought up to date from the shards' ends; None: read the shards.

    Tells also whether any entry has a deadline.

    Raises CorruptStoreError for damage in what was written since.
    """
    if store.index is None or not all(each.state and each.state.final for each in store.shards):
        return None
    try:
        data = store.files.read(store.index_path)
        whole = memoryview(data)
        if _told(data) != store.index or whole[-TAIL:] != seal(crc32(whole[:-TAIL])):
            return None
        begin = data.index(_ENTRIES)
        end = data.index(_KEYS, begin)
        content = loads(data[:begin] + b"}")
        packed = a2b_base64(whole[begin + len(_ENTRIES) : end])
        index = _decode(packed, loads(whole[end + len(_KEYS) : -TAIL]), content["expires"])
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
    has_deadlines = bool(content["expires"]) or any(each[1].expires < INF for each in fresh)
    return index, has_deadlines


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


def _told(data: bytes) -> str:
    """The checksum that a stored index ends with."""
    return data[-11:-3].decode()


def _decode(packed: bytes, names: list[Any], expires: list[Any]) -> dict[Key, Entry]:
    if len(packed) % UNTIMED:
        raise ValueError("the last entry is cut")
    if set(map(type, names)) != {str}:
        names = [keys.from_json(name) for name in names]
    entries = [packed[at : at + UNTIMED] for at in range(0, len(packed), UNTIMED)]
    for number, when in expires:
        entries[number] = timed(entries[number], when)
    return dict(zip(names, entries, strict=True))
