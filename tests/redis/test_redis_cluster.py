"""A map on a cluster: partitions on several nodes, a node that is killed, slots that move."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread

import pytest
from helpers import LONG
from servers import SLOTS, ServerProcess, running, wait_until

import kvmap
from kvmap.redis.layout import Layout

PROMPT = {"cluster-node-timeout": 1000, "cluster-require-full-coverage": "no"}


@contextmanager
def cluster(count: int, **options: object) -> Iterator[list[ServerProcess]]:
    """So many nodes that share all slots."""
    with ExitStack() as stack:
        settings = {"cluster-enabled": "yes", **PROMPT, **options}
        nodes = [stack.enter_context(running(**settings)) for _ in range(count)]
        for number, node in enumerate(nodes):
            with node.client() as client:
                slots = range(SLOTS * number // count, SLOTS * (number + 1) // count)
                client.execute_command("CLUSTER", "ADDSLOTS", *slots)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        wait_until(lambda: all(is_ready(node, count) for node in nodes))
        yield nodes


def is_ready(node: ServerProcess, count: int) -> bool:
    with node.client() as client:
        lines = str(client.execute_command("CLUSTER", "INFO"))
    wanted = ("cluster_state:ok", f"cluster_known_nodes:{count}", f"cluster_slots_ok:{SLOTS}")
    return all(each in lines for each in wanted)


@pytest.fixture(scope="module")
def one() -> Iterator[ServerProcess]:
    with cluster(1) as (node,):
        yield node


def test_a_cluster_of_one_node(one: ServerProcess) -> None:
    with kvmap.open(one.url, "n", name="d") as d:
        assert len(d.stats().parts) == 64
        d.update({number: str(number) for number in range(1000)})
        assert list(d.items()) == [(number, str(number)) for number in range(1000)]
        assert list(reversed(d)) == list(range(999, -1, -1))
        assert len(d) == 1000
        assert d.get_many(range(995, 1005)) == {number: str(number) for number in range(995, 1000)}
        assert d.pop(5) == "5"
        assert (d.popitem(), d.popitem(last=False)) == ((999, "999"), (0, "0"))
        assert d.delete_many([1, 2, 3, 4000]) == 3
        assert (d.incr("n"), d.incr("n", 0.5)) == (1, 1.5)
        assert d.setdefault(6, "x") == "6"
        with d.transaction():
            d[7] += "!"
        with d.edit("list", default=[]) as value:
            value.append(1)
        assert (d[7], d["list"]) == ("7!", [1])
        d.set("late", 1, ttl=0.05)
        d.sync()
        time.sleep(0.1)
        assert "late" not in d
        assert d.purge() == 1
        d.clear()
        assert (len(d), list(d)) == (0, [])


def test_a_client_of_a_cluster(one: ServerProcess) -> None:
    from redis.cluster import RedisCluster

    with RedisCluster(host="127.0.0.1", port=one.port, decode_responses=True) as client:
        with kvmap.open(client, name="by client") as d:
            d.update(a=1, b="ü")
            assert dict(d) == {"a": 1, "b": "ü"}
        assert client.ping()


@pytest.mark.skipif(not LONG, reason="a cluster takes seconds to find itself: --long")
def test_a_cluster_of_one_node_started_again() -> None:
    with (
        cluster(1, appendonly="yes", appendfsync="always") as (node,),
        kvmap.open(node.url, timeout=0.5, sync=True) as d,
    ):
        d.update(a=1, b=2, c=3)
        node.kill()
        with pytest.raises(ConnectionError):
            d["a"] = 2
        node.start()
        wait_until(lambda: is_ready(node, 1))
        assert dict(d) == {"a": 1, "b": 2, "c": 3}


def move_slot(slot: int, source: ServerProcess, target: ServerProcess, moving: Event) -> None:
    """Move a slot and its keys, as a resharding does, slowly."""
    with source.client() as old, target.client() as new:
        old_id, new_id = [client.execute_command("CLUSTER", "MYID") for client in (old, new)]
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
        for key in old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            old.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        moving.set()
        time.sleep(0.2)
        for client in (new, old):
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)


@pytest.mark.skipif(not LONG, reason="a cluster takes seconds to find itself: --long")
def test_three_nodes() -> None:
    """Entries spread over the nodes; slots move under an open map; one node is killed."""
    from redis.crc import key_slot

    with cluster(3) as nodes, kvmap.open(nodes[0].url, name="d", timeout=2) as d:
        d.update({number: number for number in range(600)})
        for node in nodes:
            with node.client() as client:
                assert client.dbsize() > 10
        layout = Layout("d", 64)
        slot = key_slot(layout.keys(0)[0])
        source = nodes[slot * 3 // SLOTS]
        target = nodes[(slot * 3 // SLOTS + 1) % 3]
        inside = [number for number in range(600) if layout.partition(b"%d" % number) == 0]
        assert inside
        moving = Event()
        thread = Thread(target=move_slot, args=(slot, source, target, moving))
        thread.start()
        moving.wait()
        assert d.get_many(inside) == {number: number for number in inside}  # waits for the move
        thread.join()
        d[inside[0]] = 0
        assert d[inside[0]] == 0
        assert list(d) == list(range(600))

        killed = nodes[2]
        gone = range(SLOTS * 2 // 3, SLOTS)
        partitions = {
            number for number in range(64) if key_slot(layout.keys(number)[0]) in gone
        } - {0}
        killed.kill()
        started = time.monotonic()
        lost = kept = 0
        for number in range(0, 600, 1 if LONG else 40):
            is_lost = layout.partition(b"%d" % number) in partitions
            if is_lost:
                lost += 1
                if lost <= 3:
                    with pytest.raises((kvmap.StoreUnavailableError, kvmap.OutcomeUnknownError)):
                        d[number] = "x"
            elif layout.partition(b"%d" % number) != 0:
                kept += 1
                d[number] = "x"
                assert d[number] == "x"
        assert kept > lost > 0
        assert time.monotonic() - started < 20


@pytest.mark.skipif(not LONG, reason="a failover takes seconds: --long")
def test_a_replica_takes_the_place_of_a_killed_node() -> None:
    """Writers wait for the failover, within their timeout; what was acknowledged is there."""
    with cluster(3) as nodes, ExitStack() as stack:
        primary = nodes[2]
        replica = stack.enter_context(running(**{"cluster-enabled": "yes"}, **PROMPT))
        with replica.client() as client, primary.client() as other:
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
            known = other.execute_command("CLUSTER", "MYID")
            wait_until(lambda: known in client.execute_command("CLUSTER", "NODES"))
            wait_until(lambda: all(is_ready(node, 4) for node in nodes))
            client.execute_command("CLUSTER", "REPLICATE", known)
            wait_until(lambda: client.info("replication").get("master_link_status") == "up")
        d = stack.enter_context(kvmap.open(nodes[0].url, name="d", timeout=10))
        d.update(dict.fromkeys(range(300), 0))
        with primary.client() as other:
            wait_until(lambda: other.execute_command("WAIT", 1, 1000) == 1)
        primary.kill()
        started = time.monotonic()
        for number in range(300):
            assert d.incr(number) == 1
        assert time.monotonic() - started < 20
        assert list(d.items()) == [(number, 1) for number in range(300)]
        d.clear()
        assert len(d) == 0
