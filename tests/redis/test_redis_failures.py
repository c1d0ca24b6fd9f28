"""A server that is killed, restarted, full, a replica, too slow: clear errors, and the map goes on."""

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import LONG
from servers import ServerProcess, running, wait_until

import kvmap
from kvmap.engine import INF, Changes, Seen
from kvmap.redis.opening import open_engine
from kvmap.settings import keep


@pytest.fixture
def own() -> Iterator[ServerProcess]:
    """A server for one test, which keeps what it has answered."""
    with running(appendonly="yes", appendfsync="always") as server:
        yield server


def test_killed_and_started_again(own: ServerProcess) -> None:
    with kvmap.open(own.url) as d:
        d["a"] = 1
        own.kill()
        started = time.monotonic()
        for work in (lambda: d["a"], lambda: d.update(b=2), lambda: len(d), d.popitem, d.clear):
            with pytest.raises(kvmap.StoreUnavailableError, match="nothing was changed") as caught:
                work()
            assert isinstance(caught.value, ConnectionError)
            assert str(own.port) in str(caught.value)
        assert time.monotonic() - started < 10
        assert str(own.port) in repr(d)
        own.start()
        assert dict(d) == {"a": 1}
        d["b"] = 2
        assert d.popitem() == ("b", 2)


def test_a_restart_between_two_calls_is_not_noticed(own: ServerProcess) -> None:
    with kvmap.open(own.url) as d:
        for number in range(1, 4):
            assert d.incr("a") == number
            own.kill()
            own.start()


