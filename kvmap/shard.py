"""One append-only file: append, load, compact.

A shard's file is longer than its records while it is open: it ends in reserved space, zero bytes,
into which the next records are copied. Closing trims it.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple
from zlib import crc32

from kvmap.errors import CorruptStoreError, LimitError
from kvmap.files import PAGE, Files, Map
from kvmap.keys import bucket
from kvmap.record import Record, Table, parse, parse_all, torn, walk

LARGEST = 2**32 - 2 * PAGE
"""The most bytes that a shard may grow to: index entries hold offsets of 32 bits."""

HIGHEST = 2**62
"""The highest number of a write that a file may tell of, so that there are enough higher ones."""

SLACK = 128 * 1024
"""Dead bytes that a shard may hold whatever its size, so that a small one is not compacted often."""


class State(NamedTuple):
    """What the manifest tells of a shard that was closed: its length and its file's CRC-32."""

    length: int
    crc: int
    final: bool = True
    """False: more may follow these bytes, for the store was not closed since it was written to."""


EMPTY = State(0, 0)


class Maps:
    """The shards' maps.

    A mapping holds a file descriptor, so only so many are kept, the latest made.
    """

    MOST = 65
    """As many as a store of the default size and its journal have."""

    def __init__(self, count: int) -> None:
        self.by_number: list[Map | None] = [None] * count
        """None where a shard is not mapped. A reader has the list itself: the shortest way."""
        self.lock = threading.RLock()
        """Held for changes: any reader may map a file anew."""
        self._mapped: deque[int] = deque()

    def put(self, number: int, mapped: Map | None) -> None:
        with self.lock:
            self.by_number[number] = mapped
            if number in self._mapped:
                self._mapped.remove(number)
            if mapped is not None:
                self._mapped.append(number)
                if len(self._mapped) > self.MOST:
                    self.by_number[self._mapped.popleft()] = None


