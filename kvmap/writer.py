"""Appending records: each write is done or undone as a whole, in memory and on disk alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any
from zlib import crc32

from orjson import dumps, loads

from kvmap import keys
from kvmap.compaction import CompactingStore
from kvmap.errors import CorruptStoreError, LimitError, ReadOnlyError
from kvmap.files import Map
from kvmap.keys import Key
from kvmap.record import (
    INF,
    TAIL,
    UNTIMED,
    Entry,
    build,
    build_all,
    key_text,
    pack,
    timed,
    tombstone,
    unpack_order,
    unpack_value,
)
from kvmap.shard import SLACK, Shard
from kvmap.store import Store

Columns = tuple[Sequence[Key], Sequence[bytes], Sequence[float]]
"""Records to be written: their keys, their values' texts, their deadlines."""

TOGETHER = 512
"""Records for which one step is done before the next: few enough to stay in the processor's cache."""

FEW = 16
"""Records whose writers need not wait until a shard that they wear out is compacted."""


class Part:
    """What a batch appends to one shard."""

    __slots__ = ("end", "growth", "lines", "live", "shard")

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.lines: list[bytes] = []
        self.end = shard.end
        """Where the shard will end."""
        self.growth = 0
        """By how much its live bytes grow."""
        self.live = 0
        """How many they will be."""

    @property
    def size(self) -> int:
        return self.end - self.shard.end


