"""Reading records: one set of rules for loading, recovery, `verify` and `repair`.

`Table.add` takes a stretch of whole lines apart, or raises ValueError where any of them is not as
`records` writes it. `parse` does the same with one line, by the same code, so both accept exactly
the same. Whether a value is JSON is not looked at here: whoever decodes it finds out.

Inside a JSON string a quote never follows a comma without a backslash, so the first `,"seq":` of a
line is the record's own.
"""

from __future__ import annotations

import math
import re
from binascii import hexlify
from collections.abc import Callable, Iterator
from itertools import islice
from operator import eq, gt, lt
from struct import pack as pack_many
from typing import Any, Final
from zlib import crc32

from orjson import loads

from kvmap import keys
from kvmap.disk.records import (
    MOST_BYTES,
    MOST_SEQ,
    TAIL,
    Entry,
    pack,
    pack_timed,
    unpack,
)
from kvmap.engine import INF
from kvmap.keys import Key

STRETCH: Final = 1 << 20
"""Bytes of lines that are taken apart in one step: what bounds the memory that this needs."""

# Quantifiers that never give back (`*+`) and the start of a line keep hostile lines from taking
# more than linear time.
_NUMBER = rb"[1-9][0-9]{0,15}"
_STRING = rb'"[^"\\\x00-\x1f]*+"'
# Most lines: a key that is a str without an escape, no deadline, written once. A tenth faster.
_plain = re.compile(
    rb'^(\{"key":(%b),"seq":(%b),"value":)(.+),"crc":"([0-9a-f]{8})"\}\n' % (_STRING, _NUMBER),
    re.MULTILINE,
)
_any = re.compile(
    rb'^(\{"key":(%b|"(?:[^"\\\n]++|\\.)*+"|[^"\n].*?),"seq":(%b)'
    rb'(?:,"first":(%b))?(?:,"expires":(-?[0-9.]+(?:e[+-][0-9]+)?))?(,"value":(?=.))?)'
    rb'(.*),"crc":"([0-9a-f]{8})"\}\n' % (_STRING, _NUMBER, _NUMBER),
    re.MULTILINE,
)
_string = re.compile(_STRING)


class Record:
    """One line; `text` is the value's JSON, None for a tombstone."""

    # No NamedTuple: making one takes a tenth of the package's import.
    __slots__ = ("entry", "expires", "first", "key", "seq", "size", "text")

    def __init__(
        self,
        key: Key,
        seq: int,
        first: int,
        expires: float,
        text: bytes | None,
        size: int,
        entry: Entry | None,
    ) -> None:
        self.key = key
        self.seq = seq
        self.first = first
        self.expires = expires
        self.text = text
        self.size = size
        """Length of the line in bytes, newline included."""
        self.entry = entry
        """The index entry; None for a tombstone."""


class Table:
    """The records of one shard, in the order of their writes, as columns."""

    __slots__ = ("_mask", "end", "entries", "keys", "last_seq", "seqs", "shard", "timed")

    def __init__(self, shard: int, mask: int, last_seq: int = 0) -> None:
        self.shard = shard
        self._mask = mask
        self.keys: list[Key] = []
        self.seqs: list[int] = []
        self.entries: list[Entry | None] = []
        """What goes into the index; None for a tombstone."""
        self.timed = False
        """Whether any entry has a deadline."""
        self.end = 0
        """Where the last record ends in its shard."""
        self.last_seq = last_seq
        """The highest sequence number so far; all that follow are higher."""

    def add(self, data: bytes, at: int) -> None:
        """Take whole lines that begin at byte `at` of the shard along; all of them or none.

        1.5 µs a record. Raises ValueError, which says what is wrong.
        """
        if data:
            columns = _Columns(data)
            columns.check(self.shard, self._mask, self.last_seq)
            entries = columns.entries(self.shard, at)
            self.keys += columns.keys
            self.seqs += columns.seqs
            self.last_seq = columns.seqs[-1]
            self.entries += entries
            self.timed = self.timed or bool(columns.deadlines)
            self.end = at + len(data)


