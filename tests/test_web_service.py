"""The example service, from outside: log in, stop it with SIGTERM, find the session again."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kvmap

SERVICE = Path(__file__).parent.parent / "examples" / "web_service.py"


@contextmanager
def running(store: Path) -> Iterator[tuple[str, str]]:
    """The service's first words and its address, until SIGTERM; it must then stop by itself."""
    with subprocess.Popen(
        [sys.executable, str(SERVICE), str(store), "0"], stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        told, address = service.stdout.readline().strip().split(", ")
        try:
            yield told, address
        finally:
            service.send_signal(signal.SIGTERM)
            assert service.wait(timeout=20) == 0


def test_sessions_outlive_the_service(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with running(store) as (told, address):
        assert told == "0 sessions"
        with urllib.request.urlopen(f"{address}/login", data=b"name=ada") as answer:
            cookie = answer.headers["Set-Cookie"].split(";")[0]
    with running(store) as (told, address):
        assert told == "1 sessions"
        page = urllib.request.Request(address, headers={"Cookie": cookie})
        with urllib.request.urlopen(page) as answer:
            assert b"ada" in answer.read()
    with kvmap.open(store, "w") as d:
        assert len(d) == 1
