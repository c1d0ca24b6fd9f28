"""The engine for tests and for maps that need not outlive the process: a plain dict."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count, islice
from operator import itemgetter
from pathlib import Path

from kvmap import keys, values
from kvmap.deadlines import Deadlines
from kvmap.engine import INF, KEEP_DEADLINE, Changes, Condition, If, Progress, Seen
from kvmap.errors import StoreClosedError
from kvmap.eviction import Bounds, Queue
from kvmap.keys import Key
from kvmap.settings import Settings
from kvmap.stats import Counts, Stats, coming, spread
from kvmap.turn import Turn

Entry = tuple[bytes, float, int, int]
"""A text, its deadline, the entry's place in the order, and the bytes of its key and text."""

_PAGE = 256
_NAME = ":memory:"


class MemoryEngine:
    """Implements `kvmap.engine.Engine`, whose docstrings hold.

    Every change is one call of a dict's method, so that a reader, who takes no lock, and an
    interrupt meet all of it or none.
    """

    name = _NAME
    path = None
    remote = False

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self.now = clock
        self.version = self.net_size = 0
        self.closed = False
        self._entries: dict[Key, Entry] = {}
        self._places = count(1)
        self._deadlines = Deadlines()
        self._turn = Turn()
        self._expired = self._purged = self._evicted = 0
        self._bytes = 0
        """Bytes of the entries' keys and texts."""
        self._queue = Queue(lambda: self._entries, _place)
        """Where `popitem` finds the oldest entry."""
        self._bound(settings)

    def _bound(self, settings: Settings) -> None:
        self._bounds = Bounds(settings, lambda: self._entries, _place, _size)
        self._marks = self._bounds.marks

    # Reading

    def _live(self, key: object) -> Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            self._check_open()
        elif entry[1] <= self.now() and entry[1] != INF:
            return None
        return entry

    def get(self, key: Key, /) -> bytes | None:
        entry = self._live(key)
        if entry is None:
            return None
        if self._marks is not None:
            self._marks.add(key)
        return entry[0]

    def get_many(self, keys: Iterable[Key], /) -> list[bytes | None]:
        with self._turn.lock:
            self._check_open()
            return [self.get(key) for key in keys]

    def __contains__(self, key: object, /) -> bool:
        return self._live(key) is not None

    def __len__(self) -> int:
        self._sweep()
        return len(self._entries)

    @property
    def next_deadline(self) -> float:
        return self._deadlines.soonest

    def keys(self, *, reverse: bool = False) -> Iterator[list[Key]]:
        return (list(page) for page in self._pages(reverse))

    def items(self, *, reverse: bool = False) -> Iterator[tuple[list[Key], list[bytes]]]:
        return ((list(page), list(page.values())) for page in self._pages(reverse))

    def _pages(self, reverse: bool) -> Iterator[dict[Key, bytes]]:
        self._sweep()
        with self._turn.lock:
            names, size = list(self._entries), self.net_size
        return self._each_page(reversed(names) if reverse else iter(names), size)

    def _each_page(self, names: Iterator[Key], size: int) -> Iterator[dict[Key, bytes]]:
        while some := list(islice(names, _PAGE)):
            self._sweep()
            with self._turn.lock:
                page = {key: entry[0] for key in some if (entry := self._live(key)) is not None}
            self._check_size(size)
            yield page
        self._check_open()
        self._check_size(size)

    def _check_size(self, size: int) -> None:
        if self.net_size != size:
            raise RuntimeError("dictionary changed size during iteration")

    def deadline(self, key: Key, /) -> float | None:
        entry = self._live(key)
        return None if entry is None else entry[1]

    def deadlines(self, keys: Iterable[Key], /) -> list[float | None]:
        return list(map(self.deadline, keys))

    def expiring(self, seconds: float, /) -> dict[Key, bytes]:
        with self._turn.lock:
            self._check_open()
            found = list(self._deadlines.until(self.now() + seconds))
            entries = [(key, moment, self._live(key)) for moment, _, key in found]
        return {key: each[0] for key, moment, each in entries if each and each[1] == moment}

    # Writing

    def put(self, key: Key, text: bytes, ttl: float, only_if: Condition = None, /) -> bool:
        keys.text(key)
        with self._turn.lock:
            self._begin()
            if only_if is not None:
                there = self.get(key)
                if isinstance(only_if, If):
                    if (only_if is If.ABSENT) is not (there is None):
                        return False
                elif there != only_if:
                    return False
            self._publish({key: (text, self._moment(key, ttl))})
            return True

    def put_many(self, texts: Mapping[Key, bytes], ttl: float, /) -> None:
        for key in texts:
            keys.text(key)
        with self._turn.lock:
            self._begin()
            self._publish({key: (text, self._moment(key, ttl)) for key, text in texts.items()})

    def put_until(self, entries: Mapping[Key, tuple[bytes, float]], /) -> None:
        for key in entries:
            keys.text(key)
        with self._turn.lock:
            self._begin()
            self._publish_until(entries)

    def _publish_until(
        self,
        entries: Mapping[Key, tuple[bytes, float]],
        gone: set[Key] | frozenset[Key] = frozenset(),
    ) -> None:
        now = self.now()
        written = {key: new for key, new in entries.items() if new[1] > now}
        self._publish(written, gone | (entries.keys() - written.keys()))

    def setdefault(self, key: Key, text: bytes, ttl: float, /) -> bytes:
        with self._turn.lock:
            self._begin()
            there = self.get(key)
            if there is None:
                self.put(key, text, ttl)
            return text if there is None else there

    def incr(
        self, key: Key, by: int | float, default: int | float | None, ttl: float, /
    ) -> int | float:
        with self._turn.lock:
            self._begin()
            text, total = values.increment(key, self.get(key), by, default)
            self.put(key, text, ttl)
            return total

    def expire(self, key: Key, ttl: float, /) -> bool:
        with self._turn.lock:
            self._begin()
            there = self._live(key)
            if there is None:
                return False
            self._publish({key: (there[0], self._moment(key, ttl))})
            return True

    def pop(self, key: Key, /) -> bytes | None:
        with self._turn.lock:
            self._begin()
            there = self.get(key)
            if there is not None:
                self._drop([key])
            return there

    def popitem(self, *, last: bool = True) -> tuple[Key, bytes] | None:
        with self._turn.lock:
            self._begin()
            if not self._entries:
                return None
            key = next(reversed(self._entries)) if last else self._queue.first()
            text = self._entries[key][0]
            self._drop([key])
            return key, text

    def delete(self, key: Key, /) -> bool:
        return self.pop(key) is not None

    def delete_many(self, keys: Iterable[Key], /) -> int:
        with self._turn.lock:
            self._begin()
            there = [key for key in dict.fromkeys(keys) if key in self._entries]
            self._drop(there)
            return len(there)

    def clear(self) -> None:
        with self._turn.lock:
            self._begin()
            self._drop(list(self._entries))

    def purge(self) -> int:
        with self._turn.lock:
            self._begin()
            count, self._purged = self._expired - self._purged, self._expired
            return count

    def _check_open(self) -> None:
        if self.closed:
            raise StoreClosedError(f"the map is closed ({_NAME})")

    def _begin(self) -> None:
        """Get ready for a write; the caller has the lock."""
        self._check_open()
        if self._turn.holder is not None:
            self._turn.wait()
        self._sweep()
        if len(self._deadlines) > 2 * len(self._entries) + 1024:
            self._deadlines.rebuild(
                (moment, place, key)
                for key, (_, moment, place, _) in self._entries.items()
                if moment != INF
            )

    def _moment(self, key: Key, ttl: float) -> float:
        if ttl == KEEP_DEADLINE:
            there = self._entries.get(key)
            if there is not None:
                return there[1]
            ttl = self.settings.ttl
        return INF if ttl == INF else self.now() + ttl

    def _publish(
        self, written: Mapping[Key, tuple[bytes, float]], gone: Iterable[Key] = ()
    ) -> None:
        """Take out `gone`, then write, where the limits allow it; entries are evicted first."""
        gone = {key: self._entries[key] for key in gone if key in self._entries}
        growth = -sum([entry[3] for entry in gone.values()])
        new: dict[Key, Entry] = {}
        inserted = 0
        for key, (given, moment) in written.items():
            text = values.without_spare(given)
            there = None if key in gone else self._entries.get(key)
            if there is None:
                inserted += 1
                size = len(keys.text(key)) + len(text)
                new[key] = (text, moment, next(self._places), size)
            else:
                size = there[3] - len(there[0]) + len(text)
                new[key] = (text, moment, there[2], size)
                growth -= there[3]
                if self._marks is not None:
                    self._marks.add(key)
            growth += size
        count = len(self._entries) - len(gone) + inserted
        touched = {**gone, **new} if gone else new
        for key in self._bounds.victims(count, self._bytes + growth, self._bytes, touched):
            self._evicted += 1
            self._bytes -= self._entries.pop(key)[3]
        entries = self._entries.copy() if gone else self._entries
        for key in gone:
            del entries[key]
        for key, (_, moment, place, _) in new.items():
            if moment != INF:
                self._deadlines.push(moment, place, key)
        self.version += 1
        self.net_size += inserted - len(gone)
        self._bytes += growth
        entries.update(new)
        self._entries = entries
        self._bounds.forget(gone)

    def _drop(self, gone: list[Key]) -> None:
        """Remove entries that are there."""
        if len(gone) != 1:
            self._publish({}, gone)
            return
        self.version += 1
        self.net_size -= 1
        self._bytes -= self._entries.pop(gone[0])[3]
        self._bounds.forget(gone)

    def _sweep(self) -> None:
        """Take out what has expired."""
        self._check_open()
        if self._deadlines.soonest > self.now():
            return
        with self._turn.lock:
            for moment, _, key in self._deadlines.due(self.now()):
                entry = self._entries.get(key)
                if entry is not None and entry[1] == moment:
                    self._expired += 1
                    self._bytes -= self._entries.pop(key)[3]
                    self._bounds.forget([key])

    # Transactions

    @property
    def held(self) -> bool:
        return self._turn.held

    def hold(self, holder: object, *, wait: bool = True) -> bool:
        self._check_open()
        held = self._turn.hold(holder, wait=wait)
        if self.closed:  # closing is what ended the wait
            self._turn.release(holder)
            self._check_open()
        return held

    def release(self, holder: object) -> None:
        self._turn.release(holder)

    def state(self) -> None:
        self._check_open()

    def commit(self, changes: Changes, seen: Seen) -> None:
        for key in changes.written:
            keys.text(key)
        with self._turn.lock:
            self._sweep()
            self._publish_until(changes.written, changes.deleted)

    # Care

    def damaged(self, key: Key, reason: str) -> Exception:
        return ValueError(f"the value of key {keys.shown(key)}: {reason}")

    def refresh(self) -> None:
        self._check_open()

    def load(self, progress: Progress | None = None) -> None:
        self._check_open()

    def configure(self, settings: Settings) -> None:
        with self._turn.lock:
            self._check_open()
            self.settings = settings
            self._bound(settings)

    def peek(self, count: int, /) -> tuple[int | None, list[tuple[Key, bytes]]]:
        if self._deadlines.soonest <= self.now():
            return None, []
        first = list(islice(self._entries.items(), count))
        return len(self._entries), [(key, entry[0]) for key, entry in first]

    def stats(self) -> Stats:
        with self._turn.lock:
            self._sweep()
            entries = list(self._entries.values())
            size = self._bytes
        return Stats(
            entries=len(entries),
            value_bytes=sum([len(entry[0]) for entry in entries]),
            live_bytes=size,
            dead_bytes=0,
            disk_bytes=0,
            files=0,
            parts=(),
            value_sizes=spread([len(entry[0]) for entry in entries]),
            deadlines=coming([entry[1] for entry in entries], self.now()),
            counts=Counts(evictions=self._evicted, expirations=self._expired),
        )

    def compact(self, progress: Progress | None = None) -> None:
        self._check_open()

    def backup(self, path: Path, progress: Progress | None = None) -> None:
        self._check_open()
        raise io.UnsupportedOperation("a map in memory has no files; copy its items")

    def sync(self) -> None:
        self._check_open()

    def close(self) -> None:
        with self._turn.lock:
            self.closed = True
            self.version += 1
            self._entries = {}
            self._turn.release(self._turn.holder)

    def after_fork(self) -> None:
        self._turn = Turn()  # a thread of the parent may have had the lock


_place: Callable[[Entry], int] = itemgetter(2)


def _size(key: Key, entry: Entry) -> int:
    return entry[3]
