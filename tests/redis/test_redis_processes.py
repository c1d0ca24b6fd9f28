"""Many processes on one map, forked children, and iterations beside other writers."""

import os
import subprocess
import sys
import threading
import time
import tracemalloc
from typing import Any

import pytest
from helpers import python
from servers import ServerProcess

import kvmap
from kvmap.engine import INF
from kvmap.redis.opening import open_engine
from kvmap.settings import keep

INCREMENT = """
import sys, kvmap
url, count = sys.argv[1], int(sys.argv[2])
with kvmap.open(url) as d:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        d.incr("whole")
        d.incr("part", 0.5)
        while True:
            try:
                with d.edit("edited") as value:
                    value["n"] += 1
                break
            except kvmap.ConflictError:
                pass
        d[f"{sys.argv[3]}:{number}"] = number
"""


def run_together(children: list[subprocess.Popen[str]]) -> list[str]:
    """Let processes that say when they are ready go at the same time; what each prints then."""
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    found = []
    for child in children:
        output, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        found.append(output)
    return found


def test_no_increment_is_lost_among_processes(server: ServerProcess) -> None:
    processes, count = 4, 100
    with kvmap.open(server.url) as d:
        d.update(whole=0, part=0, edited={"n": 0})
        children = [python(INCREMENT, server.url, count, name) for name in range(processes)]
        run_together(children)
        total = processes * count
        assert (d["whole"], d["part"], d["edited"]) == (total, total / 2, {"n": total})
        assert len(d) == 3 + total


def test_each_entry_of_a_queue_is_popped_once(d: kvmap.KVMap[Any, Any]) -> None:
    d.update({number: number for number in range(400)})
    taken: list[tuple[int, int]] = []

    def work() -> None:
        while True:
            try:
                taken.append(d.popitem(last=False))
            except KeyError:
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [(number, number) for number in range(400)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("by", ["url", "client"])
def test_a_forked_child_has_connections_of_its_own(server: ServerProcess, by: str) -> None:
    code = """
import os, sys, threading, redis, kvmap
url, by = sys.argv[1:]
client = redis.Redis.from_url(url)
d = kvmap.open(url) if by == "url" else kvmap.open(client)
with d:
    d["parent"] = 0
    children = []
    for number in range(3):
        child = os.fork()
        if not child:
            for step in range(100):
                d.incr("all", default=0)
                d[f"{number}:{step}"] = step
                assert d[f"{number}:{step}"] == step
            os._exit(0)
        children.append(child)
    for step in range(100):
        d["parent"] = step
        assert d["parent"] == step
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert d["all"] == 300 and len(d) == 302
    assert d.incr("all") == 301
client.close()
"""
    subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, server.url, by],
        check=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("reverse", [False, True])
def test_iteration_beside_another_writer(
    server: ServerProcess, partitions: int, reverse: bool
) -> None:
    """What stays is seen once and in order; what comes or goes at most once."""
    with kvmap.open(server.url, shards=partitions) as d, kvmap.open(server.url) as other:
        names = [f"stays {number}" for number in range(2000)]
        d.update(dict.fromkeys(names, 1))
        d.update({f"goes {number}": 1 for number in range(2000)})
        seen = []
        for count, name in enumerate(reversed(d) if reverse else d):
            seen.append(name)
            if count % 100 == 0:
                other.pop(f"goes {count // 2}", None)
                other[f"comes {count}"] = 1
                other[names[count % 2000]] = 2
        assert len(set(seen)) == len(seen)
        stayed = [name for name in seen if name.startswith("stays")]
        assert stayed == (names[::-1] if reverse else names)


def test_expired_entries_are_never_seen(d: kvmap.KVMap[Any, Any], client: Any) -> None:
    d.set_many({number: number for number in range(700)}, ttl=0.6)
    d.update({number: number for number in range(700, 1000)})
    assert len(d) == 1000
    time.sleep(0.65)
    assert client.hlen("kvmap:{d:00}:values") == 1000
    assert len(d) == 300
    assert list(d) == list(range(700, 1000))
    assert list(d.items()) == [(number, number) for number in range(700, 1000)]
    assert d.get_many(range(698, 702)) == {700: 700, 701: 701}
    assert 5 not in d
    assert d.popitem(last=False) == (700, 700)
    assert d.purge() == 700
    assert client.zcard("kvmap:{d:00}:deadlines") == 0
    assert client.hlen("kvmap:{d:00}:values") == 299


