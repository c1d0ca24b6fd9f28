"""`repair` keeps every whole record of a damaged store, and the bytes that it takes out.

Each step leaves a store that a second repair finishes. A batch that a crash has interrupted is cut
off first, for its journal speaks of offsets. Bytes are synced in `damaged/` before they are taken
out. Records are written and synced where they belong before they go from where they were. Until the
end the manifest describes the files as they were, so nothing reads a half as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from kvmap import keys
from kvmap.disk.engine import DiskEngine
from kvmap.disk.folder import HINT, JOURNAL, SHARDS, Folder
from kvmap.disk.fs import FileSystem
from kvmap.disk.manifest import NAME, UNKNOWN
from kvmap.disk.opening import Home
from kvmap.disk.ownership import Ownership
from kvmap.disk.parser import Record
from kvmap.disk.quarantine import Quarantine, Quarantined
from kvmap.disk.recognize import open_store
from kvmap.disk.report import Damage, Report, extend
from kvmap.disk.scan import Row, file_of, parts
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import Steps
from kvmap.disk.survey import Survey
from kvmap.disk.tuning import Tuning
from kvmap.engine import Progress
from kvmap.turn import Turn

__all__ = ["Quarantined", "Repaired", "repair"]

_STEP: Final = 1 << 20
_TAKEN: Final = "another record has its sequence number"


@dataclass(frozen=True)
class Repaired:
    """What `repair` did."""

    found: Report
    """The store as it was before."""
    records: int
    """Whole records that were kept, overwritten ones included."""
    moved: int
    """How many of them stood in another shard's file."""
    quarantined: tuple[Quarantined, ...]
    new_manifest: bool
    """Whether the manifest was made anew; limits, default ttl, codec and eviction are then gone."""


def repair(
    path: str | os.PathLike[str], progress: Progress | None = None, *, fs: FileSystem | None = None
) -> Repaired:
    """Keep every whole record of a damaged store, and the bytes taken out in its `damaged/` folder.

    What it leaves can be opened, read and written. A store without damage is left alone, but for
    what a crash has left: it is closed as the next owner would close it. Where damage took a key's
    latest record, an older one or a deleted one may show again. Killed or interrupted, it can be run
    again and loses nothing.

    O(bytes of the store), and memory for the keys of one shard and for what stands in wrong places.
    Each damaged shard is written anew, up to twice. `progress` is called as
    progress(done_bytes, total_bytes).

    Raises StoreLockedError where the store is open, FileNotFoundError where there is nothing,
    NotAStoreError for what is no store or was written by a newer kvmap, CorruptStoreError for a link
    in place of `lock` or `damaged`, LimitError where a shard would grow past 4 GiB, and OSError.

    >>> import kvmap
    >>> with kvmap.open() as d:
    ...     d["ada"] = 1
    >>> _ = (d.path / "kvmap.json").write_text("oops")
    >>> done = kvmap.repair(d.path)
    >>> done.new_manifest, done.records, done.quarantined[0].kept
    (True, 1, 'damaged/kvmap.json.at-0')
    """
    name = os.path.abspath(os.fspath(path))
    fs = fs or FileSystem()
    folder = open_store(name, fs)
    try:
        ownership = Ownership.acquire(folder, 0)
        try:
            return _repair(folder, ownership, progress)
        except BaseException:
            ownership.release()
            raise
    finally:
        folder.close()


def _repair(folder: Folder, ownership: Ownership, progress: Progress | None) -> Repaired:
    survey = Survey(folder, progress, passes=2)
    try:
        survey.stop_before_batch()
        report = survey.read()
        quarantine = Quarantine(folder)
        moved = 0
        if not report.ok:
            mend = _Mend(survey, ownership, quarantine)
            mend.run()
            moved = mend.moved
    finally:
        survey.close()
    known = survey.manifest.shards
    if report.ok and report.closed and all(each.exact for each in known):
        ownership.release(clean=True)
    else:
        _close_well(folder, ownership, survey, damaged=not report.ok)
    survey.finish()
    return Repaired(
        report,
        survey.kept - quarantine.records,
        moved,
        tuple(quarantine.all),
        new_manifest=report.manifest != "whole",
    )


def _close_well(folder: Folder, ownership: Ownership, survey: Survey, *, damaged: bool) -> None:
    """Open the store, whose records are whole, as its next owner does; sync and close it."""
    fs, manifest = folder.fs, survey.manifest
    home = Home(
        Folder.open(fs, folder.path),
        folder.subfolder(SHARDS),
        ownership,
        manifest,
        read_only=False,
    )
    try:
        home.folder.unsynced = home.shards.unsynced = True  # what a killed process left
        if manifest.emptying:
            home.finish_emptying()
        shards = home.manifest.shards
        if damaged:
            shards = (UNKNOWN,) * len(shards)
            if survey.manifest_state != "whole":
                ownership.check()
                home.manifest = home.manifest.changed(in_use=True, shards=shards)
                home.folder.replace(NAME, home.manifest.to_bytes())
        home.change_manifest(in_use=True, shards=shards)
        engine = DiskEngine(home, fs, Tuning(), sync=False)
        engine.load()
        engine.close()
    except BaseException:
        home.close(clean=False)
        raise


class _Mend:
    """Takes the damage out of a store that was surveyed."""

    def __init__(self, survey: Survey, ownership: Ownership, quarantine: Quarantine) -> None:
        self.moved = 0
        self._survey = survey
        self._folder = survey.folder
        self._ownership = ownership
        self._quarantine = quarantine
        self._sources = {shard.number: shard for shard in survey.extra}
        if survey.shards is not None:
            self._sources |= {shard.number: shard for shard in survey.shards.all}
        self._misfits = {each.file for each in survey.misfits}

    def run(self) -> None:
        self._undo_batch()
        self._mend_names()
        if self._survey.shards is not None and not self._survey.manifest.emptying:
            self._mend_shards()

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
            if each.file == NAME:
                self._folder.remove(NAME)
        if SHARDS not in self._folder.names():
            self._folder.make_subfolder(SHARDS)
        self._folder.remove(HINT)
        self._folder.sync()

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
                        found.append(Row(what.seq, shard.number, begin, end, home))
        # Those that stand where they belong come first.
        found.sort(key=lambda row: (row.seq, row.source != shard.number, row.begin))
        kept: list[Row] = []
        for row in found:
            if row.home != shard.number or not kept or not self._clash(kept, row, foreign=foreign):
                kept.append(row)
        return kept

    def _clash(self, kept: list[Row], row: Row, *, foreign: bool) -> bool:
        """Whether a record of this shard has the row's sequence number already."""
        for other in reversed(kept):
            if other.seq != row.seq:
                return False
            if other.home == row.home:
                if self._line(other) != self._line(row) and foreign:
                    damage = Damage(
                        file_of(self._sources[row.source]),
                        row.begin,
                        row.end - row.begin,
                        _TAKEN,
                    )
                    self._quarantine.copy(damage, iter([self._line(row)]))
                    self._quarantine.records += 1
                return True
        return False

    def _line(self, row: Row) -> bytes:
        line = self._sources[row.source].read(row.begin, row.end)
        return line if line.endswith(b"\n") else line + b"\n"

    def _write(self, shards: Shards, shard: Shard, rows: list[Row]) -> None:
        """Let these records be a shard's file."""

        def parts() -> Iterator[bytes]:
            some, size = list[bytes](), 0
            for row in rows:
                some.append(self._line(row))
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
