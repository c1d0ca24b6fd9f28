"""All contestants by name, in the order of the table's columns."""

from __future__ import annotations

from benchmarking.contestant import Contestant, Kind
from benchmarking.dicts import (
    DiskCache,
    KVMap,
    Lmdbm,
    PlainDict,
    SemiDBM,
    Shelve,
    SqliteDict,
    TinyDB,
)
from benchmarking.engines import Lmdb, Plyvel, RocksDict, Writemap

CONTESTANTS: dict[str, type[Contestant]] = {
    contestant.name: contestant
    for contestant in (
        KVMap,
        PlainDict,
        Lmdb,
        RocksDict,
        Plyvel,
        Writemap,
        Shelve,
        DiskCache,
        SqliteDict,
        TinyDB,
        Lmdbm,
        SemiDBM,
    )
}


def named(kind: Kind) -> list[str]:
    return [name for name, contestant in CONTESTANTS.items() if contestant.kind == kind]
