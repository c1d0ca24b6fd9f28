"""What kvmap's promises cost: synced writes, reads of fresh writes, and bytes written to the device."""

from __future__ import annotations

import os
import random
import statistics
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

from orjson import dumps

from benchmarking.contestants import CONTESTANTS
from benchmarking.measure import BATCH, MICRO, MILLI, Figures, Job, fill
from benchmarking.records import Records

OVERWRITES = 10


def fresh(job: Job, path: Path) -> Figures:
    """Reads right after a write of the same key, beside writes and reads apart, in turns."""
    import kvmap

    records, rng = Records(job.size, scatter=job.scatter), random.Random(job.seed)
    spent = {"set": 0.0, "get": 0.0, "set + get": 0.0}
    done = 0
    with kvmap.open(path) as store:
        fill(store.update, records, range(job.keys))
        for key in store:
            store[key]  # all is loaded and warm
        deadline = perf_counter() + 20 * job.seconds
        while not done or (done < job.ops and perf_counter() < deadline):
            numbers = [rng.choices(range(job.keys), k=512) for _ in spent]
            pairs, keys = records.pairs(numbers[0]), records.keys(numbers[1])
            both = list(zip(records.pairs(numbers[2]), records.keys(numbers[2]), strict=True))
            start = perf_counter()
            for key, value in pairs:
                store[key] = value
            set_end = perf_counter()
            for key in keys:
                store[key]
            get_end = perf_counter()
            for (key, value), again in both:
                store[key] = value
                store[again]
            spent["set + get"] += perf_counter() - get_end
            spent["get"] += get_end - set_end
            spent["set"] += set_end - start
            done += len(keys)
    apart = (spent["set"] + spent["get"]) / done * MICRO
    return {"set + get, same key": spent["set + get"] / done * MICRO, "set + get, apart": apart}


def synced(job: Job, path: Path) -> Figures:
    """`sync=True` sets and, in turns with them, appends of the same bytes, each synced."""
    import kvmap

    records = Records(job.size)
    with kvmap.open(path / "store") as store:
        store.update(records.pairs(range(1000)))
    line = b"%b\n" % dumps(
        {"key": records.key(0), "seq": 1, "value": records.value(0), "crc": "0" * 8}
    )
    sets: list[float] = []
    appends: list[float] = []
    deadline = perf_counter() + 8 * job.seconds
    with kvmap.open(path / "store", sync=True) as store, _appended(path / "file") as append:
        for key, value in records.pairs(range(1000, 1400)):
            start = perf_counter()
            store[key] = value
            between = perf_counter()
            append(line)
            appends.append(perf_counter() - between)
            sets.append(between - start)
            if between > deadline:
                break
    half = len(sets) // 2  # the first write to a shard also marks the store as in use
    return {
        "set, sync=True": statistics.median(sets[half:]) * MICRO,
        "one fdatasync": statistics.median(appends[half:]) * MICRO,
    }


def batch_syncs(job: Job, path: Path) -> Figures:
    """How many disk syncs one batch takes with `sync=True`, and how long they take."""
    import kvmap

    records, count = Records(job.size), 1000
    figures: Figures = {}
    with kvmap.open(path, sync=True) as store:
        store.update(records.pairs(range(2 * count)))

        def transaction(entries: dict[str, Any]) -> None:
            with store.transaction():
                for key, value in entries.items():
                    store[key] = value

        for name, write in (("transaction", transaction), ("set_many", store.set_many)):
            entries = dict(records.pairs(range(count)))
            sizes = _sizes(path / "shards")
            with _counted_syncs() as syncs:
                write(entries)
            touched = _sizes(path / "shards").items() - sizes.items()
            of_shards = sum(syncs[file] for file, _ in touched)
            took: list[float] = []
            for _ in range(3):
                start = perf_counter()
                write(entries)
                took.append(perf_counter() - start)
            figures |= {
                f"{name}: shards touched": len(touched),
                f"{name}: their syncs": of_shards,
                f"{name}: other syncs": syncs.total() - of_shards,
                f"{name}, ms": statistics.median(took) * MILLI,
            }
    return figures


