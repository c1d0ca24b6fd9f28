"""KVMap: the dict's face. Knows no file."""

from __future__ import annotations

import atexit
import os
import warnings
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from errno import EEXIST
from itertools import islice
from pathlib import Path
from struct import error as StructError
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar, cast, overload
from zlib import crc32

from orjson import JSONDecodeError, loads

from kvmap import snapshot
from kvmap.errors import (
    CorruptStoreError,
    KeyExistsError,
    LimitError,
)
from kvmap.keys import Key
from kvmap.overlay import Overlay
from kvmap.record import (
    INF,
    UNTIMED,
    Entry,
    deadline,
    unpack_order,
    unpack_value,
)
from kvmap.store import Store
from kvmap.transactions import TransactionalStore
from kvmap.values import encode as encode_value
from kvmap.values import encode_all
from kvmap.views import Items, Keys, Values
from kvmap.writer import TOGETHER, Columns

if TYPE_CHECKING:
    from _typeshed import SupportsKeysAndGetItem

    from kvmap.memoize import Memoize
    from kvmap.stats import Stats

V = TypeVar("V")
T = TypeVar("T")
Seconds = float | int | timedelta | None


class _Default:
    """The type of `DEFAULT`, so that its repr reads well in a signature."""

    def __repr__(self) -> str:
        return "<the store's default>"


DEFAULT = _Default()
_MISSING: Any = object()

_AHEAD = 64
"""Entries whose values an iteration decodes together, at most."""
_AHEAD_BYTES = 8 * 1024
"""Bytes of their texts, about, so that large values are decoded one by one."""

_CLOSED = "the map is closed"


