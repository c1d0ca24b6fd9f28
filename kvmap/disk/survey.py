"""A store opened as far as it can be, damaged or not, and everything in it read once.

What is refused elsewhere is noted here as damage. Nothing is changed. The rules are those that
loading has: `parser` takes records apart, `damage` finds them amid damage, and `journal` says
whether a batch is unfinished.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from orjson import loads

from kvmap import codecs, keys
from kvmap.disk import hint
from kvmap.disk.damage import is_torn, walk
from kvmap.disk.folder import HINT, JOURNAL, LOCK, NEW, SHARDS, Folder
from kvmap.disk.fs import FileSystem
from kvmap.disk.journal import is_about, read_journal
from kvmap.disk.manifest import (
    DEFAULT_SHARDS,
    FORMAT,
    MOST_SHARDS,
    NAME,
    UNKNOWN,
    Known,
    Manifest,
)
from kvmap.disk.parser import Record, Table, misplaced
from kvmap.disk.records import deadline, unpack_order, unpack_value, unsealed
from kvmap.disk.report import Damage, Report, ShardReport, extend
from kvmap.disk.shard import NO_MAP, Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import Steps
from kvmap.disk.tuning import Tuning
from kvmap.engine import Progress
from kvmap.errors import CorruptStoreError, NotAStoreError
from kvmap.settings import Settings
from kvmap.turn import Turn

NO_NEWLINE: Final = "the record has no newline"
_SHARD_FILE: Final = re.compile(r"([0-9a-f]{2})\.jsonl")
_MOST_FILES: Final = 256


class Row(NamedTuple):
    """A whole record, and where it stands."""

    seq: int
    source: int
    """The number of the shard's file."""
    begin: int
    end: int
    home: int
    """The number of the shard that it belongs into."""


def open_store(path: str, fs: FileSystem) -> Folder:
    """The directory of a store, or of what is left of one.

    Raises FileNotFoundError where there is nothing, NotAStoreError for what is no store.
    """
    found = fs.path_status(path)
    if found is None:
        raise FileNotFoundError(2, "no store here", path)
    if not found.is_directory:
        raise NotAStoreError(f"{path} is not a directory; a store is one")
    folder = Folder.open(fs, path)
    try:
        if not _is_store(folder):
            raise NotAStoreError(f"{path} holds no kvmap store")
    except BaseException:
        folder.close()
        raise
    return folder


def _is_store(folder: Folder) -> bool:
    names = folder.names()
    if NAME in names or JOURNAL in names:
        return True
    if SHARDS not in names:
        return False
    found = folder.fs.status(folder.descriptor, SHARDS)
    if found is None or not found.is_directory:
        return False
    shards = folder.subfolder(SHARDS)
    try:
        return any(map(_SHARD_FILE.fullmatch, shards.names()))
    finally:
        shards.close()


