"""A server that the tests of this folder share; each begins with an empty one."""

from collections.abc import Iterator
from typing import Any

import pytest
from servers import ServerProcess, shared

import kvmap


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/redis/" in item.path.as_posix():
            item.add_marker(pytest.mark.redis)


@pytest.fixture
def server() -> ServerProcess:
    """A server with nothing on it."""
    server = shared()
    with server.client() as client:
        client.flushall()
        client.config_set("maxmemory", "0")
    return server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Any]:
    """Redis-py's own client, to look at the server past kvmap."""
    with server.client(decode_responses=True) as client:
        yield client


@pytest.fixture
def d(server: ServerProcess) -> Iterator[kvmap.KVMap[Any, Any]]:
    """An empty map on the server."""
    with kvmap.open(server.url, name="d") as d:
        yield d
