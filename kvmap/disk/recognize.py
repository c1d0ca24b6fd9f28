"""What a directory must have so that it is a store, or the remains of one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from orjson import loads

from kvmap import keys
from kvmap.disk.damage import walk
from kvmap.disk.folder import JOURNAL, SHARDS, Folder
from kvmap.disk.fs import FileSystem
from kvmap.disk.manifest import DEFAULT_SHARDS, FORMAT, MOST_SHARDS, NAME, UNKNOWN
from kvmap.disk.parser import Record
from kvmap.disk.records import unsealed
from kvmap.disk.shard import NO_MAP, Shard
from kvmap.disk.tuning import Tuning
from kvmap.errors import CorruptStoreError, NotAStoreError

SHARD_FILE: Final = re.compile(r"([0-9a-f]{2})\.jsonl")
_MOST_FILES: Final = 256


def open_store(path: str, fs: FileSystem) -> Folder:
    """The directory of a store, or of what is left of one.

    Raises FileNotFoundError where there is nothing, NotAStoreError for what is no store.
    """
    folder = Folder.of_store(fs, path)
    try:
        if not _is_store(folder):
            raise NotAStoreError(f"{path} holds no kvmap store")
    except BaseException:
        folder.close()
        raise
    return folder


def check_shard_files(shards: Folder, count: int) -> None:
    """Raise CorruptStoreError where there are files of shards that the store doesn't have."""
    for name in shards.names():
        found = SHARD_FILE.fullmatch(name)
        if found and int(found[1], 16) >= count:
            raise CorruptStoreError(shards.file_path(name), 0, extra(count))


def extra(count: int) -> str:
    """What is wrong with a file of a shard that a store of so many doesn't have."""
    return f"the store has {count} shards"


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
        return any(map(SHARD_FILE.fullmatch, shards.names()))
    finally:
        shards.close()


def lenient(folder: Folder, number: int) -> Shard:
    """A shard that may be any file; `folder` is that of the shards."""
    maps: list[Any] = [NO_MAP] * _MOST_FILES
    return Shard(folder, number, UNKNOWN, maps, Tuning(), writable=False)


def best_count(folder: Folder, numbers: Iterable[int]) -> int:
    """The number of shards with which most records stand where they belong.

    O(bytes of the shards). `numbers` are those of the files that are there.
    """
    buckets: Counter[tuple[int, int]] = Counter()
    for number in numbers:
        shard = lenient(folder, number)
        try:
            shard.open()
            for at, part in shard.stretches():
                for _, _, found in walk(part, number, at):
                    if isinstance(found, Record):
                        buckets[number, keys.bucket(found.key, MOST_SHARDS - 1)] += 1
        except CorruptStoreError:
            continue  # it is no plain file
        finally:
            shard.close()
    fits = {
        count: sum([n for (at, each), n in buckets.items() if each & (count - 1) == at])
        for count in [1 << n for n in range(MOST_SHARDS.bit_length())]
    }
    return max(fits, key=lambda count: (fits[count], count == DEFAULT_SHARDS, -count))


def is_newer(data: bytes) -> bool:
    """Whether a newer kvmap has written this manifest."""
    try:
        content: Any = loads(data)
        found = content["format"]
        return unsealed(data) is not None and type(found) is int and found > FORMAT
    except (ValueError, TypeError, LookupError):
        return False
