"""Reading a shard's file: where each key's latest record stands, and what a crash has torn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kvmap.disk.damage import is_torn, walk
from kvmap.disk.parser import Record, Table, misplaced
from kvmap.disk.records import Entry, line_size
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.errors import CorruptStoreError
from kvmap.keys import Key

Torn = list[tuple[int, int]]
"""Where the parts of a shard begin and end that a crash has left half written."""


def load(shards: Shards, shard: Shard) -> Table:
    """All records of a shard; drops what a crash has torn, from the file too where it may be written.

    Raises CorruptStoreError for damage that no crash explains.
    """
    shard.open()
    table, torn = read(shards, shard)
    if torn and shard.writable:
        if torn[0][0] >= table.end:
            shard.cut(table.end)
            # Else a power cut might mix what was cut off with what is written there next.
            shards.sync_one(shard)
        else:
            shards.replace(shard, _without(shard, torn))
            table, _ = read(shards, shard)
    shard.end, shard.last_seq = table.end, table.last_seq
    shard.known = shard.known._replace(length=table.end, exact=False)
    shard.map()
    return table


def read(shards: Shards, shard: Shard) -> tuple[Table, Torn]:
    """All records of a shard that is open, and the torn parts between and behind them."""
    table, torn = Table(shard.number, shards.mask), list[tuple[int, int]]()
    for at, part in shard.stretches():
        try:
            table.add(part, at)
        except ValueError:
            torn += _add_each(table, shard, shards.mask, part, at)
    return table, torn


def read_on(shards: Shards, shard: Shard, start: int, last_seq: int) -> Table:
    """The records of a shard from byte `start` on, which follow one with `last_seq`.

    Raises ValueError where they do not begin there, or where anything about them is wrong.
    """
    table = Table(shard.number, shards.mask, last_seq)
    for at, part in shard.stretches(start):
        table.add(part, at)
    return table


def latest(table: Table) -> dict[Key, Entry]:
    """Where each key's latest record stands, for keys that were not deleted."""
    found = dict(zip(table.keys, table.entries, strict=True))
    if len(found) < len(table.keys):
        # A dict keeps the first of equal keys, but `1.0` may have been deleted before `1` came.
        last = dict(zip(table.keys, table.keys, strict=True))
        found = {last[key]: entry for key, entry in found.items()}
    return {key: entry for key, entry in found.items() if entry is not None}


def live_bytes(entries: Mapping[Key, Entry]) -> int:
    """Bytes of the records of these entries."""
    return sum(map(line_size, entries.values()))


def _add_each(table: Table, shard: Shard, mask: int, data: bytes, at: int) -> Torn:
    """Add the whole records of a stretch that is not whole; return the parts that a crash has torn."""
    torn: Torn = []
    for begin, end, found in walk(data, shard.number, at):
        piece, reason = data[begin - at : end - at], None
        if isinstance(found, str):
            reason = found
        elif end - begin < found.size:
            reason = "the record has no newline"
        else:
            wrong = misplaced(found, shard.number, mask, table.last_seq)
            if wrong is not None:
                raise CorruptStoreError(shard.path, begin, wrong)
            table.add(piece, begin)
        if reason is not None:
            may_be = not shard.known.exact and begin >= shard.known.length
            lacks_end = isinstance(found, Record)
            if not may_be or not (lacks_end or is_torn(piece, begin, last=end == shard.end)):
                raise CorruptStoreError(shard.path, begin, reason)
            torn.append((begin, end))
    return torn


def _without(shard: Shard, torn: Torn) -> Iterator[bytes]:
    """The bytes of a shard but for these parts."""
    begin = 0
    for start, stop in [*torn, (shard.end, shard.end)]:
        for at in range(begin, start, 1 << 20):
            yield shard.read(at, min(at + (1 << 20), start))
        begin = stop