class Survey:
    """Everything in a store. `read` reads it; after that, `close` gives the descriptors back."""

    def __init__(self, folder: Folder, progress: Progress | None, passes: int = 1) -> None:
        """`passes`: how often the shards are read through, for the progress."""
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
        self.journal = "none"
        self.ends: dict[int, int] = {}
        """Where shards ended before an unfinished batch."""
        self.fits = True
        """Whether all shards can be opened as the manifest says."""
        self._files: dict[int, str] = {}
        self._told: dict[int, Damage] = {}
        self._progress = progress
        self._passes = passes
        self._done = self._total = 0
        try:
            self._open_shards_folder()
            self._read_manifest()
            self._open_shards()
        except BaseException:
            self.close()
            raise

    # Opening

    def _note(self, file: str, error: CorruptStoreError, *, misfit: bool) -> None:
        damage = Damage(file, error.offset, 0, error.reason)
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
            found = _SHARD_FILE.fullmatch(name)
            if found:
                self._files[int(found[1], 16)] = name

    def _read_manifest(self) -> None:
        self.manifest_state = "whole"
        data = self.plain(NAME)
        path = self.folder.file_path(NAME)
        if data is not None:
            try:
                self.manifest = Manifest.from_bytes(path, data)
                return
            except NotAStoreError as error:
                if _is_newer(data):
                    raise
                reason = str(error).removeprefix(path).partition("; kvmap.repair")[0]
                self.manifest_state = re.sub(r"^(, byte \d+)?: ", "", reason)
                self.other.append(Damage(NAME, 0, len(data), self.manifest_state))
        elif self.misfits and self.misfits[-1].file == NAME:
            self.manifest_state = self.misfits[-1].reason
        else:
            self.manifest_state = "missing"
            self.other.append(Damage(NAME, 0, 0, "missing"))
        self.manifest = Manifest(Settings(), (UNKNOWN,) * self._best_count())

    def plain(self, name: str) -> bytes | None:
        """A file in the store's directory; None where there is none, or no plain one, which is noted."""
        try:
            return None if self.folder.size(name) is None else self.folder.read(name)
        except FileNotFoundError:
            return None
        except CorruptStoreError as error:
            self._note(name, error, misfit=True)
            return None

    def _best_count(self) -> int:
        """The number of shards with which most records stand where they belong."""
        buckets: Counter[tuple[int, int]] = Counter()
        for number in self._files:
            shard = self._lenient(number)
            try:
                shard.open()
                for at, part in shard.stretches():
                    for _, _, found in walk(part, number, at):
                        if isinstance(found, Record):
                            buckets[number, keys.bucket(found.key, MOST_SHARDS - 1)] += 1
            except CorruptStoreError:
                continue  # noted when it is opened
            finally:
                shard.close()
        fits = {
            count: sum([n for (at, each), n in buckets.items() if each & (count - 1) == at])
            for count in [1 << n for n in range(MOST_SHARDS.bit_length())]
        }
        return max(fits, key=lambda count: (fits[count], count == DEFAULT_SHARDS, -count))

    def _lenient(self, number: int) -> Shard:
        """A shard of which nothing is known."""
        assert self.shards_folder is not None
        maps: list[Any] = [NO_MAP] * _MOST_FILES
        return Shard(self.shards_folder, number, UNKNOWN, maps, Tuning(), writable=False)

    def _open_shards(self) -> None:
        count = len(self.manifest.shards)
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
                self._told[shard.number] = self._mismatch(shard, error)
        if self._told:
            self.fits = False
            shards.close()
            self.shards = shards = self._made(known)
            for shard in shards.all:
                self._open_any(shard)
        for number in sorted(self._files.keys() - set(range(count))):
            shard = self._lenient(number)
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
        try:
            assert self.shards_folder is not None
            size = self.shards_folder.size(shard.name) or 0
            length = abs(size - shard.known.length)
        except CorruptStoreError:
            pass  # it is no plain file
        return Damage(file_of(shard), error.offset, length, error.reason)

    def _open_any(self, shard: Shard) -> None:
        try:
            shard.open()
        except CorruptStoreError as error:
            if shard.number not in self._told:
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
        index = self._read_hint()
        for name in (LOCK, NAME + NEW, JOURNAL + NEW, HINT + NEW):
            self._check_plain(name)
        if self.shards is not None and not self.manifest.emptying:
            for shard in self.shards.all:
                self.reports.append(self._read_shard(shard))
            for shard in self.extra:
                self._read_extra(shard)
        return Report(
            self.folder.path,
            self.manifest_state,
            self.manifest_state == "whole" and not self.manifest.in_use,
            self.journal,
            index,
            tuple(self.reports),
            tuple(self.other),
        )

    def _check_plain(self, name: str) -> None:
        """Note a directory where files are replaced; other things there do no harm."""
        found = self.folder.fs.status(self.folder.descriptor, name)
        if found is not None and (found.is_directory or (name == LOCK and not found.is_file)):
            error = CorruptStoreError(self.folder.file_path(name), 0, "not a plain file")
            self._note(name, error, misfit=True)

    def _read_hint(self) -> str:
        try:
            if self.folder.size(HINT) is None:
                return "none"
        except CorruptStoreError as error:
            self._note(HINT, error, misfit=True)
            return error.reason
        if self.shards is None or self.manifest.emptying or not self.fits:
            return "stale"
        return "in use" if any(hint.covered(self.shards).ends) else "stale"

    def parts(self, shard: Shard) -> Iterator[tuple[int, int, Record | str]]:
        """All of a shard, record by record: where each part begins and ends, and what it is.

        A part that is no record, or whose value can't be decoded, comes with the reason.
        """
        for at, part in shard.stretches():
            yield from self._parts(shard, at, part)

    def _parts(self, shard: Shard, at: int, part: bytes) -> Iterator[tuple[int, int, Record | str]]:
        for begin, end, found in walk(part, shard.number, at):
            wrong = isinstance(found, Record) and self._undecodable(found.text)
            yield begin, end, wrong or found

    def _undecodable(self, text: bytes | None) -> str:
        if text is not None:
            try:
                self.decode(text)
            except ValueError as error:
                return f"the value can't be read: {error}"
        return ""

    def may_be_torn(self, shard: Shard, begin: int, end: int, found: Record | str) -> bool:
        """Whether a crash explains this part, which is no whole line of a record."""
        known = self.manifest.shards[shard.number]
        if known.exact or begin < known.length:
            return False
        return isinstance(found, Record) or is_torn(
            shard.read(begin, end), begin, last=end == shard.end
        )

    def _read_shard(self, shard: Shard) -> ShardReport:
        found = _Figures(shard, self.manifest, self.folder.fs.now())
        told = self._told.get(shard.number)
        if told is not None:
            found.damage.append(told)
        for at, part in shard.stretches():
            if not self._add(found, at, part):
                self._add_each(found, at, part)
            self.step(len(part))
        self.kept += found.count
        size = 0
        if shard.end == shard.read_until:
            assert self.shards_folder is not None
            size = (self.shards_folder.size(shard.name) or 0) - shard.end
        if size > 0 and (self.journal == "unfinished" or not self._is_later(shard, size)):
            found.torn += size
        return found.report()

    def _is_later(self, shard: Shard, size: int) -> bool:
        """Whether the owner has gone on writing behind the end of what is read."""
        end, shard.read_until = shard.read_until, shard.end + size
        try:
            data = shard.read(end, min(end + size, end + (1 << 20)))
            return isinstance(next(walk(data, shard.number, end))[2], Record)
        finally:
            shard.read_until = end

    def _add(self, found: _Figures, at: int, part: bytes) -> bool:
        """Take a stretch along in which nothing is wrong; tell whether it is one."""
        table = found.table
        new = Table(table.shard, len(self.manifest.shards) - 1, table.last_seq)
        try:
            new.add(part, at)
            for entry in new.entries:
                if entry is not None:
                    start, end = unpack_value(entry)[:2]
                    self.decode(part[start - at : end - at])
        except ValueError:
            return False
        found.add(new, part)
        return True

    def _add_each(self, found: _Figures, at: int, part: bytes) -> None:
        shard, mask = found.shard, len(self.manifest.shards) - 1
        for begin, end, what in self._parts(shard, at, part):
            piece, reason = part[begin - at : end - at], what if isinstance(what, str) else None
            if isinstance(what, Record):
                reason = misplaced(what, shard.number, mask, found.table.last_seq)
                if end - begin < what.size:
                    if self.may_be_torn(shard, begin, end, what):
                        found.torn += end - begin
                        continue
                    found.note(begin, end, NO_NEWLINE)
                    self._count(shard, begin, end, what)
                    continue
                if reason is None:
                    new = Table(shard.number, mask, found.table.last_seq)
                    new.add(piece, begin)
                    found.add(new, piece)
                    continue
                self._count(shard, begin, end, what)
            elif self.may_be_torn(shard, begin, end, what):
                found.torn += end - begin
                continue
            assert reason is not None
            found.note(begin, end, reason)

    def _count(self, shard: Shard, begin: int, end: int, record: Record) -> None:
        """Note a whole record that stands where it can't be read."""
        self.kept += 1
        home = keys.bucket(record.key, len(self.manifest.shards) - 1)
        if home != shard.number:
            row = Row(record.seq, shard.number, begin, end, home)
            self.away.setdefault(home, []).append(row)

    def _read_extra(self, shard: Shard) -> None:
        for begin, end, what in self.parts(shard):
            if isinstance(what, Record):
                self._count(shard, begin, end, what)
        if all(each.file != file_of(shard) for each in self.misfits):
            reason = f"the store has {len(self.manifest.shards)} shards"
            self.other.append(Damage(file_of(shard), 0, shard.end, reason))
        self.step(shard.end)

    def step(self, size: int) -> None:
        """Tell of progress."""
        self._done = min(self._done + size, self._total)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def finish(self) -> None:
        """Tell that nothing is left to do."""
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