class KVMap(TransactionalStore, MutableMapping[Key, V], Generic[V]):
    """A dict whose entries are on disk. Made by `kvmap.open`.

    It has every method and operator of a dict, in insertion order, and raises a dict's errors.
    Keys are str, int, float, bool, None and tuples of these; values what JSON holds, unless the map
    was opened with `encode`. A value that is read is a copy: `edit` changes it in place.

    `d[key]` and `d[key] = value` are O(size of the value), `key in d` is O(1). `len(d)` and
    iteration first read the shards that were not read yet, O(bytes of the store), and from then on
    are O(1) and O(n); views decode a few values at a time. In memory a key takes about 160
    bytes, a value none.

    When a write has returned, `kill -9` does not lose it. Any number of threads may use a map;
    single operations are atomic, and reads take no lock. A signal handler that came into the middle
    of a write can't write itself, and gets a RuntimeError: it should set a flag, or raise.

    Any use of a closed map raises StoreClosedError, a write to one opened with flag "r"
    ReadOnlyError. A read raises CorruptStoreError for a damaged record. A write raises TypeError or
    ValueError for what JSON can't hold, LimitError beyond a limit and OSError where the disk is
    full, and changes nothing then.

    >>> import kvmap
    >>> with kvmap.open() as d:
    ...     d["ada"] = (1, 2)
    ...     d["ada"], "bob" in d, len(d), list(d)
    ([1, 2], False, 1, ['ada'])
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        store: Store,
        *,
        sync: bool = False,
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
        writeback: bool = False,
    ) -> None:
        super().__init__(store, sync=sync)
        self._encode, self._decode = encode, decode
        self._handed: dict[Key, Any] | None = {} if writeback else None
        self._plain = decode is None and not writeback
        """Whether values come as they are in the file, so that the hot paths need ask no more."""
        self._wraps = encode is not None or self._limits.value_bytes is not None
        """Whether a value on its way in needs more than its JSON text."""
        self._ttl = store.manifest.ttl or INF
        self._purged = 0
        """Expired entries that `purge` has reported."""
        _open_maps[id(self)] = self

    # Reading

    def __getitem__(self, key: Key) -> V:
        # The hot path reaches through to the shard's map: a call for each layer would double its
        # cost. Whatever is unusual (a miss, a transaction, a deadline, damage) is left to `_read`.
        try:
            entry = self._index[key]
            start, end, seed, crc, number = unpack_value(entry)
            data = self._maps[number][start:end]
            if (
                crc32(data, seed) == crc
                and self._plain
                and (not self._heap or len(entry) == UNTIMED)
            ):
                return loads(data)  # type: ignore[no-any-return]
        except (KeyError, TypeError, IndexError, ValueError, StructError):
            pass
        return self._read(key)

    def _read(self, key: Key) -> V:
        entry = self._find(key)
        if entry is None:
            raise KeyError(key)
        return self._value(key, entry)

    def _value(self, key: Key, entry: Entry) -> V:
        handed = self._handed
        if handed is not None and key in handed:
            return cast(V, handed[key])
        value = self._decoded(key, entry)
        if handed is not None:
            with self._lock:
                value = handed.setdefault(key, value)
        return cast(V, value)

    def _decoded(self, key: Key, entry: Entry) -> Any:
        data, number = self._text(key, entry)
        try:
            value = loads(data)
        except JSONDecodeError as error:
            path = self._store.shard(number).path
            raise CorruptStoreError(path, unpack_value(entry)[0] + error.pos, str(error)) from None
        return value if self._decode is None else self._decode(value)

    def __contains__(self, key: object) -> bool:
        complete, index = self._complete, self._index  # in this order: see `_find`
        if key in index:
            if not self._heap:
                return True
        elif index is complete:
            return False
        return self._find(key) is not None

    @overload
    def get(self, key: Key, default: None = None, /) -> V | None: ...
    @overload
    def get(self, key: Key, default: V, /) -> V: ...
    @overload
    def get(self, key: Key, default: T, /) -> V | T: ...
    def get(self, key: Key, default: Any = None, /) -> Any:
        """The key's value, or `default` where there is none. O(size of the value).

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.get("ada", 0)
        0
        """
        index = self._index
        if index is self._complete and key not in index:
            return default
        if self._plain:
            try:
                return self[key]
            except KeyError:
                return default
        # A KeyError from `decode` is no missing key.
        entry = self._find(key)
        return default if entry is None else self._value(key, entry)

    def __len__(self) -> int:
        index = self._index
        if index is self._complete and not self._heap:
            return len(index)
        return len(self._everything())

    # Writing one record

    def __setitem__(self, key: Key, value: V) -> None:
        text = self._encoded(value) if self._wraps else encode_value(value)
        ttl = self._ttl
        with self._lock:
            self._put(key, text, INF if ttl == INF else self._now() + ttl)
            if self._handed is not None:
                self._handed[key] = value

    def set(self, key: Key, value: V, *, ttl: Seconds | _Default = DEFAULT) -> None:
        """Store a value, with a time to live in seconds for this entry.

        `ttl` is a number of seconds or a timedelta; None: the entry stays, whatever the store's
        default. O(size of the value); with `sync=True` one disk sync.

        Raises TypeError or ValueError for what JSON can't hold and for a `ttl` of 0 or less.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.set("token", "s3cr3t", ttl=3600)
        ...     d["token"]
        's3cr3t'
        """
        expires = self._expires(ttl)
        text = self._encoded(value)
        with self._lock:
            self._put(key, text, expires)
            if self._handed is not None:
                self._handed[key] = value

    def create(self, key: Key, value: V, *, ttl: Seconds | _Default = DEFAULT) -> None:
        """Like `set`, but only if the key is not there.

        Raises KeyExistsError, and changes nothing, where it is. Atomic for threads.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.create("ada", 1)
        ...     d.create("ada", 2)
        Traceback (most recent call last):
            ...
        kvmap.errors.KeyExistsError: key 'ada' is there already
        """
        expires = self._expires(ttl)
        text = self._encoded(value)
        with self._lock:
            if self._old(key) is not None:
                raise KeyExistsError(f"key {key!r:.80} is there already")
            self._put(key, text, expires)
            if self._handed is not None:
                self._handed[key] = value

    def expire(self, key: Key, ttl: Seconds) -> None:
        """Give an entry a new deadline, `ttl` seconds from now; None: it stays. The value is untouched.

        O(size of the value). Raises KeyError where the key is not there.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = 1
        ...     d.expire("ada", 60)
        ...     round(d.ttl("ada"))
        60
        """
        expires = self._expires(ttl)
        with self._lock:
            entry = self._old(key)
            if entry is None:
                raise KeyError(key)
            self._put(key, self._text(key, entry)[0], expires)

    def ttl(self, key: Key) -> float | None:
        """Seconds until the entry expires, None where it never does. O(1).

        Raises KeyError where the key is not there.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = 1
        ...     print(d.ttl("ada"))
        None
        """
        entry = self._find(key)
        if entry is None:
            raise KeyError(key)
        return None if len(entry) == UNTIMED else deadline(entry) - self._now()

    def _expires(self, ttl: Seconds | _Default) -> float:
        seconds = self._ttl if isinstance(ttl, _Default) else check_ttl(ttl)
        return INF if seconds == INF else self._now() + seconds

    def _json(self, value: Any) -> bytes:
        return encode_value(value if self._encode is None else self._encode(value))

    def _encoded(self, value: Any) -> bytes:
        text = self._json(value)
        most = self._limits.value_bytes
        if most is not None and len(text) > most:
            raise LimitError(f"the value has {len(text)} bytes as JSON, the limit is {most}")
        return text

    def compact(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Rewrite every shard without its dead records. O(bytes of the store).

        There is no need to call it: a shard that is half dead is compacted in passing. Raises
        OSError where there is no room for a shard's copy, and leaves that shard as it was.
        `progress` is called as progress(done_bytes, total_bytes).

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = 1
        ...     d["ada"] = 2
        ...     d.compact()
        ...     d["ada"]
        2
        """
        with self._lock:
            self._check_idle()
            self._writable()
            self._everything()
            worn = [shard for shard in self._shards if shard.dead]
            done, total = 0, sum([shard.end for shard in worn])
            for shard in worn:
                done += shard.end
                self._compact(shard)
                if progress is not None:
                    progress(done, total)

    def stats(self) -> Stats:
        """Figures about the store: live and dead bytes, sizes of values, coming deadlines.

        O(entries); no value is read. In a transaction's block the entries counted are those that
        the block sees, the bytes those that are in the shards.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.set("token", "s3cr3t", ttl=90 * 60)
        ...     found = d.stats()
        >>> found.entries, found.value_bytes, found.deadlines.hours[:3]
        (1, 8, (0, 1, 0))
        """
        with self._lock:
            from kvmap.stats import measure

            return measure(self._store, self._everything(), self._now())

    # The dict's writing methods

    def __delitem__(self, key: Key) -> None:
        with self._lock:
            if self._heap or self._target is not self._complete:
                self._old(key)
            self._delete(key)

    @overload
    def pop(self, key: Key, /) -> V: ...
    @overload
    def pop(self, key: Key, default: V, /) -> V: ...
    @overload
    def pop(self, key: Key, default: T, /) -> V | T: ...
    def pop(self, key: Key, default: Any = _MISSING, /) -> Any:
        """Remove an entry and return its value; `default` where it is missing. Atomic for threads.

        O(size of the value). Raises KeyError where it is missing and there is no default.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = 1
        ...     d.pop("ada"), d.pop("ada", None)
        (1, None)
        """
        with self._lock:
            entry = self._old(key)
            if entry is None:
                if default is _MISSING:
                    raise KeyError(key)
                return default
            value = self._value(key, entry)
            self._delete(key)
            return value

    def popitem(self) -> tuple[Key, V]:
        """Remove the entry that was inserted last and return it as (key, value).

        Atomic for threads. O(1) once all shards are loaded. Raises KeyError on an empty map.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.update(ada=1, bob=2)
        ...     d.popitem()
        ('bob', 2)
        """
        with self._lock:
            self._writable()
            view = self._everything()
            for key in reversed(view):
                value = self._value(key, view[key])
                self._delete(key)
                return key, value
            raise KeyError("popitem(): dictionary is empty")

    @overload
    def setdefault(self: KVMap[T | None], key: Key, default: None = None, /) -> T | None: ...
    @overload
    def setdefault(self, key: Key, default: V, /) -> V: ...
    def setdefault(self, key: Key, default: Any = None, /) -> Any:
        """The key's value; where there is none, `default` after storing it. Atomic for threads.

        The value is decoded as for any read: unless the map was opened with `writeback=True`, what
        is done to it is not stored. O(size of the value).

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.setdefault("ada", 1), d.setdefault("ada", 2)
        (1, 1)
        """
        with self._lock:
            entry = self._old(key)
            if entry is not None:
                return self._value(key, entry)
            self[key] = default
            return self.get(key, default)

    @overload
    def update(self, other: SupportsKeysAndGetItem[Any, V], /, **more: V) -> None: ...
    @overload
    def update(self, other: Iterable[tuple[Any, V]], /, **more: V) -> None: ...
    @overload
    def update(self, **more: V) -> None: ...
    def update(self, other: Any = (), /, **more: Any) -> None:  # type: ignore[misc]
        """As in a dict. All of it is checked before any is written, and appears at once to readers.

        O(n) with one append for each shard; with `sync=True` one disk sync for each shard.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.update({"ada": 1}, bob=2)
        ...     d.update([("eve", 3)])
        ...     dict(d)
        {'ada': 1, 'bob': 2, 'eve': 3}
        """
        pairs: dict[Key, Any] = {}
        if isinstance(other, dict):
            pairs.update(other)
        elif isinstance(other, Mapping):
            pairs.update(other.items())
        elif hasattr(other, "keys"):
            pairs.update((key, other[key]) for key in other.keys())  # noqa: SIM118
        else:
            pairs.update(other)
        pairs.update(more)
        expires = self._expires(DEFAULT)
        with self._lock:
            encoded = None  # but some at a time, for each of orjson's bytes may hold some KiB
            if self._wraps:
                # All of them before the first is written, for `encode` may itself use the map.
                encoded = [bytes(memoryview(self._encoded(value))) for value in pairs.values()]
            self._write_each(pairs, self._columns(pairs, encoded, expires))
            if self._handed is not None:
                self._handed.update(pairs)

    def _columns(
        self, pairs: dict[Key, Any], encoded: list[bytes] | None, expires: float
    ) -> Iterator[Columns]:
        names, rest = iter(pairs), iter(pairs.values() if encoded is None else encoded)
        while some := list(islice(names, TOGETHER)):
            theirs = list(islice(rest, TOGETHER))
            texts = encode_all(theirs) if encoded is None else theirs
            yield some, texts, [expires] * len(some)

    def clear(self) -> None:
        """Remove all entries, in one step for readers and for a crash.

        O(shards), with a few disk syncs, whatever the number of entries; inside a transaction O(n).

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = 1
        ...     d.clear()
        ...     len(d)
        0
        """
        with self._lock:
            target = self._writable()
            if target is not self._base:
                for key in list(self._everything()):
                    self._delete(key)
                return
            self._check_idle()
            manifest = self._store.manifest
            try:
                self._busy = True
                self._store.empty()
                self._forget_all()
            except BaseException:
                # The manifest decides: once it says so, the records are gone.
                if self._store.manifest is not manifest:
                    self._forget_all()
                raise
            finally:
                self._busy = False

    def purge(self) -> int:
        """Drop the entries that have expired by now, and return how many these were.

        There is no need to call it: no read ever returns one. O(k log n) for k of them.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.set("token", 1, ttl=60)
        ...     d.purge()
        0
        """
        with self._lock:
            self._check_idle()
            self._writable()
            self._everything()
            self._sweep()
            count, self._purged = self._lost - self._purged, self._lost
            for shard in self._shards:
                if shard.worn:
                    self._compact_if_possible(shard)
            return count

    # Transactions and edits

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Make all writes in the block one write: all of them happen, or none.

        Other threads see none of them before the block ends and all of them after it; the block
        itself sees them at once. An exception undoes them; a crash leaves all or none, and so does
        a power cut with `sync=True`. A transaction inside another is part of it. Other threads'
        writes wait until the block ends; reads of single keys do not.

        O(bytes written in the block), twice; with `sync=True` two disk syncs more than the shards'.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.update(ada=10, bob=0)
        ...     with d.transaction():
        ...         d["ada"] -= 3
        ...         d["bob"] += 3
        ...     dict(d)
        {'ada': 7, 'bob': 3}
        """
        with self._lock:
            self._check_idle()
            self._writable()
            if self._overlay is not None:
                yield
                return
            self._write_back()  # what was changed in place before the block is not part of it
            try:
                self._begin_transaction()
                yield
                self._write_back()
                self._commit()
            finally:
                try:
                    self._busy = True
                    self._end_transaction()
                except BaseException:
                    self._end_transaction()  # what an interrupt has left of it
                    raise
                finally:
                    self._busy = False

    @contextmanager
    def edit(self, key: Key, default: V = _MISSING) -> Generator[V]:
        """Change a value in place: `with d.edit("ada") as user: user["visits"] += 1`.

        The value is written back when the block ends, if it changed; if the block raises, it is
        left alone. Its deadline stays. Other threads' writes wait until the block ends. Where the
        key is missing, the block gets a copy of `default`. Raises KeyError without one.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = {"visits": 1}
        ...     with d.edit("ada") as user:
        ...         user["visits"] += 1
        ...     d["ada"]
        {'visits': 2}
        """
        with self._lock:
            entry = self._old(key)
            handed = self._handed
            if entry is not None:
                value, expires = self._value(key, entry), deadline(entry)
                before = self._json(value)
            elif default is _MISSING:
                raise KeyError(key)
            else:
                value, expires = loads(self._encoded(default)), self._expires(DEFAULT)
                value, before = value if self._decode is None else self._decode(value), b""
            try:
                yield value
                text = self._encoded(value)
            except BaseException:
                if handed is not None and handed.get(key, _MISSING) is value:
                    # What was changed in it before this block is kept, what the block did is not.
                    del handed[key]
                    if entry is not None and before != self._text(key, entry)[0]:
                        self._put(key, before, expires)
                raise
            if text != before:
                self._put(key, text, expires)
                if handed is not None:
                    handed[key] = value

    # Syncing and closing

    def sync(self) -> None:
        """Make everything written so far survive a power cut.

        One disk sync for each shard written to since the last call, and two for names.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = 1
        ...     d.sync()
        """
        with self._lock:
            self._check_idle()
            self._view()
            self._write_back()
            if not self._store.read_only:
                self._store.sync()

    def backup(
        self,
        path: str | os.PathLike[str],
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Write a complete, compact and independent copy of the store, as it is at one moment.

        `path` is a directory that is empty or not there yet. Shards, limits, default ttl, deadlines
        and order are the same; what has expired is left out. When this returns, the copy would
        survive a power cut; where it raises, nothing is left of it. Reads go on meanwhile; other
        threads' writes wait while the records are copied, not while the copy is synced.
        `progress` is called as progress(done_bytes, total_bytes).

        O(bytes of live records), one disk sync for each shard and a few more.

        Raises FileExistsError for a directory that is not empty, CorruptStoreError for a damaged
        record, OSError where there is no room, and RuntimeError inside a transaction, whose writes
        are not made yet.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = 1
        ...     d.backup(f"{d.path}-copy")
        >>> with kvmap.open(f"{d.path}-copy") as copy:
        ...     copy["ada"]
        1
        """
        from kvmap import backup

        path = os.path.abspath(os.fspath(path))
        with self._lock:
            self._view()
            if self._overlay is not None:
                raise RuntimeError("a transaction's writes are not made yet: back up after it")
            if self._target is not None:
                self._write_back()
            copying = backup.new_folder(self._store, path)
        with copying:
            with self._lock:
                index = self._everything()
                told = backup.copy(self._store, index, self._seq, path, progress)
            backup.finish(self._store.files, told, path)

    def _write_back(self) -> None:
        """Write the handed-out values that were changed in place; then raise the first error."""
        errors: list[Exception] = []
        for key, value in list((self._handed or {}).items()):
            try:
                entry = self._old(key)
                if entry is not None:
                    text = self._encoded(value)
                    if text != self._text(key, entry)[0]:
                        self._put(key, text, deadline(entry))
            except Exception as error:  # whatever `encode` raises: the others are written
                error.add_note(f"that is the value of key {key!r:.80}, which was changed in place")
                errors.append(error)
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Trim and sync the files and let go of the store; closing twice is harmless.

        One disk sync for each shard that was written to, and a few more. Raises OSError where the
        disk refuses; the store is let go of all the same, and what was written stays.

        >>> import kvmap
        >>> d = kvmap.open()
        >>> d.close()
        >>> d.closed
        True
        """
        with self._lock:
            if self._why is not None:
                return
            self._check_idle()
            try:
                if self._overlay is not None:
                    self._end_transaction()
                if self._target is not None:
                    self._write_back()
            finally:
                try:
                    self._busy = True
                    self._shut()
                finally:
                    self._busy = False

    def _shut(self) -> None:
        whole, seq = self._whole, self._seq
        self._why = _CLOSED
        self._let_go()
        try:
            if whole is not None and not self._store.read_only:
                snapshot.save(self._store, whole)
            self._store.close(seq)
        finally:
            self._store.release()
            if whole is not None:
                whole.clear()  # so that an iterator still under way notices

    def _let_go(self) -> None:
        super()._let_go()
        _open_maps.pop(id(self), None)

    @property
    def closed(self) -> bool:
        """Whether the map was closed, or belongs to the process this one was forked from."""
        return self._why is not None

    @property
    def path(self) -> Path:
        """The store's directory."""
        return Path(self._store.path)

    def __enter__(self) -> Self:
        self._view()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_why", _CLOSED) is None:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, stacklevel=2, source=self)
            self.close()

    # The rest of a dict's face

    # As a dict's, an iterator notices what was inserted or deleted since it was made, not since its
    # first step; so none of these is a generator itself.

    def __iter__(self) -> Iterator[Key]:
        index = self._everything()
        if index is not self._base:
            return self._still_there(list(index), index)
        return self._keys(index, iter(index.items()), self._size(index), self._lost)

    def __reversed__(self) -> Iterator[Key]:
        index = self._everything()
        return self._still_there(list(reversed(index)), index)

    def _size(self, index: MutableMapping[Key, Entry]) -> int:
        """What only an insertion or a deletion changes, not an expiry."""
        return len(index) + (index.swept if isinstance(index, Overlay) else self._lost)

    def _keys(
        self,
        index: MutableMapping[Key, Entry],
        entries: Iterator[tuple[Key, Entry]],
        size: int,
        lost: int,
    ) -> Iterator[Key]:
        entry = b""
        try:
            for key, entry in entries:
                if not self._heap or deadline(entry) > self._now():
                    yield key
        except RuntimeError as changed:
            yield from self._rest(index, size, lost, entry, changed)

    def _items(self) -> Iterator[tuple[Key, V]]:
        index = self._everything()
        if index is not self._base or not self._plain:
            return self._found(iter(self))
        return self._plain_items(index, iter(index.items()), self._size(index), self._lost)

    def _items_reversed(self) -> Iterator[tuple[Key, V]]:
        return self._found(reversed(self))

    def _found(self, keys: Iterator[Key]) -> Iterator[tuple[Key, V]]:
        for key in keys:
            if (entry := self._find(key)) is not None:
                yield key, self._value(key, entry)

    def _plain_items(
        self,
        index: MutableMapping[Key, Entry],
        entries: Iterator[tuple[Key, Entry]],
        size: int,
        lost: int,
    ) -> Iterator[tuple[Key, V]]:
        # As in `__getitem__`, reaching through to the maps halves the cost. To decode a few values
        # at once takes off a sixth; those that a write overtakes are read anew.
        entry, maps, count, changed = b"", self._maps, 1, None
        while changed is None:
            keys: list[Key] = []
            texts: list[bytes] = []
            room, seq = _AHEAD_BYTES, self._seq
            try:
                for key, entry in islice(entries, count):
                    keys.append(key)
                    start, end, seed, crc, number = unpack_value(entry)
                    mapped = maps[number]
                    if (
                        mapped is None
                        or crc32(text := mapped[start:end], seed) != crc
                        or (self._heap and len(entry) > UNTIMED)
                    ):
                        break
                    texts.append(text)
                    room -= end - start
                    if room < 0:
                        break
                else:
                    if not keys:
                        return
            except RuntimeError as error:
                changed = error
            rest = iter(keys)
            for value, key in zip(_decode_all(texts), rest, strict=False):
                yield key, value
                if self._seq != seq:
                    break
            if (left := list(rest)) or self._seq != seq:
                yield from self._found(self._unchanged(left, index, size))
            count = min(2 * count, _AHEAD)
        yield from self._found(self._rest(index, size, lost, entry, changed))

    def _rest(
        self,
        index: MutableMapping[Key, Entry],
        size: int,
        lost: int,
        last: Entry,
        changed: RuntimeError,
    ) -> Iterator[Key]:
        """The keys after the record of entry `last`, where only an expiry cut an iteration short.

        `lost` is how many had expired when it began. Raises `changed` where there is more to it.
        """
        self._view()
        if self._size(index) != size or self._lost == lost:
            raise changed
        place = unpack_order(last)[0] if last else 0
        later = [key for key, entry in index.items() if unpack_order(entry)[0] > place]
        return self._still_there(later, index)

    def _still_there(self, keys: list[Key], index: MutableMapping[Key, Entry]) -> Iterator[Key]:
        if index is self._base or isinstance(index, Overlay):
            return self._unchanged(keys, index, self._size(index))
        return iter(keys)  # of a copy, which does not change

    def _unchanged(
        self, keys: list[Key], index: MutableMapping[Key, Entry], size: int
    ) -> Iterator[Key]:
        for key in keys:
            if self._size(index) != size:
                break
            if key in self:
                yield key
        if self._size(index) != size:
            self._view()  # which says so where the map was closed
            raise RuntimeError("dictionary changed size during iteration")

    def keys(self) -> Keys:
        """A live view of the keys, as a dict's. O(1); iteration is O(n) and reads no values.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.update(ada=1, bob=2)
        ...     list(d.keys()), d.keys() & {"ada", "eve"}
        (['ada', 'bob'], {'ada'})
        """
        return Keys(self)

    def values(self) -> Values[V]:
        """A live view of the values, as a dict's; decoded a few at a time as they are asked for. O(1).

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.update(ada=1, bob=2)
        ...     sum(d.values())
        3
        """
        return Values(self)

    def items(self) -> Items[V]:
        """A live view of the entries as (key, value), as a dict's. O(1).

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.update(ada=1, bob=2)
        ...     list(d.items())
        [('ada', 1), ('bob', 2)]
        """
        return Items(self)

    @overload
    @classmethod
    def fromkeys(
        cls,
        iterable: Iterable[Any],
        value: None = None,
        /,
        *,
        path: str | os.PathLike[str] | None = None,
    ) -> KVMap[Any | None]: ...
    @overload
    @classmethod
    def fromkeys(
        cls, iterable: Iterable[Any], value: T, /, *, path: str | os.PathLike[str] | None = None
    ) -> KVMap[T]: ...
    @classmethod
    def fromkeys(
        cls,
        iterable: Iterable[Any],
        value: Any = None,
        /,
        *,
        path: str | os.PathLike[str] | None = None,
    ) -> KVMap[Any]:
        """A new store, open, with these keys, which all have the same value.

        `path` is where to make it; by default, as for `kvmap.open`, in the temporary directory.
        Raises FileExistsError where there is something already. O(n).

        >>> from kvmap import KVMap
        >>> with KVMap.fromkeys(["ada", "bob"], 0) as d:
        ...     dict(d)
        {'ada': 0, 'bob': 0}
        """
        from kvmap import open  # which makes maps, so that it can't be known up there

        entries = dict.fromkeys(iterable, value)
        if path is not None and os.path.lexists(path):
            raise FileExistsError(EEXIST, "fromkeys makes a new store", os.fspath(path))
        d = open(path)
        try:
            d.update(entries)
        except BaseException:
            d.close()
            raise
        return d

    def memoize(
        self,
        *,
        ttl: Seconds | _Default = DEFAULT,
        key: Callable[..., Key] | None = None,
        ignore: Iterable[str] = (),
    ) -> Memoize:
        """Keep a function's results in the map: `@d.memoize(ttl=60)`.

        An entry's key tells the function and its arguments: `weather.forecast(city='Rome', days=3)`.
        `ttl` is as for `set`. `key` makes the key from the arguments instead, and `ignore` names
        parameters that the key shall not tell, such as a method's `self`.

        The decorated function has `forget(*arguments)` and `forget_all()`. Threads that ask for the
        same result wait for the one that computes it. What is returned is always the value as the
        map gives it back, so that the first call returns what later ones do.

        Raises TypeError or ValueError at the call where JSON can't hold the result, and TypeError
        where an argument can't be told in a key.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...
        ...     @d.memoize(ttl=60)
        ...     def area(width, height=1):
        ...         print("computing")
        ...         return width * height
        ...
        ...     area(2, 3), area(height=3, width=2), area.forget(2, 3)
        computing
        (6, 6, True)
        """
        self._expires(ttl)  # refuses what is no time to live, here and not at the first call
        options: dict[str, Any] = {} if isinstance(ttl, _Default) else {"ttl": ttl}
        from kvmap.memoize import Memoize

        return Memoize(self, options, key, ignore)

    def copy(self) -> dict[Key, V]:
        """A plain dict with the same entries, every value decoded. O(bytes of the store).

        Other threads' writes wait meanwhile.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = (1, 2)
        ...     d.copy()
        {'ada': [1, 2]}
        """
        with self._lock:
            return dict(self._items())

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and self.copy() == dict(other.items())

    @overload
    def __or__(self, other: dict[Any, V] | KVMap[V]) -> dict[Any, V]: ...
    @overload
    def __or__(self, other: dict[Any, T] | KVMap[T]) -> dict[Any, V | T]: ...
    def __or__(self, other: Any) -> Any:
        if not isinstance(other, (dict, KVMap)):
            return NotImplemented
        return {**self.copy(), **other}

    @overload
    def __ror__(self, other: dict[Any, V]) -> dict[Any, V]: ...
    @overload
    def __ror__(self, other: dict[Any, T]) -> dict[Any, V | T]: ...
    def __ror__(self, other: Any) -> Any:
        if not isinstance(other, dict):
            return NotImplemented
        return {**other, **self.copy()}

    @overload  # type: ignore[misc]
    def __ior__(self, other: SupportsKeysAndGetItem[Any, V]) -> Self: ...
    @overload
    def __ior__(self, other: Iterable[tuple[Any, V]]) -> Self: ...
    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        self.update(other)
        return self

    def __repr__(self) -> str:
        # Without a lock and without reading: a debugger asks at any moment.
        if "_why" not in self.__dict__:
            return "<KVMap, not open>"
        path = str(self.path)
        if self._why is not None:
            return f"<KVMap {path!r}, closed>"
        if self._complete is None:
            return f"<KVMap {path!r}>"
        return f"<KVMap {path!r}, {len(self._base)} entries>"

    def __copy__(self) -> NoReturn:
        raise TypeError("a KVMap owns its store and can't be copied; d.copy() makes a plain dict")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a KVMap owns its store and can't be pickled; send d.path and open it there once it "
            "is closed here, or send d.copy()"
        )


def _decode_all(texts: list[bytes]) -> list[Any]:
    """The values of these texts; none where one of them is not JSON.

    Texts that are none alone might be together, but only where somebody put them there with the
    right checksums, who could have put anything there.
    """
    try:
        if len(texts) == 1:
            return [loads(texts[0])]
        values: list[Any] = loads(b"[" + b",".join(texts) + b"]")
    except JSONDecodeError:
        return []
    return values if len(values) == len(texts) else []


def check_ttl(ttl: Seconds) -> float:
    """A time to live in seconds; infinite for None. Raises TypeError or ValueError."""
    if ttl is None:
        return INF
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise TypeError(f"ttl must be seconds (int, float), a timedelta or None, not {ttl!r}")
    if not 0 < ttl < INF:
        raise ValueError(f"ttl must be above 0 and finite, not {ttl!r}; None stands for forever")
    return float(ttl)


_open_maps: weakref.WeakValueDictionary[int, KVMap[Any]] = weakref.WeakValueDictionary()


def _close_all() -> None:
    with ExitStack() as stack:  # which goes on where one of them fails
        for each in list(_open_maps.values()):
            stack.callback(each.close)


def _after_fork_all() -> None:
    for each in list(_open_maps.values()):
        each._after_fork()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork_all)