def sync_threads(job: Job, path: Path) -> Figures:
    """Synced writes of one thread and of four: microseconds per write, all threads together."""
    import kvmap

    records = Records(job.size)
    with kvmap.open(path, sync=True) as store:
        store.update(records.pairs(range(1000)))

        def rate(threads: int) -> float:
            counts = [0] * threads
            deadline = perf_counter() + 4 * job.seconds

            def write(place: int) -> None:
                for key, value in records.pairs(range(place, 100_000, threads)):
                    store[key] = value
                    counts[place] += 1
                    if perf_counter() > deadline:
                        break

            running = [threading.Thread(target=write, args=(n,)) for n in range(threads)]
            start = perf_counter()
            for thread in running:
                thread.start()
            for thread in running:
                thread.join()
            return (perf_counter() - start) / sum(counts) * MICRO

        return {"synced set, one thread": rate(1), "synced set, of four threads": rate(4)}


def written(job: Job, path: Path) -> Figures:
    """Bytes written to the device per byte of JSON set, while all is overwritten ten times.

    The files are synced after each time, so that a page which changes all the time counts ten times
    for everyone, whenever the system would have written it.
    """
    records, rng = Records(job.size, scatter=job.scatter), random.Random(job.seed)
    store = CONTESTANTS[job.store](path, records.json_bytes(job.keys))
    store.open()
    fill(store.update, records, range(job.keys))
    _sync_files(path)
    before, start = _device_bytes(), perf_counter()
    for turn in range(1, OVERWRITES + 1):
        order = rng.sample(range(job.keys), job.keys)
        for done in range(0, job.keys, BATCH):
            keys = records.keys(order[done : done + BATCH])
            values = [records.value(number + turn) for number in order[done : done + BATCH]]
            store.set(list(zip(keys, values, strict=True)))
        _sync_files(path)
    store.close()
    _sync_files(path)
    if before is None or (after := _device_bytes()) is None:
        return {}
    amplification = (after - before) / (OVERWRITES * records.json_bytes(job.keys))
    return {"written": amplification, "seconds": perf_counter() - start}


PARTS: dict[str, Callable[[Job, Path], Figures]] = {
    part.__name__: part for part in (fresh, synced, batch_syncs, sync_threads, written)
}


@contextmanager
def _appended(file: Path) -> Iterator[Callable[[bytes], None]]:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(line: bytes) -> None:
        os.write(descriptor, line)
        os.fdatasync(descriptor)

    try:
        yield append
    finally:
        os.close(descriptor)


@contextmanager
def _counted_syncs() -> Iterator[Counter[str]]:
    """Count calls of `os.fsync` and `os.fdatasync` by the name of the file; on Linux alone."""
    syncs: Counter[str] = Counter()

    def counting(sync: Callable[[int], None]) -> Callable[[int], None]:
        def counted(descriptor: int) -> None:
            syncs[os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))] += 1
            sync(descriptor)

        return counted

    if not Path("/proc/self/fd").exists():
        yield syncs
        return
    fsync, fdatasync = counting(os.fsync), counting(os.fdatasync)
    with patch.object(os, "fsync", fsync), patch.object(os, "fdatasync", fdatasync):
        yield syncs


def _sizes(directory: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_size for entry in os.scandir(directory)}


def _sync_files(path: Path) -> None:
    for file in path.rglob("*"):
        try:
            descriptor = os.open(file, os.O_RDONLY)
        except FileNotFoundError:  # an engine's thread has removed it
            continue
        os.fsync(descriptor)
        os.close(descriptor)


def _device_bytes() -> int | None:
    """Bytes that this process made the system write; None where the system does not say."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    counts = {name: int(count) for name, count in (line.split(": ") for line in lines)}
    # Files that were removed before the system has written them do not count.
    return counts["write_bytes"] - counts["cancelled_write_bytes"]