class _Columns:
    """What stands in the fields of some lines."""

    __slots__ = ("crcs", "deadlines", "firsts", "heads", "keys", "names", "seeds", "seqs", "texts")

    def __init__(self, data: bytes) -> None:
        others = b',"first":' in data or b',"expires":' in data
        rows: list[Any] = [] if others else _plain.findall(data)
        self.firsts: list[int] = []
        """Empty where each is the record's own sequence number."""
        self.deadlines: dict[int, float] = {}
        self.heads: tuple[bytes, ...]
        self.texts: tuple[bytes, ...]
        """Values; empty for a tombstone, whose head does not end in `:`."""
        numbers: tuple[bytes, ...] = ()
        checks: tuple[bytes, ...] = ()
        if rows:
            self.heads, self.names, numbers, self.texts, checks = zip(*rows, strict=True)
        if not rows or self._size() != len(data):
            rows = _any.findall(data)
            if not rows:
                raise ValueError("not a record")
            (self.heads, self.names, numbers, firsts, expires, values, self.texts, checks) = zip(
                *rows, strict=True
            )
            if self._size() != len(data):
                raise ValueError("not a record")
            self._read_order(numbers, firsts, expires, values)
        self.seeds = list(map(crc32, self.heads))
        self.crcs = list(map(crc32, self.texts, self.seeds))
        if hexlify(pack_many(f">{len(rows)}I", *self.crcs)) != b"".join(checks):
            raise ValueError("the checksum is wrong")
        self.seqs: list[int] = loads(b"[%b]" % b",".join(numbers))
        if any(map(gt, self.firsts, self.seqs)):
            raise ValueError("the place in the order is out of range")
        self.keys = _keys(self.names)

    def _size(self) -> int:
        # Where something between two lines was passed over, the lengths do not add up.
        return sum(map(len, self.heads)) + sum(map(len, self.texts)) + TAIL * len(self.heads)

    def _read_order(self, numbers: Any, firsts: Any, expires: Any, values: Any) -> None:
        if not all(values) or not all(self.texts):  # else there is no tombstone
            for number, value in enumerate(values):
                if bool(value) is not bool(self.texts[number]) or (
                    not value and (firsts[number] or expires[number])
                ):
                    raise ValueError("not a record's fields")
        if any(firsts):
            either = [first or seq for first, seq in zip(firsts, numbers, strict=True)]
            if any(map(eq, firsts, numbers)):
                raise ValueError("the place in the order is its own number")
            self.firsts = loads(b"[%b]" % b",".join(either))
        if any(expires):
            self._read_deadlines(expires)

    def _read_deadlines(self, expires: Any) -> None:
        for number, when in enumerate(expires):
            if when:
                moment = float(when)
                if not math.isfinite(moment) or repr(moment).encode() != when:
                    raise ValueError("the deadline is not a number as it is written here")
                self.deadlines[number] = moment

    def check(self, shard: int, mask: int, last_seq: int) -> None:
        """Raise ValueError unless the records belong into this shard, after one with `last_seq`."""
        seqs = self.seqs
        if seqs[0] <= last_seq or not all(map(lt, seqs, islice(seqs, 1, None))):
            raise ValueError("the sequence numbers do not rise")
        if seqs[-1] > MOST_SEQ:
            raise ValueError("the sequence number is out of range")
        if set(map(type, self.keys)) == {str}:
            buckets = {crc & mask for crc in map(crc32, self.names)}
        else:
            buckets = {keys.bucket(key, mask) for key in self.keys}
        if buckets != {shard}:
            raise ValueError("a record of another shard")

    def entries(self, shard: int, at: int) -> list[Entry | None]:
        """The index entries of these lines, the first of which begins at byte `at`."""
        entries: list[Entry | None] = []
        if at + self._size() > MOST_BYTES:
            raise ValueError("beyond the most bytes of a shard")
        for head, text, seed, crc, place in zip(
            map(len, self.heads),
            map(len, self.texts),
            self.seeds,
            self.crcs,
            self.firsts or self.seqs,
            strict=True,
        ):
            start = at + head
            end = start + text
            at = end + TAIL
            entries.append(
                pack(start, end, seed, crc, shard, place, head + text + TAIL) if text else None
            )
        for number, when in self.deadlines.items():
            if (entry := entries[number]) is not None:
                fields = unpack(entry)
                entries[number] = pack_timed(*fields, when)
        return entries

    def record(self, shard: int, at: int) -> Record:
        """The only line."""
        text = self.texts[0]
        return Record(
            self.keys[0],
            self.seqs[0],
            self.firsts[0] if self.firsts else self.seqs[0],
            self.deadlines.get(0, INF),
            text or None,
            self._size(),
            self.entries(shard, at)[0],
        )


def _keys(names: tuple[bytes, ...]) -> list[Key]:
    """The keys that these JSON texts stand for, each in the one form that is written."""
    if all(map(_string.fullmatch, names)):
        found: list[Key] = loads(b"[%b]" % b",".join(names))
        return found
    each = [keys.from_json(loads(name)) for name in names]
    for key, name in zip(each, names, strict=True):
        try:
            same = keys.text(key) == name
        except TypeError as error:
            raise ValueError(str(error)) from None
        if not same:
            raise ValueError("the key is not written as it is here")
    return each


def parse(line: bytes, shard: int, at: int) -> Record:
    """A whole line that begins at byte `at` of a shard.

    Raises ValueError, which says what is wrong with it. Whether its key belongs into the shard and
    its sequence number comes next is for `misplaced` to say.
    """
    columns = _Columns(line)
    if len(columns.keys) != 1:
        raise ValueError("more than one record")
    if not 0 < columns.seqs[0] <= MOST_SEQ:
        raise ValueError("the sequence number is out of range")
    return columns.record(shard, at)


def misplaced(record: Record, shard: int, mask: int, last_seq: int) -> str | None:
    """Why a record can't stand in this shard behind one with `last_seq`; None where it can."""
    if keys.bucket(record.key, mask) != shard:
        return "a record of another shard"
    return "the sequence numbers do not rise" if record.seq <= last_seq else None


def stretches(
    read: Callable[[int, int], bytes], start: int, end: int, size: int = STRETCH
) -> Iterator[tuple[int, bytes]]:
    """Cut a shard into parts of about so many bytes; each ends with a line, or at `end`.

    `read(begin, stop)` returns bytes of the shard. Yields where each part begins, and its bytes.
    """
    while start < end:
        data, more = b"", size
        while start + len(data) < end:
            part = read(start + len(data), min(start + len(data) + more, end))
            if not part:
                break
            data += part
            more = len(data)  # a line longer than this is read in steps that double
            if start + len(data) < end and b"\n" in part:
                data = data[: data.rindex(b"\n") + 1]
                break
        if not data:
            return
        yield start, data
        start += len(data)
