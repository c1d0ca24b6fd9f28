"""One contestant's run, in a process of its own: all operations, in the same order for everyone."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time, thread_time
from typing import Any

from benchmarking.contestant import Contestant
from benchmarking.contestants import CONTESTANTS
from benchmarking.records import Records

BATCH_BYTES = 1 << 22
BATCH = 4096  # what is prepared ahead of the clock stays small enough for the processor's cache
MICRO, MILLI, MEGA = 1e6, 1e3, 1e6
UNLIMITED = 1e9  # seconds

Figures = dict[str, float]


@dataclass(frozen=True)
class Job:
    """What one process is to measure."""

    part: str  # a contestant's name, or that of a function in PARTS
    keys: int
    size: int
    ops: int  # of each operation, at most
    seconds: float  # for each operation, about at most
    seed: int
    scatter: bool = False
    cpu: bool = False  # processor time instead of the wall clock
    store: str = "kvmap"  # the contestant that a part is about


def measure(job: Job, path: Path) -> dict[str, Any]:
    """All figures of one contestant: microseconds per operation, bytes of memory and disk."""
    return _Run(job, path).all()


class _Run:
    def __init__(self, job: Job, path: Path) -> None:
        self.job = job
        self.path = path
        self.records = Records(job.size, scatter=job.scatter)
        self.rng = random.Random(job.seed)
        self.figures: Figures = {}
        self.sampled: dict[str, int] = {}  # how many were done, where not as many as asked
        self.held = 0
        # Time runs out for the slow ones alone; the others hold all keys and do all operations.
        self.slow = CONTESTANTS[job.part].kind == "dict-like"
        self.seconds = job.seconds * (1 if self.slow else 10)
        # sqlitedict works in a thread of its own; what an engine's threads do is not charged.
        cpu_time = process_time if self.slow else thread_time
        self.clock = cpu_time if job.cpu else perf_counter
        json_bytes = self.records.json_bytes(job.keys + job.ops)
        self.store: Contestant = CONTESTANTS[job.part](path, json_bytes)

    def all(self) -> dict[str, Any]:
        self.load()
        if self.store.durable:
            self.reopen()
        self.read()
        self.slowest()
        self.write()
        self.store.close()
        return {"held": self.held, "figures": self.figures, "sampled": self.sampled}

    def load(self) -> None:
        """Set new keys one by one, then the rest in bulk; weigh the memory."""
        before = anonymous_memory()
        self.store.open()
        pairs = self.records.pairs
        self.held = self.time("set", range(min(self.job.keys, self.job.ops)), self.store.set, pairs)
        self.held += fill(
            self.store.update, self.records, range(self.held, self.job.keys), self.patience()
        )
        after = anonymous_memory()
        if before is not None and after is not None:
            self.figures["memory, MB"] = (after - before) / MEGA
        probe = self.rng.randrange(self.held)
        if self.store.get([self.records.key(probe)]) != self.records.value(probe):
            raise AssertionError(f"{self.job.part} does not return what was stored")

    def reopen(self) -> None:
        start = perf_counter()
        self.store.close()
        self.figures["close, ms"] = (perf_counter() - start) * MILLI
        blocks, size = disk_bytes(self.path)
        json_bytes = self.records.json_bytes(self.held)
        self.figures["disk, per byte of JSON"] = blocks / json_bytes
        self.figures["file sizes, per byte of JSON"] = size / json_bytes
        one = self.records.keys([self.rng.randrange(self.held)])
        self.time_opening("reopen + first get", lambda: self.store.get(one))
        self.time_opening("reopen + len", lambda: self.store.length((0,)))
        self.store.open()

    def read(self) -> None:
        store, records = self.store, self.records
        # All are warm before the clock starts: the first `len`, and the first gets, load something.
        store.length((0,))
        warm = self.job.seconds if self.slow else UNLIMITED
        timed(store.get, self.some(BATCH), records.keys, warm)
        self.time("len", range(1000), store.length, list, seconds=self.job.seconds)
        self.time("get", self.some(), store.get, records.keys)
        self.time("get missing", self.some(), store.get_missing, records.missing)
        self.time("in, hit", self.some(), store.contains, records.keys)
        self.time("in, miss", self.some(), store.contains, records.missing)
        limit = self.affordable("items", self.figures["get"], self.held)
        self.time("items", (limit,), lambda limits: store.items(limits[0]), list, each=limit)

    def slowest(self) -> None:
        """The slowest get and the slowest set of many, each timed alone."""
        get, put = self.store.get, self.store.set
        self.figures["slowest get, ms"] = slowest(get, self.single(self.records.keys))
        self.figures["slowest set, ms"] = slowest(put, self.single(self.records.pairs))

    def write(self) -> None:
        store, records, pairs = self.store, self.records, self.records.pairs
        self.time("overwrite", self.some(), store.set, pairs)
        wanted = min(self.job.keys, self.job.ops)
        count = self.affordable("update", self.figures["set"], wanted)
        new = pairs(range(self.job.keys, self.job.keys + count))
        self.time("update", (0,), lambda _: store.update(new), list, each=count)
        distinct = self.rng.sample(range(self.held), min(self.held, self.job.ops))
        self.time("delete", distinct, store.delete, records.keys)

    def time(
        self,
        name: str,
        numbers: Sequence[int],
        operation: Callable[[Any], object],
        prepare: Callable[[Sequence[int]], Sequence[Any]],
        each: int = 1,
        seconds: float | None = None,
    ) -> int:
        """Time `operation`; one number counts for `each` records. Return how many were done."""
        spent, done = timed(operation, numbers, prepare, seconds or self.seconds, self.clock)
        self.figures[name] = spent / (done * each) * MICRO
        if done < len(numbers):
            self.sampled[name] = done
        return done

    def time_opening(self, name: str, first: Callable[[], object]) -> None:
        """Open, do one thing, close: the median of a few times."""
        took: list[float] = []
        while len(took) < 5 and sum(took) < self.job.seconds:
            start = perf_counter()
            self.store.open()
            first()
            took.append(perf_counter() - start)
            self.store.close()
        self.figures[name] = statistics.median(took) * MICRO

    def some(self, at_most: int | None = None) -> Sequence[int]:
        """Records at random."""
        return self.rng.choices(range(self.held), k=min(self.held, at_most or self.job.ops))

    def single(self, prepare: Callable[[Sequence[int]], list[Any]]) -> Iterator[list[Any]]:
        """Batches of one, until the time is up."""
        deadline = perf_counter() + self.seconds
        numbers = self.some()
        for start in range(0, len(numbers), 64):
            for one in prepare(numbers[start : start + 64]):
                yield [one]
                if perf_counter() > deadline:
                    return

    def affordable(self, name: str, micros: float, wanted: int) -> int:
        """As many as take a few times the seconds granted, if each takes `micros`."""
        if self.store.whole_file:
            count = min(wanted, self.held)
        else:
            count = min(wanted, max(1000, int(2 * self.seconds / micros * MICRO)))
        if count < wanted:
            self.sampled[name] = count
        return count

    def patience(self) -> float:
        """Seconds for loading: the more there is to load, the more of them."""
        if not self.slow:
            return float("inf")
        if self.store.whole_file:
            return self.seconds
        return self.seconds * (3 + self.job.keys * (6e-4 + 7e-8 * self.job.size))


def timed(
    operation: Callable[[Any], object],
    numbers: Sequence[int],
    prepare: Callable[[Sequence[int]], Sequence[Any]],
    seconds: float,
    clock: Callable[[], float] = perf_counter,
) -> tuple[float, int]:
    """Run batches, made ready outside the clock, for so many seconds. Return the time and count."""
    spent, passed, done, size = 0.0, 0.0, 0, 1
    while done < len(numbers) and passed < seconds:
        batch = prepare(numbers[done : done + size])
        began, start = perf_counter(), clock()
        operation(batch)
        spent += clock() - start
        passed += perf_counter() - began
        done += len(batch)
        left = int((seconds - passed) * done / passed) + 1
        size = min(4 * size, BATCH, left)
    return spent, done


def fill(
    update: Callable[[Any], object], records: Records, numbers: range, seconds: float = float("inf")
) -> int:
    """Write the records in bulk, a batch at a time, until `seconds` are over. Return how many."""
    deadline = perf_counter() + seconds
    done, size = 0, max(64, min(BATCH, BATCH_BYTES // records.size))
    while done < len(numbers) and perf_counter() < deadline:
        batch = numbers[done : done + size]
        update(records.pairs(batch))
        done += len(batch)
    return done


def slowest(operation: Callable[[Any], object], singles: Iterable[Any]) -> float:
    """Milliseconds of the slowest."""
    worst = 0.0
    for single in singles:
        start = perf_counter()
        operation(single)
        worst = max(worst, perf_counter() - start)
    return worst * MILLI


def anonymous_memory() -> int | None:
    """Bytes of memory that no file is behind; None where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def disk_bytes(path: Path) -> tuple[int, int]:
    """Bytes that all files below take on the disk, and their sizes: a sparse file has more."""
    stats = [file.stat() for file in path.rglob("*") if file.is_file()]
    return sum(stat.st_blocks for stat in stats) * 512, sum(stat.st_size for stat in stats)
