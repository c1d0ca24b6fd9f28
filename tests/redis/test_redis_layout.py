"""What a map looks like on the server, and keys and values that try it."""

import json
import time
from typing import Any

import pytest
from servers import ServerProcess

import kvmap
from kvmap.redis.layout import Layout
from kvmap.redis.opening import open_engine
from kvmap.settings import keep


def test_what_redis_cli_shows(server: ServerProcess, client: Any) -> None:
    with kvmap.open(f"{server.url}/sessions", ttl=3600) as d:
        d["ada"] = {"visits": 1}
        d.set(1.5, [2], ttl=None)
        assert client.hgetall("kvmap:{sessions:00}:values") == {
            '"ada"': '{"visits":1}',
            "1.5": "[2]",
        }
        assert client.zrange("kvmap:{sessions:00}:order", 0, -1) == ['"ada"', "1.5"]
        ((name, deadline),) = client.zrange("kvmap:{sessions:00}:deadlines", 0, -1, withscores=True)
        assert name == '"ada"'
        assert 3590 < deadline - time.time() <= 3600
    assert json.loads(client.get("kvmap:{sessions}:meta")) == {
        "kvmap": 1,
        "partitions": 1,
        "limits": {},
        "ttl": 3600.0,
        "codec": "json",
        "evict": None,
    }


def test_places_in_the_order(server: ServerProcess, client: Any) -> None:
    """One partition counts its places; several go by the server's time, so that they can be merged."""
    with kvmap.open(server.url, name="d") as d, kvmap.open(server.url, name="s", shards=2) as s:
        d["a"] = 1
        d.update(b=2, c=3)
        d.setdefault("d", 4)
        d.incr("e")
        with d.transaction():
            del d["a"]
            d["a"] = 6
        d.clear()
        d["f"] = 7
        assert client.zrange("kvmap:{d:00}:order", 0, -1, withscores=True) == [('"f"', 7)]
        s["a"] = 1
        s.update(b=2, c=3)
        places = [
            place
            for number in range(2)
            for _, place in client.zrange(f"kvmap:{{s:0{number}}}:order", 0, -1, withscores=True)
        ]
        assert len(places) == 3
        assert all(abs(place / 1e6 - time.time()) < 5 for place in places)


@pytest.mark.parametrize(
    ("first", "second"), [(1, 1.0), (1.0, True), (True, 1), ((1, 2.0), (1.0, 2))]
)
def test_equal_keys_are_one_and_the_first_form_stays(
    d: kvmap.KVMap[Any, Any], first: Any, second: Any
) -> None:
    d[first] = "a"
    d[second] = "b"
    (key,) = d
    assert repr(key) == repr(first)
    assert (d[first], len(d)) == ("b", 1)
    del d[second]
    d[second] = "c"
    (key,) = d
    assert repr(key) == repr(second)
    assert repr(d.popitem()) == repr((second, "c"))


def test_a_batch_and_a_transaction_keep_the_first_form(d: kvmap.KVMap[Any, Any]) -> None:
    d.update([(1.0, "a"), (True, "b"), ((2.0,), "c")])
    assert repr(list(d)) == "[1.0, (2.0,)]"
    with d.transaction():
        d[1] = "d"
        d[(2,)] = "e"
        d[3.0] = "f"
    assert repr(dict(d)) == "{1.0: 'd', (2.0,): 'e', 3.0: 'f'}"
    d.update({True: 1})
    assert repr(list(d)) == "[1.0, (2.0,), 3.0]"


@pytest.mark.parametrize("partitions", [1, 8])
def test_hostile_keys(server: ServerProcess, partitions: int) -> None:
    names: list[Any] = [
        "", " ", "a b", "{", "}", "{}", "{a}{b}", "\0", "a\0b", "\r\n", "*1\r\n$4\r\nPING\r\n", "🦊",
        "é", "%", "%7B", ":", "'", '"', "\\", "[1]", "null", "x" * 10_000, None, 0, -1, 0.5, 2**64 - 1,
        -(2**63), 1e300, -1e-300, (), ((),), ("a", ("b", None)), "inf", "-inf", "(1", "+",
    ]  # fmt: skip
    with kvmap.open(server.url, name="keys", shards=partitions) as d:
        for number, name in enumerate(names):
            d[name] = number
        assert list(d.items()) == [(name, number) for number, name in enumerate(names)]
        assert d.get_many(names) == {name: number for number, name in enumerate(names)}
        assert [d.pop(name) for name in names] == list(range(len(names)))
        assert (len(d), list(d)) == (0, [])


@pytest.mark.parametrize(
    "value",
    ["a\0b", "\r\n$-1\r\n", "🦊" * 10, "", [], {}, {"": ""}, 2**64 - 1, -(2**63), 1e308, 5e-324],
)
def test_hostile_values(d: kvmap.KVMap[Any, Any], value: Any) -> None:
    d["a"] = value
    assert d["a"] == value
    assert list(d.values()) == [value]
    assert d.popitem() == ("a", value)


