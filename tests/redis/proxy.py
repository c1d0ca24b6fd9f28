"""A proxy before a real server that loses chosen answers, as a network does."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


class Proxy:
    """Forwards connections; `lose` makes it break them instead of answering."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.answers_to_lose = 0
        self.requests_to_lose = 0
        self.connections = 0
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()

    def forward_to(self, port: int) -> None:
        """From now on, connect to another server, as an address does that moves at a failover."""
        self._target = ("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                self.connections += 1
                self._start(self._forward, self._listener.accept()[0])

    @contextmanager
    def _connected(self) -> Iterator[socket.socket | None]:
        try:
            server = socket.create_connection(self._target)
        except ConnectionRefusedError:
            yield None
            return
        with server:
            yield server

    def _forward(self, client: socket.socket) -> None:
        with client, self._connected() as server:
            if server is None:
                return
            while not self._stop.is_set():
                for source in select.select([client, server], [], [], 0.05)[0]:
                    try:
                        data = source.recv(1 << 16)
                    except ConnectionResetError:
                        return
                    if not data:
                        return
                    if source is client and self.requests_to_lose:
                        self.requests_to_lose -= 1
                        return
                    if source is server and self.answers_to_lose:
                        self.answers_to_lose -= 1
                        return
                    (server if source is client else client).sendall(data)