def test_a_restart_while_threads_count(own: ServerProcess) -> None:
    """Each call returns a number of its own or raises; none is counted twice."""
    counted: list[int] = []
    unknown: list[Exception] = []
    end = threading.Event()

    def count(d: kvmap.KVMap[Any, Any]) -> None:
        while not end.is_set():
            try:
                counted.append(d.incr("a"))
            except kvmap.OutcomeUnknownError as error:
                unknown.append(error)
            except kvmap.StoreUnavailableError:
                time.sleep(0.01)

    with kvmap.open(own.url) as d:
        threads = [threading.Thread(target=count, args=(d,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            time.sleep(0.2)
            own.kill()
            own.start()
        time.sleep(0.2)
        end.set()
        for thread in threads:
            thread.join()
        assert len(set(counted)) == len(counted)
        assert len(counted) <= d["a"] <= len(counted) + len(unknown)


def test_flushed_scripts(d: kvmap.KVMap[Any, Any], client: Any) -> None:
    for work, answer in (
        (lambda: d.update(a=1), None), (lambda: d["a"], 1), (lambda: d.incr("a"), 2),
        (lambda: len(d), 1), (lambda: list(d.items()), [("a", 2)]), (lambda: d.pop("a"), 2),
    ):  # fmt: skip
        client.script_flush()
        assert work() == answer


def test_a_server_that_does_not_answer(own: ServerProcess) -> None:
    with kvmap.open(own.url, timeout=0.3) as d:
        d["a"] = 1
        own.pause()
        started = time.monotonic()
        with pytest.raises(kvmap.OutcomeUnknownError, match="once or not at all"):
            d.incr("a")
        for work in (lambda: d["a"], lambda: d.incr("a")):
            with pytest.raises(kvmap.StoreTimeoutError, match="nothing was changed") as caught:
                work()
            assert isinstance(caught.value, TimeoutError)
        assert time.monotonic() - started < 10
        own.resume()
        found = d["a"]
        assert found in (1, 2)
        assert d.incr("a") == found + 1


def test_no_room(server: ServerProcess, client: Any) -> None:
    """A server that has reached its maxmemory takes no entry, whole or in part, and gives any up."""
    engine = open_engine(server.url, "c", name="d", timeout=0, sync=False, shards=None, change=keep)
    engine.put_many(dict.fromkeys(range(10), b"1"), INF)
    engine.put("late", b"1", 0.001)
    time.sleep(0.01)
    client.config_set("maxmemory", "1")
    changes = Changes()
    changes.deleted.update({0, 1, 2})
    changes.written["new"] = b"1", INF
    for work in (
        lambda: engine.put("new", b"1", INF),
        lambda: engine.put(0, b"2", INF),
        lambda: engine.put_many({0: b"2", "new": b"1"}, INF),
        lambda: engine.setdefault("new", b"1", INF),
        lambda: engine.incr(0, 1, None, -1.0),
        lambda: engine.incr("new", 1, 0, -1.0),
        lambda: engine.expire(0, 1000),
        lambda: engine.commit(changes, Seen()),
    ):
        with pytest.raises(kvmap.StoreUnavailableError, match="maxmemory"):
            work()
        assert engine.get_many([*range(10), "new"]) == [b"1"] * 10 + [None]
    assert engine.pop(0) == b"1"
    assert engine.delete(1)
    assert engine.popitem() == (9, b"1")
    assert engine.delete_many([2, 3]) == 2
    changes = Changes()
    changes.deleted.add(4)
    engine.commit(changes, Seen())
    assert [key for page in engine.keys() for key in page] == [5, 6, 7, 8]
    assert engine.purge() == 1
    engine.clear()
    assert len(engine) == 0
    client.config_set("maxmemory", "0")
    assert engine.put("new", b"1", INF)
    assert client.hget("kvmap:{d:00}:state", "bytes") == str(len('"new"1'))
    engine.close()


def test_a_replica(server: ServerProcess, client: Any) -> None:
    client.config_set("repl-diskless-sync-delay", "0")
    with running(replicaof=f"127.0.0.1 {server.port}") as replica:
        with kvmap.open(server.url) as d:
            d["a"] = 1
            with replica.client() as its_client:
                wait_until(lambda: its_client.exists("kvmap:{default:00}:values"))
        with kvmap.open(replica.url, "r") as d:
            assert dict(d) == {"a": 1}
        with replica.client() as its_client:
            its_client.replicaof("NO", "ONE")
            with kvmap.open(replica.url) as d:
                d["b"] = 2
                its_client.replicaof("127.0.0.1", server.port)
                with pytest.raises(kvmap.ReadOnlyError, match="read-only replica"):
                    d["c"] = 3
                its_client.replicaof("NO", "ONE")
                d["c"] = 3


def test_a_server_that_reads_its_files() -> None:
    with running() as server:
        with server.client() as client:
            if not client.config_get("loading-process-events-interval-bytes"):
                pytest.skip("a server before 7.0 answers too seldom while it loads")
            client.mset({str(number): os.urandom(2000) for number in range(200)})
            client.save()
        server.kill()
        server.options["key-load-delay"] = 5000
        server.options["loading-process-events-interval-bytes"] = 1024
        starting = threading.Thread(target=server.start)
        starting.start()
        errors: list[str] = []

        def opens() -> bool:
            try:
                kvmap.open(server.url, timeout=5).close()
            except kvmap.StoreUnavailableError as error:
                errors.append(str(error))
                return False
            return True

        wait_until(opens)
        starting.join()
        assert any("still reading its files" in error for error in errors)


def test_closing_without_a_server(own: ServerProcess) -> None:
    d = kvmap.open(own.url)
    d["a"] = 1
    own.kill()
    d.close()
    with pytest.raises(kvmap.StoreClosedError):
        d["a"]


def test_ctrl_c_leaves_no_answer_for_the_next_call(
    d: kvmap.KVMap[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt between question and answer: the next call gets its own answer."""
    from redis.connection import Connection

    d.update(a=1, b=2)
    read = Connection.read_response

    def interrupted(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    for key, value in (("a", 1), ("b", 2)):
        monkeypatch.setattr(Connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            d["a"]
        with pytest.raises(KeyboardInterrupt):
            d.incr("a", 0)
        monkeypatch.setattr(Connection, "read_response", read)
        assert d[key] == value


@pytest.mark.parametrize("kills", [50 if LONG else 3])
def test_no_acknowledged_write_is_lost(own: ServerProcess, kills: int) -> None:
    """With `appendfsync always`, a kill -9 of the server loses nothing that it has acknowledged."""
    counts = [0, 0, 0]
    end = threading.Event()

    def write(d: kvmap.KVMap[Any, Any], name: int) -> None:
        while not end.is_set():
            try:
                d[f"{name}:{counts[name]}"] = 1
            except ConnectionError:
                time.sleep(0.005)
            else:
                counts[name] += 1

    with kvmap.open(own.url, sync=True, timeout=0.5) as d:
        for _ in range(kills):
            end.clear()
            threads = [threading.Thread(target=write, args=(d, name)) for name in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(0.05 + 0.1 * int.from_bytes(os.urandom(1)) / 256)
            own.kill()
            end.set()
            for thread in threads:
                thread.join()
            own.start()
            found = set(d)
            for name, count in enumerate(counts):
                assert {f"{name}:{number}" for number in range(count)} <= found
    assert sum(counts) > 10 * kills
    if LONG:
        print(f"{kills} kills, {sum(counts)} acknowledged writes, none lost")
