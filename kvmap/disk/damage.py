"""What a crash or damage has left of a shard: its whole records, and the parts that are none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from zlib import crc32

from kvmap.disk.parser import Record, parse
from kvmap.disk.records import TAIL, tail

_START = b'{"key":'
_SECTOR = 512
"""Bytes that a disk writes or loses together, at the least."""

_SEARCH = 1 << 30
"""Bytes that `walk` looks through, at most, for records that stand behind damage: half a second."""

_start = re.compile(_START)
_zeros = re.compile(rb"\0+")
_crc_field = re.compile(rb',"crc":"[0-9a-f]{8}"\}')


def walk(data: bytes, shard: int, at: int) -> Iterator[tuple[int, int, Record | str]]:
    """The parts of a stretch that begins at byte `at` of a shard, damaged or not.

    Yields where each part begins and ends in the shard, and its record, or the reason why it is
    none. A record that stands on one line with damage is found too, whether it is the damage that
    lacks a newline or the record itself, whose part then ends one byte early.
    """
    left = [_SEARCH]
    begin = 0
    while begin < len(data):
        end = data.find(b"\n", begin) + 1 or len(data)
        line = data[begin:end]
        try:
            yield at + begin, at + end, parse(line, shard, at + begin)
        except ValueError as error:
            yield from _pieces(line, shard, at + begin, str(error), left)
        begin = end


def _pieces(
    line: bytes, shard: int, at: int, reason: str, left: list[int]
) -> Iterator[tuple[int, int, Record | str]]:
    begin, end = 0, len(line)
    length = _length_without_newline(line)
    if length:
        try:
            yield at, at + length, parse(line[:length] + b"\n", shard, at)
            begin, reason = length, "the record before it has no newline"
        except ValueError:
            pass
    found: Record | None = None
    for start in _starts(line, begin):
        if left[0] < 0:
            break
        left[0] -= end - start
        text = line[start : end - TAIL]
        if line[end - TAIL :] == tail(crc32(text)):
            try:
                found = parse(line[start:], shard, at + start)
            except ValueError:
                continue
            end = start
            break
    if begin < end:
        yield at + begin, at + end, reason
    if found is not None:
        yield at + end, at + len(line), found


def _length_without_newline(line: bytes) -> int:
    """How many bytes at the beginning of a line a checksum in it vouches for; 0 for none."""
    check = done = 0
    for match in _crc_field.finditer(line):
        check = crc32(line[done : match.start()], check)
        done = match.start()
        if match.group() + b"\n" == tail(check):
            return match.end()
    return 0


def _starts(line: bytes, begin: int) -> Iterator[int]:
    """Where in a line a record may begin, behind its first byte: the likely places first."""
    found = [match.start() for match in _start.finditer(line, max(begin, 1))]
    return chain(found[:8], reversed(found[8:]))


def is_torn(piece: bytes, at: int, *, last: bool) -> bool:
    """Whether a crash explains that these bytes, from byte `at` of a shard on, are no record.

    A kill leaves the first part of the last record. A power cut leaves zeros in place of whole
    sectors that were not written, or up to the end of the file. `last`: the file ends behind them.
    """
    if last and not piece.endswith(b"\n"):
        return b"\0" in piece or piece.startswith(_START[: len(piece)])
    return any((at + zeros.end()) % _SECTOR == 0 for zeros in _zeros.finditer(piece))