def test_values_of_10_MB(d: kvmap.KVMap[Any, Any]) -> None:
    value = ["x" * 1_000_000] * 10
    d.update({"a": value, "b": 1, "c": value})
    assert [(key, each == value) for key, each in d.items()] == [
        ("a", True),
        ("b", False),
        ("c", True),
    ]
    with d.transaction():
        d["d"] = d["a"]
    assert d.pop("d") == value
    assert d.popitem()[1] == value


def test_keys_that_cannot_be_are_not_there(d: kvmap.KVMap[Any, Any]) -> None:
    d[1] = "a"
    for key in (b"1", frozenset(), float("nan"), "\ud800", 2**64, object()):
        assert key not in d
        assert d.get(key) is None
        with pytest.raises(KeyError):
            del d[key]
    for key in ([], {}, ([],)):
        with pytest.raises(TypeError):
            d.get(key)
    with pytest.raises(ValueError, match="ud800"):
        d["\ud800"] = 1


@pytest.mark.parametrize("name", ["a{b", "a}b", "{}", "}{", "a:00", "ünï", "a b", "a/b", "%7B"])
def test_two_maps_with_odd_names(server: ServerProcess, name: str) -> None:
    with (
        kvmap.open(server.url, name=name, shards=2) as d,
        kvmap.open(server.url, name="a") as a,
    ):
        a.update(x=1, y=2)
        d.update(x=3, z=4)
        d.clear()
        assert (dict(a), dict(d)) == ({"x": 1, "y": 2}, {})
        d["z"] = 5
        a.clear()
        assert (dict(a), dict(d)) == ({}, {"z": 5})


def test_names_never_share_keys() -> None:
    names = ["a", "a:00", "a%7B", "a{", "a}", "a%7D", "{a}", "a:00:00", "%"]
    keys = [
        key
        for name in names
        for layout in [Layout(name, 2)]
        for key in [layout.meta, *layout.keys(0), *layout.keys(1)]
    ]
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert key.count(b"{") == key.count(b"}") == 1


def test_clear_hits_exactly_this_map(server: ServerProcess, client: Any) -> None:
    client.set("d", "foreign")
    client.hset("kvmap:{d:00}", "foreign", "1")
    client.set("kvmap:{d:01}:values", "foreign")
    with kvmap.open(server.url, name="d") as d:
        d.set_many({number: number for number in range(1000)}, ttl=100)
        d.clear()
        assert len(d) == 0
    assert sorted(client.keys("*")) == [
        "d", "kvmap:{d:00}", "kvmap:{d:00}:state", "kvmap:{d:01}:values", "kvmap:{d}:meta",
    ]  # fmt: skip


@pytest.mark.parametrize("part", ["values", "order", "deadlines", "state"])
def test_a_key_of_another_type_in_the_way(d: kvmap.KVMap[Any, Any], client: Any, part: str) -> None:
    d.set("a", 1, ttl=100)
    client.delete(f"kvmap:{{d:00}}:{part}")
    client.set(f"kvmap:{{d:00}}:{part}", "foreign")
    with pytest.raises(kvmap.NotAStoreError, match="another type"):
        d.set("b", 1, ttl=100)
    assert client.get(f"kvmap:{{d:00}}:{part}") == "foreign"


def test_a_value_that_is_no_json(d: kvmap.KVMap[Any, Any], client: Any) -> None:
    d["a"] = 1
    client.hset("kvmap:{d:00}:values", '"a"', "{broken")
    with pytest.raises(kvmap.CorruptStoreError, match="'a'") as caught:
        d["a"]
    assert caught.value.offset is None
    assert "kvmap:{d:00}:values" in caught.value.file
    assert "write this one anew, or delete it" in str(caught.value)
    client.hset("kvmap:{d:00}:values", '"a"', "1\0002")
    with pytest.raises(kvmap.CorruptStoreError):
        list(d.items())


def test_a_field_without_a_place_is_no_entry_of_an_iteration(
    d: kvmap.KVMap[Any, Any], client: Any
) -> None:
    d["a"] = 1
    client.zadd("kvmap:{d:00}:order", {'"ghost"': 5})
    assert list(d.items()) == [("a", 1)]


def test_a_partition_is_that_of_the_disks_bucket(server: ServerProcess, client: Any) -> None:
    from kvmap import keys

    engine = open_engine(server.url, "c", name="p", timeout=0, sync=False, shards=16, change=keep)
    for key in ("ada", 1, 1.0, (1, "a"), None):
        engine.put(key, b"1", float("inf"))
        assert client.hlen(f"kvmap:{{p:{keys.bucket(key, 15):02x}}}:values") == 1
        engine.clear()
    engine.close()
