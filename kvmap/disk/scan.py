"""One shard's file read through: its whole records, its figures, and what is damaged in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from kvmap import keys
from kvmap.disk.damage import is_torn, walk
from kvmap.disk.folder import SHARDS
from kvmap.disk.manifest import Known
from kvmap.disk.parser import Record, Table, misplaced
from kvmap.disk.records import Entry, deadline, line_size, span, unpack_value
from kvmap.disk.report import Damage, ShardReport, extend
from kvmap.disk.shard import Shard
from kvmap.keys import Key

NO_NEWLINE: Final = "the record has no newline"

Decode = Callable[[bytes], Any]


class Row(NamedTuple):
    """A whole record, and where it stands."""

    seq: int
    source: int
    """The number of the shard's file."""
    begin: int
    end: int
    home: int
    """The number of the shard that it belongs into."""
    key: Key


class Latest(NamedTuple):
    """The latest record of a key."""

    entry: Entry
    wrong: str
    """Why its value can't be read; empty where it can."""


def file_of(shard: Shard) -> str:
    """The name of a shard's file inside the store."""
    return f"{SHARDS}/{shard.name}"


def undecodable(record: Record, decode: Decode) -> str:
    """Why a record's value can't be read; empty where it can, or where there is none."""
    if record.text is not None:
        try:
            decode(record.text)
        except ValueError as error:
            return f"the value can't be read: {error}"
    return ""


def parts(shard: Shard, decode: Decode) -> Iterator[tuple[int, int, Record | str]]:
    """All of a shard, record by record: where each part begins and ends, and what it is.

    A part that is no record, or whose value can't be read, comes with the reason.
    """
    for at, part in shard.stretches():
        for begin, end, found in walk(part, shard.number, at):
            wrong = isinstance(found, Record) and undecodable(found, decode)
            yield begin, end, wrong or found


class Scan:
    """What stands in one shard. Call `add` with each stretch, then `report`."""

    def __init__(self, shard: Shard, known: Known, mask: int, decode: Decode) -> None:
        self.kept = 0
        """Whole records whose values can be read."""
        self.away: list[Row] = []
        """Those of them that belong into another shard."""
        self.highest_seq = 0
        """The highest sequence number of a whole record."""
        self.torn = 0
        self.damage: list[Damage] = []
        self._shard = shard
        self._known = known
        self._mask = mask
        self._decode = decode
        self._last_seq = 0
        self._latest: dict[Key, Latest] = {}
        self._bytes = self._tombstones = 0

    def add(self, at: int, part: bytes) -> None:
        """Take a stretch along that begins at byte `at`."""
        table = Table(self._shard.number, self._mask, self._last_seq)
        try:
            table.add(part, at)
            for entry in table.entries:
                if entry is not None:
                    start, end = unpack_value(entry)[:2]
                    self._decode(part[start - at : end - at])
        except ValueError:
            self._add_each(at, part)
        else:
            self._take(table, len(part), "")

    def _add_each(self, at: int, part: bytes) -> None:
        """Add a stretch that is not whole, part by part."""
        for begin, end, found in walk(part, self._shard.number, at):
            if isinstance(found, str):
                if self._explained(begin, end, part[begin - at : end - at]):
                    self.torn += end - begin
                else:
                    self._note(begin, end, found)
                continue
            wrong = undecodable(found, self._decode)
            reason = misplaced(found, self._shard.number, self._mask, self._last_seq)
            if end - begin < found.size:
                if self._may_be_torn(begin):
                    self.torn += end - begin
                    continue
                reason = NO_NEWLINE
            if reason is None:
                table = Table(self._shard.number, self._mask, self._last_seq)
                table.add(part[begin - at : end - at], begin)
                self._take(table, end - begin, wrong)
                continue
            self._note(begin, end, wrong or reason)
            if not wrong:
                self._keep(found, begin, end)

    def _may_be_torn(self, begin: int) -> bool:
        return not self._known.exact and begin >= self._known.length

    def _explained(self, begin: int, end: int, piece: bytes) -> bool:
        """Whether a crash explains a part that is no record."""
        return self._may_be_torn(begin) and is_torn(piece, begin, last=end == self._shard.end)

    def _take(self, table: Table, size: int, wrong: str) -> None:
        """Records that stand where they belong; `wrong` is said of the only one."""
        for key, entry in zip(table.keys, table.entries, strict=True):
            if entry is None:
                self._latest.pop(key, None)
                self._tombstones += 1
            else:
                self._latest[key] = Latest(entry, wrong)
        self.kept += 0 if wrong else len(table.keys)
        self._bytes += size
        self._last_seq = table.last_seq
        self.highest_seq = max(self.highest_seq, table.last_seq)

    def _keep(self, record: Record, begin: int, end: int) -> None:
        """A whole record that stands where it can't be read."""
        self.kept += 1
        self.highest_seq = max(self.highest_seq, record.seq)
        home = keys.bucket(record.key, self._mask)
        if home != self._shard.number:
            self.away.append(Row(record.seq, self._shard.number, begin, end, home, record.key))

    def _note(self, begin: int, end: int, reason: str) -> None:
        extend(self.damage, Damage(file_of(self._shard), begin, end - begin, reason))

    def holds(self, entries: dict[Key, Entry]) -> bool:
        """Whether these are the latest records of all keys, expired ones included."""
        latest = self._latest
        return len(latest) == len(entries) and all(
            key in latest and latest[key].entry == entry for key, entry in entries.items()
        )

    def alive(self, now: float) -> list[Entry]:
        """The entries that can be read, at a time in Unix seconds."""
        return [
            each.entry
            for each in self._latest.values()
            if not each.wrong and deadline(each.entry) > now
        ]

    def report(self, now: float) -> ShardReport:
        """What was found, at a time in Unix seconds.

        A value that can't be read is damage only where someone may read it.
        """
        alive = self.alive(now)
        wrong = [
            each for each in self._latest.values() if each.wrong and deadline(each.entry) > now
        ]
        for each in wrong:
            self._note(*span(each.entry), each.wrong)
        live = sum(map(line_size, alive))
        return ShardReport(
            file_of(self._shard),
            len(alive),
            live,
            self._bytes - live - sum([line_size(each.entry) for each in wrong]),
            self._tombstones,
            len(self._latest) - len(alive) - len(wrong),
            self.torn,
            tuple(sorted(self.damage, key=lambda each: each.offset)),
        )
