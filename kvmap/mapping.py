"""KVMap: the dict's face, time to live, transactions. Knows no file."""

from __future__ import annotations

import atexit
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from errno import EEXIST
from heapq import heapify, heappop, heappush
from pathlib import Path
from struct import error as StructError
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar, cast, overload
from zlib import crc32

from orjson import JSONDecodeError, dumps, loads

from kvmap import backup, keys, snapshot
from kvmap.errors import (
    CorruptStoreError,
    KeyExistsError,
    LimitError,
    ReadOnlyError,
    StoreClosedError,
)
from kvmap.files import Map
from kvmap.keys import Key
from kvmap.overlay import Overlay
from kvmap.record import (
    INF,
    TAIL,
    UNTIMED,
    Entry,
    build,
    copy_live,
    deadline,
    key_text,
    pack,
    timed,
    tombstone,
    unpack_order,
    unpack_shard,
    unpack_value,
)
from kvmap.record import (
    number as number_of,
)
from kvmap.shard import SLACK, Shard
from kvmap.store import Store
from kvmap.values import encode as encode_value
from kvmap.views import Items, Keys, Values

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

_CLOSED = "the map is closed"
_FORKED = "the map belongs to the process that this one was forked from; open the store again here"


# One record to be written with others: key, shard, line, where the value starts in the line (0 for
# a tombstone), checksums before and after the value, place, deadline, and the length of the record
# that it makes dead. A plain tuple, because making a named one takes a tenth of an update's time.
Change = tuple[Key, int, bytes, int, int, int, int, float, int]


