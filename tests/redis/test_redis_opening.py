"""Opening a map on a server: URLs, names, clients, flags, and what the server must be set to."""

import subprocess
import sys
from typing import Any

import pytest
from servers import ServerProcess, running

import kvmap
from kvmap.redis.address import parse
from kvmap.settings import Settings


@pytest.mark.parametrize(
    ("url", "shown", "name"),
    [
        ("redis://", "redis://localhost:6379/0", "default"),
        ("redis://host", "redis://host:6379/0", "default"),
        ("redis://host/2", "redis://host:6379/2", "default"),
        ("redis://host/2/a", "redis://host:6379/2", "a"),
        ("redis://host/2/a%2Fb", "redis://host:6379/2", "a/b"),
        ("redis://host/2/a/b", "redis://host:6379/2", "a/b"),
        ("redis://host/2?name=a", "redis://host:6379/2", "a"),
        ("redis://host?db=2", "redis://host:6379/2", "default"),
        ("rediss://user:secret@host:1/0/a", "rediss://host:1/0", "a"),
        ("valkey://:secret@host:1/0/a", "redis://host:1/0", "a"),
        ("valkeys://host/0/a", "rediss://host:6379/0", "a"),
        ("redis://[::1]:7/0/a", "redis://[::1]:7/0", "a"),
        ("unix:///run/a.sock", "unix:///run/a.sock?db=0", "default"),
        ("unix://user:secret@/run/a.sock?db=3&name=a", "unix:///run/a.sock?db=3", "a"),
    ],
)
def test_urls(url: str, shown: str, name: str) -> None:
    address = parse(url, None)
    assert (address.shown, address.name) == (shown, name)
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    ("url", "name", "message"),
    [
        ("http://host", None, "begins with one of redis://"),
        ("redis://host/sessions", None, "must be a number, not 'sessions'"),
        ("redis://:secret@host:99999/0", None, "65535"),
        ("redis://host/0/a", "b", "names the map 'a'"),
        ("redis://host/0/%ff", None, "not UTF-8"),
        ("redis://host/0?db=3", None, "names the databases '0' and '3'"),
        ("redis://host/0", "", "1 to 200"),
        ("redis://host/0", "x" * 201, "1 to 200"),
        ("redis://host/0", "\ud800", "UTF-8"),
        ("unix://", None, "path of the server's socket"),
    ],
)
def test_urls_that_mean_nothing(url: str, name: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(url, name)
    assert "secret" not in str(caught.value)


def test_kvmap_alone_does_not_import_redis() -> None:
    code = "import sys, kvmap; kvmap.open(':memory:').close(); sys.exit('redis' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_flags(server: ServerProcess) -> None:
    url = f"{server.url}/flags"
    for flag in ("r", "w"):
        with pytest.raises(FileNotFoundError, match="there is no map .*/flags"):
            kvmap.open(url, flag)
    with kvmap.open(url) as d:
        d["a"] = 1
    with kvmap.open(url, "w") as d:
        d["b"] = 2
    with kvmap.open(url, "r") as d:
        assert dict(d) == {"a": 1, "b": 2}
        for write in (
            lambda: d.update(c=3), lambda: d.pop("a"), d.clear, d.purge, lambda: d.incr("a"),
            lambda: d.setdefault("c", 1), d.popitem, lambda: d.expire("a", 5),
            lambda: d.delete_many(["a"]), lambda: d.transaction().__enter__(),
        ):  # fmt: skip
            with pytest.raises(kvmap.ReadOnlyError):
                write()
        assert dict(d) == {"a": 1, "b": 2}
    with kvmap.open(url, "n") as d:
        assert dict(d) == {}


def test_a_new_map_from_keys(server: ServerProcess) -> None:
    url = f"{server.url}/new"
    with kvmap.KVMap.fromkeys("ab", 1, path=url) as d:
        assert dict(d) == {"a": 1, "b": 1}
    with pytest.raises(FileExistsError):
        kvmap.KVMap.fromkeys("cd", path=url)
    with kvmap.open(url) as d:
        assert dict(d) == {"a": 1, "b": 1}


def test_settings_are_kept(server: ServerProcess) -> None:
    with kvmap.open(server.url, ttl=60, limits=kvmap.Limits(entries=2)) as d:
        d["a"] = 1
    with kvmap.open(server.url) as d:
        assert d.settings == Settings(limits=kvmap.Limits(entries=2), ttl=60)
        assert 50 < d.ttl("a") <= 60
    with pytest.raises(ValueError, match='flag "r"'):
        kvmap.open(server.url, "r", ttl=5)
    with kvmap.open(server.url, ttl=None, limits=kvmap.Limits()):
        pass
    with kvmap.open(server.url, "r") as d:
        assert d.settings == Settings()


def test_partitions_stay_as_they_are(server: ServerProcess) -> None:
    with kvmap.open(server.url, shards=4) as d:
        d.update(zip("abcdefgh", range(8), strict=True))
    with kvmap.open(server.url) as d:
        assert list(d) == list("abcdefgh")
        assert len(d.stats().parts) == 4
    with pytest.raises(ValueError, match="has 4 partitions"):
        kvmap.open(server.url, shards=8)
    for wrong in (0, 3, 8192):
        with pytest.raises(ValueError, match="power of two"):
            kvmap.open(server.url, shards=wrong)


def test_what_cannot_be_had(server: ServerProcess, client: Any) -> None:
    with pytest.raises(ValueError, match="evict='oldest' can't be had on a server"):
        kvmap.open(server.url, limits=kvmap.Limits(entries=5), evict="oldest")
    with pytest.raises(ValueError, match="shards=1"):
        kvmap.open(server.url, limits=kvmap.Limits(entries=5), shards=2)
    with pytest.raises(ValueError, match="sync=True can't be had"):
        kvmap.open(server.url, sync=True)
    with pytest.raises(ValueError, match="mode= is for a store on disk"):
        kvmap.open(server.url, mode=0o600)
    with pytest.raises(ValueError, match="no option 'surprise'"):
        kvmap.open(f"{server.url}?surprise=1")
    assert client.keys("*") == []


def test_a_foreign_key_in_place_of_the_settings(server: ServerProcess, client: Any) -> None:
    client.set("kvmap:{d}:meta", "hello")
    with pytest.raises(kvmap.NotAStoreError, match="no kvmap map's"):
        kvmap.open(server.url, name="d")
    client.delete("kvmap:{d}:meta")
    client.lpush("kvmap:{d}:meta", "hello")
    with pytest.raises(kvmap.NotAStoreError, match="another type"):
        kvmap.open(server.url, "n", name="d")
    assert client.lrange("kvmap:{d}:meta", 0, -1) == ["hello"]


def test_foreign_keys_in_place_of_a_new_maps(server: ServerProcess, client: Any) -> None:
    client.set("kvmap:{d:00}:order", "hello")
    for flag in "cn":
        with pytest.raises(kvmap.NotAStoreError, match=r"kvmap:\{d:00\}:order is there"):
            kvmap.open(server.url, flag, name="d")
    assert client.keys("*") == ["kvmap:{d:00}:order"]


def test_a_newer_format(server: ServerProcess, client: Any) -> None:
    client.set("kvmap:{d}:meta", '{"kvmap":2,"surprise":true}')
    for flag in "cwrn":
        with pytest.raises(kvmap.NotAStoreError, match="format 2"):
            kvmap.open(server.url, flag, name="d")
    assert client.get("kvmap:{d}:meta") == '{"kvmap":2,"surprise":true}'


@pytest.mark.parametrize(
    "kept", ['{"kvmap":1}', '{"kvmap":"1"}', "[1]", '{"kvmap":1,"partitions":3}']
)
def test_settings_that_are_damaged(server: ServerProcess, client: Any, kept: str) -> None:
    client.set("kvmap:{d}:meta", kept)
    with pytest.raises(kvmap.NotAStoreError):
        kvmap.open(server.url, name="d")
    assert client.get("kvmap:{d}:meta") == kept


@pytest.mark.parametrize("decode", [False, True])
def test_a_client_object(server: ServerProcess, decode: bool) -> None:
    with server.client(decode_responses=decode, max_connections=1) as client:
        with kvmap.open(client, name="sessions") as d:
            d["a"] = "ü"
            d.update({1: 2, (1.0,): None})
            assert list(d.items()) == [("a", "ü"), (1, 2), ((1.0,), None)]
            assert d.pop("a") == "ü"
            assert d.popitem() == ((1.0,), None)
            with pytest.raises(KeyError):
                d["a"]
            assert str(server.port) in repr(d)
            with d.transaction():
                d["b"] = 3
        assert client.ping()  # closing the map leaves the client open
        with pytest.raises(ValueError, match="timeout"):
            kvmap.open(client, timeout=3)


def test_a_client_of_another_kind(server: ServerProcess) -> None:
    import redis.asyncio

    with pytest.raises(TypeError, match=r"redis\.Redis or redis\.cluster\.RedisCluster"):
        kvmap.open(redis.asyncio.Redis(port=server.port))


@pytest.mark.parametrize(
    ("policy", "is_refused"),
    [
        ("noeviction", False),
        ("volatile-lru", False),
        ("allkeys-lru", True),
        ("allkeys-random", True),
    ],
)
def test_a_server_that_may_evict_is_refused(
    server: ServerProcess, client: Any, policy: str, is_refused: bool
) -> None:
    client.config_set("maxmemory-policy", policy)
    try:
        if is_refused:
            with pytest.raises(kvmap.StoreUnavailableError, match=policy):
                kvmap.open(server.url)
            assert client.keys("*") == []
        else:
            kvmap.open(server.url).close()
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def test_sync_where_the_server_syncs_before_it_answers() -> None:
    with (
        running(appendonly="yes", appendfsync="always") as server,
        kvmap.open(server.url, sync=True) as d,
    ):
        d["a"] = 1
        d.sync()
        assert d["a"] == 1


def test_sync_where_each_write_waits() -> None:
    with running(appendonly="yes", appendfsync="everysec") as server:
        with server.client() as client:
            can_wait = not client.info()["redis_version"].startswith(("6.", "7.0"))
        if not can_wait:
            with pytest.raises(ValueError, match="WAITAOF"):
                kvmap.open(server.url, sync=True)
            return
        with kvmap.open(server.url, sync=True) as d, server.client() as client:
            d["a"] = 1
            client.config_resetstat()
            d["a"] = 1
            assert client.info("commandstats")["cmdstat_waitaof"]["calls"] == 1
            client.script_flush()
            d["b"] = 2
            assert d.incr("b") == 3
            with pytest.raises(TypeError):
                d.incr("a", "x")  # type: ignore[arg-type]
            d.sync()
            assert dict(d) == {"a": 1, "b": 3}


def test_sync_without_a_file_returns(d: kvmap.KVMap[Any, Any]) -> None:
    d["a"] = 1
    d.sync()
    assert d["a"] == 1


def test_a_wrong_password_is_not_shown() -> None:
    with running(requirepass="right") as server:
        for secret in ("wrong-secret", ""):
            url = f"redis://{f':{secret}@' if secret else ''}127.0.0.1:{server.port}/0"
            with pytest.raises(kvmap.StoreUnavailableError) as caught:
                kvmap.open(url)
            error: BaseException | None = caught.value
            assert isinstance(error, ConnectionError)
            assert f"127.0.0.1:{server.port}" in str(error)
            while error is not None:
                assert "wrong-secret" not in str(error)
                error = error.__cause__
        with kvmap.open(server.url) as d:
            d["a"] = 1
            assert "right" not in repr(d)
            assert "right" not in d.name


def test_nobody_listens() -> None:
    with pytest.raises(kvmap.StoreUnavailableError, match="127.0.0.1:1"):
        kvmap.open("redis://127.0.0.1:1/0")
    with pytest.raises(kvmap.StoreUnavailableError, match="nothing.sock"):
        kvmap.open("unix:///nothing.sock")


def test_a_unix_socket(tmp_path: Any) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, running(unixsocket=f"{folder}/s") as server:
        with kvmap.open(f"unix://{folder}/s?name=d") as d:
            d["a"] = 1
        with kvmap.open(server.url, name="d") as d:
            assert d["a"] == 1


def test_another_codec_than_the_maps_is_refused(server: ServerProcess) -> None:
    for kept, other in (("json", "extended"), ("extended", "json")):
        with kvmap.open(server.url, "n", name=kept, codec=kept) as d:
            d["ada"] = {"$set": 1}
        for flag in "cwr":
            with pytest.raises(ValueError, match=f"codec='{other}' is for a new one"):
                kvmap.open(server.url, flag, name=kept, codec=other, ttl=60)
            with kvmap.open(server.url, flag, name=kept, codec=kept) as d:
                assert d.settings == Settings(codec=kept)
                assert dict(d) == {"ada": {"$set": 1}}
    with kvmap.open(server.url, "n", name="json", codec="extended") as d:
        assert d.settings.codec == "extended"


def test_a_type_is_refused_before_settings_change(server: ServerProcess) -> None:
    kvmap.open(server.url, codec="extended").close()
    with pytest.raises(ValueError, match="type= decides by itself"):
        kvmap.open(server.url, type=dict[str, int], ttl=60)
    with kvmap.open(server.url) as d:
        assert d.settings == Settings(codec="extended")
