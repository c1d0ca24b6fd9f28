"""Measure kvmap on a server beside plain redis-py, pottery and redis-dict.

    pip install kvmap[redis] pottery redis-dict
    python examples/benchmark_redis.py redis://localhost:6379/0

All run in turns, so that each meets the same machine; figures are medians of the rounds. "plain" is
the least that could work: a hash of JSON texts with redis-py and orjson, without deadlines, order,
conditions or an answer to a lost connection. A library that is not installed is left out. The
database must be one that may be written to; keys of kvmap, `plain`, `pottery` and `redis-dict` in it
are removed.
"""

import importlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import redis

import kvmap

ROUNDS = 7
SINGLE = 1000
BATCH = 10_000
MANY = 100_000
VALUE = {"name": "Ada", "visits": 1, "tags": ["a", "b"], "mail": "ada@example.org"}

WRITER = """
import sys, time, kvmap
url, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
with kvmap.open(url, name="kvmap") as d:
    d[name] = 0
    print("ready", flush=True)
    sys.stdin.readline()
    end, count, edits = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        d[f"{name}:{count}"] = {"name": "Ada", "visits": count}
        d.incr("counted")
        count += 1
        if count % 10 == 0:
            while True:
                try:
                    with d.edit("edited") as value:
                        value["n"] += 1
                    edits += 1
                    break
                except kvmap.ConflictError:
                    pass
    print(count, edits, flush=True)
"""


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


def contestants(url: str) -> Iterator[tuple[str, Any]]:
    """Each library that is installed."""
    yield "kvmap", Mapping(kvmap.open(url, "n", name="kvmap"))
    yield "plain", Plain(url)
    try:
        pottery = importlib.import_module("pottery")
    except ImportError:
        print("pottery is not installed")
    else:
        client = redis.Redis.from_url(url)
        client.delete("pottery")
        yield "pottery", Mapping(pottery.RedisDict(redis=client, key="pottery"))
    try:
        redis_dict = importlib.import_module("redis_dict")
    except ImportError:
        print("redis-dict is not installed")
    else:
        client = redis.Redis.from_url(url, decode_responses=True)
        yield "redis-dict", Mapping(redis_dict.RedisDict("redis-dict", redis=client))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(libraries: dict[str, Any], client: Any) -> dict[str, dict[str, float]]:
    """Medians by operation and library: microseconds, milliseconds for batches, and bytes."""
    taken: dict[tuple[str, str], list[float]] = {}

    def note(operation: str, name: str, value: float) -> None:
        taken.setdefault((operation, name), []).append(value)

    keys = [f"user:{number}" for number in range(SINGLE)]
    for _ in range(ROUNDS):
        for operation in ("set", "get", "in", "pop"):
            for name, library in libraries.items():
                step = getattr(library, "has" if operation == "in" else operation)
                time_taken = seconds(lambda step=step: [step(key) for key in keys])  # type: ignore[misc]
                note(f"{operation}, µs", name, time_taken / SINGLE * 1e6)
    batch = [f"user:{number}" for number in range(BATCH)]
    for _ in range(3):
        for name, library in libraries.items():
            library.clear()
            note("update of 10,000, ms", name, seconds(lambda x=library: x.update(batch)) * 1e3)  # type: ignore[misc]
            note("items of 10,000, ms", name, seconds(library.items) * 1e3)
    for name, library in libraries.items():
        library.clear()
        time.sleep(1)  # the server frees large things beside its work
        before = client.info("memory")["used_memory"]
        for first in range(0, MANY, BATCH):
            library.update([f"user:{number}" for number in range(first, first + BATCH)])
        note(
            "server's bytes per entry", name, (client.info("memory")["used_memory"] - before) / MANY
        )
        assert library.length() == MANY
        for _ in range(3):
            note("len of 100,000, µs", name, seconds(library.length) * 1e6)
        library.clear()
    table: dict[str, dict[str, float]] = {}
    for (operation, name), values in taken.items():
        table.setdefault(operation, {})[name] = statistics.median(values)
    return table


def four_writers(url: str, duration: float = 3) -> dict[str, float]:
    """Throughput of four processes on one map, and what became of what they counted."""
    with kvmap.open(url, "n", name="kvmap") as d:
        d.update(counted=0, edited={"n": 0})
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, url, str(number), str(duration)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(4)
        ]
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        found = [[int(word) for word in writer.communicate()[0].split()] for writer in writers]
        count, edits = (sum(column) for column in zip(*found, strict=True))
        return {
            "writes of four processes, per second": (2 * count + edits) / duration,
            "increments": count,
            "increments lost": count - d["counted"],
            "edits": edits,
            "edits lost": edits - d["edited"]["n"],
        }


def main(url: str = "redis://localhost:6379/0") -> None:
    with redis.Redis.from_url(url) as client:
        libraries = dict(contestants(url))
        table = measure(libraries, client)
        libraries["kvmap"].mapping.close()
        print(f"{'':26}" + "".join(f"{name:>12}" for name in libraries))
        for operation, row in table.items():
            print(f"{operation:26}" + "".join(f"{row[name]:12,.1f}" for name in libraries))
        print(json.dumps(four_writers(url), indent=2))
        client.delete("plain", "pottery")


if __name__ == "__main__":
    main(*sys.argv[1:])
