"""Moving in: entries from JSON, JSON Lines, and the stores of shelve, sqlitedict and diskcache.

>>> import io, kvmap
>>> from kvmap.importing import json_source, load
>>> with kvmap.open() as d:
...     load(d, json_source(io.BytesIO(b'{"ada": 1, "bob": [2, 3]}'))).loaded
...     dict(d)
2
{'ada': 1, 'bob': [2, 3]}

The last three hold pickles, and reading a pickle runs whatever code is in it: read those only that
nobody else could have written to. Their files are read as the libraries left them; none of the
libraries needs to be installed, and nothing in the files is changed.
"""

from __future__ import annotations

import dbm
import json
import math
import os
import pickle
import re
import shelve
import sqlite3
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, Self
from urllib.parse import quote

import orjson

from kvmap import keys
from kvmap.errors import KVMapError
from kvmap.mapping import KVMap

BATCH = 2000
"""Entries written at once, at most: many enough to be fast, few enough to be small."""
BATCH_BYTES = 4 << 20


class SourceError(KVMapError, ValueError):
    """What was to be loaded is not what it was said to be; nothing was loaded."""


class LoadError(KVMapError, ValueError):
    """An entry can't be loaded; those before it were."""


class Item(NamedTuple):
    """An entry of a source; `expires` is Unix seconds, infinite where it never does."""

    key: Any
    value: Any
    expires: float = math.inf
    line: int = 0


class Unreadable(NamedTuple):
    """An entry that can't be read, or not be stored: which, and why."""

    entry: str
    reason: str


class Source(ABC):
    """Something that entries come from; iterating reads it, once. To be closed after use."""

    unit = "entries"
    total: int | None = None
    """How many units there are, None where that is not known."""
    done = 0
    """How many units have been read."""
    pickled = False
    """Whether reading it runs code that stands in it."""

    @abstractmethod
    def __iter__(self) -> Iterator[Item | Unreadable]: ...

    def close(self) -> None:  # noqa: B027 - what holds nothing open need not say so
        """Let go of what was opened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass
class Report:
    """What a load has done so far."""

    loaded: int = 0
    expired: int = 0
    """Entries left out because their deadline had passed."""
    skipped: list[Unreadable] = field(default_factory=list)
    """Entries left out because they can't be read, or JSON can't hold them."""


def load(
    d: KVMap[Any],
    source: Iterable[Item | Unreadable],
    *,
    ttl: float | None = None,
    skip: bool = False,
    report: Report | None = None,
    progress: Callable[[Report], object] | None = None,
) -> Report:
    """Write a source's entries to a map, some thousands at a time; an existing key is overwritten.

    Deadlines are kept. An entry without one gets `ttl` seconds, or stays, whatever the store's
    default. `skip`: go on after an entry that can't be loaded, and list it in the report. O(n).

    Raises LoadError where such an entry stops the load. `report`, where given, is kept up to date,
    so that it tells what was done when an exception ends the load.
    """
    report = Report() if report is None else report
    batch: dict[Any, tuple[bytes, float]] = {}
    size = 0
    refused: Unreadable | None = None
    for item in source:
        refused = item if isinstance(item, Unreadable) else None
        if isinstance(item, Item):
            expires = item.expires
            now = time.time()
            if expires <= now:
                report.expired += 1
                continue
            if ttl is not None and expires == math.inf:
                expires = now + ttl
            try:
                key = d._checked(item.key)[0]
                text = d._encoded(item.value)
            except (TypeError, ValueError) as error:
                name = _name(item.key)
                place = f"line {item.line}, {name}" if item.line else name
                refused = Unreadable(place, str(error).removeprefix(f"{name}: "))
            else:
                batch[key] = (text, expires)
                size += len(text)
        if refused is not None:
            if not skip:
                break
            report.skipped.append(refused)
        if len(batch) >= BATCH or size >= BATCH_BYTES:
            _write(d, batch, report)
            batch, size = {}, 0
            if progress is not None:
                progress(report)
    _write(d, batch, report)
    if refused is not None and not skip:
        raise LoadError(f"{refused.entry}: {refused.reason}")
    return report


def _write(d: KVMap[Any], batch: dict[Any, tuple[bytes, float]], report: Report) -> None:
    with d._lock:
        texts = [text for text, _ in batch.values()]
        deadlines = [expires for _, expires in batch.values()]
        d._write_each(batch, [(list(batch), texts, deadlines)])
        report.loaded += len(batch)


def _name(key: Any) -> str:
    return f"key {key!r:.80}"


# JSON

# orjson makes a float of an integer that does not fit in 64 bits.
_LONG = re.compile(rb"[0-9]{19}")


def decode(text: bytes) -> Any:
    """The value of a JSON text, integers exact whatever their size.

    Raises ValueError, naming the column, and the line where the text has several.
    """
    try:
        return json.loads(text.decode()) if _LONG.search(text) else orjson.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, " if text.count(b"\n", 0, -1) else ""
        raise ValueError(f"not JSON: {error.msg}, at {where}column {error.colno}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deep") from None


class JSONLines(Source):
    """One `{"key": …, "value": …, "expires": …}` a line, as `kvmap dump` writes it."""

    unit = "bytes"

    def __init__(self, lines: Iterable[bytes], total: int | None = None) -> None:
        self._lines = lines
        self.total = total

    def __iter__(self) -> Iterator[Item | Unreadable]:
        for number, line in enumerate(self._lines, start=1):
            self.done += len(line)
            if line.isspace():
                continue
            try:
                yield _item(line, number)
            except ValueError as error:
                yield Unreadable(f"line {number}", str(error))


_FIELDS = {"key", "value", "expires"}
_SHAPE = 'not {"key": …, "value": …}, with or without "expires"'


def _is_item(fields: Any) -> bool:
    return type(fields) is dict and {"key", "value"} <= fields.keys() <= _FIELDS


def _item(line: bytes, number: int) -> Item:
    fields = decode(line)
    if not _is_item(fields):
        raise ValueError(_SHAPE)
    expires = fields.get("expires")
    if expires is None:
        expires = math.inf
    elif type(expires) not in (int, float) or not math.isfinite(expires):
        raise ValueError(f'"expires" must be Unix seconds or null, not {expires!r:.80}')
    return Item(keys.from_json(fields["key"]), fields["value"], expires, number)


class JSONObject(Source):
    """One JSON object: its keys and values are the entries. It is held in memory whole."""

    def __init__(self, text: bytes) -> None:
        try:
            found = decode(text)
        except ValueError as error:
            raise SourceError(str(error)) from None
        if type(found) is not dict:
            raise SourceError(f"neither one JSON object nor JSON Lines, each {_SHAPE[4:]}")
        self._items = found
        self.total = len(found)

    def __iter__(self) -> Iterator[Item | Unreadable]:
        for key, value in self._items.items():
            self.done += 1
            yield Item(key, value)


def json_source(file: IO[bytes], kind: str = "auto") -> Source:
    """The entries of an open file: `kind` is "json" for one object, "jsonl", or "auto" for either.

    The file is the caller's to close.

    Raises SourceError where it is neither.
    """
    total = None
    with suppress(OSError):  # not a real file
        total = os.fstat(file.fileno()).st_size or None  # a pipe has no size
    start = list(_start(file))
    lines = chain(start, file)
    if kind == "jsonl" or (kind == "auto" and _are_lines([line for line in start if line.strip()])):
        return JSONLines(lines, total)
    return JSONObject(b"".join(lines))


def _start(file: IO[bytes]) -> Iterator[bytes]:
    """The file's first lines, up to the second that is not blank."""
    found = 0
    for number, line in enumerate(file):
        yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line  # a byte order mark
        found += bool(line.strip())
        if found == 2:
            break


