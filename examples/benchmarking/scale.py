"""kvmap alone, at size. Each part runs in a process of its own and returns its figures."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

from benchmarking.contestant import Contestant
from benchmarking.dicts import KVMap, PlainDict
from benchmarking.measure import (
    BATCH,
    MEGA,
    MICRO,
    MILLI,
    UNLIMITED,
    Figures,
    Job,
    anonymous_memory,
    disk_bytes,
    fill,
    timed,
)
from benchmarking.records import Records


def at_size(job: Job, path: Path) -> Figures:
    """Load, close, reopen; then the time of an operation while all the keys are there."""
    records, store = Records(job.size, scatter=job.scatter), KVMap(path, 0)
    before = anonymous_memory() or 0
    start = perf_counter()
    store.open()
    fill(store.update, records, range(job.keys))
    figures = {"load, s": perf_counter() - start}
    most = anonymous_memory() or 0
    start = perf_counter()
    store.close()
    figures["close, s"] = perf_counter() - start

    def opening(name: str, first: Callable[[], object], unit: float) -> None:
        start = perf_counter()
        store.open()
        first()
        figures[name] = (perf_counter() - start) * unit

    opening("open + first get, ms", lambda: store.get([records.key(job.keys // 2)]), MILLI)
    store.close()
    opening("open + full len, s", lambda: store.length((0,)), 1)
    store.close()
    opening("open + full iteration, s", lambda: sum(1 for _ in store.db), 1)
    most = max(most, anonymous_memory() or 0)
    figures["memory growth, MB"] = (most - before) / MEGA
    figures["RssAnon, MB"] = most / MEGA
    figures |= growth(job, records, store)
    store.close()
    return figures


def at_size_of_dict(job: Job, path: Path) -> Figures:
    """The same operations of a plain dict of JSON: it slows down too, as memory gets larger."""
    records, store = Records(job.size, scatter=job.scatter), PlainDict(path, 0)
    store.open()
    fill(store.update, records, range(job.keys))
    return growth(job, records, store)


def growth(job: Job, records: Records, store: Contestant) -> Figures:
    """The time of an operation on a few of all the keys that are there."""
    figures: Figures = {}
    clock = thread_time if job.cpu else perf_counter
    rng, few = random.Random(job.seed), min(job.ops, job.keys // 2)

    def rate(name: str, operation: Callable[[Any], object], prepare: Any, numbers: Any) -> None:
        seconds, done = timed(operation, numbers, prepare, 10 * job.seconds, clock)
        figures[name] = seconds / done * MICRO

    some = rng.choices(range(job.keys), k=few)
    timed(store.get, some, records.keys, UNLIMITED)  # a warm start at either size
    rate("get", store.get, records.keys, some)
    rate("set", store.set, records.pairs, range(job.keys, job.keys + few))
    rate("overwrite", store.set, records.pairs, some)
    rate("delete", store.delete, records.keys, rng.sample(range(job.keys), few))
    rate("len", store.length, list, range(1000))
    return figures


def churn(job: Job, path: Path) -> Figures:
    """Overwrite every key ten times at random, with an eye on the disk and the slowest set."""
    import kvmap

    records, rng = Records(job.size, scatter=job.scatter), random.Random(job.seed)
    store = kvmap.open(path)
    fill(store.update, records, range(job.keys))
    shards = path / "shards"
    most, slowest, first = 0, 0.0, _inodes(shards)
    compacted = False
    start = perf_counter()
    for turn in range(1, 11):
        for done, number in enumerate(rng.sample(range(job.keys), job.keys)):
            key, value = records.key(number), records.value(number + turn)
            before = perf_counter()
            store[key] = value
            slowest = max(slowest, perf_counter() - before)
            if done % 1000 == 0:
                # A compaction puts a new file in the place of an old one.
                compacted = compacted or bool(_inodes(shards).items() - first.items())
                if compacted:
                    most = max(most, disk_bytes(shards)[0])
    seconds = perf_counter() - start
    if not compacted:
        most = disk_bytes(shards)[0]
    store.compact()
    store.close()
    live = disk_bytes(shards)[1]
    return {
        "disk / live": most / live,
        "slowest set, ms": slowest * MILLI,
        "set, all in all": seconds / (10 * job.keys) * MICRO,
    }


def small(job: Job, path: Path) -> Figures:
    """What a store of 64 keys costs, and how many files a map keeps open."""
    import kvmap

    records = Records(job.size)
    with kvmap.open(path / "small") as store:
        store.update(records.pairs(range(64)))
    blocks, size = disk_bytes(path / "small")
    took: list[float] = []
    for number in range(min(50, job.ops // 10)):
        key, value = records.pairs([number])[0]
        start = perf_counter()
        with kvmap.open(path / "small") as store:
            store[key] = value
        took.append(perf_counter() - start)
    return {
        "files": sum(1 for file in (path / "small").rglob("*") if file.is_file()),
        "bytes": size,
        "bytes on disk": blocks,
        "open, write, close, us": statistics.median(took) * MICRO,
        "descriptors": max(_descriptors(path / f"{n}", records, n) for n in (8, 32)),
    }


def readers(job: Job, path: Path) -> Figures:
    """The median latency of four reading threads, alone and beside a writing one."""
    import kvmap

    records, count = Records(job.size), min(job.keys, 100_000)
    done = threading.Event()
    latencies: list[float] = []
    with kvmap.open(path) as store:
        store.update(records.pairs(range(count)))
        len(store)

        def read(seed: int) -> None:
            keys, took = records.keys(random.Random(seed).choices(range(count), k=BATCH)), []
            while not done.is_set():
                for key in keys:
                    start = perf_counter()
                    store[key]
                    took.append(perf_counter() - start)
            latencies.extend(took)

        def write() -> None:
            pairs = records.pairs(random.Random(job.seed).choices(range(count), k=BATCH))
            while not done.is_set():
                for key, value in pairs:
                    store[key] = value

        def median(*others: threading.Thread) -> float:
            done.clear()
            latencies.clear()
            threads = [*others, *(threading.Thread(target=read, args=(n,)) for n in range(4))]
            for thread in threads:
                thread.start()
            done.wait(4 * job.seconds)
            done.set()
            for thread in threads:
                thread.join()
            return statistics.median(latencies) * MICRO

        alone, beside = median(), median(threading.Thread(target=write))
    return {"get, alone": alone, "get, beside a writer": beside}


def imports(job: Job, path: Path) -> Figures:
    """What `import kvmap` adds to importing the packages that it needs."""
    code = (
        "import filelock, orjson\n"
        f"from time import {'process_time' if job.cpu else 'perf_counter'} as clock\n"
        "start = clock()\n"
        "import kvmap\n"
        "print(clock() - start)"
    )
    # With bytecode that the first run leaves behind, as a package has that was installed.
    command = [sys.executable, "-X", f"pycache_prefix={path}", "-c", code]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    took = [
        float(subprocess.check_output(command, env=env, text=True))
        for _ in range(min(11, 2 + job.ops // 200))
    ]
    return {"import, ms": statistics.median(took[1:]) * MILLI}


PARTS: dict[str, Callable[[Job, Path], Figures]] = {
    part.__name__: part for part in (at_size, at_size_of_dict, churn, small, readers, imports)
}


def _inodes(shards: Path) -> dict[str, int]:
    return {entry.name: entry.inode() for entry in os.scandir(shards)}


def _descriptors(path: Path, records: Records, shards: int) -> int:
    """How many more files are open while a store of so many shards is, all of them in use."""
    import kvmap

    listing = Path("/proc/self/fd")
    if not listing.exists():
        return 0
    before = len(os.listdir(listing))
    with kvmap.open(path, shards=shards) as store:
        store.update(records.pairs(range(20 * shards)))
        return len(os.listdir(listing)) - before