def test_later_writes_remove_what_has_expired(d: kvmap.KVMap[Any, Any], client: Any) -> None:
    d.set_many({number: number for number in range(100)}, ttl=0.05)
    time.sleep(0.1)
    for number in range(40):
        d["x"] = number
    assert client.hlen("kvmap:{d:00}:values") == 1
    assert client.hget("kvmap:{d:00}:state", "bytes") == str(len('"x"39'))
    assert d.purge() == 100


def test_items_take_constant_memory(server: ServerProcess) -> None:
    with kvmap.open(server.url) as d:
        for first in range(0, 20_000, 5000):
            d.update({f"key {number}": "x" * 500 for number in range(first, first + 5000)})
        for _ in d.items():
            break
        tracemalloc.start()
        try:
            assert sum(1 for _ in d.items()) == 20_000
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert most < 5_000_000  # of 10 MB


def test_a_conflict_changes_nothing(server: ServerProcess) -> None:
    with kvmap.open(server.url) as d, kvmap.open(server.url) as other:
        d.update(a=1, b=2)
        with pytest.raises(kvmap.ConflictError), d.transaction():
            d["b"] = d["a"] + 10
            other["a"] = 5
        assert dict(d) == {"a": 5, "b": 2}
        with pytest.raises(kvmap.ConflictError), d.transaction():
            d["count"] = len(d)
            other["c"] = 3
        assert dict(d) == {"a": 5, "b": 2, "c": 3}
        with pytest.raises(kvmap.ConflictError), d.transaction():
            d.get("missing")
            d["a"] = 0
            other["missing"] = 1
        assert (d["a"], d["missing"]) == (5, 1)


def test_a_repr_is_no_read_that_a_write_conflicts_with(server: ServerProcess) -> None:
    with kvmap.open(server.url) as d, kvmap.open(server.url) as other:
        d["a"] = 1
        with d.transaction():
            assert "'a': 1" in repr(d)
            other["a"] = 2
            d["b"] = 3
            assert "'b': 3" in repr(d)
        assert dict(d) == {"a": 2, "b": 3}


def test_a_transaction_across_partitions_names_two_keys(server: ServerProcess) -> None:
    with kvmap.open(server.url, shards=64) as d:
        with pytest.raises(ValueError, match="the keys 'a' and 'b': they"), d.transaction():
            d["a"] = 1
            d["b"] = 2
        assert dict(d) == {}
        with d.transaction():
            d["a"] = d.get("a", 0) + 1
        assert dict(d) == {"a": 1}
        with pytest.raises(ValueError, match="can't read all of it"), d.transaction():
            len(d)


@pytest.mark.parametrize(
    ("work", "most"),
    [("edit", 3), ("edit timed", 4), ("batch", 2), ("read and write", 2), ("copy", 1), ("list", 2)],
)
def test_trips_to_the_server(d: kvmap.KVMap[Any, Any], client: Any, work: str, most: int) -> None:
    """A block asks for each key once, and for many at once; a short map is one page."""

    def do() -> None:
        if work == "copy":
            d.copy()
        elif work == "list":
            list(d)  # which asks for the length too
        elif work.startswith("edit"):
            with d.edit("timed" if "timed" in work else "list") as value:
                value.append(1)
        else:
            with d.transaction():
                if work == "batch":
                    d.update(a=1, b=2, c=3)
                else:
                    d["n"] += 1

    d.update(list=[], n=1)
    d.set("timed", [], ttl=1000)
    do()
    client.config_resetstat()
    do()
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] <= most


def test_a_block_sees_one_state_of_a_key(server: ServerProcess) -> None:
    """What was read first holds until the end of the block, which then says that it is out of date."""
    with kvmap.open(server.url) as d, kvmap.open(server.url) as other:
        d["a"] = 1
        with pytest.raises(kvmap.ConflictError), d.transaction():
            assert d["a"] == 1
            other["a"] = 2
            assert d["a"] == 1
            assert d.get_many(["a", "b"]) == {"a": 1}
            d["b"] = 1
        assert dict(d) == {"a": 2}


def test_a_copy_of_several_partitions(server: ServerProcess) -> None:
    with kvmap.open(server.url, shards=4) as d:
        entries = {number: number for number in range(1000)}
        d.update(entries)
        assert list(d.copy().items()) == list(entries.items())
        assert d | {1000: 1} == entries | {1000: 1}
        assert d == entries


