"""dogpile.cache keeps its values in a map: its memory backend takes any dictionary."""

from collections.abc import Iterator

import pytest
from helpers import AnyMap, Library
from stores import Store

dogpile_cache = Library("dogpile.cache")


@pytest.fixture
def d(store: Store) -> Iterator[AnyMap]:
    from dogpile.cache.api import CachedValue

    with store.open(encode=list, decode=lambda value: CachedValue(*value)) as d:
        yield d


def test_a_region(d: AnyMap) -> None:
    region = dogpile_cache.make_region()
    region.configure("dogpile.cache.memory", arguments={"cache_dict": d})
    calls = []

    @region.cache_on_arguments()
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    assert [square(3), square(3)] == [9, 9]
    assert calls == [3]
    ((key, kept),) = d.items()
    assert key.endswith("square|3")
    assert kept.payload == 9
    square.invalidate(3)
    assert len(d) == 0
    assert square.refresh(3) == 9
    assert calls == [3, 3]


def test_many_values_and_missing_ones(d: AnyMap) -> None:
    region = dogpile_cache.make_region()
    region.configure("dogpile.cache.memory", arguments={"cache_dict": d})
    no_value = dogpile_cache.api.NO_VALUE
    region.set_multi({"a": 1, "b": {"x": [None]}})
    assert region.get_multi(["a", "b", "c"]) == [1, {"x": [None]}, no_value]
    region.delete_multi(["a", "c"])
    assert list(d) == ["b"]
    assert region.get("a") is no_value


def test_an_expiration_time(d: AnyMap) -> None:
    region = dogpile_cache.make_region()
    region.configure("dogpile.cache.memory", expiration_time=3600, arguments={"cache_dict": d})
    calls = []
    for _ in range(2):
        region.get_or_create("a", lambda: calls.append(1) or len(calls))
    assert len(calls) == 1
    payload, metadata = d["a"]
    d["a"] = (payload, {**metadata, "ct": metadata["ct"] - 3601})
    assert region.get_or_create("a", lambda: calls.append(1) or len(calls)) == 2
