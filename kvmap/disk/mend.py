"""Takes the damage out of a store's files, and brings records to where they belong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from zlib import crc32

from kvmap import keys
from kvmap.disk import records
from kvmap.disk.folder import HINT, JOURNAL, SHARDS
from kvmap.disk.manifest import NAME, UNKNOWN
from kvmap.disk.ownership import Ownership
from kvmap.disk.parser import Record, parse
from kvmap.disk.places import TIED
from kvmap.disk.quarantine import Quarantine
from kvmap.disk.records import MOST_SEQ
from kvmap.disk.report import Damage, extend
from kvmap.disk.scan import Row, file_of, parts
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import Steps
from kvmap.disk.survey import Survey
from kvmap.disk.tuning import Tuning
from kvmap.keys import Key
from kvmap.turn import Turn

_STEP: Final = 1 << 20
_TAKEN: Final = "another record has its sequence number"


class Mend:
    """Takes the damage out of a store that was surveyed."""

    def __init__(self, survey: Survey, ownership: Ownership, quarantine: Quarantine) -> None:
        self.moved = 0
        """Whole records that stood in another shard's file."""
        self.repeated = 0
        """Whole records that stand there more than once, the first ones not counted."""
        self._numbers: dict[tuple[int, int], int] = {}
        """New sequence numbers of records, by the shard and the byte where they stand."""
        self._last_seq = max(survey.highest_seq, survey.manifest.seq)
        self._tied: set[tuple[int, int]] = set()
        self._survey = survey
        self._folder = survey.folder
        self._ownership = ownership
        self._quarantine = quarantine
        self._sources = {shard.number: shard for shard in survey.extra}
        if survey.shards is not None:
            self._sources |= {shard.number: shard for shard in survey.shards.all}
        self._misfits = {each.file for each in survey.misfits}

    @property
    def renumbered(self) -> int:
        """Records that got a new sequence number."""
        return len(self._numbers)

    def run(self) -> None:
        """Leave whole files. Two entries may still have one place in the order."""
        self._undo_batch()
        self._mend_names()
        if self._survey.shards is not None and not self._survey.manifest.emptying:
            self._mend_shards()

    def untie(self) -> None:
        """Give each entry a place of its own: in whole files, move those to the end that have none."""
        self._tied = self._survey.tied
        shards = self._writable()
        try:
            for shard in [
                shards.all[number] for number in sorted({each[0] for each in self._tied})
            ]:
                shard.open()
                self._write(shards, shard, self._rows(shard, foreign=True))
            shards.folder.sync()
        finally:
            shards.close()

    def _writable(self) -> Shards:
        """The shards, once more, to be written to; the survey's go on reading the old files."""
        folder = self._survey.shards_folder
        assert folder is not None
        shards = Shards(
            self._folder,
            folder,
            (UNKNOWN,) * len(self._survey.manifest.shards),
            Tuning(),
            Steps(Turn()),
            lambda shard: self._ownership.check(),
            writable=True,
        )
        return shards

    def _undo_batch(self) -> None:
        if self._survey.journal not in ("unfinished", "stale"):
            return
        if self._survey.ends:
            shards = self._writable()
            try:
                for number, end in self._survey.ends.items():
                    shard = shards.all[number]
                    if file_of(shard) not in self._misfits:
                        shard.open()
                        if shard.end > end:
                            shard.cut(end)
                        shard.sync()
            finally:
                shards.close()
        self._ownership.check()
        self._folder.remove(JOURNAL)
        self._folder.sync()

    def _mend_names(self) -> None:
        """What stands in place of files, the manifest, and the hint file."""
        state = self._survey.manifest_state
        data = self._survey.plain(NAME) if NAME not in self._misfits and state != "whole" else None
        if data is not None:
            self._quarantine.copy(Damage(NAME, 0, len(data), state), iter([data]))
        for each in self._survey.misfits:
            self._ownership.check()
            self._quarantine.move(each)
        if SHARDS not in self._folder.names():
            self._folder.make_subfolder(SHARDS)
        self._folder.remove(HINT)

    def _mend_shards(self) -> None:
        shards = self._writable()
        try:
            for shard in shards.all:
                if file_of(shard) in self._misfits:
                    self._sources.pop(shard.number)
                else:
                    shard.open()
            crowded = [shard for shard in shards.all if self._mend(shards, shard)]
            shards.folder.sync()
            for extra in self._survey.extra:
                if file_of(extra) not in self._misfits:
                    self._quarantine_parts(extra)
                    self._ownership.check()
                    shards.folder.remove(extra.name)
            for shard in crowded:
                self._write(shards, shard, self._rows(shard, foreign=False))
            shards.folder.sync()
        finally:
            shards.close()

    def _mend(self, shards: Shards, shard: Shard) -> bool:
        """Take damage out and records in; return whether records of other shards remain."""
        survey, number = self._survey, shard.number
        incoming = survey.away.get(number, [])
        if number not in self._sources and not incoming:
            return False
        source = self._sources.get(number)
        if not survey.reports[number].damage and not incoming:
            survey.step(shard.end)
            return False
        if source is not None:
            self._quarantine_parts(source)
        rows = self._rows(shard, foreign=True)
        self.moved += len({(row.seq, self._line(row)) for row in incoming})
        self._write(shards, shard, rows)
        survey.step(shard.end)
        return any(row.home != number for row in rows)

    def _rows(self, shard: Shard, *, foreign: bool) -> list[Row]:
        """The records that are to stand in a shard's file, in the order of their writes.

        One that stands twice is there once. `foreign`: those of other shards that stand there too.
        """
        found = list(self._survey.away.get(shard.number, []))
        source = self._sources.get(shard.number)
        mask = len(self._survey.manifest.shards) - 1
        if source is not None:
            for begin, end, what in parts(source, self._survey.decode):
                if isinstance(what, Record):
                    home = keys.bucket(what.key, mask)
                    if foreign or home == shard.number:
                        found.append(Row(what.seq, shard.number, begin, end, home, what.key))
        latest = {row.key: row.seq for row in sorted(found, key=lambda row: row.seq)}
        # Those that stand where they belong come first.
        found.sort(key=lambda row: (row.seq, row.source != shard.number, row.begin))
        kept: list[Row] = []
        for row in found:
            if row.home != shard.number or self._is_kept(row, kept, latest, count=foreign):
                kept.append(row)
        return sorted(kept, key=lambda row: self._numbers.get((row.source, row.begin), row.seq))

    def _is_kept(self, row: Row, kept: list[Row], latest: dict[Key, int], *, count: bool) -> bool:
        """Whether a record stays in its shard, where others may have its sequence number.

        It gets a new one where it is the latest of its key, and goes to the quarantine where it is
        not, or where another one of its key has the number too. `count`: the first time.
        """
        if (row.source, row.begin) in self._tied:
            return self._renumber(row) or self._take_out(row, TIED, count=count)
        rivals: list[Row] = []
        for other in reversed(kept):
            if other.seq != row.seq:
                break
            if other.home == row.home:
                rivals.append(other)
        if not rivals:
            return True
        line = self._line(row)
        if any(self._line(other) == line for other in rivals):
            self.repeated += count
            return False
        if latest[row.key] == row.seq and all(other.key != row.key for other in rivals):
            return self._renumber(row) or self._take_out(row, _TAKEN, count=count)
        return self._take_out(row, _TAKEN, count=count)

    def _take_out(self, row: Row, reason: str, *, count: bool) -> bool:
        if count:
            name = file_of(self._sources[row.source])
            damage = Damage(name, row.begin, row.end - row.begin, reason)
            self._quarantine.copy(damage, iter([self._line(row)]))
            self._quarantine.records += 1
        return False

    def _renumber(self, row: Row) -> bool:
        """Let a record be the store's last one; False where there is no number left."""
        if (row.source, row.begin) not in self._numbers:
            if self._last_seq >= MOST_SEQ:
                return False
            self._last_seq += 1
            self._numbers[row.source, row.begin] = self._last_seq
        return True

    def _line(self, row: Row) -> bytes:
        line = self._sources[row.source].read(row.begin, row.end)
        return line if line.endswith(b"\n") else line + b"\n"

    def _new_line(self, row: Row) -> bytes:
        """A record's line as it is to be."""
        line, seq = self._line(row), self._numbers.get((row.source, row.begin))
        if seq is None:
            return line
        record = parse(line, row.source, 0)
        name = keys.text(record.key)
        if record.text is None:
            return records.tombstone(name, seq)
        head = records.head(name, seq, 0, record.expires)
        return head + record.text + records.tail(crc32(record.text, crc32(head)))

    def _write(self, shards: Shards, shard: Shard, rows: list[Row]) -> None:
        """Let these records be a shard's file."""

        def parts() -> Iterator[bytes]:
            some, size = list[bytes](), 0
            for row in rows:
                some.append(self._new_line(row))
                size += len(some[-1])
                if size > _STEP:
                    yield b"".join(some)
                    some, size = [], 0
            yield b"".join(some)

        shard.end = 0
        shard.check_room(sum([row.end - row.begin + 1 for row in rows]))
        shards.replace(shard, parts())

    def _quarantine_parts(self, shard: Shard) -> None:
        """Copy what is no record."""
        taken: list[Damage] = []
        for begin, end, what in parts(shard, self._survey.decode):
            if isinstance(what, str):
                extend(taken, Damage(file_of(shard), begin, end - begin, what))
        for damage in taken:
            stop = damage.offset + damage.length
            starts = range(damage.offset, stop, _STEP)
            self._quarantine.copy(damage, (shard.read(at, min(at + _STEP, stop)) for at in starts))