def test_stats_speak_of_memory(d: kvmap.KVMap[Any, Any]) -> None:
    d["a"] = 1
    assert "in memory" in str(d.stats())
    assert "disk" not in str(d.stats())


MEMOIZED = """
import sys, time, kvmap
with kvmap.open(sys.argv[1]) as d:
    @d.memoize
    def slow(number):
        time.sleep(0.5)
        return [number]
    print("ready", flush=True)
    sys.stdin.readline()
    assert slow(3) == [3]
    print(slow.cache_info().misses, flush=True)
"""


def test_processes_that_compute_the_same_result(server: ServerProcess) -> None:
    """Those that ask at the same time compute it once each; who comes later gets the kept one."""

    def answers(count: int) -> list[int]:
        children = [python(MEMOIZED, server.url) for _ in range(count)]
        return [int(output) for output in run_together(children)]

    assert answers(3) == [1, 1, 1]
    assert answers(2) == [0, 0]


def test_limits_of_the_whole_map(server: ServerProcess) -> None:
    with kvmap.open(server.url, limits=kvmap.Limits(entries=3)) as d:
        d.update(a=1, b=2)
        d.set("c", 3, ttl=0.6)
        for work in (
            lambda: d.update(x=1), lambda: d.update(x=1, y=1), lambda: d.setdefault("x", 1),
            lambda: d.incr("x"), lambda: d.set("x", 1),
        ):  # fmt: skip
            with pytest.raises(kvmap.LimitError, match=r"hold [45] entries, limits.entries is 3"):
                work()
        d["a"] = 5
        time.sleep(0.65)
        d["x"] = 1
        assert dict(d) == {"a": 5, "b": 2, "x": 1}
        with d.transaction():
            del d["a"]
            d["y"] = 2
        with pytest.raises(kvmap.LimitError), d.transaction():
            del d["y"]
            d.update(z=1, w=1)
        assert dict(d) == {"b": 2, "x": 1, "y": 2}


def test_the_limit_of_bytes(server: ServerProcess, client: Any) -> None:
    with kvmap.open(server.url, name="d", limits=kvmap.Limits(store_bytes=100)) as d:
        d["a"] = "x" * 40
        d.set("b", "x" * 40, ttl=0.6)
        with pytest.raises(kvmap.LimitError, match=r"hold 105 bytes .* limits.store_bytes is 100"):
            d["c"] = "x" * 10
        d["a"] = "x" * 30
        d["c"] = "x"
        time.sleep(0.65)
        d["d"] = "x" * 40
        assert set(d) == {"a", "c", "d"}
        d["n"] = 9
        with pytest.raises(kvmap.LimitError):
            d.incr("n", 10**12)
        assert d["n"] == 9
        d.purge()
        held = sum(
            len(key) + len(text) for key, text in client.hgetall("kvmap:{d:00}:values").items()
        )
        assert int(client.hget("kvmap:{d:00}:state", "bytes")) == held


def test_whole_numbers_are_exact(d: kvmap.KVMap[Any, Any]) -> None:
    d["n"] = 2**53
    assert d.incr("n") == 2**53 + 1
    d["n"] = 2**63 - 2
    assert [d.incr("n"), d.incr("n"), d.incr("n", 2**63 - 1)] == [2**63 - 1, 2**63, 2**64 - 1]
    with pytest.raises(ValueError, match="64 bits"):
        d.incr("n")
    assert d["n"] == 2**64 - 1
    d["n"] = -(2**63)
    with pytest.raises(ValueError, match="64 bits"):
        d.incr("n", -1)
    assert d.incr("n", 1.5) == 1.5 - 2**63
    for wrong in ("5", None, True, [1]):
        d["n"] = wrong
        with pytest.raises(TypeError):
            d.incr("n")
        assert d["n"] == wrong


def test_a_batch_that_is_too_large_writes_nothing(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvmap.redis.batches.MOST_ARGUMENTS", 100)
    engine = open_engine(server.url, "c", name="d", timeout=0, sync=False, shards=2, change=keep)
    with pytest.raises(kvmap.LimitError, match="write them in parts"):
        engine.put_many({"one": b"1", **{str(number): b"1" for number in range(200)}}, INF)
    assert len(engine) == 0
    engine.put_many({str(number): b"1" for number in range(50)}, INF)
    assert len(engine) == 50
    engine.close()
