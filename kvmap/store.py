"""The directory: manifest, ownership, shards, journal. Knows no dict."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from errno import EAGAIN, EDQUOT, ENOSPC
from typing import Any, cast
from zlib import crc32

from filelock import FileLock, Timeout
from orjson import JSONDecodeError, dumps, loads

from kvmap import manifest
from kvmap.errors import CorruptStoreError, NotAStoreError, StoreLockedError
from kvmap.files import Files, Map
from kvmap.keys import Key, bucket
from kvmap.manifest import Limits, Manifest
from kvmap.record import (
    TAIL,
    Entry,
    Record,
    moved,
    sealed,
    torn,
    unpack_order,
    unpack_value,
    unsealed,
    walk,
)
from kvmap.shard import Maps, Shard, in_order

# Patterns, compiled where they are first used: most programs never do.
_SHARD = r"[0-9a-f]{2,3}\.jsonl(\.new)?"
_COMMIT = rb'\{"commit":(\d{1,20}),"check":(\d{1,20})'
_FOLDERS = {"shards", "damaged"}
_FILES = {"lock", "journal.jsonl", "index.jsonl", manifest.NAME}
_OURS = _FOLDERS | _FILES | {name + ".new" for name in _FILES}


class Store:
    """An open store's files. Its owner sees to it that one thread at a time calls it."""

    def __init__(self, path: str, files: Files, lock: FileLock, *, read_only: bool) -> None:
        self.path = path
        self.files = files
        self.read_only = read_only
        self._lock = lock
        self._unfinished: dict[int, list[tuple[int, Record]]] = {}
        self._seal: tuple[Map, int, int] | None = None
        """Where the journal's commit line stands, in a map that nobody can take away."""
        self.stale = False
        """Whether a journal that is done with may still be there."""
        self.use(Manifest(1))

    def use(self, found: Manifest) -> None:
        """Take this manifest, just read or about to be written, and make the shards it tells of."""
        self.manifest = found
        self.index = found.index
        """The checksum of the stored index while it can still be used."""
        self.index_covers: list[int] | None = None
        """The shards' lengths that the stored index tells of, where it was read or written."""
        self.mask = found.shards - 1
        self.maps = Maps(found.shards + 1)
        states = found.closed or found.least or [None] * found.shards
        self.shards = [
            Shard(self.files, self.maps, number, self._shard_path(number), state, self.begin)
            for number, state in enumerate(states)
        ]
        self.journal = Shard(
            self.files, self.maps, found.shards, self._path("journal.jsonl"), None, self.begin
        )

    @property
    def index_path(self) -> str:
        return self._path("index.jsonl")

    def _path(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _shard_path(self, number: int) -> str:
        return os.path.join(self.path, "shards", f"{number:02x}.jsonl")

    # Opening and closing

    @classmethod
    def open(
        cls,
        path: str,
        flag: str,
        *,
        timeout: float,
        shards: int,
        limits: Limits | None,
        ttl: float | None,
        mode: int,
        files: Files,
    ) -> Store:
        """Take ownership of a store, make it where the flag says so, and finish what a crash left."""
        if not files.exists(path):
            if flag in "rw":
                raise FileNotFoundError(2, 'no store here; flag "c" creates one', path)
            # Where another has just made it, whoever gets the lock owns it.
            with suppress(FileExistsError):
                files.make_folder(path, mode)
        check_folder(path, flag, files)
        store = cls(path, files, acquire(path, timeout, files), read_only=flag == "r")
        try:
            store._begin_life(flag, shards, limits, ttl)
        except BaseException:
            store.release()
            raise
        return store

    def _begin_life(self, flag: str, shards: int, limits: Limits | None, ttl: float | None) -> None:
        path = self._path(manifest.NAME)
        folder = self._path("shards")
        if self.files.is_link(folder):
            raise CorruptStoreError(folder, 0, "not a directory of the store, but a link")
        exists = self.files.size(path) is not None
        if exists and flag != "n":
            self.use(Manifest.from_bytes(path, self.files.read(path)))
            if limits is not None or ttl is not None:
                self._change_settings(limits, ttl)
        elif flag in "rw":
            raise NotAStoreError(f"{self.path} holds no kvmap store")
        else:
            if not self.files.exists(folder):
                self.files.make_folder(folder, 0o700)
            self.files.sync_folder(self.path)
            self.files.sync_folder(os.path.dirname(self.path))
            left = self.files.exists(self.journal.path) or any(
                re.fullmatch(_SHARD, name) for name in self.files.names(folder)
            )
            if left and flag == "c" and not exists:
                raise NotAStoreError(
                    f"{path} is missing, but there are records; kvmap.repair() makes a new one"
                )
            self.use(Manifest(shards, ttl, limits, emptying=exists or left))
            self.write_manifest()
        if not self.files.is_folder(self._path("shards")):
            raise NotAStoreError(f"{self._path('shards')} is missing or no directory")
        if self.manifest.emptying and not self.read_only:
            self.finish_emptying()
        elif self.manifest.emptying or not exists:
            for shard in self.shards:
                shard.reset()
        elif self.read_only:
            self._show_journal()
        else:
            if self.manifest.closed is None:
                self._sync_all()
            self._redo()

    def _sync_all(self) -> None:
        """Make what a killed process left survive a power cut, before anyone builds on it."""
        for shard in self.shards:
            if self.files.size(shard.path) is not None:
                self.files.sync(shard.path)
        self.files.sync_folder(self._path("shards"))
        self.files.sync_folder(self.path)

    def _change_settings(self, limits: Limits | None, ttl: float | None) -> None:
        if self.read_only:
            raise ValueError('limits and ttl are kept in the store; flag "r" can\'t change them')
        before = (self.manifest.limits, self.manifest.ttl)
        after = (limits or self.manifest.limits, self.manifest.ttl if ttl is None else ttl)
        if after != before:
            self.manifest.limits, self.manifest.ttl = after
            self.write_manifest()

    def close(self, seq: int) -> None:
        """Trim and sync all shards, and say in the manifest how they were left."""
        if self.manifest.emptying and not self.read_only:
            self.finish_emptying()
        if self.manifest.closed is None and not self.read_only:
            self.manifest.closed = [
                shard.trim() if shard.loaded else shard.state for shard in self.shards
            ]
            self.manifest.least = None
            self.files.sync_folder(self._path("shards"))
            self.manifest.seq, self.manifest.index = seq, self.index
            self.write_manifest()

    def release(self) -> None:
        """Give up ownership; a lock file that still names an owner tells of an unclean end.

        Harmless when it was given up before: the lock file may be the next owner's by now.
        """
        if not self._lock.is_locked:
            return
        for number in range(len(self.maps.by_number)):
            self.maps.put(number, None)
        if self.manifest.closed is not None:
            self.files.write(self._path("lock"), [])
        self._lock.release()

    def write_manifest(self) -> None:
        self.files.replace(self._path(manifest.NAME), self.manifest.to_bytes())

    def _change_manifest(self, **changes: Any) -> None:
        """Write first, then believe it, so that nothing builds on what is not on disk."""
        changed = self.manifest.changed(**changes)
        self.files.replace(self._path(manifest.NAME), changed.to_bytes())
        self.manifest = changed

    def begin(self) -> None:
        """Before the first change: let the manifest say no longer that the store is closed."""
        if self.manifest.emptying:
            self.finish_emptying()
        if self.manifest.closed is not None:
            least = [each and each._replace(final=False) for each in self.manifest.closed]
            self._change_manifest(closed=None, index=None, least=least)

    # Shards

    def shard(self, number: int) -> Shard:
        """The file that an index entry's number tells of: a shard's, or the journal's."""
        return self.journal if number > self.mask else self.shards[number]

    def last_seq(self) -> int:
        """The number of the last write, or a higher one that no record has.

        O(1) for a store that was closed; after a crash every shard is read for its last record.
        """
        if self.manifest.closed is not None:
            return self.manifest.seq
        return max(self.manifest.seq, *[shard.last_seq() for shard in self.shards])

    def load(self, number: int) -> dict[Key, Entry]:
        """Read a shard: where each key's latest record stands. Mends what a crash has torn."""
        shard = self.shards[number]
        table, is_torn = shard.load(writable=not self.read_only, mask=self.mask)
        if unfinished := self._unfinished.get(number):
            for at, record in unfinished:
                table.add(record, self.journal.number, at)
            table = in_order(table)
        found = dict(zip(table.keys, table.entries, strict=True))
        if len(found) < len(table.keys):
            # A dict keeps the first of equal keys, but `1.0` may have been deleted before `1` came.
            latest = dict(zip(table.keys, table.keys, strict=True))
            found = {latest[key]: entry for key, entry in found.items()}
        if len(found) == len(table.keys) and None not in table.entries and not is_torn:
            # Nothing is dead, as in most shards of a store that was filled and closed.
            shard.live = shard.end
            return cast(dict[Key, Entry], found)
        entries = {key: entry for key, entry in found.items() if entry is not None}
        shard.live = sum([unpack_order(entry)[1] for entry in entries.values()])
        if is_torn and not self.read_only:
            data, entries = gather(shard, entries)
            shard.take_new(self.write_new(shard, data), data)
        return entries

    def write_new(self, shard: Shard, data: bytes) -> Map:
        """Write a shard's new content to a file beside it.

        Raises OSError where there is no room, and leaves the shard as it was.
        """
        self.begin()
        if self.stale and not self.journal.end:
            # Its records would come back over tombstones that are no longer there.
            self.drop_journal(sync=True)
        self.index = None
        least = self.manifest.least
        if least is not None and (told := least[shard.number]) is not None and told.length:
            # Once in a shard's life between two closes: the manifest must not tell of the old file
            # when a crash finds the new one.
            others = [None if i == shard.number else each for i, each in enumerate(least)]
            self._change_manifest(least=others)
        return shard.write_new(data)

    def sync(self) -> None:
        """Make everything that was written survive a power cut."""
        for shard in self.shards:
            shard.sync()
        self.files.sync_folder(self._path("shards"))
        self.files.sync_folder(self.path)

    # The journal: a file of records like a shard's, closed by a commit line

    def seal_journal(self, *, sync: bool) -> None:
        """Write the line that commits a transaction: the length and CRC-32 of all before it."""
        end, crc = self.journal.end, self.journal.fold()
        line = sealed(b'{"commit":%d,"check":%d' % (end, crc))
        self._seal = self.journal.make_room(len(line)), end, end + len(line)
        self.journal.append([line])
        if sync:
            self.journal.sync()

    def unseal_journal(self, *, sync: bool) -> None:
        """Take the commit line away: from here on the transaction can't come back.

        A copy into memory, which can't fail, where removing the file can.
        """
        if self._seal is None:
            return
        mapped, begin, end = self._seal
        mapped[begin:end] = bytes(end - begin)
        self._seal = None
        if sync:
            with suppress(OSError):  # removing the file, which comes next, may still do
                self.files.sync(self.journal.path)

    def drop_journal(self, *, sync: bool) -> None:
        self.unseal_journal(sync=False)
        self.stale = True
        self.maps.put(self.journal.number, None)
        self.journal.reset()
        self.files.remove(self.journal.path)
        if sync:
            self.files.sync_folder(self.path)
        self.stale = False

    def read_journal(self) -> list[tuple[int, Record]] | None:
        """The records of a transaction that was committed but not removed, None where there is none.

        Raises CorruptStoreError for damage that no crash explains.
        """
        path = self.journal.path
        data = self.files.read(path) if self.files.size(path) else b""
        found, committed, is_torn = [], False, False
        for begin, end, record in walk(data):
            if committed:
                raise CorruptStoreError(path, begin, "something follows the line that commits")
            if isinstance(record, Record):
                found.append((begin, record))
            elif (told := _commit(data[begin:end])) is not None:
                committed = told == (begin, crc32(data[:begin]))
                if not committed and not is_torn:
                    raise CorruptStoreError(path, 0, "not the records that were committed")
            elif torn(data, begin, end):
                is_torn = True
            else:
                raise CorruptStoreError(path, begin, record)
        # One that is no newer than the manifest was applied before that was written: a crash only
        # brought its name back.
        return found if committed and found and found[-1][1].seq > self.manifest.seq else None

    def _redo(self) -> None:
        """Apply a committed transaction that a crash interrupted; doing so twice is harmless."""
        if self.files.size(self.journal.path) is None:
            return
        found = self.read_journal()
        if found:
            seq = max(self.last_seq(), *[record.seq for _, record in found])
            self.begin()
            data = self.files.read(self.journal.path)
            lines: dict[int, list[bytes]] = {}
            for at, record in found:
                number = bucket(record.key, self.mask)
                lines.setdefault(number, []).append(data[at : at + record.size])
            for number, each in lines.items():
                self.load(number)
                # Those that are there already may be followed by newer ones.
                there = set(self.shards[number].read(0).splitlines(keepends=True))
                self.shards[number].append([line for line in each if line not in there])
                self.shards[number].loaded = False
                if (state := self.shards[number].state) is not None:
                    self.shards[number].state = state._replace(final=False)
            for number in lines:
                self.shards[number].sync()
            self.files.sync_folder(self._path("shards"))
            self.manifest.seq = seq
            self.write_manifest()
        self.drop_journal(sync=True)

    def _show_journal(self) -> None:
        """What `_redo` does, for a store opened with flag "r": only in memory."""
        for at, record in self.read_journal() or []:
            number = bucket(record.key, self.mask)
            self._unfinished.setdefault(number, []).append((at, record))
        if self._unfinished:
            journal = self.files.map(self.journal.path, writable=False)
            self.maps.put(self.journal.number, journal)

    # Emptying

    def empty(self) -> None:
        """Remove all records, in a way that a crash can't leave half done."""
        emptying = self.manifest.changed(emptying=True, closed=None, index=None, least=None)
        path = self._path(manifest.NAME)
        try:
            self.files.replace(path, emptying.to_bytes())
            self.manifest = emptying
        except BaseException:
            if Manifest.from_bytes(path, self.files.read(path)).emptying:
                self.manifest = emptying
            raise
        self.index = None
        self.finish_emptying()

    def finish_emptying(self) -> None:
        folder = self._path("shards")
        for name in self.files.names(folder):
            if re.fullmatch(_SHARD, name):
                self.files.remove(os.path.join(folder, name))
        self.files.remove(self.index_path)
        self.files.remove(self.journal.path)
        self.files.sync_folder(folder)
        self.files.sync_folder(self.path)
        self._change_manifest(emptying=False)
        for shard in self.shards:
            shard.reset()


def gather(shard: Shard, entries: dict[Key, Entry]) -> tuple[bytes, dict[Key, Entry]]:
    """The lines of these records alone, and where they stand then."""
    mapped = shard.mapped()
    lines, places, at = [], {}, 0
    # In the file's order, so that its last record stays the latest write.
    for key, entry in sorted(entries.items(), key=lambda each: unpack_value(each[1])[1]):
        assert mapped is not None
        end, size = unpack_value(entry)[1] + TAIL, unpack_order(entry)[1]
        lines.append(mapped[end - size : end])
        places[key] = moved(entry, at + size - end)
        at += size
    return b"".join(lines), places


def _commit(line: bytes) -> tuple[int, int] | None:
    """The length and CRC-32 that a journal's last line vouches for, None for any other line."""
    text = unsealed(line)
    told = None if text is None else re.fullmatch(_COMMIT, text)
    return None if told is None else (int(told[1]), int(told[2]))


def check_folder(path: str, flag: str, files: Files) -> None:
    """Refuse a directory that holds files and is no store, before anything in it is touched."""
    names = check_names(path, files)
    name, folder = os.path.join(path, manifest.NAME), os.path.join(path, "shards")
    if manifest.NAME in names:
        if flag != "n":
            files.size(name)  # refuses what is no plain file
            Manifest.from_bytes(name, files.read(name))
    elif flag in "rw":
        raise NotAStoreError(f'{path} holds no kvmap store; flag "c" creates one')
    # Looked for again: where another has just made the store, the manifest was there before shards.
    elif "shards" in names and files.names(folder) and not files.exists(name):
        raise NotAStoreError(
            f"{path} holds the shards of a store, but its manifest {manifest.NAME} is missing; "
            "nothing was changed, kvmap.repair() makes a new one"
        )


def check_names(path: str, files: Files) -> set[str]:
    """The names in a store's directory.

    Raises NotAStoreError where it is no directory, or where others than a store's are among them.
    """
    if not files.is_folder(path):
        raise NotAStoreError(f"{path} is not a directory; a store is one")
    names = set(files.names(path))
    if manifest.NAME not in names and (foreign := names - _OURS):
        raise NotAStoreError(
            f"{path} is not empty and no kvmap store (it holds {min(foreign)!r}); "
            "nothing was changed, use another directory"
        )
    return names


def acquire(path: str, timeout: float, files: Files) -> FileLock:
    """Take ownership of the store at `path`, waiting up to `timeout` seconds for its owner to let go.

    Raises StoreLockedError, which names the owner.
    """
    name = os.path.join(path, "lock")
    files.size(name)  # refuses what is no plain file
    lock = FileLock(name, thread_local=False, mode=0o600)
    try:
        lock.acquire(timeout=-1 if timeout == math.inf else timeout)
    except Timeout:
        raise StoreLockedError(EAGAIN, f"{path} is open elsewhere: {_owner(name, files)}") from None
    owner = {
        "pid": os.getpid(),
        "host": os.uname().nodename,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        files.write(name, [dumps(owner) + b"\n"])
    except BaseException as error:
        # A full disk can still be read, and cleared: its owner goes without a name.
        if not isinstance(error, OSError) or error.errno not in (ENOSPC, EDQUOT):
            lock.release()
            raise
    return lock


def _owner(name: str, files: Files) -> str:
    try:
        owner: dict[str, Any] = loads(files.read(name))
        return f"by process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (OSError, JSONDecodeError, KeyError, TypeError):
        return "by a process that has not said its name yet"
