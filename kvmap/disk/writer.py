"""Writing records: each write is done or undone as a whole, in memory and on disk alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from zlib import crc32

from orjson import dumps, loads

from kvmap import keys
from kvmap.disk import records
from kvmap.disk.compaction import Compactor
from kvmap.disk.index import Index
from kvmap.disk.journal import Journal
from kvmap.disk.records import (
    MOST_SEQ,
    TAIL,
    Entry,
    key_text,
    pack,
    pack_timed,
    span,
    unpack_order,
    unpack_value,
)
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import BEGUN, Steps
from kvmap.disk.tuning import Tuning
from kvmap.engine import INF
from kvmap.errors import CorruptStoreError, LimitError
from kvmap.keys import Key, shown

Written = Mapping[Key, tuple[bytes, float]]
"""Texts and deadlines by key."""


class _Single:
    """The step in which one record is written. One object serves all of them, one at a time."""

    __slots__ = ("_entries", "end", "entry", "key", "live", "live_after", "shard")

    def __init__(self, entries: dict[Key, Entry], shard: Shard) -> None:
        self._entries = entries
        self.shard = shard
        self.key: Key = None
        self.entry: Entry | None = None
        """What the index holds when the step is done; None: nothing."""
        self.end = self.live = self.live_after = 0

    def settle(self) -> None:
        """The index decides: who has seen the record must find it again."""
        if self._entries.get(self.key) is self.entry:
            self.shard.live = self.live_after
        else:
            self.shard.cut(self.end)
            self.shard.live = self.live


class _Part:
    """What a batch appends to one shard."""

    __slots__ = ("end", "growth", "last_seq", "lines", "live", "shard", "size")

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.end = shard.end
        """Where the shard ends without the batch."""
        self.live = shard.live
        self.lines: list[bytes] = []
        self.size = 0
        self.growth = 0
        """By how much its live bytes grow."""
        self.last_seq = 0

    def add(self, parts: Sequence[bytes], size: int, seq: int, growth: int) -> None:
        self.lines += parts
        self.size += size
        self.growth += growth
        self.last_seq = seq


class _Batch:
    """The step in which many records are written."""

    def __init__(self, index: Index, journal: Journal, *, sync: bool, atomic: bool) -> None:
        self.parts: dict[int, _Part] = {}
        self.gone: list[Key] = []
        self.entries: dict[Key, Entry] = {}
        """What goes into the index, in the order in which new keys come into it."""
        self.appended = False
        """Whether all of it is in the files."""
        self._index = index
        self._journal = journal
        self._sync = sync
        self._atomic = atomic

    def part(self, shard: Shard) -> _Part:
        found = self.parts.get(shard.number)
        if found is None:
            found = self.parts[shard.number] = _Part(shard)
        return found

    def settle(self) -> None:
        """Complete it where all is appended; else cut the shards back to where they ended."""
        if self.appended:
            try:
                if self._atomic:
                    self._journal.remove(sync=self._sync)
            except BaseException:
                self.appended = False
                raise
            self.publish()
        else:
            for part in self.parts.values():
                part.shard.cut(part.end)
                part.shard.live = part.live
                if self._sync:
                    with suppress(OSError):  # a later sync will not forget it
                        part.shard.sync()
            if self._atomic:
                self._journal.remove(sync=self._sync)

    def publish(self) -> None:
        """Let readers see all of it at once; may be called again when it was interrupted."""
        index = self._index
        entries = index.entries
        with index.gate:
            if self.gone:
                settled, index.settled = index.all_parsed, False
                for key in self.gone:
                    entries.pop(key, None)
                entries.update(self.entries)
                index.settled = settled
            else:
                entries.update(self.entries)
        for part in self.parts.values():
            part.shard.live = part.live + part.growth
            part.shard.last_seq = part.last_seq


class Writer:
    """Appends records and publishes them. The caller has the lock, and has loaded what is needed."""

    def __init__(
        self,
        index: Index,
        shards: Shards,
        journal: Journal,
        steps: Steps,
        compactor: Compactor,
        tuning: Tuning,
        check_files: Callable[[Iterable[Shard]], None],
        *,
        sync: bool,
    ) -> None:
        self._index = index
        self._entries = index.entries
        self._shards = shards
        self._by_number = shards.all
        self._mask = shards.mask
        self._journal = journal
        self._steps = steps
        self._compactor = compactor
        self._check_files = check_files
        self._sync = sync
        self._single = _Single(index.entries, shards.all[0])
        self._slack = tuning.slack_bytes
        self._vector = tuning.vector_bytes

    # One record

    def put(self, key: Key, old: Entry | None, text: bytes, expires: float) -> None:
        """Write a record of a key whose entry is `old`; its shard has been parsed.

        In one function but for what is rare: a call costs 2 % of a write.
        """
        if type(key) is str:
            try:
                name = dumps(key)
            except TypeError:
                name = keys.text(key)  # which says what is wrong
            shard = self._by_number[crc32(name) & self._mask]
        else:
            key, name = self._name(key, old)
            shard = self._by_number[keys.bucket(key, self._mask)]
        place, freed = (0, 0) if old is None else unpack_order(old)
        index = self._index
        index.seq = seq = index.seq + 1
        if not seq & 255 or seq > MOST_SEQ:
            self._check_now_and_then(seq, [shard])
        head = records.head(name, seq, place, expires)
        seed = crc32(head)
        crc = crc32(text, seed)
        end = shard.end
        start = end + len(head)
        stop = start + len(text)
        size = stop + TAIL - end
        if stop + TAIL > records.MOST_BYTES:
            self._make_space(shard, size)
            end = shard.end
            start, stop = end + len(head), end + len(head) + len(text)
        if expires == INF:
            entry = pack(start, stop, seed, crc, shard.number, place or seq, size)
        else:
            entry = pack_timed(start, stop, seed, crc, shard.number, place or seq, size, expires)
            index.deadlines.push(expires, place or seq, key)
        step = self._single
        step.shard, step.key, step.entry = shard, key, entry
        step.end, step.live, step.live_after = end, shard.live, shard.live + size - freed
        self._steps.current = step
        if size < self._vector:
            shard.append(b"".join((head, text, records.tail(crc))))
        else:
            shard.append_parts((head, text, records.tail(crc)), size)
        if self._sync:
            self._shards.sync_one(shard)
        self._entries[key] = entry
        shard.live = step.live_after
        shard.last_seq = seq
        self._steps.current = BEGUN
        if shard.end - shard.live > self._slack and shard.worn:
            self._compactor.step_in_passing(shard)

    def delete(self, key: Key, old: Entry) -> None:
        """Write a tombstone of a key that is there; its shard has been parsed."""
        key, name = self._name(key, old)
        shard = self._by_number[keys.bucket(key, self._mask)]
        index = self._index
        index.seq = seq = index.seq + 1
        if not seq & 255 or seq > MOST_SEQ:
            self._check_now_and_then(seq, [shard])
        line = records.tombstone(name, seq)
        if shard.end + len(line) > records.MOST_BYTES:
            self._make_space(shard, len(line))
        step = self._single
        step.shard, step.key, step.entry = shard, key, None
        step.end, step.live = shard.end, shard.live
        step.live_after = shard.live - unpack_order(old)[1]
        self._steps.current = step
        shard.append(line)
        if self._sync:
            self._shards.sync_one(shard)
        del self._entries[key]
        shard.live = step.live_after
        shard.last_seq = seq
        self._steps.current = BEGUN
        if shard.end - shard.live > self._slack and shard.worn:
            self._compactor.step_in_passing(shard)

    def _name(self, key: Key, old: Entry | None) -> tuple[Key, bytes]:
        """A key as it will come back, and its JSON text: `1` stays `1` when `True` overwrites it.

        Raises ValueError, naming the key, where it has none.
        """
        if old is None or type(key) is str:
            return key, keys.text(key)
        begin, _ = span(old)
        start, _, seed, _, number = unpack_value(old)
        shard = self._by_number[number]
        head = shard.read(begin, start)
        if crc32(head) != seed:
            raise CorruptStoreError(shard.path, begin, f"key {shown(key)} has a wrong checksum")
        name = key_text(head)
        return keys.from_json(loads(name)), name

    def _check_now_and_then(self, seq: int, shards: Iterable[Shard]) -> None:
        """What is too slow for each write: a few system calls in 256 of them."""
        if seq > MOST_SEQ:
            raise LimitError(
                "the store has used up its sequence numbers; copy its entries to a new one"
            )
        self._check_files(shards)

    def _make_space(self, shard: Shard, size: int) -> None:
        """Compact a shard that has reached its largest size. Raises LimitError where that is in vain."""
        if shard.dead:
            self._compactor.compact(shard)
        shard.check_room(size)

    # Many records

    def write(self, written: Written, gone: Collection[Key] = (), *, atomic: bool = True) -> None:
        """Delete keys that are there, then write records, all or nothing; of parsed shards.

        Not `atomic`: a kill may leave some of it done.
        """
        batch = _Batch(self._index, self._journal, sync=self._sync, atomic=atomic)
        first = self._index.seq + 1
        self._add_tombstones(batch, gone)
        self._add_records(batch, written, gone)
        last = self._index.seq
        parts = list(batch.parts.values())
        self._check_now_and_then(last, [part.shard for part in parts])
        for part in parts:
            part.shard.check_room(part.size)
        self._steps.current = batch
        if atomic:
            if self._sync:
                # The journal is about the file that a compaction has put in place.
                self._shards.folder.sync()
            self._journal.write(first, last, [part.shard for part in parts], sync=self._sync)
        for part in parts:
            self._append(part)
        if self._sync:
            for part in parts:
                self._shards.sync_one(part.shard)
        batch.appended = True
        batch.settle()
        self._steps.current = BEGUN
        for part in parts:
            if part.shard.worn:
                self._compactor.step_in_passing(part.shard)

    def _append(self, part: _Part) -> None:
        # Large records are written as they are, small ones are joined, which costs less.
        if part.size > self._vector * len(part.lines):
            part.shard.append_parts(part.lines, part.size)
        else:
            part.shard.append(b"".join(part.lines))

    def _add_tombstones(self, batch: _Batch, gone: Iterable[Key]) -> None:
        for each in gone:
            old = self._entries[each]
            key, name = self._name(each, old)
            part = batch.part(self._by_number[keys.bucket(key, self._mask)])
            self._index.seq = seq = self._index.seq + 1
            line = records.tombstone(name, seq)
            part.add([line], len(line), seq, -unpack_order(old)[1])
            batch.gone.append(each)

    def _add_records(self, batch: _Batch, written: Written, gone: Collection[Key]) -> None:
        if not written:
            return
        olds = list(map(self._entries.get, written))
        if gone:
            away = set(gone)
            olds = [None if key in away else old for key, old in zip(written, olds, strict=True)]
        plain, names, shards = self._named(list(written), olds)
        orders = [(0, 0) if old is None else unpack_order(old) for old in olds]
        texts = [text for text, _ in written.values()]
        deadlines = [when for _, when in written.values()]
        seqs = range(self._index.seq + 1, self._index.seq + 1 + len(names))
        self._index.seq += len(names)
        heads = records.heads(names, seqs, [place for place, _ in orders], deadlines)
        seeds = list(map(crc32, heads))
        crcs = list(map(crc32, texts, seeds))
        for key, number, (place, freed), seq, expires, head, text, seed, crc, tail in zip(
            plain, shards, orders, seqs, deadlines, heads, texts, seeds, crcs, records.tails(crcs),
            strict=True,
        ):  # fmt: skip
            part = batch.part(self._by_number[number])
            at = part.end + part.size
            start = at + len(head)
            stop = start + len(text)
            size = stop + TAIL - at
            if stop + TAIL > records.MOST_BYTES:
                part.shard.check_room(part.size + size)
            part.add((head, text, tail), size, seq, size - freed)
            if expires == INF:
                batch.entries[key] = pack(start, stop, seed, crc, number, place or seq, size)
            else:
                batch.entries[key] = pack_timed(
                    start, stop, seed, crc, number, place or seq, size, expires
                )
                self._index.deadlines.push(expires, place or seq, key)

    def _named(
        self, wanted: list[Key], olds: list[Entry | None]
    ) -> tuple[list[Key], list[bytes], list[int]]:
        """Keys as they will come back, their JSON texts, and the shards they fall into."""
        mask = self._mask
        if set(map(type, wanted)) == {str}:
            try:
                names = list(map(dumps, wanted))
            except TypeError:
                names = list(map(keys.text, wanted))  # which says what is wrong
            return wanted, names, [crc & mask for crc in map(crc32, names)]
        pairs = [self._name(key, old) for key, old in zip(wanted, olds, strict=True)]
        plain = [key for key, _ in pairs]
        return plain, [name for _, name in pairs], [keys.bucket(key, mask) for key in plain]
