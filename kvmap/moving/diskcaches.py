"""Directories of the package `diskcache`."""

from __future__ import annotations

import math
import os
import pickle
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kvmap import keys
from kvmap.moving.entries import Item, Source, SourceError, Unreadable, read
from kvmap.moving.json_files import decode
from kvmap.moving.sqlite import connect, naming

_TEXT: Final = 3
_PICKLE: Final = 4
"""What the column `mode` says of a value."""


class DiskCache(Source):
    """A diskcache directory: a Cache, an Index, or a FanoutCache with its shards.

    Values are pickles where they are neither str, int, float nor bytes, unless the cache was made
    with `disk=JSONDisk`.

    Raises SourceError for what is no such directory, FileNotFoundError where there is nothing.
    """

    def __init__(self, path: str) -> None:
        files = _files(path)
        if not files:
            os.stat(path)  # raises where there is nothing at all
            raise SourceError(f"{path} is no diskcache directory: there is no cache.db in it")
        self._files: list[tuple[str, sqlite3.Connection]] = []
        self.total = 0
        try:
            for file in files:
                self._add(os.path.dirname(file), connect(file))
        except BaseException:
            self.close()
            raise

    def _add(self, folder: str, file: sqlite3.Connection) -> None:
        self._files.append((folder, file))
        count = f"SELECT COUNT(*), TOTAL(NOT raw OR mode = {_PICKLE}) FROM Cache"
        with naming(folder):
            entries, pickles = file.execute(count).fetchone()
        self.total = (self.total or 0) + entries
        self.pickled = self.pickled or pickles > 0

    def __iter__(self) -> Iterator[Item | Unreadable]:
        for folder, file in self._files:
            with naming(folder):
                yield from self._entries(folder, file)

    def _entries(self, folder: str, file: sqlite3.Connection) -> Iterator[Item | Unreadable]:
        query = "SELECT key, raw, expire_time, mode, filename, value FROM Cache ORDER BY rowid"
        json_disk = _is_json_disk(file)
        for key, raw, expires, *stored in file.execute(query):
            self.done += 1
            try:
                name = _key(key, raw, json_disk)
            except Exception as error:  # a pickle may raise anything
                yield Unreadable(f"entry {self.done}", f"its key: {error!r}")
                continue
            moment = math.inf if expires is None else expires
            yield read(name, lambda: _value(folder, json_disk, *stored), moment)  # noqa: B023

    def close(self) -> None:
        for _, file in self._files:
            file.close()


def _files(path: str) -> list[str]:
    """The database of a Cache or an Index, or those of a FanoutCache's shards."""
    own = os.path.join(path, "cache.db")
    return [own] if os.path.exists(own) else sorted(map(str, Path(path).glob("*/cache.db")))


def is_diskcache(path: str) -> bool:
    """Whether it looks like a diskcache directory."""
    return bool(_files(path))


def _is_json_disk(file: sqlite3.Connection) -> bool:
    """Whether keys and values are compressed JSON."""
    key, raw = file.execute("SELECT key, raw FROM Cache LIMIT 1").fetchone() or (None, 0)
    if not raw or type(key) is not bytes:
        return False
    try:
        _inflated(key)
    except (zlib.error, ValueError):
        return False
    return True


def _key(key: Any, raw: int, json_disk: bool) -> Any:
    if json_disk:
        return keys.from_json(_inflated(key))
    return key if raw else pickle.loads(key)


def _value(folder: str, json_disk: bool, mode: int, name: str | None, value: Any) -> Any:
    """A small value stands in the table, a large one in a file of its own."""
    if name is not None:
        file = Path(folder, name).resolve()
        if not file.is_relative_to(Path(folder).resolve()):
            raise ValueError(f"its file {name!r} is outside the store")
        value = file.read_bytes()
    if json_disk:
        return _inflated(value)
    if mode == _PICKLE:
        return pickle.loads(value)
    return value.decode() if mode == _TEXT and isinstance(value, bytes) else value


def _inflated(data: bytes) -> Any:
    return decode(zlib.decompress(data))
