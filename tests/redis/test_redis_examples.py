"""The examples that need a server, from outside."""

import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from servers import ServerProcess

EXAMPLE = Path(__file__).parents[2] / "examples" / "shared_sessions.py"


def test_a_session_is_that_of_both_processes(server: ServerProcess) -> None:
    with subprocess.Popen(
        [sys.executable, str(EXAMPLE), f"{server.url}/sessions", "0", "0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as service:
        try:
            assert service.stdout is not None
            addresses = [service.stdout.readline().strip() for _ in range(2)]
            with urllib.request.urlopen(f"{addresses[0]}/login", data=b"name=ada") as answer:
                cookie = answer.headers["Set-Cookie"].split(";")[0]

            def visit(number: int) -> int:
                page = urllib.request.Request(addresses[number % 2], headers={"Cookie": cookie})
                with urllib.request.urlopen(page) as answer:
                    return int(answer.read().split()[-1])

            with ThreadPoolExecutor(4) as pool:
                visits = list(pool.map(visit, range(40)))
            assert sorted(visits) == list(range(1, 41))
        finally:
            service.send_signal(signal.SIGTERM)
            assert service.wait(timeout=20) == 0


def test_the_benchmark_runs(server: ServerProcess) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE.with_name("benchmark_redis.py")), server.url, "--quick"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split("  ")[0] for line in done.stdout.splitlines()]
    assert {"set, µs", "pop, µs", "items of 100, ms", "len of 1,000, µs"} <= set(rows)
    lost = [line.split()[-1] for line in done.stdout.splitlines() if "lost" in line]
    assert lost == ["0.0"] * 3
