"""Limits: what would go beyond one is refused and changes nothing; they are kept in the store."""

import dataclasses
from typing import Any

import pytest
from helpers import AnyMap, files_of
from stores import Store

import kvmap
from kvmap import Limits


def writes(d: AnyMap, key: Any, value: Any) -> list[Any]:
    """Every way to write one entry."""

    def in_transaction() -> None:
        with d.transaction():
            d[key] = value

    return [
        lambda: d.__setitem__(key, value),
        lambda: d.set(key, value, ttl=5),
        lambda: d.create(key, value),
        lambda: d.setdefault(key, value),
        lambda: d.update({"other": 1, key: value}),
        lambda: d.__ior__({key: value}),
        in_transaction,
    ]


def test_keys_are_limited_by_their_characters(store: Store) -> None:
    with store.open(limits=Limits(key_chars=4)) as d:
        d["éééé"] = 1
        d[1234] = 1  # a key that is no str counts as its JSON text
        d[(1,)] = 1
        before = dict(d)
        for key in ("12345", 12345, (1, 2)):
            for write in writes(d, key, 1):
                with pytest.raises(kvmap.LimitError, match="the limit is 4"):
                    write()
            assert key not in d
        assert dict(d) == before
        store.check(d)


def test_values_are_limited_by_the_bytes_of_their_json(store: Store) -> None:
    with store.open(limits=Limits(value_bytes=10)) as d:
        d["fits"] = "é" * 4
        for value in ("é" * 4 + "x", [1, 2, 3, 4, 5]):
            for write in writes(d, "new", value):
                with pytest.raises(kvmap.LimitError, match=r"1[12] bytes as JSON, the limit is 10"):
                    write()
        with pytest.raises(kvmap.LimitError), d.edit("list", []) as some:
            some += [1, 2, 3, 4, 5]
        assert dict(d) == {"fits": "é" * 4}
        store.check(d)


def test_the_store_is_limited_by_the_bytes_of_its_live_records(store: Store) -> None:
    with store.open(limits=Limits(store_bytes=10_000)) as d:
        with pytest.raises(kvmap.LimitError, match="limit is 10,?000"):
            for number in range(1000):
                d[str(number)] = "x" * 100
        assert 9_800 < d.stats().live_bytes <= 10_000
        held = dict(d)
        for write in writes(d, "new", "x" * 300):
            with pytest.raises(kvmap.LimitError):
                write()
            assert dict(d) == held
            store.check(d)
        d["0"] = "y" * 90  # what was written before makes room
        for _ in range(3):
            del d["1"]
            d["1"] = "z" * 100
        d.pop("2"), d.pop("3")
        d["new"] = "x" * 200
        d.clear()
        d["new"] = "x" * 9_000
        store.check(d)


def test_the_store_is_limited_by_the_number_of_its_entries(store: Store) -> None:
    with store.open(limits=Limits(entries=3)) as d:
        d.update(a=1, b=2, c=3)
        for write in writes(d, "new", 1):
            with pytest.raises(kvmap.LimitError, match="limit is 3"):
                write()
            assert dict(d) == {"a": 1, "b": 2, "c": 3}
        d["a"] = 4
        del d["b"]
        d["new"] = 5
        with d.transaction():
            d["one too many for now"] = 6
            del d["c"]
        assert dict(d) == {"a": 4, "new": 5, "one too many for now": 6}
        store.check(d)


def test_a_configured_map_has_other_bounds_at_once(store: Store) -> None:
    with store.open(limits=Limits(key_chars=3)) as d:
        d.configure(limits=Limits(value_bytes=4), ttl=60)
        d["longer"] = 1
        assert d.ttl("longer") == 60
        with pytest.raises(kvmap.LimitError, match="5 bytes as JSON, the limit is 4"):
            d["a"] = "xxx"
        with pytest.raises(ValueError, match="needs a bound"):
            d.configure(evict="sieve")
        assert d.settings.limits == Limits(value_bytes=4)
        with d.transaction(), pytest.raises(RuntimeError, match="configure inside a transaction"):
            d.configure(ttl=None)
        assert d.settings.ttl == 60


