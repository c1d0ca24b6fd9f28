"""The way to the server: redis-py's client, its pools of connections, and who closes them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import RedisError
from redis.retry import Retry

from kvmap.redis.address import Address
from kvmap.redis.failures import FAILURES

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds that a call may take where `timeout` is 0."""


_FRESH: Final = 0.005
"""Seconds in which a connection is used again without a look at it, which takes two system calls.

Where the server closed it in between, the call that follows finds out, and is repeated.
"""


class Link(Protocol):
    """Where each key's server is."""

    @property
    def is_cluster(self) -> bool: ...

    def connections(self, key: bytes) -> Connections:
        """The connections to the server that has this key."""
        ...

    def connections_at(self, host: str, port: int) -> Connections:
        """The connections to a node that another node named."""
        ...

    def clients(self) -> list[Any]:
        """A client of each server that takes writes."""
        ...

    def refresh(self) -> None:
        """Find out anew which node has which keys."""
        ...

    def renew(self) -> None:
        """In a forked child: leave the parent's connections alone, and make others when needed."""
        ...

    def close(self) -> None:
        """Close what kvmap opened; a caller's own client stays as it is."""
        ...


class Connections:
    """Connections to one server; some are kept from call to call, without the pool's bookkeeping."""

    def __init__(self, pool: Any, *, is_ours: bool) -> None:
        self._pool = pool
        self._is_ours = is_ours
        self._idle: deque[tuple[Any, float]] = deque()
        """Each with the moment of its last use."""

    def take(self) -> Any:
        """A connection that is alive, as far as can be seen without asking the server."""
        while self._idle:
            try:
                connection, last_used = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if time.monotonic() - last_used < _FRESH or _is_quiet(connection):
                return connection
            self.drop(connection)
        try:
            return self._pool.get_connection()
        except FAILURES:
            raise
        except BaseException:
            # An interrupt leaves a connection in the pool that still awaits the server's greeting.
            if not isinstance(self._pool, redis.BlockingConnectionPool):
                self._pool.disconnect(inuse_connections=False)
            raise

    def give_back(self, connection: Any) -> None:
        """Keep it for the next call. A caller's own pool gets it back at once: it may be bounded."""
        if self._is_ours:
            self._idle.append((connection, time.monotonic()))
        else:
            self._pool.release(connection)

    def drop(self, connection: Any) -> None:
        """Close a connection on which an answer may be under way."""
        try:
            connection.disconnect()
        finally:
            self._pool.release(connection)


def _is_quiet(connection: Any) -> bool:
    """Whether the server has neither closed an idle connection nor sent anything over it."""
    try:
        return not connection.can_read()
    except (RedisError, OSError):
        return False


class SingleLink:
    """One server, or a proxy that looks like one."""

    is_cluster = False

    def __init__(self, make: Callable[[], Any], *, is_ours: bool) -> None:
        self._make = make
        self._is_ours = is_ours
        self._client = make()
        self._connections = Connections(self._client.connection_pool, is_ours=is_ours)

    def connections(self, key: bytes) -> Connections:
        return self._connections

    def connections_at(self, host: str, port: int) -> Connections:
        return self._connections

    def clients(self) -> list[Any]:
        return [self._client]

    def refresh(self) -> None:
        """There is nothing to find out."""

    def renew(self) -> None:
        if self._is_ours:
            self._client = self._make()
            self._connections = Connections(self._client.connection_pool, is_ours=True)

    def close(self) -> None:
        if self._is_ours:
            self._client.close()


class ClusterLink:
    """The nodes of a cluster."""

    is_cluster = True

    def __init__(self, make: Callable[[], Any], *, is_ours: bool) -> None:
        self._make = make
        self._is_ours = is_ours
        self._client: Any = make()
        self._slots: dict[bytes, int] = {}
        self._nodes: dict[Any, Connections] = {}

    def _cluster(self) -> Any:
        if self._client is None:
            self._client = self._make()
        return self._client

    def connections(self, key: bytes) -> Connections:
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots[key] = key_slot(key)
        cluster = self._cluster()
        return self._of_node(cluster, cluster.nodes_manager.get_node_from_slot(slot))

    def connections_at(self, host: str, port: int) -> Connections:
        cluster = self._cluster()
        node = cluster.get_node(host, port)
        if node is None:
            cluster.nodes_manager.initialize()
            node = cluster.get_node(host, port)
        if node is None:
            raise RedisError(f"the cluster names {host}:{port}, and does not list it")
        return self._of_node(cluster, node)

    def _of_node(self, cluster: Any, node: Any) -> Connections:
        pool = cluster.get_redis_connection(node).connection_pool
        found = self._nodes.get(pool)
        if found is None:
            found = self._nodes[pool] = Connections(pool, is_ours=self._is_ours)
        return found

    def clients(self) -> list[Any]:
        cluster = self._cluster()
        return [cluster.get_redis_connection(node) for node in cluster.get_primaries()]

    def refresh(self) -> None:
        self._cluster().nodes_manager.initialize()

    def renew(self) -> None:
        if self._is_ours:
            self._nodes = {}
            self._client = None  # made when it is needed, for that takes a trip to the server

    def close(self) -> None:
        if self._is_ours and self._client is not None:
            self._client.close()


def to_url(address: Address, timeout: float) -> Link:
    """A link to the server at a URL. Raises what redis-py raises where it can't be reached."""
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }

    def single() -> Any:
        return redis.Redis.from_url(address.url, **options)

    def cluster() -> Any:
        return RedisCluster.from_url(address.url, require_full_coverage=False, **options)

    link = SingleLink(single, is_ours=True)
    try:
        if link.clients()[0].info("cluster").get("cluster_enabled") != 1:
            return link
    except BaseException:
        link.close()
        raise
    link.close()
    return ClusterLink(cluster, is_ours=True)


def to_client(client: Any) -> Link:
    """A link over a client that the caller made. Raises TypeError for anything else."""
    if isinstance(client, RedisCluster):
        return ClusterLink(lambda: client, is_ours=False)
    if isinstance(client, redis.Redis):
        return SingleLink(lambda: client, is_ours=False)
    kind = f"{type(client).__module__}.{type(client).__qualname__}"
    raise TypeError(
        f"a map needs a URL or a client of redis-py, redis.Redis or redis.cluster.RedisCluster, "
        f"not {kind}"
    )