class _Figures:
    """What was found in one shard so far."""

    def __init__(self, shard: Shard, manifest: Manifest, now: float) -> None:
        self.shard = shard
        self.table = Table(shard.number, len(manifest.shards) - 1)
        """Only its last sequence number is used."""
        self.latest: dict[Any, tuple[int, float]] = {}
        """Length of the latest record of each key, and its deadline."""
        self.count = self.bytes = self.tombstones = self.torn = 0
        self.damage: list[Damage] = []
        self._now = now

    def add(self, new: Table, part: bytes) -> None:
        for key, entry in zip(new.keys, new.entries, strict=True):
            if entry is None:
                self.latest.pop(key, None)
                self.tombstones += 1
            else:
                self.latest[key] = unpack_order(entry)[1], deadline(entry)
        self.count += len(new.keys)
        self.bytes += len(part)
        self.table.last_seq = new.last_seq

    def note(self, begin: int, end: int, reason: str) -> None:
        extend(self.damage, Damage(file_of(self.shard), begin, end - begin, reason))

    def report(self) -> ShardReport:
        sizes = [size for size, expires in self.latest.values() if expires > self._now]
        live = sum(sizes)
        return ShardReport(
            file_of(self.shard),
            len(sizes),
            live,
            self.bytes - live,
            self.tombstones,
            len(self.latest) - len(sizes),
            self.torn,
            tuple(sorted(self.damage, key=lambda each: each.offset)),
        )


def file_of(shard: Shard) -> str:
    """The name of a shard's file inside the store."""
    return f"{SHARDS}/{shard.name}"


def _is_newer(data: bytes) -> bool:
    try:
        content: Any = loads(data)
        return unsealed(data) is not None and content["format"] > FORMAT
    except (ValueError, TypeError, LookupError):
        return False