def _are_lines(start: list[bytes]) -> bool:
    """Whether a file that starts so is JSON Lines, and not one JSON object."""
    if not start:
        return True
    try:
        fields = decode(start[0])
    except ValueError:
        return re.match(rb'\s*{\s*"key"\s*:', start[0]) is not None
    return _is_item(fields) or (type(fields) is dict and len(start) > 1)


# Stores of other libraries


class Shelf(Source):
    """A store of the standard library's `shelve`; `path` as it was given to `shelve.open`."""

    pickled = True

    def __init__(self, path: str) -> None:
        for name in (path, os.path.splitext(path)[0]):
            if dbm.whichdb(name):
                break
        else:
            os.stat(path)  # raises where there is nothing at all
            raise SourceError(f"{path} is no shelve store")
        try:
            self._shelf = shelve.open(name, flag="r")  # noqa: SIM115  # see close
        except dbm.error as error:  # written by a dbm module that this Python lacks
            raise SourceError(f"{path}: {error}") from None

        self._keys = list(self._shelf)
        self.total = len(self._keys)

    def __iter__(self) -> Iterator[Item | Unreadable]:
        for key in self._keys:
            self.done += 1
            yield _read(key, lambda: self._shelf[key])  # noqa: B023  # called at once

    def close(self) -> None:
        self._shelf.close()


