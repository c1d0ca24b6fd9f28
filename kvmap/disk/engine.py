"""The engine on a directory: composes the parts, and decides which of them does what in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from kvmap.disk import backup, measure
from kvmap.disk.compaction import Compactor
from kvmap.disk.entries import Entries
from kvmap.disk.fs import FileSystem
from kvmap.disk.index import Index
from kvmap.disk.journal import Journal
from kvmap.disk.loading import Loading
from kvmap.disk.lookup import Lookup
from kvmap.disk.opening import Home, open_shards, undo_batch
from kvmap.disk.operations import Operations
from kvmap.disk.reader import Reader
from kvmap.disk.records import UNTIMED, deadline, unpack_value
from kvmap.disk.room import Room
from kvmap.disk.session import Session
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import BEGUN, Steps
from kvmap.disk.tuning import Tuning
from kvmap.disk.writer import Writer
from kvmap.engine import INF, Changes, Condition, Progress, Seen
from kvmap.keys import Key
from kvmap.settings import Settings
from kvmap.stats import Counts, Stats
from kvmap.turn import Turn

T = TypeVar("T")


class DiskEngine:
    """Implements `kvmap.engine.Engine`, whose docstrings hold."""

    remote = False

    def __init__(
        self,
        home: Home,
        fs: FileSystem,
        tuning: Tuning,
        *,
        sync: bool,
        recover: Callable[[Home, Shards], None] = undo_batch,
    ) -> None:
        self.name = home.folder.path
        self.path = Path(self.name)
        self.now = fs.now
        self._home = home
        self._fs = fs
        self._turn = turn = Turn()
        self._lock = turn.lock
        self._steps = steps = Steps(turn)
        self._shards = shards = Shards(
            home.folder,
            home.shards,
            home.manifest.shards,
            tuning,
            steps,
            self._before_replace,
            self._check_owner,
            writable=not home.read_only,
        )
        self._maps = shards.maps
        last = open_shards(home, shards, recover)
        self._index = index = Index(shards, steps, fs.now, last)
        self._entries = index.entries
        self._loading = loading = Loading(index, shards, turn, steps, fs.now, home.manifest.seq)
        self._lookup = lookup = Lookup(index, loading, shards, turn, steps)
        self._compactor = compactor = Compactor(index, shards, steps, tuning)
        journal = Journal(home.folder)
        self._session = session = Session(
            home, shards, journal, index, loading, compactor, steps, tuning
        )
        self.settings = home.manifest.settings
        self._room = room = Room(index, shards, self.settings)
        self._marks = room.marks
        check, check_open = session.check_files, session.check_open
        self._writer = writer = Writer(
            index, shards, journal, steps, compactor, room, tuning, check, sync=sync
        )
        self._operations = Operations(index, lookup, writer, room, fs.now, self.settings.ttl)
        self._reader = reader = Reader(
            index, loading, lookup, shards, turn, steps, tuning, fs.now, check_open
        )
        self._named = Entries(index, lookup, reader, shards, room, steps, fs.now, check_open)
        self._purged = 0
        self._committing = False
        """Whether the write that is under way is that of the holder of the turn."""

    def _before_replace(self, shard: Shard) -> None:
        self._session.before_replace(shard)

    def _check_owner(self) -> None:
        self._session.check_files()

    def _use(self, settings: Settings) -> None:
        self.settings = settings
        self._operations.ttl = settings.ttl
        self._room.use(settings)
        self._marks = self._room.marks

    # Reading

    @property
    def closed(self) -> bool:
        return self._session.closed_reason is not None

    @property
    def version(self) -> int:
        return self._index.seq

    @property
    def net_size(self) -> int:
        return self._index.net_size

    @property
    def next_deadline(self) -> float:
        return self._index.deadlines.soonest

    def get(self, key: Key, /) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            if self._index.settled:
                return None
            entry = self._named.find(key)
            if entry is None:
                return None
        if len(entry) > UNTIMED and deadline(entry) <= self.now():
            self._named.sweep()
            return None
        start, end, seed, crc, number = unpack_value(entry)
        text: bytes = self._maps[number][start:end]
        if crc32(text, seed) != crc:
            found = self._lookup.text(key, entry)
            if found is None:
                self._session.check_open()  # closed meanwhile
                return None
            text = found
        if self._marks is not None:
            self._marks.add(key)
        return text

    def __contains__(self, key: object, /) -> bool:
        entry = self._entries.get(key)
        if entry is None:
            return not self._index.settled and self._named.live(key) is not None
        return len(entry) == UNTIMED or self._named.live(key) is not None

    def __len__(self) -> int:
        self._session.check_open()
        return self._reader.count()

    def get_many(self, keys: Iterable[Key], /) -> list[bytes | None]:
        return self._named.get_many(keys)

    def deadline(self, key: Key, /) -> float | None:
        return self._named.deadline(key)

    def deadlines(self, keys: Iterable[Key], /) -> list[float | None]:
        return list(map(self._named.deadline, keys))

    def keys(self, *, reverse: bool = False) -> Iterator[list[Key]]:
        return self._reader.keys(reverse=reverse)

    def items(self, *, reverse: bool = False) -> Iterator[tuple[list[Key], list[bytes]]]:
        return self._reader.items(reverse=reverse)

    def expiring(self, seconds: float, /) -> dict[Key, bytes]:
        return self._reader.expiring(seconds)

    def peek(self, count: int, /) -> tuple[int | None, list[tuple[Key, bytes]]]:
        return self._reader.peek(count)

    def state(self) -> None:
        self._session.check_open()

    def damaged(self, key: Key, reason: str) -> Exception:
        return self._named.damaged(key, reason)

    # Writing

    def _write(self, wanted: Iterable[Key] | None, step: Callable[..., T], *args: Any) -> T:
        """Run a step that writes these keys, or any for None: all of it is done, or nothing.

        The one place that every write passes through, but for `put`.
        """
        steps = self._steps
        if steps.current is not None:
            steps.check_reentry()
        with self._lock:
            try:
                self._begin(wanted)
                result = step(*args)
            except BaseException:
                steps.settle()
                raise
            steps.current = None
            return result

    def _begin(self, wanted: Iterable[Key] | None) -> None:
        """Get ready for a write, and begin its step. The caller has the lock.

        Raises StoreClosedError, ReadOnlyError, HeldError.
        """
        if self._turn.holder is not None and not self._committing:
            self._turn.wait()
            self._session.check_open()
        if self._steps.current is not None:
            self._steps.settle()
        self._steps.current = BEGUN  # from here on a signal handler is kept out
        if not self._session.writable:
            self._session.begin_use()
        index = self._index
        if self._room.bounded or wanted is None:
            if not (index.all_parsed and index.ordered):
                self._loading.prepare_all()
        elif not index.all_parsed:
            self._loading.prepare(wanted)
        if index.deadlines.soonest != INF:
            expired = index.expired
            index.sweep()
            index.trim_deadlines()
            if index.expired != expired:
                self._compactor.due = True
        if self._compactor.due:
            self._compactor.go_on()

    def put(self, key: Key, text: bytes, ttl: float, only_if: Condition = None, /) -> bool:
        # As `_write`, without two calls and their arguments: 5 % of a write.
        steps = self._steps
        if steps.current is not None:
            steps.check_reentry()
        with self._lock:
            try:
                self._begin((key,))
                old = self._entries.get(key)
                done = only_if is None or self._operations.holds(only_if, key, old)
                if done:
                    expires = INF if ttl == INF else self._operations.moment(old, ttl)
                    self._writer.put(key, old, text, expires)
            except BaseException:
                steps.settle()
                raise
            steps.current = None
            return done

    def put_many(self, texts: Mapping[Key, bytes], ttl: float, /) -> None:
        self._write(texts, self._operations.put_many, texts, ttl)

    def put_until(self, entries: Mapping[Key, tuple[bytes, float]], /) -> None:
        self._write(entries, self._operations.put_until, entries)

    def setdefault(self, key: Key, text: bytes, ttl: float, /) -> bytes:
        return self._write((key,), self._operations.setdefault, key, text, ttl)

    def incr(
        self, key: Key, by: int | float, default: int | float | None, ttl: float, /
    ) -> int | float:
        return self._write((key,), self._operations.incr, key, by, default, ttl)

    def expire(self, key: Key, ttl: float, /) -> bool:
        return self._write((key,), self._operations.expire, key, ttl)

    def pop(self, key: Key, /) -> bytes | None:
        return self._write((key,), self._operations.pop, key)

    def popitem(self, *, last: bool = True) -> tuple[Key, bytes] | None:
        return self._write(None, self._operations.popitem, last)

    def delete(self, key: Key, /) -> bool:
        return self._write((key,), self._operations.delete, key)

    def delete_many(self, keys: Iterable[Key], /) -> int:
        wanted = list(dict.fromkeys(keys))
        return self._write(wanted, self._operations.delete_many, wanted)

    def clear(self) -> None:
        self._write((), self._session.clear, self._forget)

    def _forget(self) -> None:
        self._index.seq += 1
        self._shards.forget()
        self._index.forget()
        self._use(self.settings)

    def purge(self) -> int:
        return self._write(None, self._purge)

    def _purge(self) -> int:
        for shard in self._shards.all:
            if shard.worn:
                self._compactor.compact(shard)
        count, self._purged = self._index.expired - self._purged, self._index.expired
        return count

    # Transactions

    @property
    def held(self) -> bool:
        return self._turn.held

    def hold(self, holder: object, *, wait: bool = True) -> bool:
        self._session.check_writable()
        self._steps.check_reentry()
        held = self._turn.hold(holder, wait=wait)
        if held and self.closed:
            self._turn.release(holder)
            self._session.check_open()
        return held

    def release(self, holder: object) -> None:
        self._turn.release(holder)

    def commit(self, changes: Changes, seen: Seen) -> None:
        self._steps.check_reentry()
        with self._lock:
            self._steps.settle()
            self._committing = True
            try:
                self._write(
                    [*changes.deleted, *changes.written],
                    self._operations.put_until,
                    changes.written,
                    changes.deleted,
                )
            finally:
                self._committing = False

    # Care

    def refresh(self) -> None:
        self._session.check_open()

    def load(self, progress: Progress | None = None) -> None:
        self._session.check_open()
        self._loading.load_all(progress)
        self._loading.load_in_order()

    def configure(self, settings: Settings) -> None:
        self._write((), self._configure, settings)

    def _configure(self, settings: Settings) -> None:
        self._home.change_manifest(settings=settings)
        self._use(settings)

    def stats(self) -> Stats:
        self._session.check_open()
        self._reader.count()
        self._steps.check_reentry()
        with self._lock:
            self._steps.settle()
            counts = Counts(evictions=self._writer.evicted, expirations=self._index.expired)
            return measure.stats(self._shards, self._entries, self.now(), counts)

    def compact(self, progress: Progress | None = None) -> None:
        self._write(None, self._compactor.compact_all, progress)

    def backup(self, path: Path, progress: Progress | None = None) -> None:
        self._session.check_open()
        with backup.new_store(path, self._home, self._fs, self.settings) as copy:
            self._steps.check_reentry()
            with self._lock:
                if self._turn.holder is not None:
                    self._turn.wait()
                self._steps.settle()
                self._loading.parse_all()
                self._index.sweep()
                copy.copy(self._shards, self._entries, self._index.seq, progress)

    def sync(self) -> None:
        self._session.check_open()
        self._steps.check_reentry()
        with self._lock:
            self._session.check_open()
            self._steps.settle()
            self._session.sync()

    def close(self) -> None:
        if self.closed:
            return
        self._steps.check_reentry()
        with self._lock:
            if not self._index.closed:
                try:
                    self._session.close()
                finally:
                    self._turn.release(self._turn.holder)

    def after_fork(self) -> None:
        if not self.closed:
            self._turn.renew()
            self._lock = self._turn.lock
            self._steps.current = None  # the parent goes on with what was under way
            self._session.abandon()
