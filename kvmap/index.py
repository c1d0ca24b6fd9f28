"""Where each key's record stands: the index, the shards it is read from, and deadlines."""

from __future__ import annotations

import threading
from collections.abc import MutableMapping
from heapq import heapify, heappop, heappush
from typing import Any, cast
from zlib import crc32

from kvmap import keys, snapshot
from kvmap.errors import CorruptStoreError, StoreClosedError
from kvmap.keys import Key
from kvmap.overlay import Overlay
from kvmap.record import UNTIMED, Entry, deadline, unpack_order, unpack_shard, unpack_value
from kvmap.shard import Shard
from kvmap.store import Store

_FORKED = "the map belongs to the process that this one was forked from; open the store again here"


class IndexedStore:
    """An open store and its index; shards are read when a key of theirs is first asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._maps = store.maps.by_number
        self._shards = store.shards
        self._mask = store.mask
        self._now = store.files.now
        self._seq = store.last_seq()
        self._why: str | None = None
        """Why nothing can be done any more; None while the store is open."""
        self._lock = threading.RLock()
        """Held by whoever writes or loads."""
        self._gate = threading.RLock()
        """Held while entries and maps change together; a reader that met half of it takes it."""
        self._base: dict[Key, Entry] = {}
        """Where each key's record stands."""
        self._index = self._base
        """What lock-free reads look into: the base, or an empty dict that diverts to `_find`."""
        self._target: MutableMapping[Key, Entry] | None = None if store.read_only else self._base
        """What writes go to: the base, a transaction's overlay, or None where they are refused."""
        self._complete = self._base if all(shard.loaded for shard in store.shards) else None
        """The base once all shards are loaded, so that a key it lacks is known to be missing."""
        self._whole = self._complete
        """The base once it is complete and in the map's order."""
        self._heap: list[tuple[float, int, Key]] = []
        """Deadlines, soonest first; one that no longer is its key's own is passed over."""
        self._swept = self._lost = 0
        """Entries found expired so far; those of them that were taken out of the base."""
        self._overlay: Overlay | None = None
        """A transaction's view, while there is one."""
        self._writer = 0
        """The thread whose transaction it is."""
        self._busy = False
        """Whether a step is under way that must be whole: a write, a load, a sweep, a compaction.

        Set in place, not by a context manager, whose own calls an interrupt could fall into.
        """
        self._handed: dict[Key, Any] | None = None
        """With writeback: the values handed out, which may have been changed in place."""

    def _check_idle(self) -> None:
        """Raise RuntimeError in a signal handler, or the like, that came into the middle of a step.

        The lock does not keep it out, for it runs in the thread that has the lock.
        """
        if self._busy:
            raise RuntimeError(
                "the map is in the middle of a write or a load of this very thread; a signal handler, "
                "a finalizer or a key's own comparison can't use it now: set a flag there"
            )

    def _is_locked_here(self) -> bool:
        """Whether this thread has the lock: it is inside a transaction, an edit or a step."""
        return bool(cast(Any, self._lock)._is_owned())  # as threading.Condition asks it

    # Looking up

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
        complete = self._complete is not None  # asked first, for another thread may load the rest
        with self._gate:
            entry = self._view().get(key)
        if entry is None and not complete:
            self._load_shard_of(key)
            with self._gate:
                entry = self._view().get(key)
        if entry is not None and len(entry) > UNTIMED and deadline(entry) <= self._now():
            return None
        return entry

    def _text(self, key: Key, entry: Entry) -> tuple[bytes, int]:
        """The JSON text of a record's value, its checksum verified, and the shard it stands in."""
        start, end, seed, crc, number = unpack_value(entry)
        mapped = self._maps[number] if number < len(self._maps) else None
        data = b"" if mapped is None else mapped[start:end]
        if mapped is None or crc32(data, seed) != crc:
            # Compaction may have moved the record, or the map was given up for another shard's.
            with self._gate:
                if self._is_locked_here():
                    self._check_idle()
                found = self._view().get(key)
                if found is None:
                    raise KeyError(key)
                start, end, seed, crc, number = unpack_value(found)
                if number >= len(self._maps):
                    raise CorruptStoreError(self._store.path, 0, f"there is no shard {number}")
                shard = self._store.shard(number)
                mapped = shard.mapped()
                data = b"" if mapped is None else mapped[start:end]
                if crc32(data, seed) != crc:
                    raise CorruptStoreError(
                        shard.path, start, f"the value of key {key!r:.80} has a wrong checksum"
                    )
        return data, number

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
                self._check_idle()
                self._load(number)

    def _load(self, number: int) -> None:
        shard, busy = self._shards[number], self._busy
        try:
            self._busy = True
            if not shard.loaded and self._why is None:
                self._take(shard, self._store.load(number))
                if all(shard.loaded for shard in self._shards):
                    self._complete = self._base
        finally:
            self._busy = busy

    def _take(self, shard: Shard, found: dict[Key, Entry]) -> None:
        """Add what was read of a shard to the base."""
        # A key's next write must have a higher number than any that its shard knows.
        self._seq = max(self._seq, shard.last)
        now = self._now()
        timed: list[tuple[Key, Entry]] = []
        if max(map(len, found.values()), default=0) > UNTIMED:
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
        if self._due():
            if view is self._base and (
                self._overlay is not None or (self._busy and self._is_locked_here())
            ):
                # Another thread's transaction, or a step that a signal handler came into, needs the
                # index as it is: count without touching it.
                now, entries = self._now(), self._base.copy()
                return {key: entry for key, entry in entries.items() if deadline(entry) > now}
            with self._lock:
                self._sweep_due()
        return view

    def _load_all(self) -> None:
        self._check_idle()
        whole = None
        try:
            self._busy = True
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
        finally:
            self._busy = False

    def _take_whole(self, whole: dict[Key, Entry]) -> None:
        """Let this be the index from now on; may be called again when it was interrupted."""
        with self._gate:
            if self._target is self._base:
                self._target = whole
            if self._index is self._base:
                self._index = whole
            if self._overlay is not None:
                self._overlay.base = whole
            self._base = self._complete = self._whole = whole
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

    def _due(self) -> bool:
        """Whether a deadline has passed."""
        soonest = self._heap[:1]  # a copy: another thread, or a handler, may take it out meanwhile
        return bool(soonest) and soonest[0][0] <= self._now()

    def _sweep_due(self) -> bool:
        """Sweep where a deadline has passed, and tell whether one had."""
        if due := self._due():
            self._check_idle()
            self._sweep()
        return due

    def _sweep(self) -> None:
        """Take expired entries out of the index; their bytes go at the next compaction."""
        now, view = self._now(), self._view()
        try:
            self._busy = True
            while self._heap and self._heap[0][0] <= now:
                if isinstance(view, Overlay):
                    view.passed = True
                moment, _, key = self._heap[0]
                entry = view.get(key)
                if entry is not None and deadline(entry) == moment:
                    self._swept += 1
                    if isinstance(view, Overlay):
                        view.expire(key, entry)
                    else:
                        del view[key]
                        self._shards[unpack_shard(entry)[0]].live -= unpack_order(entry)[1]
                        self._lost += 1
                    if self._handed is not None:
                        self._handed.pop(key, None)
                heappop(self._heap)
        except BaseException:
            self._recount()
            raise
        finally:
            self._busy = False

    def _recount(self) -> None:
        """Compute anew what an interrupted step may have left half counted. O(n)."""
        live = [0] * (len(self._shards) + 1)  # the last: a journal read with flag "r"
        for entry in self._base.values():
            live[unpack_shard(entry)[0]] += unpack_order(entry)[1]
        for shard in self._shards:
            if shard.loaded:
                shard.live = live[shard.number]

    # Letting go

    def _let_go(self) -> None:
        self._seq += 1  # which tells an iterator that something has changed
        self._base = self._index = {}
        self._complete = self._whole = self._target = self._overlay = None
        self._handed, self._heap = None, []

    def _after_fork(self) -> None:
        """In a forked child: the store is the parent's, and so are locks that its threads held."""
        self._lock, self._gate = threading.RLock(), threading.RLock()
        self._why, self._busy = _FORKED, False
        self._maps[:] = [None] * len(self._maps)  # an iterator that goes on here must not read them
        whole = self._whole
        self._let_go()
        if whole is not None:
            whole.clear()  # as in `_shut`