class SqliteDict(Source):
    """A table of a `sqlitedict` file; the only one, or else "unnamed", unless named."""

    def __init__(self, path: str, table: str | None = None) -> None:
        self._path, self._file = path, _connect(path)
        with _explained(path):
            found = _tables(self._file)
            if table is None:
                table = found[0] if len(found) == 1 else "unnamed"
            if table not in found:
                names = ", ".join(map(repr, found)) or "none"
                raise SourceError(f"{path} has no sqlitedict table {table!r}; it has {names}")
            self._table = '"' + table.replace('"', '""') + '"'
            (self.total,) = self._one("COUNT(*)")
            self.pickled = self._one("1", "WHERE typeof(value) = 'blob' LIMIT 1") is not None

    def _one(self, what: str, where: str = "") -> Any:
        return self._file.execute(f"SELECT {what} FROM {self._table} {where}").fetchone()

    def __iter__(self) -> Iterator[Item | Unreadable]:
        query = f"SELECT key, value FROM {self._table} ORDER BY rowid"
        with _explained(self._path):
            for key, value in self._file.execute(query):
                self.done += 1
                yield _read(key, lambda: _unpacked(value))  # noqa: B023

    def close(self) -> None:
        self._file.close()


def _unpacked(value: Any) -> Any:
    """A sqlitedict value; by default a pickle, text where it was opened with encode=json.dumps."""
    if type(value) is bytes:
        return pickle.loads(value)
    return decode(value.encode()) if type(value) is str else value


class DiskCache(Source):
    """A `diskcache` directory: a Cache, an Index, or a FanoutCache with its shards."""

    def __init__(self, path: str) -> None:
        own = os.path.join(path, "cache.db")
        files = [own] if os.path.exists(own) else sorted(map(str, Path(path).glob("*/cache.db")))
        if not files:
            os.stat(path)
            raise SourceError(f"{path} is no diskcache directory: there is no cache.db in it")
        self._files = [(os.path.dirname(file), _connect(file)) for file in files]
        self.total = 0
        for folder, file in self._files:
            with _explained(folder):
                count, pickled = file.execute(
                    "SELECT COUNT(*), TOTAL(NOT raw OR mode = 4) FROM Cache"
                ).fetchone()
            self.total += count
            self.pickled |= pickled > 0

    def __iter__(self) -> Iterator[Item | Unreadable]:
        query = "SELECT key, raw, expire_time, mode, filename, value FROM Cache ORDER BY rowid"
        for folder, file in self._files:
            with _explained(folder):
                plain = _holds_json(file)
                for key, raw, expires, *value in file.execute(query):
                    self.done += 1
                    try:
                        name = _key(key, raw, plain)
                    except Exception as error:
                        yield Unreadable(f"entry {self.done}", f"its key: {error!r}")
                        continue
                    moment = math.inf if expires is None else expires
                    yield _read(name, lambda: _value(folder, plain, *value), moment)  # noqa: B023

    def close(self) -> None:
        for _, file in self._files:
            file.close()


def _holds_json(file: sqlite3.Connection) -> bool:
    """Whether the cache was made with disk=JSONDisk: keys and values are then compressed JSON."""
    key, raw = file.execute("SELECT key, raw FROM Cache LIMIT 1").fetchone() or (None, 0)
    try:
        return bool(raw) and type(key) is bytes and _inflated(key) is not key
    except (zlib.error, ValueError):
        return False


def _key(key: Any, raw: int, plain: bool) -> Any:
    if plain:
        return keys.from_json(_inflated(key))
    return key if raw else pickle.loads(key)


def _value(folder: str, plain: bool, mode: int, name: str | None, value: Any) -> Any:
    """A diskcache value: a small one stands in the table, a large one in a file of its own."""
    if name is not None:
        file = Path(folder, name).resolve()
        if not file.is_relative_to(Path(folder).resolve()):
            raise ValueError(f"its file {name!r} is outside the store")
        value = file.read_bytes()
    if plain:
        return _inflated(value)
    if mode == 4:
        return pickle.loads(value)
    return value.decode() if mode == 3 else value


def _inflated(data: bytes) -> Any:
    return decode(zlib.decompress(data))


def _read(key: Any, value: Callable[[], Any], expires: float = math.inf) -> Item | Unreadable:
    try:
        return Item(key, value(), expires)
    except Exception as error:  # a pickle may raise anything: its class may be gone
        return Unreadable(_name(key), f"can't be read: {type(error).__name__}: {error}")


def _connect(path: str) -> sqlite3.Connection:
    os.stat(path)  # an error that names the file; sqlite3's does not
    return sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=ro", uri=True)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise SourceError(f"{path}: {error}") from None


def _tables(file: sqlite3.Connection) -> list[str]:
    names = file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    columns = "SELECT name FROM pragma_table_info(?)"
    return [
        name
        for (name,) in names
        if [column for (column,) in file.execute(columns, (name,))] == ["key", "value"]
    ]