def test_expired_and_deleted_records_do_not_count(store: Store) -> None:
    with store.open(limits=Limits(store_bytes=3_000)) as d:
        for _ in range(5):
            for number in range(10):
                d.set(str(number), "x" * 200, ttl=5)
            store.clock.wait(5)
        d["a"] = "x" * 2_500
        d.update(a="y" * 2_500)


def test_a_transaction_counts_once_and_may_make_its_own_room(store: Store) -> None:
    with store.open(limits=Limits(store_bytes=1_000)) as d:
        d["old"] = "x" * 600
        with d.transaction():
            del d["old"]
            d["new"] = "x" * 600
            d["new"] = "y" * 700
        assert dict(d) == {"new": "y" * 700}
        with pytest.raises(kvmap.LimitError), d.transaction():
            d["one"] = "x" * 100
            d["two"] = "x" * 200
        assert dict(d) == {"new": "y" * 700}
        store.check(d)


def test_limits_are_kept_in_the_store(kept: Store) -> None:
    limits = Limits(key_chars=3, value_bytes=100, store_bytes=500)
    with kept.open(limits=limits) as d:
        d["a"] = "x" * 80
    with kept.open() as d:
        for key, value in [("long", 1), ("b", "x" * 100)]:
            with pytest.raises(kvmap.LimitError):
                d[key] = value
        with pytest.raises(kvmap.LimitError):
            d.update({str(number): "x" * 80 for number in range(5)})
    # The first write of a session needs all shards, to know the store's size.
    with kept.open() as d:
        d["b"] = 1
    with kept.open() as d:
        d.update(c=2)
    with kept.open() as d:
        assert dict(d) == {"a": "x" * 80, "b": 1, "c": 2}
        kept.check(d)


def test_limits_given_again_replace_all_of_them(kept: Store) -> None:
    kept.open(limits=Limits(key_chars=3, value_bytes=5)).close()
    with kept.open(limits=Limits(key_chars=6)) as d:
        d["longer"] = "x" * 50
    with kept.open() as d, pytest.raises(kvmap.LimitError):
        d["longest"] = 1
    with kept.open(limits=Limits()) as d:
        d["longest"] = 1
    # Tighter than what is there: nothing is lost, and only growth is refused.
    with kept.open(limits=Limits(store_bytes=10)) as d:
        assert dict(d) == {"longer": "x" * 50, "longest": 1}
        d["longer"] = "short"
        with pytest.raises(kvmap.LimitError):
            d["new"] = 1
        del d["longest"]


def test_a_store_opened_to_read_keeps_its_settings(kept: Store) -> None:
    kept.open(limits=Limits(key_chars=3)).close()
    before = files_of(kept.folder / "store")
    for settings in ({"limits": Limits()}, {"ttl": 5}):
        with pytest.raises(ValueError, match='flag "r"'):
            kept.open("store", "r", **settings)
    assert files_of(kept.folder / "store")["kvmap.json"] == before["kvmap.json"]
    with kept.open() as d, pytest.raises(kvmap.LimitError):
        d["long"] = 1


@pytest.mark.parametrize("field", ["key_chars", "value_bytes", "entries", "store_bytes"])
def test_a_limit_is_a_positive_int(field: str) -> None:
    for bound in (0, -1):
        with pytest.raises(ValueError, match=f"limit {field} must be at least 1"):
            Limits(**{field: bound})
    for bound in (1.5, "32", True):
        with pytest.raises(TypeError, match=f"limit {field} must be an int or None"):
            Limits(**{field: bound})
    assert getattr(Limits(**{field: 1}), field) == 1


def test_limits_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().key_chars = 3
    assert Limits() == Limits(None, None, None, None)
    assert kvmap.LimitError.__mro__[1:3] == (kvmap.KVMapError, ValueError)