class Shard:
    """The file of one bucket. Its owner sees to it that one thread at a time calls it."""

    __slots__ = (
        "_crc",
        "_files",
        "_folded",
        "_maps",
        "before_change",
        "compaction",
        "end",
        "fill",
        "last",
        "live",
        "loaded",
        "named",
        "number",
        "path",
        "rest_until",
        "state",
        "synced",
    )

    def __init__(
        self,
        files: Files,
        maps: Maps,
        number: int,
        path: str,
        state: State | None,
        before_change: Callable[[], None],
    ) -> None:
        self.number = number
        self.path = path
        self.state = state
        """What the file must be if nothing has changed it since it was closed; None: unknown."""
        self.before_change = before_change
        self.loaded = False
        """Whether the index knows this shard's records; whoever put them there sets it."""
        self.end = 0
        """Bytes of records, dead and live; what follows them is reserved space."""
        self.live = 0
        """Bytes of the records that the index points to."""
        self.last = 0
        """The highest number of a write that was found in the file."""
        self.fill = False
        """Whether every write is synced."""
        self.compaction: Iterator[None] | None = None
        """The rest of one that was begun."""
        self.rest_until = 0
        """How far the file grows before a compaction that failed is tried again."""
        self.synced = 0
        self.named = True
        """Whether the file's name would survive a power cut."""
        self._files = files
        self._maps = maps
        self._folded = 0
        self._crc = 0

    @property
    def dead(self) -> int:
        return self.end - self.live

    @property
    def worn(self) -> bool:
        """Whether compaction is under way or pays: it then frees about as much as it copies."""
        return self.compaction is not None or (self.end - self.live) * 8 > self.live * 7 + 8 * SLACK

    def mapped(self) -> Map | None:
        """The file's map, mapped anew where it was given up; None where there are no records."""
        found = self._maps.by_number[self.number]
        if found is None and self.end:
            with self._maps.lock:
                found = self._maps.by_number[self.number]
                if found is None:
                    found = self._files.map(self.path, writable=True)
                    self._maps.put(self.number, found)
        return found

    def load(self, *, writable: bool, mask: int) -> tuple[Table, bool]:
        """Read all records, oldest write first, and tell whether a crash has torn any.

        Raises CorruptStoreError for damage that no crash explains.
        """
        self._check_length()
        size = self._files.size(self.path)
        mapped = self._files.map(self.path, writable=writable) if size else None
        self._maps.put(self.number, mapped)
        data = mapped[:] if mapped is not None else b""
        if self.state is not None and self.state.final and crc32(data) == self.state.crc:
            try:
                table = parse_all(data, self.number, 0)
            except ValueError as error:
                raise CorruptStoreError(self.path, 0, str(error)) from None
            self.end, is_torn = len(data), False
        else:
            table, is_torn = self._read_each(data, mask)
        self.synced = self.end if self.state is not None and self.state.final else 0
        self._folded, self._crc = (0, 0) if self.state is None else self.state[:2]
        table = in_order(table)
        self.last = table.seqs[-1] if table.seqs else 0
        if self.last > HIGHEST or (table.seqs and table.seqs[0] < 1):
            raise CorruptStoreError(self.path, 0, "the write's number is out of range")
        return table, is_torn

    def attach(self, *, writable: bool) -> None:
        """Make a closed shard ready without reading it: whoever calls knows what is in it."""
        assert self.state is not None
        self._check_length()
        if self.state.length:
            self._maps.put(self.number, self._files.map(self.path, writable=writable))
        self.end = self.synced = self._folded = self.state.length
        self._crc = self.state.crc

    def read(self, start: int) -> bytes:
        """All records from byte `start` on."""
        mapped = self.mapped() if start < self.end else None
        return mapped[start : self.end] if mapped is not None else b""

    def lines(self, start: int, stop: int) -> bytes:
        """Whole records from byte `start` on, to the end of the one that byte `stop - 1` is of."""
        mapped = self.mapped()
        end = 0 if mapped is None else mapped.find(b"\n", stop - 1) + 1
        if mapped is None or not stop <= end <= self.end:
            raise CorruptStoreError(self.path, start, "the last line has no end")
        return mapped[start:end]

    def _check_length(self) -> None:
        size = self._files.size(self.path)
        if self.state is None or (size or 0) == self.state.length:
            return
        if self.state.final or (size or 0) < self.state.length:
            raise CorruptStoreError(
                self.path,
                min(size or 0, self.state.length),
                "the file is missing"
                if size is None
                else f"{size} bytes long, but {self.state.length} when it was closed",
            )

    def _read_each(self, data: bytes, mask: int) -> tuple[Table, bool]:
        table, is_torn = Table([], [], []), False
        state = self.state or State(0, 0, False)
        # What was closed was synced; a crash explains damage only in what came after.
        sure = len(data) if state.final else state.length
        self.end = 0
        for begin, end, found in walk(data):
            if isinstance(found, Record) and belongs(found, self.number, mask):
                table.add(found, self.number, begin)
                self.end = end
            elif begin >= sure and torn(data, begin, end):
                is_torn = True
            else:
                reason = found if isinstance(found, str) else "a record of another shard"
                raise CorruptStoreError(self.path, begin, reason)
        if state.final or crc32(data[:sure]) != state.crc:
            raise CorruptStoreError(self.path, 0, "not the file that was closed")
        return table, is_torn

    def last_seq(self) -> int:
        """The number of the last whole record in the file, 0 where there is none. O(file)."""
        data = self._files.read(self.path).rstrip(b"\0") if self._files.size(self.path) else b""
        end = len(data)
        while end:
            begin = data.rfind(b"\n", 0, end - 1) + 1
            try:
                if (seq := parse(data[begin:end]).seq) <= HIGHEST:
                    return seq
            except ValueError:
                pass
            end = begin
        return 0

    def make_room(self, size: int) -> Map:
        """The map, with space reserved for `size` more bytes. Raises OSError on a full disk."""
        mapped = self.mapped()
        need = self.end + size
        if mapped is not None and need <= len(mapped):
            return mapped
        if need > LARGEST:
            raise LimitError(
                f"{self.path} can't grow past 4 GiB; use more shards, or smaller values"
            )
        self.before_change()
        self.fold()
        # Twice the size while small, a sixteenth more when large: few calls, little unused space.
        spare = max(min(need, SLACK), need >> 4)
        length = -(-(need + (spare if mapped is not None else 0)) // PAGE) * PAGE
        if mapped is None:
            self.named = False
            self._files.remove(self.path)
            self._files.create(self.path, length)
            mapped = self._files.map(self.path, writable=True)
            self._maps.put(self.number, mapped)
            assert mapped is not None
        else:
            self._files.reserve(self.path, mapped, length)
            self._maps.put(self.number, mapped)  # a reader may have put a shorter one there
        if self.fill:
            self._sync_file()
        return mapped

    def append(self, lines: list[bytes]) -> None:
        """Copy whole lines to the end of the file."""
        size = sum(map(len, lines))
        self.copy(self.make_room(size), lines)
        self.end += size

    def copy(self, mapped: Map, lines: Iterable[bytes]) -> None:
        """Copy lines past the end, where there is room.

        One by one, because memcpy keeps no order: a kill in the middle of it may leave the first
        bytes out. So only the last line of a file can be cut short.
        """
        at = self.end
        for line in lines:
            end = at + len(line)
            mapped[at:end] = line
            at = end

    def erase(self, mapped: Map, size: int) -> None:
        """Undo a copy of `size` bytes past the end that was not completed."""
        mapped[self.end : self.end + size] = bytes(size)
        self.synced = -1
        if self.fill:
            with suppress(OSError):  # the error that led here is the one to tell
                self._sync_file()

    def sync(self) -> None:
        """Make all records survive a power cut."""
        if self.synced < self.end:
            self._sync_file()
            self._sync_name()

    def write_through(self, data: bytes) -> None:
        """Write whole lines past the end, where there is room, and make all survive a power cut."""
        self._files.write_through(self.path, self.end, data)
        if self.synced < self.end:
            self._sync_file()  # for what else is not on disk yet
        self._sync_name()
        self.synced = self.end + len(data)

    def _sync_file(self) -> None:
        self.synced = -1  # which it stays where this fails
        self._files.sync(self.path)
        self.synced = self.end

    def _sync_name(self) -> None:
        if not self.named:
            self._files.sync_folder(os.path.dirname(self.path))
            self.named = True

    def trim(self) -> State:
        """Give the reserved space back, sync, and return what the manifest must tell of the file."""
        self.compaction = None
        self.fold()
        if (self._files.size(self.path) or 0) > self.end:
            self._maps.put(self.number, None)
            self._files.truncate(self.path, self.end)
            self.synced = -1
        self.sync()
        self.state = State(self.end, self._crc)
        return self.state

    def fold(self) -> int:
        """The file's CRC-32, brought up to date a part at a time, so that closing is quick."""
        mapped = self.mapped()
        if mapped is not None and self._folded < self.end:
            self._crc = crc32(mapped[self._folded : self.end], self._crc)
            self._folded = self.end
        return self._crc

    def intact(self) -> bool:
        """Whether the bytes whose checksum is known are still the same. O(file)."""
        mapped = self.mapped()
        return mapped is None or crc32(mapped[: self._folded]) == self._crc

    def write_new(self, data: bytes) -> Map:
        """Write `data` and some reserved space to a new file beside the shard's, and sync it."""
        new = self.path + ".new"
        self._files.remove(new)
        length = -(-(len(data) + max(PAGE, len(data) >> 4)) // PAGE) * PAGE
        try:
            # Writing costs a third of copying into a map of new pages, each of which is a fault.
            self._files.write(new, [data])
            mapped = self._files.map(new, writable=True)
            if mapped is None:
                self._files.remove(new)
                self._files.create(new, length)
                mapped = self._files.map(new, writable=True)
                assert mapped is not None
            else:
                self._files.reserve(new, mapped, length)
            self._files.sync(new)
        except BaseException:
            self._files.remove(new)
            raise
        return mapped

    def take_new(self, mapped: Map, data: bytes) -> None:
        """Put the file that `write_new` made in this one's place; may be called again after a failure."""
        new = self.path + ".new"
        self.named = False
        self.state = None
        if self._files.size(new) is not None:
            self._files.rename(new, self.path)
        self._maps.put(self.number, mapped)
        self.rest_until = 0
        self.end = self.synced = self._folded = len(data)
        self._crc = crc32(data)

    def was_replaced(self) -> bool:
        """Whether `take_new` got so far that the new file has this one's name."""
        return self._files.size(self.path + ".new") is None

    def drop_new(self) -> None:
        self._files.remove(self.path + ".new")

    def reset(self) -> None:
        """Forget all records of a file that was removed."""
        self._maps.put(self.number, None)
        self.end = self.live = self.synced = self._folded = self._crc = self.rest_until = 0
        self.compaction = None
        self.loaded, self.state = True, EMPTY


def belongs(record: Record, number: int, mask: int) -> bool:
    """Whether a record stands in the shard that its key falls into."""
    return bucket(record.key, mask) == number


def in_order(table: Table) -> Table:
    """The table sorted by the records' numbers; a file is in that order but for rare repeats."""
    seqs = table.seqs
    if all(map(int.__le__, seqs, seqs[1:])):
        return table
    order = sorted(range(len(seqs)), key=seqs.__getitem__)
    return Table(
        [table.keys[i] for i in order],
        [seqs[i] for i in order],
        [table.entries[i] for i in order],
    )
