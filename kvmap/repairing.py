"""`verify` reads a whole store for damage; `repair` keeps what is whole of it.

Repair takes out what is no record, keeps these bytes in `damaged/`, brings records that stand in
another shard's file home, and writes a manifest that fits.

Every step of it leaves a store that a second repair finishes: bytes are copied aside before they
are taken out, records are written to where they belong before they go from where they were, and
until the end the manifest tells of the files as they were, so that nobody takes a half for a whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, count
from zlib import crc32

from kvmap import manifest
from kvmap.errors import CorruptStoreError, NotAStoreError
from kvmap.files import Files
from kvmap.record import Record
from kvmap.shard import State
from kvmap.store import Store, acquire, check_names
from kvmap.survey import Contents, Damage, Progress, Report, Survey


@dataclass(frozen=True)
class Aside:
    """Bytes that `repair` took out, or a whole file, and where they are now."""

    damage: Damage
    kept: str
    """A file's name inside the store, such as `damaged/07.jsonl.at-4096`."""


@dataclass(frozen=True)
class Repaired:
    """What `repair` did."""

    found: Report
    """The store as it was before."""
    records: int
    """Whole records that were kept, overwritten ones included."""
    moved: int
    """How many of them stood in another shard's file, or in the journal."""
    aside: tuple[Aside, ...]
    new_manifest: bool
    """Whether the manifest was made anew; limits and the default ttl are then gone."""


def verify(path: str | os.PathLike[str], progress: Progress = None) -> Report:
    """Read a whole store and report what is in it and what is damaged; nothing is changed.

    O(bytes of the store). `progress` is called as progress(done_bytes, total_bytes).

    Raises StoreLockedError where the store is open, NotAStoreError where there is none or a newer
    kvmap wrote it, and OSError.

    >>> import kvmap
    >>> with kvmap.open() as d:
    ...     d["ada"] = 1
    >>> report = kvmap.verify(d.path)
    >>> report.ok, sum(shard.records for shard in report.shards)
    (True, 1)
    """
    with _owned(path) as store:
        return Survey(store, progress).read()


def repair(path: str | os.PathLike[str], progress: Progress = None) -> Repaired:
    """Keep every whole record of a damaged store, and the bytes taken out in its `damaged/` folder.

    A store without damage is left alone. Where damage took a key's latest record, an older one or
    a deleted one may show again. Killed or interrupted, it can be run again and loses nothing.

    O(bytes of the store), each damaged shard written anew. `progress` is called as
    progress(done_bytes, total_bytes).

    Raises StoreLockedError where the store is open, NotAStoreError where there is none or a newer
    kvmap wrote it, CorruptStoreError for a link in place of `lock` or `damaged`, and OSError.

    >>> import kvmap
    >>> with kvmap.open() as d:
    ...     d["ada"] = 1
    >>> _ = (d.path / "kvmap.json").write_text("oops")
    >>> done = kvmap.repair(d.path)
    >>> done.new_manifest, done.records, done.aside[0].kept
    (True, 1, 'damaged/kvmap.json.at-0')
    """
    with _owned(path) as store:
        survey = Survey(store, progress, passes=2)
        found = survey.read()
        if found.ok:
            survey.finish()
            return Repaired(found, survey.records, 0, (), new_manifest=False)
        return _Repair(survey, found).run()


@contextmanager
def _owned(path: str | os.PathLike[str]) -> Iterator[Store]:
    """The store at `path`, unread and owned; the lock file's text is given back as it was."""
    files, path = Files(), os.path.abspath(os.fspath(path))
    if not files.exists(path):
        raise FileNotFoundError(2, "no store here", path)
    if not {manifest.NAME, "shards"} & check_names(path, files):
        raise NotAStoreError(f"{path} holds no kvmap store")
    name = os.path.join(path, "lock")
    text = files.read(name) if files.size(name) else b""
    lock = acquire(path, 0, files)
    try:
        yield Store(path, files, lock, read_only=True)
    finally:
        files.write(name, [text])  # what tells of an unclean end
        lock.release()


