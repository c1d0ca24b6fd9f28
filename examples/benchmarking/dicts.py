"""kvmap, and the contestants that it would take the place of: dicts in memory and on disk."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from itertools import islice
from typing import Any

from orjson import dumps, loads

from benchmarking.contestant import Contestant, DictLike, Pairs


class KVMap(DictLike):
    name, module, kind = "kvmap", "kvmap", "kvmap"

    def open(self) -> None:
        self.db = self.library.open(self.path)


class Shelve(DictLike):
    name = module = "shelve"

    def open(self) -> None:
        self.db = self.library.open(str(self.path / "store"))

    @classmethod
    def version(cls) -> str:
        """Which `dbm` module is behind it decides much."""
        for name in ("dbm.sqlite3", "dbm.gnu", "dbm.ndbm"):  # as dbm.open prefers them
            try:
                import_module(name)
            except ImportError:
                continue
            return f"over {name}"
        return "over dbm.dumb"


class DiskCache(DictLike):
    name = module = "diskcache"

    def open(self) -> None:
        self.db = self.library.Index(str(self.path))

    def close(self) -> None:
        self.db.cache.close()

    def update(self, pairs: Pairs) -> None:
        with self.db.transact():
            self.db.update(pairs)


class SqliteDict(DictLike):
    name = module = "sqlitedict"

    def open(self) -> None:
        self.db = self.library.SqliteDict(str(self.path / "store.sqlite"), autocommit=True)


class TinyDB(Contestant):
    """A document for each entry. It reads its file at each read, and rewrites it at each write."""

    name, module, whole_file = "tinydb", "tinydb", True

    def open(self) -> None:
        self.db = self.library.TinyDB(str(self.path / "store.json"))
        self.of = self.library.where("key").__eq__  # the query for the document of a key

    def set(self, pairs: Pairs) -> None:
        upsert, of = self.db.upsert, self.of
        for key, value in pairs:
            upsert({"key": key, "value": value}, of(key))

    def get(self, keys: list[str]) -> Any:
        get, of = self.db.get, self.of
        value: Any = None
        for key in keys:
            value = get(of(key))["value"]
        return value

    def get_missing(self, keys: list[str]) -> None:
        get, of = self.db.get, self.of
        for key in keys:
            get(of(key))

    def contains(self, keys: list[str]) -> None:
        contains, of = self.db.contains, self.of
        for key in keys:
            contains(of(key))

    def items(self, limit: int) -> None:
        for document in islice(self.db, limit):
            _ = document["key"], document["value"]

    def length(self, times: Iterable[Any]) -> None:
        db = self.db
        for _ in times:
            len(db)

    def update(self, pairs: Pairs) -> None:
        """Keys that are new: for others, tinydb searches once for each."""
        self.db.insert_multiple([{"key": key, "value": value} for key, value in pairs])

    def delete(self, keys: list[str]) -> None:
        remove, of = self.db.remove, self.of
        for key in keys:
            remove(of(key))


class PlainDict(DictLike):
    """The floor: a dict of JSON bytes, decoded at every read. On no disk."""

    name, kind, module, durable = "dict", "floor", "orjson", False

    @classmethod
    def version(cls) -> str:
        return f"with orjson {super().version()}"

    def open(self) -> None:
        self.db = {}

    def close(self) -> None:
        pass

    def set(self, pairs: Pairs) -> None:
        db = self.db
        for key, value in pairs:
            # A copy, since what orjson returns holds on to the 4 KB that it was written into: kept,
            # it makes the dict 30 times as large and, for want of a buffer to use again, a set 20
            # times as slow. Of all ways to copy, `%` is the fastest.
            db[key] = b"%b" % dumps(value)

    def get(self, keys: list[str]) -> Any:
        db = self.db
        value: Any = None
        for key in keys:
            value = loads(db[key])
        return value

    def items(self, limit: int) -> None:
        for _key, raw in islice(self.db.items(), limit):
            loads(raw)

    def update(self, pairs: Pairs) -> None:
        self.db.update([(key, b"%b" % dumps(value)) for key, value in pairs])


class Lmdbm(DictLike):
    """LMDB behind a mapping of bytes. It syncs at every write by default; nobody else does here."""

    name = module = "lmdbm"

    def open(self) -> None:
        self.db = self.library.open(str(self.path), "c", sync=False)

    def set(self, pairs: Pairs) -> None:
        db = self.db
        for key, value in pairs:
            db[key] = dumps(value)

    def get(self, keys: list[str]) -> Any:
        db = self.db
        value: Any = None
        for key in keys:
            value = loads(db[key])
        return value

    def items(self, limit: int) -> None:
        for key, raw in islice(self.db.items(), limit):
            _ = key.decode(), loads(raw)

    def update(self, pairs: Pairs) -> None:
        self.db.update([(key, b"%b" % dumps(value)) for key, value in pairs])


class SemiDBM(DictLike):
    """A log with its index in memory, as kvmap. No whole mapping: see what the loops do without."""

    name = module = "semidbm"

    def open(self) -> None:
        self.db = self.library.open(str(self.path), "c")

    def set(self, pairs: Pairs) -> None:
        db = self.db
        for key, value in pairs:
            db[key] = dumps(value)

    def get(self, keys: list[str]) -> Any:
        db = self.db
        value: Any = None
        for key in keys:
            value = loads(db[key])
        return value

    def get_missing(self, keys: list[str]) -> None:
        db = self.db
        for key in keys:
            try:  # noqa: SIM105, since `suppress` is slower
                db[key]
            except KeyError:
                pass

    def contains(self, keys: list[str]) -> None:
        db = self.db
        for key in keys:
            _ = key.encode() in db

    def items(self, limit: int) -> None:
        db = self.db
        for key in islice(db.keys(), limit):
            _ = key.decode(), loads(db[key])

    def length(self, times: Iterable[Any]) -> None:
        db = self.db
        for _ in times:
            len(db.keys())

    def update(self, pairs: Pairs) -> None:
        self.set(pairs)
