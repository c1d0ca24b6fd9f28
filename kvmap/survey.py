"""Reading a whole store, and telling what stands in it and what is damaged; nothing is changed."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

from orjson import JSONDecodeError, loads

from kvmap import manifest, snapshot
from kvmap.errors import CorruptStoreError, NotAStoreError
from kvmap.keys import Key, bucket
from kvmap.manifest import FORMAT, MOST_SHARDS, Manifest
from kvmap.record import Entry, Record, deadline, torn, unsealed, walk
from kvmap.shard import HIGHEST, State
from kvmap.store import Store

Progress = Callable[[int, int], object] | None

_SHARD = re.compile(r"([0-9a-f]{2,3})\.jsonl")
_STEP = 1 << 20
_UNKNOWN = State(0, 0, final=False)
_USABLE = ("none", "in use", "not used")


@dataclass(frozen=True)
class Damage:
    """Bytes of a file that are not what was written there."""

    file: str
    """Its name inside the store, such as `shards/07.jsonl`."""
    offset: int
    length: int
    reason: str


@dataclass(frozen=True)
class ShardReport:
    """What stands in one shard's file."""

    file: str
    records: int
    """Entries that can be read: the latest records of keys, not deleted and not expired."""
    live_bytes: int
    """Bytes of these records."""
    dead_bytes: int
    """Bytes of all other whole records: overwritten ones, expired ones and tombstones."""
    tombstones: int
    expired: int
    torn_bytes: int
    """Bytes that a crash left half written; the next open drops them. No damage."""
    damage: tuple[Damage, ...]


@dataclass(frozen=True)
class Report:
    """What `verify` found."""

    path: str
    manifest: str
    """"whole", or what is wrong with it."""
    closed: bool
    """Whether the store was closed cleanly."""
    journal: str
    """"none", "committed" (the next open applies it), "not committed" (the next open drops it),
    "applied" (likewise), or what is wrong with it."""
    index: str
    """The stored index: "none", "in use", "not used", or what is wrong with it."""
    shards: tuple[ShardReport, ...]
    other: tuple[Damage, ...]
    """Damage outside the shards."""

    @property
    def damage(self) -> tuple[Damage, ...]:
        """All damage, file by file."""
        return self.other + tuple(each for shard in self.shards for each in shard.damage)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damage


class Contents(NamedTuple):
    """A shard's file, taken apart."""

    data: bytes
    own: list[tuple[int, Record]]
    foreign: list[tuple[int, Record]]
    """Whole records, and where they begin: of this shard, and of others."""
    taken: list[Damage]
    """Stretches that are no record, nor explained by a crash."""
    torn: list[Damage]
    told: list[Damage]
    """What the manifest says of the file as a whole and is not so."""

    file: str

    @property
    def damage(self) -> tuple[Damage, ...]:
        away = [
            Damage(self.file, at, record.size, "a record of another shard")
            for at, record in self.foreign
        ]
        return tuple(sorted([*self.told, *self.taken, *away], key=lambda each: each.offset))


