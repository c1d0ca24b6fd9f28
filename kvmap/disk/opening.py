"""Opening a store: create it, own it, and finish what a crash has left."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kvmap.disk.folder import HINT, JOURNAL, LOCK, NEW, QUARANTINE, SHARDS, Folder
from kvmap.disk.fs import FileSystem
from kvmap.disk.journal import is_about, read_journal
from kvmap.disk.manifest import DEFAULT_SHARDS, NAME, SKIPPED, Manifest
from kvmap.disk.ownership import NoOwner, Ownership
from kvmap.disk.recognize import check_shard_files
from kvmap.disk.records import MOST_SEQ
from kvmap.disk.shards import Shards
from kvmap.errors import CorruptStoreError, NotAStoreError
from kvmap.settings import Change, Settings

_SHARD_FILE: Final = re.compile(r"[0-9a-f]{2}\.jsonl(\.new)?")
_OURS: Final = {SHARDS, QUARANTINE} | {
    name + end for name in (LOCK, JOURNAL, HINT, NAME) for end in ("", NEW)
}
_MOUNTED: Final = {"lost+found"}
"""What may be in an empty directory that a file system was mounted at."""


class Home:
    """A store's directory, owned; its manifest, and the directory of its shards."""

    def __init__(
        self,
        folder: Folder,
        shards: Folder,
        ownership: Ownership | NoOwner,
        manifest: Manifest,
        *,
        read_only: bool,
    ) -> None:
        self.folder = folder
        self.shards = shards
        self.ownership = ownership
        self.manifest = manifest
        self.read_only = read_only

    def change_manifest(self, **changes: object) -> None:
        """Write first, then believe it, so that nothing builds on what is not on disk."""
        changed = self.manifest.changed(**changes)
        if changed != self.manifest:
            self.ownership.check()
            self.folder.replace(NAME, changed.to_bytes())
            self.manifest = changed
        # A process that was killed, or whose sync failed, may have replaced it and no more.
        self.folder.sync()

    def remove_incomplete(self) -> None:
        """Remove the new files that a killed owner has not completed."""
        for name in self.shards.names():
            if name.endswith(NEW) and _SHARD_FILE.fullmatch(name):
                self.shards.remove(name)
        for name in self.folder.names():
            if name.endswith(NEW) and name in _OURS:
                self.folder.remove(name)

    def begin_emptying(self, seq: int) -> None:
        """Say in the manifest that all records go; from then on they are gone."""
        try:
            self.change_manifest(emptying=True, seq=seq)
        except BaseException:
            if read_manifest(self.folder).emptying:
                self.manifest = self.manifest.changed(emptying=True, seq=seq)
            raise

    def finish_emptying(self) -> None:
        """Remove the files of a store whose manifest says that it is being emptied."""
        self.ownership.check()
        self.folder.sync()  # else a power cut may bring back a manifest that knows the files
        for name in self.shards.names():
            if _SHARD_FILE.fullmatch(name):
                self.shards.remove(name)
        self.folder.remove(HINT)
        self.folder.remove(JOURNAL)
        self.shards.sync()
        self.folder.sync()
        empty = Manifest.new(self.manifest.settings, len(self.manifest.shards)).shards
        in_use = self.manifest.in_use
        if in_use:
            empty = tuple([known._replace(exact=False) for known in empty])
        self.change_manifest(emptying=False, shards=empty)

    def close(self, *, clean: bool) -> None:
        """Give up ownership and all descriptors; harmless when that was done before."""
        self.ownership.release(clean=clean)
        self.shards.close()
        self.folder.close()

    def abandon(self) -> None:
        """In a forked child: close its copies of the descriptors. The parent stays the owner."""
        self.ownership.abandon()
        self.shards.close()
        self.folder.close()


def open_home(
    path: str,
    flag: str,
    fs: FileSystem,
    *,
    timeout: float,
    shards: int | None,
    mode: int,
    change: Change,
) -> Home:
    """Own a store's directory, and make the store where the flag says so."""
    if fs.path_status(path) is None:
        if flag in "rw":
            raise FileNotFoundError(2, 'no store here; flag "c" creates one', path)
        change(None)  # refuses what makes no sense, before anything is made
        # Where another has just made it, whoever gets the lock owns it.
        with suppress(FileExistsError):
            fs.make_directories(path, mode)
    folder = Folder.of_store(fs, path)
    try:
        _check_names(folder, flag)
        # Asked here for its refusals, before the lock is touched, and again by the owner.
        _settings(folder, flag, shards, change)
        ownership = Ownership.acquire(folder, timeout)
    except BaseException:
        folder.close()
        raise
    try:
        return _settle_in(folder, ownership, flag, shards, change)
    except BaseException:
        ownership.release()
        folder.close()
        raise


def read_manifest(folder: Folder) -> Manifest:
    """A store's manifest. Raises NotAStoreError, or FileNotFoundError where there is none."""
    return Manifest.from_bytes(folder.file_path(NAME), folder.read(NAME))


