"""The contestants: each operation is the loop that a user of that store would write.

Nothing stands between the loop and the store, not even a call, so that a fast store is not charged
for the benchmark. Keys come as `str` and values as Python objects, and go out as such: a store that
wants bytes pays for its own encoding, with orjson. `shelve`, `diskcache` and `sqlitedict` pickle,
as they do unless told otherwise. None waits at a write until it is safe from a power cut.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterable
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from orjson import dumps, loads

Pairs = list[tuple[str, Any]]
Kind = Literal["kvmap", "floor", "engine", "dict-like"]


class Contestant(ABC):
    """A store under test, in an empty directory of its own."""

    name: ClassVar[str]
    kind: ClassVar[Kind] = "dict-like"
    module: ClassVar[str]
    durable: ClassVar[bool] = True

    def __init__(self, path: Path, json_bytes: int) -> None:
        self.path = path
        self.json_bytes = json_bytes
        self.library: Any = import_module(self.module)
        self.db: Any = None

    @classmethod
    def missing(cls) -> bool:
        return importlib.util.find_spec(cls.module) is None

    @classmethod
    def version(cls) -> str:
        try:
            return importlib.metadata.version(cls.module)
        except importlib.metadata.PackageNotFoundError:
            return "(not installed)"

    @abstractmethod
    def open(self) -> None:
        """Open the store, or make it."""

    def close(self) -> None:
        self.db.close()

    @abstractmethod
    def set(self, pairs: Pairs) -> None: ...

    @abstractmethod
    def get(self, keys: list[str]) -> Any:
        """Read keys that are there; return the last value, so that it can be checked."""

    @abstractmethod
    def get_missing(self, keys: list[str]) -> None: ...

    @abstractmethod
    def contains(self, keys: list[str]) -> None: ...

    @abstractmethod
    def items(self, limit: int) -> None:
        """Iterate over the first `limit` keys and decoded values."""

    @abstractmethod
    def length(self, times: Iterable[Any]) -> None: ...

    @abstractmethod
    def update(self, pairs: Pairs) -> None:
        """Write many at once, in one call, batch or transaction."""

    @abstractmethod
    def delete(self, keys: list[str]) -> None: ...


class DictLike(Contestant):
    """What speaks as a dict does, and takes Python objects."""

    def set(self, pairs: Pairs) -> None:
        db = self.db
        for key, value in pairs:
            db[key] = value

    def get(self, keys: list[str]) -> Any:
        db = self.db
        for key in keys:
            value = db[key]
        return value

    def get_missing(self, keys: list[str]) -> None:
        get = self.db.get
        for key in keys:
            get(key)

    def contains(self, keys: list[str]) -> None:
        db = self.db
        for key in keys:
            _ = key in db

    def items(self, limit: int) -> None:
        for _key, _value in islice(self.db.items(), limit):
            pass

    def length(self, times: Iterable[Any]) -> None:
        db = self.db
        for _ in times:
            len(db)

    def update(self, pairs: Pairs) -> None:
        self.db.update(pairs)

    def delete(self, keys: list[str]) -> None:
        db = self.db
        for key in keys:
            del db[key]


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
        for key in keys:
            value = loads(db[key])
        return value

    def items(self, limit: int) -> None:
        for key, raw in islice(self.db.items(), limit):
            key.decode(), loads(raw)

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
            key.decode(), loads(db[key])

    def length(self, times: Iterable[Any]) -> None:
        db = self.db
        for _ in times:
            len(db.keys())

    def update(self, pairs: Pairs) -> None:
        self.set(pairs)


class Lmdb(Contestant):
    """One transaction for each operation. Reads do without `with`, which would slow them down."""

    name, module, kind = "lmdb", "lmdb", "engine"

    def open(self) -> None:
        room = 4 * self.json_bytes + (1 << 28)
        self.db = self.library.open(str(self.path), map_size=room, sync=False, writemap=True)

    def set(self, pairs: Pairs) -> None:
        begin = self.db.begin
        for key, value in pairs:
            with begin(write=True) as txn:
                txn.put(key.encode(), dumps(value))

    def get(self, keys: list[str]) -> Any:
        begin = self.db.begin
        for key in keys:
            value = loads(begin().get(key.encode()))
        return value

    def get_missing(self, keys: list[str]) -> None:
        begin = self.db.begin
        for key in keys:
            begin().get(key.encode())

    def contains(self, keys: list[str]) -> None:
        begin = self.db.begin
        for key in keys:
            _ = begin().get(key.encode()) is not None

    def items(self, limit: int) -> None:
        with self.db.begin() as txn:
            for key, raw in islice(txn.cursor(), limit):
                key.decode(), loads(raw)

    def length(self, times: Iterable[Any]) -> None:
        stat = self.db.stat
        for _ in times:
            stat()["entries"]

    def update(self, pairs: Pairs) -> None:
        with self.db.begin(write=True) as txn:
            put = txn.put  # faster than putmulti, from a list or a generator
            for key, value in pairs:
                put(key.encode(), dumps(value))

    def delete(self, keys: list[str]) -> None:
        begin = self.db.begin
        for key in keys:
            with begin(write=True) as txn:
                txn.delete(key.encode())


class RocksDict(Contestant):
    name, module, kind = "rocksdict", "rocksdict", "engine"

    def open(self) -> None:
        options = self.library.Options(raw_mode=True)
        options.create_if_missing(True)
        self.db = self.library.Rdict(str(self.path), options)

    def set(self, pairs: Pairs) -> None:
        db = self.db
        for key, value in pairs:
            db[key.encode()] = dumps(value)

    def get(self, keys: list[str]) -> Any:
        db = self.db
        for key in keys:
            value = loads(db[key.encode()])
        return value

    def get_missing(self, keys: list[str]) -> None:
        get = self.db.get
        for key in keys:
            get(key.encode())

    def contains(self, keys: list[str]) -> None:
        db = self.db
        for key in keys:
            _ = key.encode() in db

    def items(self, limit: int) -> None:
        for key, raw in islice(self.db.items(), limit):
            key.decode(), loads(raw)

    def length(self, times: Iterable[Any]) -> None:
        for _ in times:
            sum(1 for _key in self.db.keys())  # noqa: SIM118

    def update(self, pairs: Pairs) -> None:
        batch = self.library.WriteBatch(raw_mode=True)
        put = batch.put
        for key, value in pairs:
            put(key.encode(), dumps(value))
        self.db.write(batch)

    def delete(self, keys: list[str]) -> None:
        db = self.db
        for key in keys:
            del db[key.encode()]


class Plyvel(Contestant):
    """LevelDB. With a Bloom filter, as its documentation advises."""

    name, module, kind = "plyvel", "plyvel", "engine"

    def open(self) -> None:
        self.db = self.library.DB(str(self.path), create_if_missing=True, bloom_filter_bits=10)

    def set(self, pairs: Pairs) -> None:
        put = self.db.put
        for key, value in pairs:
            put(key.encode(), dumps(value))

    def get(self, keys: list[str]) -> Any:
        get = self.db.get
        for key in keys:
            value = loads(get(key.encode()))
        return value

    def get_missing(self, keys: list[str]) -> None:
        get = self.db.get
        for key in keys:
            get(key.encode())

    def contains(self, keys: list[str]) -> None:
        get = self.db.get
        for key in keys:
            _ = get(key.encode()) is not None

    def items(self, limit: int) -> None:
        for key, raw in islice(self.db, limit):
            key.decode(), loads(raw)

    def length(self, times: Iterable[Any]) -> None:
        for _ in times:
            sum(1 for _key in self.db.iterator(include_value=False))

    def update(self, pairs: Pairs) -> None:
        with self.db.write_batch() as batch:
            put = batch.put
            for key, value in pairs:
                put(key.encode(), dumps(value))

    def delete(self, keys: list[str]) -> None:
        delete = self.db.delete
        for key in keys:
            delete(key.encode())


CONTESTANTS: dict[str, type[Contestant]] = {
    contestant.name: contestant
    for contestant in (
        KVMap,
        PlainDict,
        Lmdb,
        RocksDict,
        Plyvel,
        Shelve,
        DiskCache,
        SqliteDict,
        Lmdbm,
        SemiDBM,
    )
}


def named(kind: Kind) -> list[str]:
    return [name for name, contestant in CONTESTANTS.items() if contestant.kind == kind]
