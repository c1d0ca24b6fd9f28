"""The contestants that are C or C++ engines: LMDB, RocksDB and LevelDB."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, ClassVar

from orjson import dumps, loads

from benchmarking.contestant import Contestant, Kind, Pairs


class Lmdb(Contestant):
    """One transaction for each operation. Reads do without `with`, which would slow them down."""

    name: ClassVar[str] = "lmdb"
    kind: ClassVar[Kind] = "engine"
    module = "lmdb"
    flags: ClassVar[dict[str, Any]] = {"sync": False}

    def open(self) -> None:
        room = 4 * self.json_bytes + (1 << 28)
        self.db = self.library.open(str(self.path), map_size=room, **self.flags)

    def set(self, pairs: Pairs) -> None:
        begin = self.db.begin
        for key, value in pairs:
            with begin(write=True) as txn:
                txn.put(key.encode(), dumps(value))

    def get(self, keys: list[str]) -> Any:
        begin = self.db.begin
        value: Any = None
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
                _ = key.decode(), loads(raw)

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


class Writemap(Lmdb):
    """LMDB that writes through its map: a stray pointer or a full disk can destroy the file."""

    name: ClassVar[str] = "writemap"
    kind: ClassVar[Kind] = "extra"
    flags: ClassVar[dict[str, Any]] = {"sync": False, "writemap": True}


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
        value: Any = None
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
            _ = key.decode(), loads(raw)

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
        value: Any = None
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
            _ = key.decode(), loads(raw)

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
