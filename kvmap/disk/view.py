"""A store as it is at one moment, found out without its owner's lock.

Sequence numbers order all writes, and a shard's file only grows. So the records up to one sequence
number are the store's state at one moment, provided that no batch is cut in two:

1. The shards' files are opened. A file that compaction replaces keeps what it holds.
2. A sequence number is found that is no batch's middle. While there is a journal, it is the one
   before the batch that the journal names. Without one, it is the highest in the files, provided
   that no journal came and went meanwhile: the time at which the directory changed says so.
3. The shards' names still stand for the files that were opened, so these hold every record up to
   that sequence number. Otherwise all of it is done again.
"""

from __future__ import annotations

import time
from typing import Final

from kvmap.disk import journal
from kvmap.disk.damage import is_torn, walk
from kvmap.disk.folder import SHARDS, Folder
from kvmap.disk.fs import FileSystem
from kvmap.disk.opening import Home, read_manifest
from kvmap.disk.ownership import NoOwner
from kvmap.disk.parser import Record
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.errors import CorruptStoreError, HeldError, NotAStoreError

_PATIENCE: Final = 10.0
"""Seconds after which a store that changes too fast is given up."""

_QUIET: Final = 20_000_000
"""Nanoseconds that a directory must not have changed: the time of a change is that coarse."""

_PAUSE: Final = 0.0005


def look_at(path: str, fs: FileSystem) -> Home:
    """A store's directory, to be read and not owned.

    Raises FileNotFoundError where there is nothing, NotAStoreError for what is no store.
    """
    folder = Folder.of_store(fs, path)
    try:
        try:
            manifest = read_manifest(folder)
        except FileNotFoundError:
            raise NotAStoreError(f"{path} holds no kvmap store") from None
        try:
            shards = folder.subfolder(SHARDS)
        except FileNotFoundError:
            raise CorruptStoreError(
                folder.file_path(SHARDS), 0, "the directory is missing"
            ) from None
    except BaseException:
        folder.close()
        raise
    return Home(folder, shards, NoOwner(), manifest, read_only=True)


def stop_at_one_moment(home: Home, shards: Shards) -> None:
    """Let each shard end where the store's state of one moment ends.

    Raises HeldError where the owner gives no moment for it.
    """
    if home.manifest.emptying:
        for shard in shards.all:
            shard.forget()
        return
    until = time.monotonic() + _PATIENCE
    while True:
        for shard in shards.all:
            if not shard.is_current:
                shard.close()
            shard.open()
        seq = _last_whole(home, shards)
        if seq is not None and all(shard.is_current for shard in shards.all):
            break
        if time.monotonic() > until:
            raise HeldError(
                f"{home.folder.path}: its owner has written batches for {_PATIENCE:g} seconds "
                "without a pause in which the store can be read; try again"
            )
        time.sleep(_PAUSE)
    for shard in shards.all:
        shard.open()  # it may have grown
        shard.read_until = _end_of(shard, seq)


def _last_whole(home: Home, shards: Shards) -> int | None:
    """A sequence number up to which all writes are complete; None where that can't be said now."""
    folder = home.folder
    changed = _changed(folder)
    ends = journal.read_journal(folder)
    if ends is not None and journal.is_about(ends, shards.all):
        return ends.first - 1
    if time.time_ns() - changed < _QUIET:
        return None
    seq = max([home.manifest.seq, *map(shards.last_seq, shards.all)])
    return seq if _changed(folder) == changed else None


def _changed(folder: Folder) -> int:
    return folder.fs.descriptor_status(folder.descriptor).changed_ns


def _end_of(shard: Shard, seq: int) -> int:
    """Where the records up to a sequence number end.

    Damage among them stays among them, so that reading it raises.
    """
    length = 1 << 16
    while True:
        start = max(shard.known.length, shard.end - length)
        data = shard.read(start, shard.end)
        cut = data.find(b"\n") + 1 if start > shard.known.length else 0
        end = None
        for begin, stop, found in walk(data[cut:], shard.number, start + cut):
            if isinstance(found, Record):
                if found.seq > seq and end is None and start > shard.known.length:
                    break  # all of these are later
                if found.seq > seq:
                    return begin
                end = stop
            elif stop == shard.end and is_torn(data[begin - start :], begin, last=True):
                return begin  # it is being written, or a crash has ended that
        if end is not None or start == shard.known.length:
            return shard.end
        length *= 2
