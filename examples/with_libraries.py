"""A map behind other libraries: what each of them takes as its store, in a few lines.

    pip install '.[libraries]'
    python examples/with_libraries.py

Each function makes the library's own object over an open map `d`; copy the one that you need. A
library that takes any mapping needs no function: examples/README.md has a table of both kinds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import kvmap

if TYPE_CHECKING:
    from cachelib import BaseCache
    from key_value.aio.stores.base import BaseStore, ManagedEntry
    from requests_cache import CachedSession
    from tinydb import TinyDB

Map = kvmap.KVMap[Any, Any]


def cachelib_cache(d: Map, default_timeout: int = 300) -> BaseCache:
    """For cachelib and for Flask-Session: SESSION_TYPE="cachelib", SESSION_CACHELIB=this cache.

    A timeout of 0 stands for "it stays", as in cachelib's own caches.
    """
    from cachelib import BaseCache

    class MapCache(BaseCache):
        def get(self, key: str) -> Any:
            return d.get(key)

        def set(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
            d.set(key, value, ttl=self._normalize_timeout(timeout) or None)
            return True

        def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
            try:
                d.create(key, value, ttl=self._normalize_timeout(timeout) or None)
            except kvmap.KeyExistsError:
                return False
            return True

        def delete(self, key: str) -> bool:
            return d.delete_many([key]) == 1

        def has(self, key: str) -> bool:
            return key in d

        def clear(self) -> bool:
            d.clear()
            return True

    return MapCache(default_timeout)


def requests_cache_session(d: Map, **options: Any) -> CachedSession:
    """For requests-cache: a session that keeps responses, and redirects, in one map."""
    from requests_cache import CachedSession
    from requests_cache.backends.base import BaseCache, BaseStorage

    class MapStorage(BaseStorage[str, Any]):
        def __init__(self, part: str, **options: Any) -> None:
            super().__init__(**options)
            self.part = part

        def __getitem__(self, key: str) -> Any:
            return self.deserialize(key, d[self.part, key])

        def __setitem__(self, key: str, value: Any) -> None:
            d[self.part, key] = self.serialize(value)

        def __delitem__(self, key: str) -> None:
            del d[self.part, key]

        def __iter__(self) -> Iterator[str]:
            return (key for _, key in d.scan((self.part,)))

        def __len__(self) -> int:
            return sum(1 for _ in self)

        def clear(self) -> None:
            d.delete_many(list(d.scan((self.part,))))

    cache = BaseCache("kvmap")
    cache.responses = MapStorage("responses", serializer="json")
    cache.redirects = MapStorage("redirects", serializer=None)
    return CachedSession(backend=cache, **options)


def tinydb_over(d: Map) -> TinyDB:
    """For tinydb: each of its tables is one entry. It writes all tables at each change."""
    from tinydb import Storage, TinyDB

    class MapStorage(Storage):
        def read(self) -> dict[str, Any] | None:
            return d.copy() or None

        def write(self, data: dict[str, Any]) -> None:
            with d.transaction():
                d.delete_many(d.keys() - data.keys())
                d.update(data)

    return TinyDB(storage=MapStorage)


def key_value_store(d: Map) -> BaseStore:
    """For py-key-value-aio, and so for FastMCP. For a bounded store, open `d` with `evict=`."""
    from key_value.aio.stores.base import BaseStore

    class MapStore(BaseStore):
        async def _get_managed_entry(self, *, collection: str, key: str) -> ManagedEntry | None:
            text = d.get((collection, key))
            return None if text is None else self._serialization_adapter.load_json(json_str=text)

        async def _put_managed_entry(
            self, *, collection: str, key: str, managed_entry: ManagedEntry
        ) -> None:
            text = self._serialization_adapter.dump_json(entry=managed_entry)
            d.set((collection, key), text, ttl=managed_entry.ttl)

        async def _delete_managed_entry(self, *, collection: str, key: str) -> bool:
            return d.delete_many([(collection, key)]) == 1

    return MapStore(stable_api=True)


def main() -> None:
    with kvmap.open(":memory:") as d:
        cache = cachelib_cache(d)
        cache.set("page", "<html>", timeout=60)
        print(f"cachelib          {cache.get('page')}, for {d.ttl('page'):.0f} s")

    with kvmap.open(":memory:") as d:
        tinydb_over(d).insert({"name": "Ada"})
        print(f"tinydb            {json.dumps(d.copy())}")

    with kvmap.open(":memory:") as d:
        store = key_value_store(d)

        async def use() -> None:
            await store.put("ada", {"visits": 1}, collection="users", ttl=60)
            print(f"py-key-value-aio  {await store.get('ada', collection='users')}")

        asyncio.run(use())

    with kvmap.open(":memory:") as d, requests_cache_session(d) as session:
        print(f"requests-cache    a session over {session.cache.cache_name}")  # .get(url) asks once


if __name__ == "__main__":
    main()
