"""The engine on a directory: composes the parts, and decides which of them does what in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

from kvmap import values
from kvmap.disk import backup, hint, measure
from kvmap.disk.compaction import Compactor
from kvmap.disk.fs import FileSystem
from kvmap.disk.index import Index
from kvmap.disk.journal import Journal
from kvmap.disk.manifest import UNKNOWN
from kvmap.disk.opening import Home, undo_batch
from kvmap.disk.reader import Reader
from kvmap.disk.records import (
    TAIL,
    UNTIMED,
    Entry,
    deadline,
    head,
    place,
    unpack_order,
    unpack_value,
)
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import BEGUN, Steps
from kvmap.disk.tuning import Tuning
from kvmap.disk.writer import Writer, Written
from kvmap.engine import INF, KEEP_DEADLINE, Changes, Condition, If, Progress, Seen
from kvmap.errors import CorruptStoreError, ReadOnlyError, StoreClosedError
from kvmap.eviction import Bounds, Queue
from kvmap.keys import Key, shown
from kvmap.keys import text as key_text
from kvmap.settings import Settings
from kvmap.stats import Counts, Stats
from kvmap.turn import Turn

T = TypeVar("T")

_CLOSED = "the map is closed"
_MOST_BESIDE = 192
"""Bytes of a record beside its key and its value, at the most."""
_FORKED = (
    "the map belongs to the process that this one was forked from; close it there before forking and "
    "open the store in one of both, or read it here with kvmap.snapshot()"
)


class DiskEngine:
    """Implements `kvmap.engine.Engine`, whose docstrings hold."""

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
        self._tuning = tuning
        self._closed_reason: str | None = None
        self._writable = False
        """Whether a write may begin at once: the store is open, and its manifest says `in_use`."""
        self._turn = Turn()
        self._lock = self._turn.lock
        self._steps = Steps(self._turn)
        self._journal = Journal(home.folder)
        self._shards = Shards(
            home.folder,
            home.shards,
            home.manifest.shards,
            tuning,
            self._steps,
            self._before_replace,
            writable=not home.read_only,
        )
        try:
            recover(home, self._shards)
            seqs = [
                0 if shard.open_empty() or shard.known.exact else self._shards.last_seq(shard)
                for shard in self._shards.all
            ]
        except BaseException:
            self._shards.close()
            raise
        self._index = Index(
            self._shards, self._turn, self._steps, fs.now, max(home.manifest.seq, *seqs)
        )
        self._entries = self._index.entries
        self._queue = Queue(lambda: self._entries, place)
        """Where `popitem` finds the oldest entry."""
        self._maps = self._shards.maps
        self._compactor = Compactor(self._index, self._shards, self._steps, tuning)
        self._writer = Writer(
            self._index,
            self._shards,
            self._journal,
            self._steps,
            self._compactor,
            tuning,
            self._check_files,
            sync=sync,
        )
        self._reader = Reader(
            self._index, self._shards, self._turn, self._steps, tuning, fs.now, self._check_open
        )
        self._purged = self._evicted = 0
        self._committing = False
        """Whether the write that is under way is that of the holder of the turn."""
        self._use(home.manifest.settings)

    def _use(self, settings: Settings) -> None:
        self.settings = settings
        limits = settings.limits
        self._bounded = limits.entries is not None or limits.store_bytes is not None
        self._most_entries = INF if limits.entries is None else limits.entries
        self._most_bytes = INF if limits.store_bytes is None else limits.store_bytes
        self._spare_bytes: float = 0
        """Bytes that may be written until the live bytes are to be counted again."""
        self._bounds = Bounds(
            settings, lambda: self._entries, place, lambda key, entry: unpack_order(entry)[1]
        )
        self._marks = self._bounds.marks

    # Reading

    @property
    def closed(self) -> bool:
        return self._closed_reason is not None

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
            entry = self._find(key)
            if entry is None:
                return None
        if len(entry) > UNTIMED and deadline(entry) <= self.now():
            self._sweep()
            return None
        start, end, seed, crc, number = unpack_value(entry)
        text: bytes = self._maps[number][start:end]
        if crc32(text, seed) != crc:
            found = self._index.text(key, entry)
            if found is None:
                return None
            text = found
        if self._marks is not None:
            self._marks.add(key)
        return text

    def _find(self, key: Any) -> Entry | None:
        self._check_open()
        entry = self._index.find(key)
        if entry is None:
            self._check_open()  # closed meanwhile
        return entry

    def _live(self, key: object) -> Entry | None:
        entry = self._entries.get(key)
        if entry is None and not self._index.settled:
            entry = self._find(key)
        if entry is not None and len(entry) > UNTIMED and deadline(entry) <= self.now():
            self._sweep()
            return None
        return entry

    def _sweep(self) -> None:
        """Take out what has expired, so that a clock that is set back does not bring it back."""
        if self._steps.current is None:
            self._reader.sweep()

    def __contains__(self, key: object, /) -> bool:
        return self._live(key) is not None

    def deadline(self, key: Key, /) -> float | None:
        entry = self._live(key)
        return None if entry is None else deadline(entry)

    def __len__(self) -> int:
        self._check_open()
        return self._reader.count()

    def get_many(self, keys: Iterable[Key], /) -> list[bytes | None]:
        self._check_open()
        wanted = list(keys)
        texts = self._reader.get_many(wanted)
        if self._marks is not None:
            self._marks.update(
                [key for key, text in zip(wanted, texts, strict=True) if text is not None]
            )
        return texts

    def keys(self, *, reverse: bool = False) -> Iterator[list[Key]]:
        self._check_open()
        return self._reader.keys(reverse=reverse)

    def items(self, *, reverse: bool = False) -> Iterator[tuple[list[Key], list[bytes]]]:
        self._check_open()
        return self._reader.items(reverse=reverse)

    def expiring(self, seconds: float, /) -> dict[Key, bytes]:
        self._check_open()
        return self._reader.expiring(seconds)

    def peek(self, count: int, /) -> tuple[int | None, list[tuple[Key, bytes]]]:
        return self._reader.peek(count)

    def state(self) -> None:
        self._check_open()

    def damaged(self, key: Key, reason: str) -> Exception:
        entry = self._entries.get(key)
        if entry is None:
            return ValueError(f"the value of key {shown(key)}: {reason}")
        start, _, _, _, number = unpack_value(entry)
        path = self._shards.all[number].path
        return CorruptStoreError(path, start, f"the value of key {shown(key)}: {reason}")

    # Writing

    def _write(self, wanted: Iterable[Key] | None, step: Callable[..., T], *args: Any) -> T:
        """Run a step that writes these keys, or any for None: all of it is done, or nothing.

        The one place that every write passes through.
        """
        steps = self._steps
        if steps.current is not None:
            steps.check_reentry()
        with self._lock:
            self._begin(wanted)
            steps.current = BEGUN
            try:
                result = step(*args)
            except BaseException:
                steps.settle()
                raise
            steps.current = None
            return result

    def _begin(self, wanted: Iterable[Key] | None) -> None:
        """Get ready for a write. The caller has the lock.

        Raises StoreClosedError, ReadOnlyError, HeldError.
        """
        if self._turn.holder is not None and not self._committing:
            self._turn.wait()
            self._check_open()
        if self._steps.current is not None:
            self._steps.settle()
        if not self._writable:
            self._begin_use()
        index = self._index
        if self._bounded or wanted is None:
            index.prepare_all()
        elif not index.all_parsed:
            index.prepare(wanted)
        if index.deadlines:
            expired = index.expired
            index.sweep()
            index.trim_deadlines()
            if index.expired != expired:
                self._compactor.due = True
        if self._compactor.due:
            self._steps.current = BEGUN
            self._compactor.go_on()
            self._steps.settle()

    def _begin_use(self) -> None:
        """Before the first write: let the manifest say that the store is in use."""
        self._check_open()
        if self._home.read_only:
            raise self._read_only()
        shards = [known._replace(exact=False) for known in self._home.manifest.shards]
        self._home.change_manifest(in_use=True, shards=tuple(shards))
        self._writable = True

    def _moment(self, old: Entry | None, ttl: float) -> float:
        """The deadline of an entry that is written over `old`."""
        if ttl == KEEP_DEADLINE:
            if old is not None:
                return deadline(old)
            ttl = self.settings.ttl
        return INF if ttl == INF else self.now() + ttl

    def put(self, key: Key, text: bytes, ttl: float, only_if: Condition = None, /) -> bool:
        return self._write((key,), self._put_if, key, text, ttl, only_if)

    def _put_if(self, key: Key, text: bytes, ttl: float, only_if: Condition) -> bool:
        old = self._entries.get(key)
        if only_if is not None:
            if isinstance(only_if, If):
                if (only_if is If.ABSENT) is not (old is None):
                    return False
            elif old is None or self._index.read_text(key, old) != only_if:
                return False
        self._put(key, old, text, INF if ttl == INF else self._moment(old, ttl))
        return True

    def _put(self, key: Key, old: Entry | None, text: bytes, expires: float) -> None:
        if self._bounded:
            if not self._has_room(key, old, text):
                self._make_room({key: (text, expires)}, ())
            elif old is not None and self._marks is not None:
                self._marks.add(key)
        self._writer.put(key, old, text, expires)

    def put_many(self, texts: Mapping[Key, bytes], ttl: float, /) -> None:
        self._write(texts, self._put_many, texts, ttl)

    def _put_many(self, texts: Mapping[Key, bytes], ttl: float) -> None:
        if ttl == KEEP_DEADLINE:
            entries = self._entries
            written = {k: (text, self._moment(entries.get(k), ttl)) for k, text in texts.items()}
        else:
            expires = self._moment(None, ttl)
            written = {key: (text, expires) for key, text in texts.items()}
        self._change(written, ())

    def _change(self, written: Written, gone: Iterable[Key]) -> None:
        """Delete what is there of `gone`, then write: all of it or nothing."""
        gone = [key for key in gone if key in self._entries]
        if self._bounded:
            self._make_room(written, gone)
        if len(written) + len(gone) > 1:
            self._writer.write(written, gone)
        else:
            for key in gone:
                self._writer.delete(key, self._entries[key])
            for key, (text, expires) in written.items():
                self._writer.put(key, self._entries.get(key), text, expires)
        self._bounds.forget(gone)

    def _has_room(self, key: Key, old: Entry | None, text: bytes) -> bool:
        """Whether a record surely fits, without its exact size and a sum over all shards."""
        if old is None and len(self._entries) >= self._most_entries:
            return False
        if self._most_bytes == INF:
            return True
        if type(key) is not str:
            return False
        # A character takes at most six bytes of JSON.
        self._spare_bytes -= len(text) + 6 * len(key) + _MOST_BESIDE
        return self._spare_bytes >= 0

    def _make_room(self, written: Written, gone: Iterable[Key]) -> None:
        """Evict what must go before this is written, and mark what it overwrites.

        Raises LimitError where nothing may be evicted.
        """
        entries = self._entries
        touched = {**written, **dict.fromkeys(gone)} if gone else written
        there = {key: entries[key] for key in touched if key in entries}
        count = len(entries) - len(there) + len(written)
        live = growth = 0
        if self._most_bytes != INF:
            live = self._shards.live
            growth = self._growth(written, set(gone), there)
        victims = self._bounds.victims(count, live + growth, live, touched)
        if victims:
            self._writer.write({}, victims, atomic=False)
            self._index.unseen += len(victims)
            self._evicted += len(victims)
            self._bounds.forget(victims)
        if self._most_bytes != INF:
            self._spare_bytes = self._most_bytes - self._shards.live - growth
        if self._marks is not None:
            self._marks.update(there)

    def _growth(self, written: Written, gone: set[Key], there: Mapping[Key, Entry]) -> int:
        """By how many bytes the live records grow; `there`: the entries that are replaced or go."""
        growth = 0
        for replaced in there.values():
            growth -= int(unpack_order(replaced)[1])
        for key, (text, expires) in written.items():
            old = None if key in gone else there.get(key)
            first = 0 if old is None else place(old)
            growth += len(head(key_text(key), self._index.seq + 1, first, expires))
            growth += len(text) + TAIL
        return growth

    def setdefault(self, key: Key, text: bytes, ttl: float, /) -> bytes:
        return self._write((key,), self._setdefault, key, text, ttl)

    def _setdefault(self, key: Key, text: bytes, ttl: float) -> bytes:
        old = self._entries.get(key)
        if old is not None:
            if self._marks is not None:
                self._marks.add(key)
            return self._index.read_text(key, old)
        self._put(key, None, text, self._moment(None, ttl))
        return text

    def incr(
        self, key: Key, by: int | float, default: int | float | None, ttl: float, /
    ) -> int | float:
        return self._write((key,), self._incr, key, by, default, ttl)

    def _incr(
        self, key: Key, by: int | float, default: int | float | None, ttl: float
    ) -> int | float:
        old = self._entries.get(key)
        there = None if old is None else self._index.read_text(key, old)
        text, total = values.increment(key, there, by, default)
        self._put(key, old, text, self._moment(old, ttl))
        return total

    def expire(self, key: Key, ttl: float, /) -> bool:
        return self._write((key,), self._expire, key, ttl)

    def _expire(self, key: Key, ttl: float) -> bool:
        old = self._entries.get(key)
        if old is None:
            return False
        self._put(key, old, self._index.read_text(key, old), self._moment(old, ttl))
        return True

    def pop(self, key: Key, /) -> bytes | None:
        return self._write((key,), self._pop, key)

    def _pop(self, key: Key) -> bytes | None:
        old = self._entries.get(key)
        if old is None:
            return None
        text = self._index.read_text(key, old)
        self._delete(key)
        return text

    def popitem(self, *, last: bool = True) -> tuple[Key, bytes] | None:
        return self._write(None, self._popitem, last)

    def delete(self, key: Key, /) -> bool:
        return self._write((key,), self._delete, key)

    def _delete(self, key: Key) -> bool:
        old = self._entries.get(key)
        if old is None:
            return False
        self._writer.delete(key, old)
        if self._marks is not None:
            self._marks.discard(key)
        return True

    def delete_many(self, keys: Iterable[Key], /) -> int:
        wanted = list(dict.fromkeys(keys))
        return self._write(wanted, self._delete_many, wanted)

    def _delete_many(self, wanted: list[Key]) -> int:
        before = len(self._entries)
        self._change({}, wanted)
        return before - len(self._entries)

    def _popitem(self, last: bool) -> tuple[Key, bytes] | None:
        entries = self._entries
        if not entries:
            return None
        key = next(reversed(entries)) if last else self._queue.first()
        text = self._index.read_text(key, entries[key])
        self._delete(key)
        return key, text

    def clear(self) -> None:
        self._write((), self._clear)

    def _clear(self) -> None:
        self._compactor.stop()
        step = self._steps.current = _Clear(self._home, self._forget)
        self._home.begin_emptying(self._index.seq)
        step.settle()
        self._steps.current = BEGUN

    def _forget(self) -> None:
        self._index.seq += 1
        for shard in self._shards.all:
            shard.forget()
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
        return self._turn.holder is not None

    def hold(self, holder: object, *, wait: bool = True) -> bool:
        self._check_open()
        if self._home.read_only:
            raise self._read_only()
        self._steps.check_reentry()
        held = self._turn.hold(holder, wait=wait)
        if held and self.closed:
            self._turn.release(holder)
            self._check_open()
        return held

    def release(self, holder: object) -> None:
        self._turn.release(holder)

    def commit(self, changes: Changes, seen: Seen) -> None:
        self._steps.check_reentry()
        now = self.now()
        written = {key: new for key, new in changes.written.items() if new[1] > now}
        gone = changes.deleted | (changes.written.keys() - written.keys())
        with self._lock:
            self._steps.settle()
            self._committing = True
            try:
                self._write([*gone, *written], self._change, written, gone)
            finally:
                self._committing = False

    # Care

    def refresh(self) -> None:
        self._check_open()

    def load(self, progress: Progress | None = None) -> None:
        self._check_open()
        self._index.load_all(progress)
        self._index.load_in_order()

    def configure(self, settings: Settings) -> None:
        self._write((), self._configure, settings)

    def _configure(self, settings: Settings) -> None:
        self._home.change_manifest(settings=settings)
        self._use(settings)

    def stats(self) -> Stats:
        self._check_open()
        self._reader.count()
        self._steps.check_reentry()
        with self._lock:
            self._steps.settle()
            counts = Counts(evictions=self._evicted, expirations=self._index.expired)
            return measure.stats(self._shards, self._entries, self.now(), counts)

    def compact(self, progress: Progress | None = None) -> None:
        self._write(None, self._compact, progress)

    def _compact(self, progress: Progress | None) -> None:
        worn = [shard for shard in self._shards.all if shard.dead]
        done, total = 0, sum([shard.end for shard in worn])
        for shard in worn:
            done += shard.end
            self._compactor.compact(shard)
            if progress is not None:
                progress(done, total)

    def backup(self, path: Path, progress: Progress | None = None) -> None:
        self._check_open()
        copy = backup.NewStore(path, self._home, self._fs)
        try:
            copy.make()
            self._steps.check_reentry()
            with self._lock:
                if self._turn.holder is not None:
                    self._turn.wait()
                self._steps.settle()
                self._index.prepare_all()
                self._index.sweep()
                copy.copy(self._shards, self._entries, self._index.seq, progress)
            copy.finish(self.settings)
        except BaseException:
            copy.remove()
            raise

    def sync(self) -> None:
        self._check_open()
        self._steps.check_reentry()
        with self._lock:
            self._check_open()
            self._steps.settle()
            if not self._home.read_only:
                self._steps.current = BEGUN
                try:
                    self._sync_all()
                finally:
                    self._steps.settle()

    def _check_files(self, shards: Iterable[Shard] = ()) -> None:
        """Raise where the lock file, or one of these shards' files, was removed or replaced."""
        self._home.ownership.check()
        for shard in shards:
            shard.check_current()

    def _sync_all(self) -> None:
        self._check_files(self._shards.all)
        self._shards.sync()
        self._journal.sync()
        self._home.folder.sync()

    def close(self) -> None:
        if self.closed:
            return
        self._steps.check_reentry()
        with self._lock:
            if self._index.closed:
                return
            clean = False
            try:
                if not self._home.read_only:
                    self._steps.settle()
                    self._leave()
                    clean = True
            finally:
                self._closed_reason = _CLOSED
                self._writable = False
                self._index.close()
                self._shards.close()
                self._home.close(clean=clean)
                self._turn.release(self._turn.holder)

    def _leave(self) -> None:
        """Make everything survive a power cut, and say in the manifest how the store was left."""
        self._compactor.stop()
        if not self._home.manifest.in_use:
            return
        self._sync_all()
        if self._index.complete:
            self._index.load_in_order()
            there = self._index.hint or hint.covered(self._shards)
            hint.save(self._shards, self._entries, there, self._tuning)
        self._home.change_manifest(
            seq=self._index.seq,
            shards=tuple([shard.state() for shard in self._shards.all]),
            in_use=False,
        )

    def after_fork(self) -> None:
        if self._closed_reason is None:
            self._closed_reason = _FORKED
            self._writable = False
            self._turn.renew()
            self._lock = self._turn.lock
            self._steps.current = None  # the parent goes on with what was under way
            self._index.abandon()
            self._shards.close()
            self._home.abandon()

    def _check_open(self) -> None:
        if self._closed_reason is not None:
            raise StoreClosedError(f"{self._closed_reason} ({self.name})")

    def _read_only(self) -> ReadOnlyError:
        return ReadOnlyError(f'{self.name} was opened with flag "r", or is a snapshot')

    def _before_replace(self, shard: Shard) -> None:
        """Before another file takes a shard's place: let nothing name what the old one holds."""
        self._check_files([shard])
        self._journal.sync()
        known = list(self._home.manifest.shards)
        known[shard.number] = UNKNOWN
        self._home.change_manifest(in_use=True, shards=tuple(known))
        if self._index.hint is not None:
            self._index.hint.drop(shard.number)


class _Clear:
    """The step in which all records are removed."""

    def __init__(self, home: Home, forget: Callable[[], None]) -> None:
        self._home = home
        self._forget = forget

    def settle(self) -> None:
        """The manifest decides: once it says that the store is being emptied, the records are gone."""
        if self._home.manifest.emptying:
            self._forget()
            self._home.finish_emptying()