class Survey:
    """Everything in a store, read once. Make one, then call `read`."""

    def __init__(self, store: Store, progress: Progress, passes: int = 1) -> None:
        self.store = store
        self.files = store.files
        self.manifest = "whole"
        self.journal = self.index = "none"
        self.shards: list[ShardReport] = []
        self.other: list[Damage] = []
        self.strays: list[Damage] = []
        """Links and the like in place of files, and files of shards that the store doesn't have."""
        self.away: dict[int, list[bytes]] = {}
        """Lines that belong into a shard and stand elsewhere."""
        self.records = self.seq = 0
        self._progress, self._passes = progress, passes
        self._done = self._total = 0

    def read(self) -> Report:
        """Read all files. Raises NotAStoreError for a store that a newer kvmap wrote."""
        names = self._shard_files()
        self._total = sum([self._passes * (self._size(name) or 0) for name in names.values()])
        self._read_manifest(names)
        if not self.store.manifest.emptying:
            self._read_journal()
            index = self._read_index()
            for number in range(self.store.mask + 1):
                self.shards.append(self._read_shard(number, index))
            if index and any(deadline(entry) > self.files.now() for entry in index.values()):
                self.index = "it tells of keys that the shards don't have"
            for number in sorted(names.keys() - set(range(self.store.mask + 1))):
                found = self.contents(number, named=names[number])
                self._note(found)
                reason = f"the store has {self.store.mask + 1} shards"
                self.strays.append(Damage(found.file, 0, len(found.data), reason))
        if self.index not in _USABLE:
            size = self._size("index.jsonl") or 0
            self.other.append(Damage("index.jsonl", 0, size, self.index))
        return Report(
            self.store.path,
            self.manifest,
            self.store.manifest.closed is not None,
            self.journal,
            self.index,
            tuple(self.shards),
            tuple(self.other + self.strays),
        )

    def path(self, file: str) -> str:
        return os.path.join(self.store.path, file)

    def step(self, size: int) -> None:
        """Tell of progress."""
        self._done = min(self._done + size, self._total)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def finish(self) -> None:
        """Tell that nothing is left to do."""
        self.step(self._total)

    def contents(self, number: int, *, named: str = "", step: bool = False) -> Contents:
        """Take a shard's file apart; all records of one that the store doesn't have are foreign."""
        file = named or f"shards/{number:02x}.jsonl"
        state = (None if named else self.store.shards[number].state) or _UNKNOWN
        found = Contents(self._plain(file) or b"", [], [], [], [], [], file)
        data, size = found.data, len(found.data)
        if size < state.length or (state.final and size > state.length):
            reason = f"{size} bytes long, but {state.length} when it was closed"
            gap = abs(size - state.length)
            found.told.append(Damage(file, min(size, state.length), gap, reason))
        sure = size if state.final else state.length
        stepped = 0
        for begin, end, record in walk(data):
            reason = _unusable(record) if isinstance(record, Record) else record
            if isinstance(record, str) or reason:
                kind = found.torn if begin >= sure and torn(data, begin, end) else found.taken
                _extend(kind, Damage(file, begin, end - begin, reason))
            elif bucket(record.key, self.store.mask) == number:
                found.own.append((begin, record))
            else:
                found.foreign.append((begin, record))
            if step and end - stepped > _STEP:
                self.step(end - stepped)
                stepped = end
        if step:
            self.step(size - stepped)
        if not found.damage and crc32(data[:sure]) != state.crc:
            found.told.append(Damage(file, 0, sure, "not the file that was closed"))
        return found

    def _shard_files(self) -> dict[int, str]:
        folder = self.path("shards")
        if not self.files.exists(folder):
            self.other.append(Damage("shards", 0, 0, "the directory is missing"))
        elif self.files.is_link(folder) or not self.files.is_folder(folder):
            self.strays.append(Damage("shards", 0, 0, "not a directory of the store"))
        else:
            found = [_SHARD.fullmatch(name) for name in self.files.names(folder)]
            return {int(each[1], 16): f"shards/{each[0]}" for each in found if each}
        return {}

    def _size(self, file: str) -> int | None:
        """A file's size, None where there is none; what is no plain file is noted as stray."""
        folder = self.path("shards")
        if "/" in file and (self.files.is_link(folder) or not self.files.is_folder(folder)):
            return None
        try:
            return self.files.size(self.path(file))
        except CorruptStoreError as error:
            stray = Damage(file, 0, 0, error.reason)
            if stray not in self.strays:
                self.strays.append(stray)
            return None

    def _plain(self, file: str) -> bytes | None:
        return None if self._size(file) is None else self.files.read(self.path(file))

    def _read_manifest(self, names: dict[int, str]) -> None:
        data = self._plain(manifest.NAME)
        try:
            if data is None:
                raise NotAStoreError("missing")
            self.store.use(Manifest.from_bytes(self.path(manifest.NAME), data))
            self.seq = self.store.manifest.seq
        except NotAStoreError as error:
            if data is not None and _is_newer(data):
                raise
            self.manifest = str(error).removeprefix(self.path(manifest.NAME)).lstrip(",: ")
            self.other.append(Damage(manifest.NAME, 0, len(data or b""), self.manifest))
            self.store.use(Manifest(self._count(names)))

    def _count(self, names: dict[int, str]) -> int:
        """The number of shards with which most records stand where they belong."""
        buckets: Counter[tuple[int, int]] = Counter()
        for number, name in names.items():
            for _, _, record in walk(self._plain(name) or b""):
                if isinstance(record, Record):
                    buckets[number, bucket(record.key, MOST_SHARDS - 1)] += 1
        fits = {
            count: sum([n for (at, each), n in buckets.items() if each & (count - 1) == at])
            for count in [1 << n for n in range(13)]
            if count > max([at for at, _ in buckets], default=0)
        }
        return max(fits, key=lambda count: (fits[count], count == 64, -count))

    def _read_journal(self) -> None:
        data = self._plain("journal.jsonl")
        if data is None:
            return
        try:
            found = self.store.read_journal()
        except CorruptStoreError as error:
            self.journal = error.reason
            rest = len(data) - error.offset
            self.other.append(Damage("journal.jsonl", error.offset, rest, error.reason))
            return
        self.journal = "not committed" if found is None else "committed"
        for at, record in found or ():
            self._take(data[at : at + record.size], record)

    def _read_index(self) -> dict[Key, Entry] | None:
        if (exists := self._size("index.jsonl") is not None) and self.store.manifest.index is None:
            self.index = "not used"
        if self.store.manifest.index is None:
            return None
        try:
            found = snapshot.load(self.store) if exists else None
        except CorruptStoreError:
            self.index = "not used"  # a shard is damaged, which is told there
            return None
        self.index = "in use" if found else "not what was stored; the shards tell all"
        return found[0] if found else None

    def _take(self, line: bytes, record: Record) -> None:
        self.away.setdefault(bucket(record.key, self.store.mask), []).append(line)
        self.seq = max(self.seq, record.seq)

    def _note(self, found: Contents) -> None:
        for begin, record in found.foreign:
            self._take(found.data[begin : begin + record.size], record)
        self.records += len(found.own) + len(found.foreign)
        self.seq = max([self.seq, *[record.seq for _, record in found.own]])

    def _read_shard(self, number: int, index: dict[Key, Entry] | None) -> ShardReport:
        found = self.contents(number, step=True)
        self._note(found)
        latest = {r.key: (at, r) for at, r in sorted(found.own, key=lambda each: each[1].seq)}
        there = [each for each in latest.values() if each[1].value is not None]
        now = self.files.now()
        live = [record for _, record in there if record.expires > now]
        for begin, record in there if index is not None else ():
            assert index is not None
            same = index.pop(record.key, None) == record.entry(number, begin)
            if not same and record.expires > now:
                self.index = f"it disagrees with {found.file} at byte {begin}"
        size = sum([record.size for record in live])
        return ShardReport(
            found.file,
            len(live),
            size,
            sum([record.size for _, record in found.own]) - size,
            sum([record.value is None for _, record in found.own]),
            len(there) - len(live),
            sum([each.length for each in found.torn]),
            found.damage,
        )


def _unusable(record: Record) -> str:
    """What is wrong with a record whose checksum is right."""
    if record.seq > HIGHEST:
        return "the write's number is out of range"
    try:
        loads(record.value or b"null")
    except JSONDecodeError as error:
        return f"the value is not JSON: {error}"
    return ""


def _extend(found: list[Damage], more: Damage) -> None:
    """Add a stretch, or make the one before it longer."""
    if found and found[-1].offset + found[-1].length == more.offset:
        last = found.pop()
        more = Damage(last.file, last.offset, last.length + more.length, last.reason)
    found.append(more)


def _is_newer(data: bytes) -> bool:
    try:
        content: Any = loads(data)
        return unsealed(data) is not None and content["format"] > FORMAT
    except (ValueError, TypeError, LookupError):
        return False