class KVMap(MutableMapping[Key, V], Generic[V]):
    """A dict whose entries are on disk. Made by `kvmap.open`.

    It has every method and operator of a dict, in insertion order, and raises a dict's errors.
    Keys are str, int, float, bool, None and tuples of these; values what JSON holds, unless the map
    was opened with `encode`. A value that is read is a copy: `edit` changes it in place.

    `d[key]` and `d[key] = value` are O(size of the value), `key in d` is O(1). `len(d)` and
    iteration first read the shards that were not read yet, O(bytes of the store), and from then on
    are O(1) and O(n); views decode a value when it is asked for. In memory a key takes about 160
    bytes, a value none.

    When a write has returned, `kill -9` does not lose it. Any number of threads may use a map;
    single operations are atomic, and reads take no lock.

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
        self._store = store
        self._maps = store.maps
        self._shards = store.shards
        self._mask = store.mask
        self._sync = sync
        for shard in (*store.shards, store.journal):
            shard.fill = sync
        self._encode, self._decode = encode, decode
        self._handed: dict[Key, Any] | None = {} if writeback else None
        # Whether values come and go as they are, so that the hot paths need ask no more.
        self._plain = decode is None and not writeback
        self._wraps = encode is not None or store.manifest.limits.value_bytes is not None
        self._now = store.files.now
        self._limits = store.manifest.limits
        self._most_bytes = self._limits.store_bytes
        self._ttl = store.manifest.ttl or INF
        self._seq = store.last_seq()
        self._why: str | None = None
        self._lock = threading.RLock()
        # Held while entries and maps change together; a reader that met a half-made change takes it.
        self._gate = threading.RLock()
        # Where each key's record stands, by key, in the map's order once all shards are loaded.
        self._base: dict[Key, Entry] = {}
        # What lock-free reads look into: the base, or an empty dict that diverts them to `_find`.
        self._index = self._base
        # What writes go to: the base, a transaction's overlay, or None where they are refused.
        self._target: MutableMapping[Key, Entry] | None = None if store.read_only else self._base
        # The base once all shards are loaded, so that a key it lacks is known to be missing.
        self._whole = self._base if all(shard.loaded for shard in store.shards) else None
        self._heap: list[tuple[float, int, Key]] = []
        """Deadlines, soonest first; one that no longer is its key's own is passed over."""
        self._swept = self._lost = self._purged = 0
        """Entries found expired so far; those taken out of the base; those `purge` has reported."""
        self._overlay: Overlay | None = None
        self._depth = 0
        self._writer = 0
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
            path = self._path_of(number)
            raise CorruptStoreError(path, unpack_value(entry)[0] + error.pos, str(error)) from None
        return value if self._decode is None else self._decode(value)

    def _text(self, key: Key, entry: Entry) -> tuple[bytes, int]:
        """The JSON text of a record's value, its checksum verified, and the shard it stands in."""
        start, end, seed, crc, number = unpack_value(entry)
        mapped = self._maps[number] if number < len(self._maps) else None
        data = b"" if mapped is None else mapped[start:end]
        if mapped is None or crc32(data, seed) != crc:
            # Compaction may have moved the record, or the map was given up for another shard's.
            with self._gate:
                found = self._view().get(key)
                if found is None:
                    raise KeyError(key)
                start, end, seed, crc, number = unpack_value(found)
                if number >= len(self._maps):
                    raise CorruptStoreError(self._store.path, 0, f"there is no shard {number}")
                shard = self._store.journal if number > self._mask else self._shards[number]
                mapped = shard.mapped()
                data = b"" if mapped is None else mapped[start:end]
                if crc32(data, seed) != crc:
                    raise CorruptStoreError(
                        shard.path, start, f"the value of key {key!r:.80} has a wrong checksum"
                    )
        return data, number

    def _path_of(self, number: int) -> str:
        return self._store.journal.path if number > self._mask else self._shards[number].path

    def _view(self) -> MutableMapping[Key, Entry]:
        """The index as this thread sees it. Raises StoreClosedError."""
        if self._why is not None:
            raise StoreClosedError(f"{self._why} ({self._store.path})")
        overlay = self._overlay
        if overlay is not None and self._writer == threading.get_ident():
            return overlay
        return self._base

    def _find(self, key: Key) -> Entry | None:
        """The entry of a key that is there and not expired; loads its shard where it must."""
        with self._gate:
            entry = self._view().get(key)
        if entry is None and self._whole is None:
            self._load_shard_of(key)
            with self._gate:
                entry = self._view().get(key)
        if entry is not None and len(entry) > UNTIMED and deadline(entry) <= self._now():
            return None
        return entry

    def __contains__(self, key: object) -> bool:
        index = self._index
        if key in index:
            if not self._heap:
                return True
        elif index is self._whole:
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
        if index is self._whole and key not in index:
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
        if index is self._whole and not self._heap:
            return len(index)
        return len(self._everything())

    # Loading

    def _load_shard_of(self, key: Key) -> None:
        try:
            number = keys.bucket(key, self._mask)
        except TypeError:
            # What JSON can't hold may be equal to a key all the same, as Decimal(1) is to 1.
            self._everything()
            return
        if not self._shards[number].loaded:
            with self._lock:
                self._load(number)

    def _load(self, number: int) -> None:
        shard = self._shards[number]
        if shard.loaded or self._why is not None:
            return
        found = self._store.load(number)
        # A key's next write must have a higher number than any that its shard knows.
        self._seq = max(self._seq, shard.last)
        now = self._now()
        timed = [(key, entry) for key, entry in found.items() if len(entry) > UNTIMED]
        expired = 0
        for key, entry in timed:
            if deadline(entry) <= now:
                del found[key]
                shard.live -= unpack_order(entry)[1]
                expired += 1
            else:
                self._push(key, entry)
        try:
            self._base.update(found)
            shard.loaded = True
        except BaseException:
            # Not half of it: whoever asks next reads the shard again.
            shard.loaded = False
            for key in found:
                self._base.pop(key, None)
            raise
        self._swept += expired
        self._lost += expired

    def _everything(self) -> MutableMapping[Key, Entry]:
        """The index with all shards loaded, in the map's order, without expired entries."""
        if self._whole is None:
            with self._lock:
                self._view()
                if self._whole is None:
                    self._load_all()
        view = self._view()
        soonest = self._heap[:1]  # a copy, for another thread may take it out meanwhile
        if soonest and soonest[0][0] <= self._now():
            if view is self._base and self._overlay is not None:
                # Another thread's transaction holds the lock; count without touching the index.
                now = self._now()
                return {key: entry for key, entry in view.copy().items() if deadline(entry) > now}
            with self._lock:
                self._sweep()
        return view

    def _load_all(self) -> None:
        whole = None
        try:
            stored = snapshot.load(self._store)
            if stored is None:
                for number in range(len(self._shards)):
                    self._load(number)
                places = [unpack_order(entry)[0] for entry in self._base.values()]
                items = list(self._base.items())
                whole = dict([items[i] for i in sorted(range(len(items)), key=places.__getitem__)])
            else:
                index, has_deadlines = stored
                if has_deadlines:
                    self._rebuild_heap(index)
                # What was found expired so far is in the stored index, and found again.
                self._swept = self._lost = 0
                whole = index
            self._take_whole(whole)
        except BaseException:
            if whole is not None:
                self._take_whole(whole)
            else:
                self._recount()
            raise

    def _take_whole(self, whole: dict[Key, Entry]) -> None:
        """Let this be the index from now on; may be called again when it was interrupted."""
        with self._gate:
            if self._target is self._base:
                self._target = whole
            if self._index is self._base:
                self._index = whole
            if self._overlay is not None:
                self._overlay.base = whole
            self._base = self._whole = whole
            for shard in self._shards:
                shard.loaded = True

    # Deadlines

    def _trim_heap(self) -> None:
        """Begin anew where most of the heap is deadlines that were replaced before they came.

        Not while entries are on their way into the base, for it would lose their deadlines.
        """
        if len(self._heap) > 2 * len(self._base) + 1024 and self._overlay is None:
            self._rebuild_heap()

    def _push(self, key: Key, entry: Entry) -> None:
        heappush(self._heap, (deadline(entry), unpack_order(entry)[0], key))

    def _rebuild_heap(self, index: dict[Key, Entry] | None = None) -> None:
        self._heap = [
            (deadline(entry), unpack_order(entry)[0], key)
            for key, entry in (self._base if index is None else index).items()
            if len(entry) > UNTIMED
        ]
        heapify(self._heap)

    def _sweep(self) -> None:
        """Take expired entries out of the index; their bytes go at the next compaction."""
        now, view = self._now(), self._view()
        try:
            while self._heap and self._heap[0][0] <= now:
                moment, _, key = self._heap[0]
                entry = view.get(key)
                if entry is not None and deadline(entry) == moment:
                    if isinstance(view, Overlay) and key in view.over:
                        # What it has overwritten must not come back.
                        view.tombstones[key] = self._removal(key, entry)
                    del view[key]
                    self._swept += 1
                    if view is self._base:
                        self._shards[unpack_shard(entry)[0]].live -= unpack_order(entry)[1]
                        self._lost += 1
                    else:
                        cast(Overlay, view).swept += 1
                    if self._handed is not None:
                        self._handed.pop(key, None)
                heappop(self._heap)
        except BaseException:
            self._recount()
            raise

    def _recount(self) -> None:
        """Compute anew what an interrupted step may have left half counted. O(n)."""
        live = [0] * (len(self._shards) + 1)  # the last: a journal read with flag "r"
        for entry in self._base.values():
            live[unpack_shard(entry)[0]] += unpack_order(entry)[1]
        for shard in self._shards:
            if shard.loaded:
                shard.live = live[shard.number]

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

    def _is_locked_here(self) -> bool:
        """Whether this thread is inside a transaction or an edit."""
        return bool(cast(Any, self._lock)._is_owned())  # as threading.Condition asks it

    def _writable(self) -> MutableMapping[Key, Entry]:
        """What writes go to. Raises StoreClosedError or ReadOnlyError. The caller holds the lock."""
        target = self._target
        if target is None:
            self._view()
            raise ReadOnlyError(f'{self._store.path} was opened with flag "r"')
        return target

    def _old(self, key: Key) -> Entry | None:
        """The entry that a write to `key` will replace, unless it has expired."""
        target = self._writable()
        entry = target.get(key)
        if entry is None and self._whole is None:
            self._load_shard_of(key)
            target = self._writable()  # loading all shards may have replaced it
            entry = target.get(key)
        if self._heap and self._heap[0][0] <= self._now():
            self._sweep()
            entry = target.get(key)
        return entry

    def _put(self, key: Key, text: bytes, expires: float) -> None:
        """Write a record. The caller holds the lock and has encoded the value."""
        target = self._target
        old = None if target is None else target.get(key)
        # A key that is missing in a wholly loaded index without deadlines needs no closer look.
        if self._heap or (old is None and target is not self._whole) or target is None:
            old = self._old(key)
        if old is None:
            key, name = self._checked(key)
            place = freed = 0
        else:
            place, freed = unpack_order(old)
            if type(key) is str:
                name = dumps(key)
            else:
                key, name = self._known(key, old)
        self._seq = seq = self._seq + 1
        line, start, seed, crc = build(name, seq, place, expires, text)
        size = len(line)
        if self._most_bytes is not None:
            self._check_size(size - freed)
            target = self._target  # loading all shards may have replaced it
        if target is not self._base:
            shard = self._store.journal
        elif type(key) is str:
            shard = self._shards[crc32(name) & self._mask]
        else:
            shard = self._shards[keys.bucket(key, self._mask)]
        number = shard.number
        mapped = self._maps[number]
        if mapped is None or shard.end + size > len(mapped):
            mapped = self._room(shard, size)
        at = shard.end
        end = at + size
        entry = pack(at + start, end - TAIL, seed, crc, number, place or seq, size)
        if expires != INF:
            entry = timed(entry, expires)
            self._trim_heap()
            self._push(key, entry)
        self._append(shard, mapped, at, end, line, key, entry, freed)

    def _delete(self, key: Key, old: Entry) -> None:
        """Write a tombstone. The caller holds the lock."""
        removal = self._removal(key, old)
        _, number, line, *_, freed = removal
        shard = self._shards[number]
        if self._overlay is not None:
            self._overlay.tombstones[key] = removal
            shard = self._store.journal
        mapped = self._maps[shard.number]
        if mapped is None or shard.end + len(line) > len(mapped):
            mapped = self._room(shard, len(line))
        at = shard.end
        self._append(shard, mapped, at, at + len(line), line, key, None, freed)
        if self._handed is not None:
            self._handed.pop(key, None)

    def _removal(self, key: Key, old: Entry) -> Change:
        """The tombstone of a key that is there."""
        place, freed = unpack_order(old)
        key, name = self._known(key, old)
        number = (crc32(name) if type(key) is str else keys.bucket(key, self._mask)) & self._mask
        self._seq = seq = self._seq + 1
        return key, number, tombstone(name, seq), 0, 0, 0, place, INF, freed

    def _append(
        self,
        shard: Shard,
        mapped: Map,
        at: int,
        end: int,
        line: bytes,
        key: Key,
        entry: Entry | None,
        freed: int,
    ) -> None:
        """Copy a line to bytes `at` to `end` of a shard and publish it; without an entry the key goes.

        An exception at any point, KeyboardInterrupt too, leaves the write done or undone, in
        memory and on disk alike. The caller holds the lock and has made room.
        """
        target = self._target
        assert target is not None
        live = shard.live - freed
        if entry is not None:
            live += end - at
        try:
            mapped[at:end] = line
            if self._sync and target is self._base:
                shard.sync_through(end)
            if entry is None:
                del target[key]
            else:
                target[key] = entry
            shard.end = end
            shard.live = live
        except BaseException:
            if target.get(key) is entry:
                shard.end, shard.live = end, live
            else:
                shard.erase(mapped, end - at)
            raise
        if freed and target is self._base and shard.worn:
            self._compact_if_possible(shard)

    def _checked(self, key: Key) -> tuple[Key, bytes]:
        """A new key as it will come back, and its JSON text; raises what a key may raise."""
        if type(key) is not str:
            key = keys.plain(key)
        name = keys.text(key)
        most = self._limits.key_chars
        if most is not None and len(key if type(key) is str else name.decode()) > most:
            raise LimitError(f"key {key!r:.80} is longer than the limit of {most} characters")
        return key, name

    def _change(self, key: Key, text: bytes, expires: float) -> Change:
        """A record that is to be written with others."""
        target = self._target
        old = None if target is None else target.get(key)
        if self._heap or (old is None and target is not self._whole) or target is None:
            old = self._old(key)
        if old is None:
            key, name = self._checked(key)
            place = freed = 0
        else:
            place, freed = unpack_order(old)
            key, name = self._known(key, old)
        number = crc32(name) if type(key) is str else keys.bucket(key, self._mask)
        self._seq = seq = self._seq + 1
        line, start, seed, crc = build(name, seq, place, expires, text)
        return key, number & self._mask, line, start, seed, crc, place or seq, expires, freed

    def _known(self, key: Key, old: Entry) -> tuple[Key, bytes]:
        """A key as it was first stored, and its JSON text: `1` stays `1` when `True` overwrites it."""
        if type(key) is str:
            return key, dumps(key)
        start, end, seed, _, number = unpack_value(old)
        shard = self._shard(number)
        mapped = shard.mapped()
        begin = end + TAIL - unpack_order(old)[1]
        head = b"" if mapped is None else mapped[begin:start]
        if crc32(head) != seed:
            raise CorruptStoreError(shard.path, begin, f"key {key!r:.80} has a wrong checksum")
        name = key_text(head)
        return keys.from_json(loads(name)), name

    def _check_size(self, growth: int) -> None:
        """Raise LimitError where `growth` more bytes of live records are too many."""
        most = self._most_bytes
        if most is not None and growth > 0:
            # Without a sweep: the entry that is to be overwritten must not go in between.
            if self._whole is None:
                self._load_all()
            size = sum([shard.live for shard in self._shards]) + self._store.journal.live + growth
            if size > most:
                raise LimitError(
                    f"the store would hold {size} bytes of records, the limit is {most}; "
                    "delete entries or open it with larger limits"
                )

    def _room(self, shard: Shard, size: int) -> Any:
        """The shard's map with room for `size` more bytes; space is first sought in dead records."""
        if shard.worn and shard is not self._store.journal:
            self._compact_if_possible(shard)
        return shard.make_room(size)

    # Writing many records

    def _write_all(
        self,
        changes: list[Change],
        gone: Iterable[Key] = (),
        seal: Callable[[], None] | None = None,
    ) -> None:
        """Append lines and publish them in one step.

        `gone` are keys to take out first; `seal` is called when all space is reserved. Like
        `_write`, all of it is done or none. The caller holds the lock.
        """
        if seal is None and self._most_bytes is not None:
            # A transaction's records were counted when the block wrote them.
            self._check_size(sum([len(each[2]) - each[8] for each in changes if each[3]]))
        target = self._writable()
        self._trim_heap()
        by_shard: dict[int, list[Change]] = {}
        if target is self._base:
            for change in changes:
                by_shard.setdefault(change[1], []).append(change)
        else:
            by_shard[self._store.journal.number] = changes
        shards = [self._shard(number) for number in by_shard]
        lines = [[change[2] for change in some] for some in by_shard.values()]
        sizes = [sum(map(len, some)) for some in lines]
        maps = [self._room(shard, size) for shard, size in zip(shards, sizes, strict=True)]
        ends = [shard.end + size for shard, size in zip(shards, sizes, strict=True)]
        new, lives = self._entries(changes, by_shard)
        if seal is not None:
            # A key that was inserted and then overwritten in the block stays where it was inserted.
            new = dict(sorted(new.items(), key=lambda each: unpack_order(each[1])[0]))
        published = False
        try:
            if seal is not None:
                seal()
            for shard, mapped, some, end in zip(shards, maps, lines, ends, strict=True):
                shard.copy(mapped, some)
                if self._sync and shard is not self._store.journal:
                    shard.sync_through(end)
            published = True
            self._publish(target, gone, new, shards, ends, lives)
        except BaseException:
            if published:
                self._publish(target, gone, new, shards, ends, lives)
            else:
                for shard, mapped, size in zip(shards, maps, sizes, strict=True):
                    shard.erase(mapped, size)
            raise
        for shard in shards:
            if shard.worn and shard is not self._store.journal:
                self._compact_if_possible(shard)

    def _entries(
        self, changes: list[Change], by_shard: dict[int, list[Change]]
    ) -> tuple[dict[Key, Entry], list[int]]:
        """Where the changes' records will stand, in the changes' order, and each shard's live bytes."""
        found: dict[Key, Entry] = {}
        lives = []
        for number, some in by_shard.items():
            shard = self._shard(number)
            at, live = shard.end, shard.live
            for key, _, line, start, seed, crc, place, expires, freed in some:
                size = len(line)
                live -= freed
                if start:
                    live += size
                    begin, end = at + start, at + size - TAIL
                    if expires == INF:
                        found[key] = pack(begin, end, seed, crc, number, place, size)
                    else:
                        entry = timed(pack(begin, end, seed, crc, number, place, size), expires)
                        found[key] = entry
                        self._push(key, entry)
                at += size
            lives.append(live)
        if len(by_shard) > 1:
            found = {change[0]: found[change[0]] for change in changes if change[3]}
        return found, lives

    def _publish(
        self,
        target: MutableMapping[Key, Entry],
        gone: Iterable[Key],
        new: dict[Key, Entry],
        shards: list[Shard],
        ends: list[int],
        lives: list[int],
    ) -> None:
        """Let readers see what was written; may be called again when it was interrupted."""
        with self._gate:
            for key in gone:
                target.pop(key, None)
            target.update(new)
        for shard, end, live in zip(shards, ends, lives, strict=True):
            shard.end, shard.live = end, live

    def _shard(self, number: int) -> Shard:
        return self._store.journal if number > self._mask else self._shards[number]

    # Compaction

    def _compact_if_possible(self, shard: Shard) -> None:
        """Compact a shard in passing: a write that was done must not fail for want of room.

        What stands in the way is met again by `compact()`, or when the damaged record is read.
        """
        if shard.end >= shard.rest_until:
            try:
                self._compact(shard)
            except (OSError, CorruptStoreError):
                shard.rest_until = shard.end + max(SLACK, shard.end >> 3)

    def _compact(self, shard: Shard) -> None:
        mapped = shard.mapped()
        if mapped is None:
            return
        if not shard.intact():
            raise CorruptStoreError(shard.path, 0, "can't be compacted: the file was damaged")
        try:
            data, places, size = copy_live(mapped[: shard.end], self._base)
        except (ValueError, TypeError, LookupError) as error:
            raise CorruptStoreError(shard.path, 0, f"can't be compacted: {error}") from None
        if size != shard.live:
            raise CorruptStoreError(shard.path, 0, "can't be compacted: a live record is damaged")
        new = self._store.write_new(shard, data)
        try:
            self._take_new(shard, new, data, places)
        except BaseException:
            if shard.was_replaced():
                self._take_new(shard, new, data, places)
            else:
                shard.drop_new()
            raise

    def _take_new(self, shard: Shard, new: Any, data: bytes, moved: dict[Key, Entry]) -> None:
        with self._gate:
            shard.take_new(new, data)
            self._base.update(moved)

    def compact(self) -> None:
        """Rewrite every shard without its dead records. O(bytes of the store).

        There is no need to call it: a shard that is half dead is compacted in passing. Raises
        OSError where there is no room for a shard's copy, and leaves that shard as it was.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = 1
        ...     d["ada"] = 2
        ...     d.compact()
        ...     d["ada"]
        2
        """
        with self._lock:
            self._writable()
            self._everything()
            for shard in self._shards:
                if shard.dead:
                    self._compact(shard)

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
            entry = self._old(key)
            if entry is None:
                raise KeyError(key)
            self._delete(key, entry)

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
            self._delete(key, entry)
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
                entry = view[key]
                value = self._value(key, entry)
                self._delete(key, entry)
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
        if isinstance(other, Mapping):
            pairs.update(other.items())
        elif hasattr(other, "keys"):
            pairs.update((key, other[key]) for key in other.keys())  # noqa: SIM118
        else:
            pairs.update(other)
        pairs.update(more)
        expires = self._expires(DEFAULT)
        with self._lock:
            self._writable()
            # The value's text must not outlive its line: orjson's bytes may each hold some KiB.
            encoded = self._encoded if self._wraps else encode_value
            change = self._change
            while True:
                swept = self._swept
                changes = [change(key, encoded(value), expires) for key, value in pairs.items()]
                if self._swept == swept:
                    break  # else an entry that one of them was to overwrite may have expired
            self._write_all(changes)
            if self._handed is not None:
                self._handed.update(pairs)

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
                    self._delete(key, target[key])
                return
            manifest = self._store.manifest
            try:
                self._store.empty()
                self._forget_all()
            except BaseException:
                # The manifest decides: once it says so, the records are gone.
                if self._store.manifest is not manifest:
                    self._forget_all()
                raise

    def _forget_all(self) -> None:
        with self._gate:
            self._base.clear()
            self._whole = self._base
            self._heap = []
            if self._handed is not None:
                self._handed.clear()
            for shard in self._shards:
                shard.reset()

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
            self._writable()
            if self._overlay is not None:
                yield
                return
            try:
                self._begin_transaction()
                yield
                self._commit()
            finally:
                try:
                    self._end_transaction()
                except BaseException:
                    self._end_transaction()  # what an interrupt has left of it
                    raise

    def _begin_transaction(self) -> None:
        with self._gate:
            self._writer = threading.get_ident()
            self._overlay = self._target = Overlay(self._base)
            self._index = {}

    def _end_transaction(self) -> None:
        """Go back to the base; may be called again when it was interrupted."""
        if self._why is not None:
            return
        overlay = self._overlay
        if overlay is not None:
            if self._handed is not None and not overlay.committed:
                for key in (*overlay.over, *overlay.fresh, *overlay.gone):
                    self._handed.pop(key, None)
            if overlay.swept:
                self._rebuild_heap()
            with self._gate:
                self._target = self._index = self._base
                self._overlay = None
        if self._store.journal.end:
            self._store.drop_journal(sync=self._sync)

    def _commit(self) -> None:
        """Write the transaction's outcome: a commit line in the journal, then the shards."""
        overlay = self._overlay
        if self._why is not None or overlay is None:
            raise StoreClosedError(f"{self._why} ({self._store.path}); the transaction is undone")
        changes = [
            self._final(key, entry)
            for key, entry in (*overlay.over.items(), *overlay.fresh.items())
        ]
        gone = [key for key in overlay.gone if key in overlay.fresh or key in overlay.tombstones]
        changes += [
            (*overlay.tombstones[key][:-1], unpack_order(self._base[key])[1])
            for key in gone
            if key not in overlay.fresh
        ]
        if changes:
            # A file's last record must be its latest: what is written after a crash counts from it.
            changes.sort(key=lambda change: number_of(change[2]))
            self._target = self._base
            self._write_all(changes, gone, seal=lambda: self._store.seal_journal(sync=self._sync))
        overlay.committed = True

    def _final(self, key: Key, entry: Entry) -> Change:
        """The change that brings a transaction's record from the journal into its shard."""
        start, end, seed, crc, number = unpack_value(entry)
        place, size = unpack_order(entry)
        mapped = self._maps[number]
        assert mapped is not None
        begin = end + TAIL - size
        old = self._base.get(key)
        return (
            key,
            keys.bucket(key, self._mask),
            mapped[begin : begin + size],
            start - begin,
            seed,
            crc,
            place,
            deadline(entry),
            0 if old is None else unpack_order(old)[1],
        )

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
        errors = []
        for key, value in list((self._handed or {}).items()):
            try:
                entry = self._old(key)
                if entry is not None:
                    text = self._encoded(value)
                    if text != self._text(key, entry)[0]:
                        self._put(key, text, deadline(entry))
            except (TypeError, ValueError) as error:
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
            try:
                if self._overlay is not None:
                    self._end_transaction()
                if self._target is not None:
                    self._write_back()
            finally:
                self._shut()

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
        self._base = self._index = {}
        self._whole = self._target = self._overlay = None
        self._handed, self._heap = None, []
        _open_maps.pop(id(self), None)

    def _after_fork(self) -> None:
        """In a forked child: the store is the parent's, and so are locks that its threads held."""
        self._lock, self._gate = threading.RLock(), threading.RLock()
        self._why = _FORKED
        self._maps[:] = [None] * len(self._maps)  # an iterator that goes on here must not read them
        whole = self._whole
        self._let_go()
        if whole is not None:
            whole.clear()  # as in `_shut`

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
        return self._keys(index, iter(index.items()), self._size(index))

    def __reversed__(self) -> Iterator[Key]:
        index = self._everything()
        return self._still_there(list(reversed(index)), index)

    def _size(self, index: MutableMapping[Key, Entry]) -> int:
        """What only an insertion or a deletion changes, not an expiry."""
        return len(index) + (index.swept if isinstance(index, Overlay) else self._lost)

    def _keys(
        self, index: MutableMapping[Key, Entry], entries: Iterator[tuple[Key, Entry]], size: int
    ) -> Iterator[Key]:
        entry = b""
        try:
            for key, entry in entries:
                if not self._heap or deadline(entry) > self._now():
                    yield key
        except RuntimeError:
            yield from self._rest(index, size, entry)

    def _items(self) -> Iterator[tuple[Key, V]]:
        index = self._everything()
        if index is not self._base or not self._plain:
            return self._found(iter(self))
        return self._plain_items(index, iter(index.items()), self._size(index))

    def _items_reversed(self) -> Iterator[tuple[Key, V]]:
        return self._found(reversed(self))

    def _found(self, keys: Iterator[Key]) -> Iterator[tuple[Key, V]]:
        for key in keys:
            if (entry := self._find(key)) is not None:
                yield key, self._value(key, entry)

    def _plain_items(
        self, index: MutableMapping[Key, Entry], entries: Iterator[tuple[Key, Entry]], size: int
    ) -> Iterator[tuple[Key, V]]:
        entry, maps = b"", self._maps
        try:
            # As in `__getitem__`, reaching through to the maps halves the cost.
            for key, entry in entries:
                start, end, seed, crc, number = unpack_value(entry)
                mapped = maps[number]
                if (
                    mapped is not None
                    and crc32(data := mapped[start:end], seed) == crc
                    and (not self._heap or len(entry) == UNTIMED)
                ):
                    yield key, loads(data)
                elif (found := self._find(key)) is not None:
                    yield key, self._value(key, found)
        except RuntimeError:
            yield from self._found(self._rest(index, size, entry))

    def _rest(self, index: MutableMapping[Key, Entry], size: int, last: Entry) -> Iterator[Key]:
        """The keys after the record of entry `last`, where only an expiry cut an iteration short."""
        self._view()
        if self._size(index) != size:
            raise RuntimeError("dictionary changed size during iteration")
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
        """A live view of the values, as a dict's; each is decoded when it is asked for. O(1).

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
        if self._whole is None:
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
