"""Places in the map's order: each belongs to one entry.

A place is the sequence number of an entry's first write. Only a forged line gives two entries one
place. Their order would then be a matter of chance, so that is damage, and `repair` moves all of
them but one to the end.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

from kvmap.disk.parser import parse
from kvmap.disk.records import Entry, place, span, unpack_shard
from kvmap.disk.shard import Shard

TIED: Final = "another entry has its place in the order"


def rising(places: Sequence[int]) -> bool:
    """Whether each place is higher than the one before it. O(n)."""
    return all(map(int.__lt__, places, places[1:]))


def tied(entries: Iterable[Entry]) -> Entry:
    """The latter of two entries with one place; `entries` are in the order of their places."""
    pair = next(pair for pair in pairwise(entries) if place(pair[0]) == place(pair[1]))
    return max(pair, key=lambda each: (unpack_shard(each)[0], span(each)))


class Places:
    """The places of many entries, shard by shard; 16 bytes an entry."""

    def __init__(self) -> None:
        self._shards: dict[int, tuple[array[int], array[int], array[int]]] = {}

    def add(self, shard: int, entries: Iterable[Entry]) -> None:
        """Take a shard's entries along."""
        places, begins, ends = array("Q"), array("I"), array("I")
        for entry in entries:
            begin, end = span(entry)
            places.append(place(entry))
            begins.append(begin)
            ends.append(end)
        self._shards[shard] = places, begins, ends

    def displaced(self, shards: Sequence[Shard]) -> Iterator[tuple[int, int, int]]:
        """The entries whose place is another's: shard, and where their lines begin and end.

        It belongs to the record whose sequence number it is, or else to the first one.
        """
        every = array("Q")
        for places, _, _ in self._shards.values():
            every.extend(places)
        found: dict[int, list[tuple[int, int, int]]] = {
            one: [] for one, following in pairwise(sorted(every)) if one == following
        }
        if found:
            for number, columns in self._shards.items():
                for at, begin, end in zip(*columns, strict=True):
                    if at in found:
                        found[at].append((number, begin, end))
        for group in found.values():
            group.sort(key=lambda each: not _is_own(shards[each[0]], each[1], each[2]))
            yield from group[1:]


def _is_own(shard: Shard, begin: int, end: int) -> bool:
    """Whether a record's place is its own sequence number."""
    record = parse(shard.read(begin, end), shard.number, begin)
    return record.first == record.seq
