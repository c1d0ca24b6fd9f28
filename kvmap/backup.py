"""A copy of a store that is in use: its live records alone, as they stand, line by line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from zlib import crc32

from kvmap import manifest
from kvmap.errors import CorruptStoreError
from kvmap.files import Files
from kvmap.keys import Key, bucket
from kvmap.manifest import Manifest
from kvmap.record import TAIL, Entry, unpack_order, unpack_value, unsealed
from kvmap.shard import State
from kvmap.store import Store


@contextmanager
def new_folder(store: Store, path: str) -> Iterator[None]:
    """Make the folders of a copy at `path`; on an exception, remove all that was put there."""
    files, shards = store.files, os.path.join(path, "shards")
    if os.path.realpath(path).startswith(os.path.realpath(store.path) + os.sep):
        raise ValueError(f"{path} is inside the store; a copy belongs elsewhere")
    if files.exists(path) and (not files.is_folder(path) or files.names(path)):
        raise FileExistsError(17, "a backup needs a new or an empty directory", path)
    if not files.exists(path):
        files.make_folder(path, 0o700)
    try:
        files.make_folder(shards, 0o700)
        yield
    except BaseException:
        for name in files.names(shards) if files.is_folder(shards) else ():
            files.remove(os.path.join(shards, name))
        files.remove(os.path.join(path, manifest.NAME))
        if files.is_folder(shards):
            files.remove_folder(shards)
        files.remove_folder(path)
        raise


def copy(
    store: Store,
    index: Mapping[Key, Entry],
    seq: int,
    path: str,
    progress: Callable[[int, int], object] | None,
) -> Manifest:
    """Write the records that `index` points to, not synced yet; return the copy's manifest.

    Raises CorruptStoreError for a damaged record: a copy holds nothing that can't be read.
    """
    by_shard: list[list[tuple[bool, int, Entry]]] = [[] for _ in store.shards]
    for key, entry in index.items():
        start, _, _, _, number = unpack_value(entry)
        away = number > store.mask  # in the journal, where the store was opened with flag "r"
        home = bucket(key, store.mask) if away else number
        by_shard[home].append((away, start, entry))
    states: list[State | None] = []
    done, total = 0, sum([unpack_order(entry)[1] for entry in index.values()])
    for shard, entries in zip(store.shards, by_shard, strict=True):
        # In the order of their writes, which is the files' order.
        data = b"".join([_line(store, entry) for _, _, entry in sorted(entries)])
        if data:
            store.files.write(_beside(path, shard.path), [data])
        states.append(State(len(data), crc32(data)))
        done += len(data)
        if progress is not None:
            progress(done, total)
    before = store.manifest
    return Manifest(before.shards, before.ttl, before.limits, seq=seq, closed=states)


def finish(files: Files, told: Manifest, path: str) -> None:
    """Sync the copy, its manifest last: where there is one, the copy is complete."""
    shards = os.path.join(path, "shards")
    for name in files.names(shards):
        files.sync(os.path.join(shards, name))
    files.sync_folder(shards)
    files.replace(os.path.join(path, manifest.NAME), told.to_bytes())
    files.sync_folder(os.path.dirname(path))


def _beside(path: str, shard: str) -> str:
    return os.path.join(path, "shards", os.path.basename(shard))


def _line(store: Store, entry: Entry) -> bytes:
    _, end, _, crc, number = unpack_value(entry)
    shard = store.shard(number)
    mapped, stop = shard.mapped(), end + TAIL
    begin = stop - unpack_order(entry)[1]
    line = b"" if mapped is None else mapped[begin:stop]
    if unsealed(line) is None or int(line[-11:-3], 16) != crc:
        raise CorruptStoreError(shard.path, begin, "the record is damaged")
    return line
