"""py-key-value-aio keeps its entries in a map through an adapter of a few lines."""

import asyncio

import pytest
from helpers import AnyMap

base = pytest.importorskip("key_value.aio.stores.base")


def test_a_store(d: AnyMap) -> None:
    class MapStore(base.BaseStore):  # type: ignore[misc,name-defined]
        async def _get_managed_entry(self, *, collection, key):  # type: ignore[no-untyped-def]
            text = d.get((collection, key))
            return None if text is None else self._serialization_adapter.load_json(json_str=text)

        async def _put_managed_entry(self, *, collection, key, managed_entry):  # type: ignore[no-untyped-def]
            text = self._serialization_adapter.dump_json(entry=managed_entry)
            d.set((collection, key), text, ttl=managed_entry.ttl)

        async def _delete_managed_entry(self, *, collection, key):  # type: ignore[no-untyped-def]
            return d.delete_many([(collection, key)]) == 1

    async def use() -> None:
        store = MapStore(stable_api=True)
        await store.put("a", {"n": 1}, collection="c", ttl=60)
        assert await store.get("a", collection="c") == {"n": 1}
        assert d.ttl(("c", "a")) == pytest.approx(60, abs=5)
        assert await store.get("a", collection="other") is None
        assert await store.delete("a", collection="c")
        assert not await store.delete("a", collection="c")

    asyncio.run(use())
    assert d == {}