class Batch:
    """Records to be appended in one step."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.parts: dict[int, Part] = {}
        self.entries: dict[Key, Entry] = {}
        """What goes into the index, in the order in which new keys come into it."""

    def add(self, number: int, line: bytes, growth: int) -> int:
        """Take a line along for a shard, and return at which byte of it the line will begin."""
        part = self.parts.get(number)
        if part is None:
            part = self.parts[number] = Part(self._store.shard(number))
        at = part.end
        part.end = at + len(line)
        part.growth += growth
        part.lines.append(line)
        return at


class WritableStore(CompactingStore):
    """A store that records are appended to, and whose shards are compacted in passing."""

    def __init__(self, store: Store, *, sync: bool) -> None:
        super().__init__(store)
        self._sync = sync
        for shard in (*store.shards, store.journal):
            shard.fill = sync
        self._limits = store.manifest.limits
        self._most_bytes = self._limits.store_bytes

    # One record

    def _writable(self) -> MutableMapping[Key, Entry]:
        """What writes go to. Raises StoreClosedError or ReadOnlyError. The caller holds the lock."""
        target = self._target
        if target is None:
            self._view()
            raise ReadOnlyError(f'{self._store.path} was opened with flag "r"')
        return target

    def _old(self, key: Key) -> Entry | None:
        """The entry that a write to `key` will replace, unless it has expired."""
        entry = self._there(key)
        if self._heap and self._sweep_due():
            entry = self._there(key)
        return entry

    def _there(self, key: Key) -> Entry | None:
        """The entry of a key as the index has it; loads its shard where it must."""
        target = self._target
        if target is None:
            target = self._writable()
        entry = target.get(key)
        if entry is None and self._complete is None:
            self._load_shard_of(key)
            entry = self._writable().get(key)  # loading all shards may have replaced it
        return entry

    def _put(self, key: Key, text: bytes, expires: float) -> None:  # noqa: PLR0915
        """Write a record. The caller holds the lock and has encoded the value.

        An exception at any point, KeyboardInterrupt too, leaves the write done or undone, in
        memory and on disk alike.
        """
        # In one function but for what is rare: a call for the copying takes 6 % of a write's time.
        if self._busy:
            self._check_idle()
        target = self._target
        if target is None or self._heap or target is not self._complete:
            self._old(key)
            self._load_for_size()
        try:
            self._busy = True
            target = self._target  # loading shards may have replaced it
            assert target is not None
            old = target.get(key)
            if type(key) is str and self._limits.key_chars is None:
                try:
                    name = dumps(key)
                except TypeError:
                    name = keys.text(key)  # which says what is wrong
                number = crc32(name) & self._mask
            else:
                key, name = self._checked(key) if old is None else self._known(key, old)
                number = keys.bucket(key, self._mask)
            if old is None:
                place = freed = 0
            else:
                place, freed = unpack_order(old)
            self._seq = seq = self._seq + 1
            line, start, seed, crc = build(name, seq, place, expires, text)
            size = len(line)
            if self._most_bytes is not None:
                self._check_size(size - freed)
            if target is self._base:
                shard = self._shards[number]
            else:
                shard = self._store.journal
                number = shard.number
            at = shard.end
            end = at + size
            mapped = self._maps[number]
            if mapped is None or end > len(mapped):
                mapped = self._room(shard, size)
                at = shard.end
                end = at + size
            entry = pack(at + start, end - TAIL, seed, crc, number, place or seq, size)
            if expires != INF:
                entry = timed(entry, expires)
                self._trim_heap()
                self._push(key, entry)
            live = shard.live + size - freed
            try:
                if self._sync and target is self._base:
                    shard.write_through(line)
                else:
                    mapped[at:end] = line
                target[key] = entry
                shard.end = end
                shard.live = live
            except BaseException:
                self._settle(target.get(key) is entry, shard, mapped, end, live)
                raise
            if end - live > SLACK and target is self._base and shard.worn:
                self._compact_in_passing(shard)
        finally:
            self._busy = False

    def _delete(self, key: Key) -> None:
        """Write a tombstone, all or nothing as in `_put`. The caller holds the lock.

        Raises KeyError where the key is not there.
        """
        if self._busy:
            self._check_idle()
        try:
            self._busy = True
            target = self._target
            if target is None:
                target = self._writable()
            old = target.get(key)
            if old is None:
                raise KeyError(key)
            number, line = self._removal(key, old)
            freed = unpack_order(old)[1]
            if target is self._base:
                shard = self._shards[number]
            else:
                assert self._overlay is not None
                self._overlay.tombstones[key] = number, line
                shard = self._store.journal
            at = shard.end
            end = at + len(line)
            mapped = self._maps[shard.number]
            if mapped is None or end > len(mapped):
                mapped = self._room(shard, len(line))
                at = shard.end
                end = at + len(line)
            live = shard.live - freed
            try:
                if self._sync and target is self._base:
                    shard.write_through(line)
                else:
                    mapped[at:end] = line
                del target[key]
                shard.end = end
                shard.live = live
            except BaseException:
                self._settle(key not in target, shard, mapped, end, live)
                raise
            if self._handed is not None:
                self._handed.pop(key, None)
            if end - live > SLACK and target is self._base and shard.worn:
                self._compact_in_passing(shard)
        finally:
            self._busy = False

    def _settle(self, done: bool, shard: Shard, mapped: Map, end: int, live: int) -> None:
        """Finish a write that was cut off after it was published, or else undo it."""
        if done:
            shard.end, shard.live = end, live
        else:
            shard.erase(mapped, end - shard.end)

    def _removal(self, key: Key, old: Entry) -> tuple[int, bytes]:
        """The shard of a key that is there, and its tombstone."""
        if type(key) is str:
            name = dumps(key)
            number = crc32(name) & self._mask
        else:
            key, name = self._known(key, old)
            number = keys.bucket(key, self._mask)
        self._seq = seq = self._seq + 1
        return number, tombstone(name, seq)

    def _checked(self, key: Key) -> tuple[Key, bytes]:
        """A new key as it will come back, and its JSON text; raises what a key may raise."""
        if type(key) is not str:
            key = keys.plain(key)
        name = keys.text(key)
        most = self._limits.key_chars
        if most is not None and len(key if type(key) is str else name.decode()) > most:
            raise LimitError(f"key {key!r:.80} is longer than the limit of {most} characters")
        return key, name

    def _known(self, key: Key, old: Entry) -> tuple[Key, bytes]:
        """A key as it was first stored, and its JSON text: `1` stays `1` when `True` overwrites it."""
        if type(key) is str:
            return key, dumps(key)
        start, end, seed, _, number = unpack_value(old)
        shard = self._store.shard(number)
        mapped = shard.mapped()
        begin = end + TAIL - unpack_order(old)[1]
        head = b"" if mapped is None else mapped[begin:start]
        if crc32(head) != seed:
            raise CorruptStoreError(shard.path, begin, f"key {key!r:.80} has a wrong checksum")
        name = key_text(head)
        return keys.from_json(loads(name)), name

    def _load_for_size(self) -> None:
        """Read all shards where what the store holds is to be counted."""
        if self._most_bytes is not None and self._complete is None:
            self._load_all()

    def _check_size(self, growth: int) -> None:
        """Raise LimitError where `growth` more bytes of live records are too many."""
        most = self._most_bytes
        if most is not None and growth > 0:
            size = sum([shard.live for shard in self._shards]) + self._store.journal.live + growth
            if size > most:
                raise LimitError(
                    f"the store would hold {size} bytes of records, the limit is {most}; "
                    "delete entries or open it with larger limits"
                )

    def _room(self, shard: Shard, size: int) -> Any:
        """The shard's map with room for `size` more bytes."""
        may_compact = shard.worn and shard is not self._store.journal
        if may_compact:
            self._compact_in_passing(shard)
        try:
            return shard.make_room(size)
        except (OSError, LimitError):
            if not may_compact:
                raise
        self._compact_if_possible(shard)
        return shard.make_room(size)

    # Many records

    def _write_each(self, wanted: Iterable[Key], columns: Iterable[Columns]) -> None:
        """Write records of these keys in one step. The caller holds the lock."""
        self._check_idle()
        self._writable()
        if self._complete is None:
            for key in wanted:
                self._there(key)
            self._load_for_size()
        # What expires from now on is overwritten as if it had not.
        self._sweep_due()
        try:
            self._busy = True
            self._trim_heap()
            batch = Batch(self._store)
            for some, texts, deadlines in columns:
                self._add(batch, some, texts, deadlines)
            if self._most_bytes is not None:
                self._check_size(sum([part.growth for part in batch.parts.values()]))
            self._write(batch)
        finally:
            self._busy = False

    def _add(
        self,
        batch: Batch,
        wanted: Sequence[Key],
        texts: Sequence[bytes],
        deadlines: Sequence[float],
    ) -> None:
        """Add new records to a batch."""
        olds = list(map(self._writable().get, wanted))
        wanted, names, numbers = self._named(wanted, olds)
        if self._target is not self._base:
            numbers = [self._store.journal.number] * len(numbers)
        orders = [(0, 0) if old is None else unpack_order(old) for old in olds]
        seqs = range(self._seq + 1, self._seq + 1 + len(names))
        self._seq += len(names)
        lines, starts, seeds, crcs = build_all(
            names, seqs, [place for place, _ in orders], deadlines, texts
        )
        for key, number, (place, freed), seq, expires, line, start, seed, crc in zip(
            wanted, numbers, orders, seqs, deadlines, lines, starts, seeds, crcs, strict=True
        ):
            size = len(line)
            at = batch.add(number, line, size - freed)
            entry = pack(at + start, at + size - TAIL, seed, crc, number, place or seq, size)
            batch.entries[key] = entry if expires == INF else timed(entry, expires)

    def _named(
        self, wanted: Sequence[Key], olds: Sequence[Entry | None]
    ) -> tuple[Sequence[Key], Sequence[bytes], Sequence[int]]:
        """Keys as they will come back, their JSON texts, and the shards they fall into."""
        if set(map(type, wanted)) == {str} and self._limits.key_chars is None:
            try:
                names = list(map(dumps, wanted))
            except TypeError:
                names = list(map(keys.text, wanted))  # which says what is wrong
            return wanted, names, [crc32(name) & self._mask for name in names]
        pairs = [
            self._checked(key) if old is None else self._known(key, old)
            for key, old in zip(wanted, olds, strict=True)
        ]
        wanted = [key for key, _ in pairs]
        return wanted, [name for _, name in pairs], [keys.bucket(key, self._mask) for key in wanted]

    def _write(
        self, batch: Batch, gone: Iterable[Key] = (), seal: Callable[[], None] | None = None
    ) -> None:
        """Append a batch's lines and publish them in one step: all of it is done or none.

        `gone` are keys to take out first; `seal` is called when all space is reserved. The caller
        holds the lock.
        """
        target = self._writable()
        parts = list(batch.parts.values())
        maps = [part.shard.make_room(part.size) for part in parts]
        for part in parts:
            part.live = part.shard.live + part.growth
        if max(map(len, batch.entries.values()), default=0) > UNTIMED:
            for key, entry in batch.entries.items():
                if len(entry) > UNTIMED:
                    self._push(key, entry)
        published = False
        try:
            if seal is not None:
                seal()
            self._copy_all(parts, maps)
            published = True
            self._publish(target, gone, batch)
        except BaseException:
            if published:
                self._publish(target, gone, batch)
            else:
                for part, mapped in zip(parts, maps, strict=True):
                    part.shard.erase(mapped, part.size)
            raise
        # Many records wear all shards at once; halves of their copies would be a store in memory.
        few = len(batch.entries) <= FEW
        compact = self._compact_in_passing if few else self._compact_if_possible
        for shard in [part.shard for part in parts]:
            if shard.worn and shard is not self._store.journal:
                compact(shard)

    def _copy_all(self, parts: list[Part], maps: list[Map]) -> None:
        # Not a loop of the caller's: CPython up to 3.13 may raise a KeyboardInterrupt at the end of
        # a loop's body past the `try` that the loop stands in (its issues 108214 and 130279).
        for part, mapped in zip(parts, maps, strict=True):
            if self._sync and part.shard is not self._store.journal:
                part.shard.write_through(b"".join(part.lines))
            else:
                part.shard.copy(mapped, part.lines)

    def _publish(
        self, target: MutableMapping[Key, Entry], gone: Iterable[Key], batch: Batch
    ) -> None:
        """Let readers see what was written; may be called again when it was interrupted."""
        with self._gate:
            for key in gone:
                target.pop(key, None)
            target.update(batch.entries)
        for part in batch.parts.values():
            part.shard.end, part.shard.live = part.end, part.live

    def _forget_all(self) -> None:
        with self._gate:
            self._seq += 1  # which tells an iterator that something has changed
            self._base.clear()
            self._complete = self._whole = self._base
            self._heap = []
            if self._handed is not None:
                self._handed.clear()
            for shard in self._shards:
                shard.reset()
