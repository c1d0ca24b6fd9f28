"""dogpile.cache keeps serialized values in a map."""

import json

import pytest
from helpers import AnyMap

dogpile_cache = pytest.importorskip("dogpile.cache")
api = pytest.importorskip("dogpile.cache.api")


class MapBackend(api.CacheBackend):  # type: ignore[misc,name-defined]
    def __init__(self, arguments):  # type: ignore[no-untyped-def]
        self.kept = arguments["map"]

    def get_serialized(self, key):  # type: ignore[no-untyped-def]
        text = self.kept.get(key)
        return api.NO_VALUE if text is None else text.encode()

    def set_serialized(self, key, value):  # type: ignore[no-untyped-def]
        self.kept[key] = value.decode()

    def delete(self, key):  # type: ignore[no-untyped-def]
        self.kept.pop(key, None)


dogpile_cache.register_backend("kvmap", __name__, "MapBackend")


def test_a_region(d: AnyMap) -> None:
    region = dogpile_cache.make_region(
        serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads
    )
    region.configure("kvmap", arguments={"map": d})
    calls = []

    @region.cache_on_arguments()
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    assert [square(3), square(3)] == [9, 9]
    assert calls == [3]
    assert len(d) == 1
    square.invalidate(3)
    assert len(d) == 0