def _check_names(folder: Folder, flag: str) -> None:
    """Refuse a directory that is no store, before anything in it is touched."""
    names = set(folder.names())
    if NAME in names:
        return
    if foreign := names - _OURS - _MOUNTED:
        raise NotAStoreError(
            f"{folder.path} is not empty and no kvmap store (it holds {min(foreign)!r}); "
            "nothing was changed, use another directory"
        )
    if flag in "rw":
        raise NotAStoreError(f'{folder.path} holds no kvmap store; flag "c" creates one')
    # Looked for again: where another has just made the store, the manifest was there before shards.
    if _has_records(folder) and folder.size(NAME) is None:
        raise NotAStoreError(
            f"{folder.path} holds the shards of a store, but its manifest {NAME} is missing; "
            "nothing was changed, kvmap.repair() makes a new one"
        )


def _has_records(folder: Folder) -> bool:
    if folder.size(JOURNAL) is not None:
        return True
    if SHARDS not in folder.names():
        return False
    shards = folder.subfolder(SHARDS)
    try:
        return any(map(_SHARD_FILE.fullmatch, shards.names()))
    finally:
        shards.close()


def _settle_in(
    folder: Folder,
    ownership: Ownership,
    flag: str,
    shards: int | None,
    change: Change,
) -> Home:
    manifest, settings = _settings(folder, flag, shards, change)
    if manifest is None:
        left = _has_records(folder)
        if left and flag == "c":
            raise NotAStoreError(
                f"{folder.file_path(NAME)} is missing, but there are records; "
                "kvmap.repair() makes a new one"
            )
        if SHARDS not in folder.names():
            folder.make_subfolder(SHARDS)
            folder.sync()  # a manifest says that they are there
        exists = folder.size(NAME) is not None
        count = DEFAULT_SHARDS if shards is None else shards
        manifest = Manifest.new(settings, count).changed(emptying=exists or left)
        folder.unsynced = True
        folder.replace(NAME, manifest.to_bytes())
    try:
        home = Home(folder, folder.subfolder(SHARDS), ownership, manifest, read_only=flag == "r")
    except FileNotFoundError:
        raise CorruptStoreError(folder.file_path(SHARDS), 0, "the directory is missing") from None
    try:
        if flag != "r":
            if manifest.in_use:
                folder.unsynced = home.shards.unsynced = True  # what a killed process left
                home.remove_incomplete()
            home.change_manifest(settings=settings)
            if manifest.emptying:
                home.finish_emptying()
    except BaseException:
        home.shards.close()
        raise
    return home


def _settings(
    folder: Folder, flag: str, shards: int | None, change: Change
) -> tuple[Manifest | None, Settings]:
    """The manifest of the store that is there, None for a new one; and its settings from now on."""
    if flag == "n" or folder.size(NAME) is None:
        if flag in "rw":
            raise NotAStoreError(f"{folder.path} holds no kvmap store")
        return None, change(None)
    manifest = read_manifest(folder)
    if shards not in (None, len(manifest.shards)):
        raise ValueError(
            f"{folder.path} has {len(manifest.shards)} shards, which stay as they are; leave shards= "
            f"out, or load its entries into a new store with shards={shards}"
        )
    settings = change(manifest.settings)
    if flag == "r" and settings != manifest.settings:
        raise ValueError(
            'limits, ttl, codec and eviction are kept in the store; flag "r" can\'t change them'
        )
    return manifest, settings


def undo_batch(home: Home, shards: Shards) -> None:
    """Cut the shards back to where they ended before a batch that a crash has interrupted.

    A read-only store is not changed: its shards end there while it is open.
    """
    if home.folder.size(JOURNAL) is None:
        return
    ends = read_journal(home.folder)
    if ends is not None:
        touched = [shard for shard in shards.all if shard.number in ends.ends]
        for shard in touched:
            shard.open()
        if is_about(ends, shards.all):
            for shard in touched:
                end = ends.ends[shard.number]
                if home.read_only:
                    shard.read_until = end
                    shard.open()
                elif shard.end > end:
                    shard.cut(end)
                    shard.sync()
    if not home.read_only:
        home.ownership.check()
        home.folder.remove(JOURNAL)
        home.folder.sync()


def open_shards(home: Home, shards: Shards, recover: Callable[[Home, Shards], None]) -> int:
    """Let `recover` finish what a crash has left; return the last sequence number that may be used.

    Raises CorruptStoreError where the shards' files are not those of the manifest; none is open then.
    """
    try:
        if not home.manifest.emptying:
            check_shard_files(home.shards, len(home.manifest.shards))
        recover(home, shards)
        seqs = [
            0 if shard.open_empty() or shard.known.exact else shards.last_seq(shard)
            for shard in shards.all
        ]
    except BaseException:
        shards.close()
        raise
    last = max(home.manifest.seq, *seqs)
    return min(last + SKIPPED, MOST_SEQ) if home.manifest.in_use else last
