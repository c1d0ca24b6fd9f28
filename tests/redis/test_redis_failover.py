"""A replica that takes the place of a killed primary: the map goes on, with what was replicated."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from servers import ServerProcess, free_port, program, running, wait_until

import kvmap

AT_ONCE = {"repl-diskless-sync-delay": 0}


@pytest.fixture
def pair() -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """A primary and its replica."""
    with (
        running(**AT_ONCE) as primary,
        running(replicaof=f"127.0.0.1 {primary.port}", **AT_ONCE) as replica,
        replica.client() as client,
    ):
        wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        yield primary, replica


def replicate(client: Any) -> None:
    """Wait until a replica has each write so far. WAIT asks for those of its own connection only."""
    client.set("written last", 1)
    assert client.wait(1, 5000) == 1


def test_an_address_that_moves_to_the_replica(pair: tuple[ServerProcess, ServerProcess]) -> None:
    primary, replica = pair
    with (
        Proxy(primary.port) as proxy,
        kvmap.open(f"redis://127.0.0.1:{proxy.port}/0/d", timeout=0.5) as d,
    ):
        d.set("timed", 1, ttl=1000)
        deadline = d.deadline("timed")
        for number in range(100):
            assert d.incr("n", default=0) == number + 1
        with primary.client() as client:
            replicate(client)
        primary.kill()
        with pytest.raises(ConnectionError):
            d["n"] = 0
        proxy.forward_to(replica.port)
        with pytest.raises(kvmap.ReadOnlyError, match="read-only replica"):
            d["n"] = 0
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        assert d.incr("n") == 101
        assert list(d) == ["timed", "n"]
        assert d.deadline("timed") == deadline
        d["new"] = 1
        assert list(d) == ["timed", "n", "new"]


def test_what_was_not_replicated_is_lost_and_no_more(
    pair: tuple[ServerProcess, ServerProcess],
) -> None:
    primary, replica = pair
    with Proxy(primary.port) as proxy, kvmap.open(f"redis://127.0.0.1:{proxy.port}/0/d") as d:
        d.update(a=1, b=2)
        with primary.client() as client:
            replicate(client)
        replica.pause()
        with d.transaction():
            d["a"] = d["b"] = 3
        primary.kill()
        replica.resume()
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        proxy.forward_to(replica.port)
        assert dict(d) in ({"a": 1, "b": 2}, {"a": 3, "b": 3})  # wholly, or not at all
        d["c"] = 4
        assert d["c"] == 4


@contextmanager
def sentinel(folder: Path, primary: ServerProcess) -> Iterator[Any]:
    """A sentinel that watches a primary under the name `sessions`: redis-py's object for it."""
    from redis.sentinel import Sentinel

    port, settings = free_port(), folder / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor sessions 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds sessions 500\nsentinel failover-timeout sessions 2000\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program(), str(settings), "--sentinel"], stdout=log, stderr=log)
    try:
        yield Sentinel([("127.0.0.1", port)], socket_timeout=1)
    finally:
        process.kill()
        process.wait()


def test_sentinels(pair: tuple[ServerProcess, ServerProcess], tmp_path: Path) -> None:
    import redis

    primary, _ = pair
    with sentinel(tmp_path, primary) as watch:

        def knows_the_replica() -> bool:
            try:
                return len(watch.discover_slaves("sessions")) == 1
            except redis.RedisError:
                return False

        wait_until(knows_the_replica)
        with (
            watch.master_for("sessions", socket_timeout=2) as client,
            kvmap.open(client, name="d") as d,
        ):
            assert "service sessions" in repr(d)
            d["a"] = 1
            replicate(client)
            primary.kill()

            def goes_on() -> bool:
                try:
                    return d.incr("a") > 1
                except kvmap.KVMapError as error:
                    assert isinstance(error, (ConnectionError, kvmap.ReadOnlyError))
                    return False

            wait_until(goes_on)
            assert d["a"] == 2
