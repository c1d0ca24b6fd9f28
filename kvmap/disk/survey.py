"""A store opened as far as it can be, damaged or not, and everything in it read once.

What is refused elsewhere is noted here as damage. Nothing is changed. The rules are those that
loading has: `parser` takes records apart, `damage` finds them amid damage, and `journal` says
whether a batch is unfinished.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace

from kvmap import codecs
from kvmap.disk.damage import walk
from kvmap.disk.folder import HINT, JOURNAL, LOCK, NEW, SHARDS, Folder
from kvmap.disk.hinted import Hinted
from kvmap.disk.journal import is_about, read_journal
from kvmap.disk.manifest import DEFAULT_SHARDS, NAME, OUTDATED, UNKNOWN, Known, Manifest
from kvmap.disk.parser import Record
from kvmap.disk.places import TIED, Places
from kvmap.disk.recognize import SHARD_FILE, best_count, extra, is_newer, lenient
from kvmap.disk.report import Damage, Report, ShardReport
from kvmap.disk.scan import Row, Scan, file_of
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import Steps
from kvmap.disk.tuning import Tuning
from kvmap.engine import Progress
from kvmap.errors import CorruptStoreError, NotAStoreError
from kvmap.settings import Settings
from kvmap.turn import Turn


class Survey:
    """Everything in a store. `read` reads it; after that, `close` gives the descriptors back."""

    def __init__(
        self,
        folder: Folder,
        progress: Progress | None,
        passes: int = 1,
        manifest: Manifest | None = None,
        codec: str = "json",
    ) -> None:
        """`passes`: how often the shards are read through, for the progress.

        `manifest` is used in place of the one that is there, and `codec` where that is lost.
        """
        self.folder = folder
        self.shards_folder: Folder | None = None
        self.other: list[Damage] = []
        self.misfits: list[Damage] = []
        """What is no plain file, or no directory, where one belongs."""
        self.extra: list[Shard] = []
        """Files of shards that the store doesn't have."""
        self.away: dict[int, list[Row]] = {}
        """Records that stand elsewhere, by the shard that they belong into."""
        self.reports: list[ShardReport] = []
        self.kept = 0
        """Whole records."""
        self.highest_seq = 0
        """The highest sequence number of any of them."""
        self.tied: set[tuple[int, int]] = set()
        """Where entries stand whose place in the order belongs to another: shard, and first byte."""
        self.journal = "none"
        self.ends: dict[int, int] = {}
        """Where shards ended before an unfinished batch."""
        self.fits = True
        """Whether all shards can be opened as the manifest says."""
        self._files: dict[int, str] = {}
        self._mismatches: dict[int, Damage] = {}
        self._places = Places()
        self._index = "none"
        self._hinted: Hinted | None = None
        self._progress, self._passes = progress, passes
        self._done = self._total = 0
        try:
            self._open_shards_folder()
            if manifest is None:
                self._read_manifest(codec)
            else:
                self.manifest_state, self.manifest = "whole", manifest
            self._open_shards()
        except BaseException:
            self.close()
            raise

    # Opening

    def _note(self, file: str, error: CorruptStoreError, *, misfit: bool) -> None:
        damage = Damage(file, error.offset or 0, 0, error.reason)
        self.other.append(damage)
        if misfit:
            self.misfits.append(damage)

    def _open_shards_folder(self) -> None:
        try:
            self.shards_folder = self.folder.subfolder(SHARDS)
        except FileNotFoundError:
            self.other.append(Damage(SHARDS, 0, 0, "the directory is missing"))
            return
        except CorruptStoreError as error:
            self._note(SHARDS, error, misfit=True)
            return
        for name in self.shards_folder.names():
            found = SHARD_FILE.fullmatch(name)
            if found:
                self._files[int(found[1], 16)] = name

    def _read_manifest(self, codec: str) -> None:
        self.manifest_state = "whole"
        data = self.plain(NAME)
        path = self.folder.file_path(NAME)
        if data is not None:
            try:
                self.manifest = Manifest.from_bytes(path, data)
                return
            except NotAStoreError as error:
                if is_newer(data):
                    raise
                reason = str(error).removeprefix(path).partition("; kvmap.repair")[0]
                self.manifest_state = re.sub(r"^(, byte \d+)?: ", "", reason)
                self.other.append(Damage(NAME, 0, len(data), self.manifest_state))
        elif self.misfits and self.misfits[-1].file == NAME:
            self.manifest_state = self.misfits[-1].reason
        else:
            self.manifest_state = "missing"
            self.other.append(Damage(NAME, 0, 0, "missing"))
        self.manifest = Manifest(Settings(codec=codec), (UNKNOWN,) * self._count())

    def plain(self, name: str) -> bytes | None:
        """A file in the store's directory; None where there is none, or no plain one, which is noted."""
        try:
            return None if self.folder.size(name) is None else self.folder.read(name)
        except FileNotFoundError:
            return None
        except CorruptStoreError as error:
            self._note(name, error, misfit=True)
            return None

    def _count(self) -> int:
        if self.shards_folder is None:
            return DEFAULT_SHARDS
        return best_count(self.shards_folder, self._files)

    def _open_shards(self) -> None:
        self.mask = len(self.manifest.shards) - 1
        self.decode = codecs.make(self.manifest.settings.codec).decode
        self.shards: Shards | None = None
        if self.shards_folder is None:
            return
        shards = self._made(self.manifest.shards)
        known = list(self.manifest.shards)
        self.shards = shards
        if self.manifest.emptying:
            return  # what is left of the files holds nothing
        for shard in shards.all:
            try:
                shard.open()
            except CorruptStoreError as error:
                known[shard.number] = UNKNOWN
                self._mismatches[shard.number] = self._mismatch(shard, error)
        if self._mismatches:
            self.fits = False
            shards.close()
            self.shards = shards = self._made(known)
            for shard in shards.all:
                self._open_any(shard)
        for number in sorted(self._files.keys() - set(range(self.mask + 1))):
            shard = lenient(self.shards_folder, number)
            self._open_any(shard)
            self.extra.append(shard)
        self._total = self._passes * sum([each.end for each in (*shards.all, *self.extra)])

    def _made(self, known: list[Known] | tuple[Known, ...]) -> Shards:
        assert self.shards_folder is not None
        steps = Steps(Turn())
        return Shards(
            self.folder,
            self.shards_folder,
            known,
            Tuning(),
            steps,
            lambda shard: None,
            writable=False,
        )

    def _mismatch(self, shard: Shard, error: CorruptStoreError) -> Damage:
        length = 0
        with suppress(CorruptStoreError):  # it is no plain file
            assert self.shards_folder is not None
            size = self.shards_folder.size(shard.name) or 0
            length = abs(size - shard.known.length)
        return Damage(file_of(shard), error.offset or 0, length, error.reason)

    def _open_any(self, shard: Shard) -> None:
        try:
            shard.open()
        except CorruptStoreError as error:
            if shard.number not in self._mismatches:
                self.other.append(Damage(file_of(shard), 0, 0, error.reason))
            self.misfits.append(Damage(file_of(shard), 0, 0, error.reason))

    # Reading

    def stop_before_batch(self) -> None:
        """Let the shards end where an unfinished batch began, as the next open does."""
        if self.shards is None or self.manifest.emptying:
            return
        if self._has_journal() and self.journal == "stale":
            ends = read_journal(self.folder)
            if ends is not None and is_about(ends, self.shards.all):
                self.journal = "unfinished"
                self.ends = ends.ends
                for number, end in ends.ends.items():
                    shard = self.shards.all[number]
                    shard.read_until = min(shard.read_until, end)
                    shard.end = min(shard.end, end)

    def _has_journal(self) -> bool:
        try:
            if self.folder.size(JOURNAL) is not None:
                self.journal = "stale"
                return True
        except CorruptStoreError as error:
            self.journal = error.reason
            if all(each.file != JOURNAL for each in self.misfits):
                self._note(JOURNAL, error, misfit=True)
        return False

    def read(self) -> Report:
        """Read all files."""
        self._has_journal()
        if self.ends:
            self.journal = "unfinished"
        self._read_hint()
        for name in (LOCK, NAME + NEW, JOURNAL + NEW, HINT + NEW):
            self._check_plain(name)
        if self.shards is not None and not self.manifest.emptying:
            for shard in self.shards.all:
                self.reports.append(self._read_shard(shard))
            for shard in self.extra:
                self._read_extra(shard)
            self._find_tied(self.shards)
        if self._hinted is not None and self._hinted.right:
            self._index = "in use"
        return Report(
            self.folder.path,
            self.manifest_state,
            self.manifest_state == "whole" and not self.manifest.in_use,
            self.journal,
            self._index,
            tuple(self.reports),
            tuple(self.other),
        )

    def _check_plain(self, name: str) -> None:
        """Note a directory where files are replaced; other things there do no harm."""
        found = self.folder.fs.status(self.folder.descriptor, name)
        if found is not None and (found.is_directory or (name == LOCK and not found.is_file)):
            error = CorruptStoreError(self.folder.file_path(name), 0, "not a plain file")
            self._note(name, error, misfit=True)

    def _read_hint(self) -> None:
        try:
            if self.folder.size(HINT) is None:
                return
        except CorruptStoreError as error:
            self._note(HINT, error, misfit=True)
            self._index = error.reason
            return
        self._index = "stale"
        if self.shards is not None and not self.manifest.emptying and self.fits:
            self._hinted = Hinted(self.shards)

    def _find_tied(self, shards: Shards) -> None:
        for number, begin, end in self._places.displaced(shards.all):
            self.tied.add((number, begin))
            report = self.reports[number]
            more = (*report.damage, Damage(report.file, begin, end - begin, TIED))
            self.reports[number] = replace(report, damage=more)

    def _read_shard(self, shard: Shard) -> ShardReport:
        known = self.manifest.shards[shard.number]
        found = Scan(shard, known, self.mask, self.decode)
        mismatch = self._mismatches.get(shard.number)
        if mismatch is not None:
            found.damage.append(mismatch)
        for at, part in shard.stretches():
            found.add(at, part)
            self.step(len(part))
        self._note_kept(found)
        outdated = Damage(NAME, 0, 0, OUTDATED)
        if known.exact and found.highest_seq > self.manifest.seq and outdated not in self.other:
            self.other.append(outdated)
        now = self.folder.fs.now()
        self._places.add(shard.number, found.alive(now))
        if self._hinted is not None:
            self._hinted.compare(shard.number, found)
        if shard.end == shard.read_until:
            assert self.shards_folder is not None
            size = (self.shards_folder.size(shard.name) or 0) - shard.end
            if size > 0 and (self.journal == "unfinished" or not self._is_later(shard, size)):
                found.torn += size
        return found.report(now)

    def _note_kept(self, found: Scan) -> None:
        self.kept += found.kept
        self.highest_seq = max(self.highest_seq, found.highest_seq)
        for row in found.away:
            self.away.setdefault(row.home, []).append(row)

    def _is_later(self, shard: Shard, size: int) -> bool:
        """Whether the owner has gone on writing behind the end of what is read."""
        end, shard.read_until = shard.read_until, shard.end + size
        try:
            data = shard.read(end, min(end + size, end + (1 << 20)))
            return isinstance(next(walk(data, shard.number, end))[2], Record)
        finally:
            shard.read_until = end

    def _read_extra(self, shard: Shard) -> None:
        found = Scan(shard, UNKNOWN, self.mask, self.decode)
        for at, part in shard.stretches():
            found.add(at, part)
            self.step(len(part))
        self._note_kept(found)
        if all(each.file != file_of(shard) for each in self.misfits):
            self.other.append(Damage(file_of(shard), 0, shard.end, extra(self.mask + 1)))

    def step(self, size: int) -> None:
        """Report progress."""
        self._done = min(self._done + size, self._total)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def finish(self) -> None:
        """Report that nothing is left to do."""
        self.step(self._total)

    def close(self) -> None:
        """Give the descriptors back, but for the store's directory."""
        shards: Shards | None = getattr(self, "shards", None)
        if shards is not None:
            shards.close()
        for shard in self.extra:
            shard.close()
        if self.shards_folder is not None:
            self.shards_folder.close()
