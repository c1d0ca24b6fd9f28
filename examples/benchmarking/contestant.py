"""What a contestant is: each operation is the loop that a user of that store would write.

Nothing stands between the loop and the store, not even a call, so that a fast store is not charged
for the benchmark. Keys come as `str` and values as Python objects, and go out as such: a store that
wants bytes pays for its own encoding, with orjson. `shelve`, `diskcache` and `sqlitedict` pickle,
as they do by default. No write waits until it would survive a power cut, but for tinydb's.
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

Pairs = list[tuple[str, Any]]
Kind = Literal["kvmap", "floor", "engine", "extra", "dict-like"]
"""An engine's writes survive a kill; "extra" is shown beside the engines and is not one of them."""


class Contestant(ABC):
    """A store under test, in an empty directory of its own."""

    name: ClassVar[str]
    kind: ClassVar[Kind] = "dict-like"
    module: ClassVar[str]
    durable: ClassVar[bool] = True
    whole_file: ClassVar[bool] = False
    """Each operation reads or writes the whole file, so that few of many cost as much as all."""

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
        value: Any = None
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