class _Repair:
    def __init__(self, survey: Survey, found: Report) -> None:
        self.survey = survey
        self.files = survey.files
        self.store = survey.store
        self.found = found
        self.aside: list[Aside] = []
        self.moved = 0

    def run(self) -> Repaired:
        survey, before = self.survey, self.store.manifest
        self._make_folder("damaged")
        for damage in self.found.other:
            if damage.length and damage.file in (manifest.NAME, "journal.jsonl"):
                self._keep(replace(damage, offset=0), self.files.read(survey.path(damage.file)))
        self._sync_aside()
        strays = sorted(survey.strays, key=lambda each: each.file != manifest.NAME)
        for damage in strays:
            if not damage.length:
                self._move(damage)
        self._make_folder("shards")
        least = before.closed or before.least
        least = least and [each and each._replace(final=False) for each in least]
        self.store.manifest = before.changed(closed=None, index=None, least=least)
        self.store.write_manifest()
        if not before.emptying:
            self._mend_shards([each for each in strays if each.length])
        if self.found.journal not in ("none", "not committed"):
            self.files.remove(self.store.journal.path)
        self.files.sync_folder(self.store.path)
        is_new = self.found.manifest != "whole"
        return Repaired(self.found, survey.records, self.moved, tuple(self.aside), is_new)

    def _mend_shards(self, strays: list[Damage]) -> None:
        numbers = range(self.store.mask + 1)
        # First all records to where they belong, then those away that stood in a wrong place.
        crowded = [number for number in numbers if self._mend(number)]
        for damage in strays:
            self._move(damage)
        for number in crowded:
            found = self.survey.contents(number)
            self._write(number, found, found.own, [])
        closed: list[State | None] = [self._state(number) for number in numbers]
        self.store.manifest = self.store.manifest.changed(
            closed=closed, least=None, seq=self.survey.seq
        )
        self.store.write_manifest()

    def _mend(self, number: int) -> bool:
        """Take out damage and take in what belongs here; tell whether foreign records remain."""
        found = self.survey.contents(number)
        for each in (*found.taken, *found.torn):
            self._keep(each, found.data[each.offset : each.offset + each.length])
        self._sync_aside()
        away = self.survey.away.get(number, [])
        have = {found.data[at : at + each.size] for at, each in found.own} if away else set()
        more = [line for line in dict.fromkeys(away) if line not in have]
        self.moved += len(more)
        if more or found.taken or found.torn:
            self._write(number, found, sorted(found.own + found.foreign), more)
        self.survey.step(len(found.data))
        return bool(found.foreign)

    def _write(
        self, number: int, found: Contents, kept: list[tuple[int, Record]], more: list[bytes]
    ) -> None:
        lines = [found.data[at : at + record.size] for at, record in kept]
        self.files.replace(self.store.shards[number].path, b"".join(lines + more))

    def _state(self, number: int) -> State:
        path = self.store.shards[number].path
        data = b"" if self.files.size(path) is None else self.files.read(path)
        end = len(data.rstrip(b"\0"))
        return State(end, crc32(data[:end]), final=end == len(data))

    def _make_folder(self, name: str) -> None:
        path = self.survey.path(name)
        if not self.files.exists(path):
            self.files.make_folder(path, 0o700)
        elif self.files.is_link(path) or not self.files.is_folder(path):
            raise CorruptStoreError(path, 0, "not a directory of the store")

    def _keep(self, damage: Damage, data: bytes) -> None:
        """Write bytes that will be taken out to a file of their own."""
        kept = self._name(damage, data)
        if not self.files.exists(self.survey.path(kept)):
            self.files.write(self.survey.path(kept), [data])
            self.files.sync(self.survey.path(kept))
        self.aside.append(Aside(damage, kept))

    def _move(self, damage: Damage) -> None:
        """Take a whole file out, or what stands in place of one."""
        kept = self._name(damage, None)
        self.files.rename(self.survey.path(damage.file), self.survey.path(kept))
        self.aside.append(Aside(damage, kept))
        self._sync_aside()

    def _name(self, damage: Damage, data: bytes | None) -> str:
        """A name in `damaged/` that is free, or has these very bytes since a repair was killed."""
        name = f"damaged/{os.path.basename(damage.file)}.at-{damage.offset}"
        for kept in chain([name], (f"{name}.{n}" for n in count(2))):
            if not self.files.exists(self.survey.path(kept)) or self._holds(kept, data):
                return kept
        raise AssertionError

    def _holds(self, kept: str, data: bytes | None) -> bool:
        try:
            return data is not None and self.files.read(self.survey.path(kept)) == data
        except (OSError, CorruptStoreError):
            return False

    def _sync_aside(self) -> None:
        if self.aside:
            self.files.sync_folder(self.survey.path("damaged"))
