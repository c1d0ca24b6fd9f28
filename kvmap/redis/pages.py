"""Iteration over a map on a server: in pages, in insertion order, beside other writers.

An iteration sees each entry that is there from its beginning to its end, once, and an entry that
comes or goes meanwhile at most once. Across partitions the order is by the servers' clocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import Any, Final

from orjson import loads

from kvmap.errors import CorruptStoreError
from kvmap.keys import Key
from kvmap.redis import fields
from kvmap.redis.scripts import reading
from kvmap.redis.server import Server

_MOST_ENTRIES: Final = 500
"""Entries of one page: a fraction of a millisecond of the server's time."""

_FEWEST_ENTRIES: Final = 50

_MOST_BYTES: Final = 1 << 20
"""Bytes of texts after which a page ends."""

_PAGE = reading("page")

Entry = tuple[int, Key, bytes]
"""A place in the order, a key, and its text."""


class Pages:
    """The entries of a map, some at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def keys(self, *, reverse: bool) -> Iterator[list[Key]]:
        """The keys in insertion order."""
        if self._server.layout.partitions == 1:
            return (names for _, names, _ in self._parts(0, reverse, texts=False, share=1))
        return ([key for _, key, _ in page] for page in self._merged(reverse, texts=False))

    def items(self, *, reverse: bool) -> Iterator[tuple[list[Key], list[bytes]]]:
        """The keys and texts in insertion order."""
        if self._server.layout.partitions == 1:
            pages = self._parts(0, reverse, texts=True, share=1)
            return ((names, texts) for _, names, texts in pages)
        return (
            ([key for _, key, _ in page], [text for _, _, text in page])
            for page in self._merged(reverse, texts=True)
        )

    def first(self, count: int) -> list[tuple[Key, bytes]]:
        """The first few entries."""
        return [
            (key, text)
            for names, texts in islice(self.items(reverse=False), 1)
            for key, text in zip(names[:count], texts, strict=False)
        ]

    def _merged(self, reverse: bool, *, texts: bool) -> Iterator[list[Entry]]:
        """The entries of all partitions, by their places."""
        count = self._server.layout.partitions
        parts = [self._entries(each, reverse, texts=texts, share=count) for each in range(count)]
        entries = merge(*parts, key=lambda entry: entry[0], reverse=reverse)
        while page := list(islice(entries, _MOST_ENTRIES)):
            yield page

    def _entries(
        self, partition: int, reverse: bool, *, texts: bool, share: int
    ) -> Iterator[Entry]:
        for page in self._parts(partition, reverse, texts=texts, share=share):
            yield from zip(*page, strict=True)

    def _parts(
        self, partition: int, reverse: bool, *, texts: bool, share: int
    ) -> Iterator[tuple[list[int], list[Key], list[bytes]]]:
        """The pages of one partition; `share`: of how many partitions pages are held at once."""
        most = b"%d" % max(_MOST_ENTRIES // share, _FEWEST_ENTRIES)
        most_bytes = b"%d" % max(_MOST_BYTES // share, 1 << 16) if texts else b""
        direction = b"down" if reverse else b"up"
        after = b""
        while True:
            reply = self._server.read(_PAGE, partition, direction, after, most, most_bytes)
            if reply is None:
                return
            after = reply[0]
            places, names = loads(reply[1]), self._keys(reply[2], partition)
            values = fields.split(reply[3]) if texts else [b""] * len(names)
            if b"" in values and texts:  # in the order, and not among the values
                kept = [i for i, text in enumerate(values) if text]
                places, names = [places[i] for i in kept], [names[i] for i in kept]
                values = [values[i] for i in kept]
            if len(values) != len(names):
                raise self.corrupt(partition, "a value that holds a zero byte is not JSON")
            if names:
                yield places, names, values
            if not after:
                return

    def outermost(self, *, last: bool) -> int | None:
        """The partition that has the newest entry, or the oldest; None where there is none."""
        count = self._server.layout.partitions
        if count == 1:
            return 0
        ends = [(self._end(number, last=last), number) for number in range(count)]
        found = [(place, number) for place, number in ends if place is not None]
        return (max(found) if last else min(found))[1] if found else None

    def _end(self, partition: int, *, last: bool) -> int | None:
        """The place of a partition's newest entry, or of its oldest; None where there is none."""
        found = self._server.read(reading("end"), partition, b"last" if last else b"first")
        return None if found is None else int(found)

    def expiring(self, partition: int, seconds: float) -> Iterator[tuple[Key, bytes]]:
        """The entries of one partition that expire within so many seconds."""
        script = reading("expiring")
        start, done = b"", 0
        while True:
            start, array, texts = self._server.read(
                script,
                partition,
                repr(seconds).encode(),
                start,
                b"%d" % done,
                b"%d" % _MOST_ENTRIES,
            )
            names = self._keys(array, partition)
            for key, text in zip(names, fields.split(texts), strict=True):
                if text:
                    yield key, text
            if len(names) < _MOST_ENTRIES:
                return
            done += len(names)

    def figures(self, partition: int) -> Iterator[tuple[list[int], list[float], int]]:
        """Lengths of texts, deadlines, and bytes of keys, page by page."""
        script, after = reading("measure"), b""
        while reply := self._server.read(script, partition, after, b"%d" % _MOST_ENTRIES):
            after, lengths, deadlines, key_bytes = reply
            if lengths:
                yield _numbers(lengths, int), _numbers(deadlines, float), key_bytes

    def _keys(self, array: bytes, partition: int) -> list[Key]:
        try:
            return fields.parsed(array)
        except ValueError as error:
            raise self.corrupt(partition, str(error)) from None

    def corrupt(self, partition: int, reason: str) -> CorruptStoreError:
        """The error for what can't have been written by kvmap."""
        name = self._server.layout.keys(partition)[0].decode()
        return CorruptStoreError(f"{self._server.shown}, {name}", None, reason)


def _numbers(text: bytes, kind: Any) -> list[Any]:
    return [kind(each) for each in text.split(b",")]
