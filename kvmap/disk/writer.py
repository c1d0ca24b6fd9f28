"""Writing records: each write is done or undone as a whole, in memory and on disk alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from zlib import crc32

from orjson import dumps, loads

from kvmap import keys
from kvmap.disk import records
from kvmap.disk.batch import Batch, Part, Single
from kvmap.disk.compaction import Compactor
from kvmap.disk.index import Index
from kvmap.disk.journal import Journal
from kvmap.disk.records import (
    MOST_SEQ,
    TAIL,
    Entry,
    key_text,
    line_size,
    pack,
    pack_timed,
    place,
    span,
    unpack_order,
    unpack_shard,
    unpack_value,
)
from kvmap.disk.room import Room
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import BEGUN, Steps
from kvmap.disk.tuning import Tuning
from kvmap.engine import INF
from kvmap.errors import CorruptStoreError, LimitError
from kvmap.keys import Key, shown
from kvmap.values import without_spare


class Writer:
    """Appends records and publishes them. The caller has the lock, and has loaded what is needed."""

    def __init__(
        self,
        index: Index,
        shards: Shards,
        journal: Journal,
        steps: Steps,
        compactor: Compactor,
        room: Room,
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
        self._room = room
        self.evicted = 0
        """Entries that were deleted to make room, so far."""
        self._check_files = check_files
        self._sync = sync
        self._single = Single(index.entries, shards.all[0])
        self._slack = tuning.slack_bytes
        self._vector = tuning.vector_bytes

    # One record

    def put(self, key: Key, old: Entry | None, text: bytes, expires: float) -> None:
        """Write a record of a key whose entry is `old`; its shard has been parsed.

        In one function but for what is rare: a call costs 2 % of a write.
        """
        if self._room.bounded and not self._room.has(key, old, text):
            self._make_room({key: text}, [expires])
            old = self._entries.get(key)  # a compaction may have moved its record meanwhile
        if type(key) is str:
            try:
                name = dumps(key)
            except TypeError:
                name = keys.text(key)  # which says what is wrong
            shard = self._by_number[crc32(name) & self._mask]
        else:
            key, name = self._name(key, old)
            shard = self._by_number[keys.bucket(key, self._mask)]
        first, freed = (0, 0) if old is None else unpack_order(old)
        index = self._index
        index.seq = seq = index.seq + 1
        if not seq & 255 or seq > MOST_SEQ:
            self._check_now_and_then(seq, [shard])
        head = records.head(name, seq, first, expires)
        seed = crc32(head)
        crc = crc32(text, seed)
        end = shard.end
        start = end + len(head)
        stop = start + len(text)
        size = stop + TAIL - end
        if stop + TAIL > records.MOST_BYTES:
            self._shrink(shard, size)
            end = shard.end
            start, stop = end + len(head), end + len(head) + len(text)
        if expires == INF:
            entry = pack(start, stop, seed, crc, shard.number, first or seq, size)
        else:
            entry = pack_timed(start, stop, seed, crc, shard.number, first or seq, size, expires)
            index.deadlines.push(expires, first or seq, key)
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
            self._compactor.step_in_passing(shard, freed)

    def delete(self, key: Key, old: Entry) -> None:
        """Write a tombstone of a key that is there; its shard has been parsed."""
        key, name = self._name(key, old)
        shard = self._by_number[unpack_shard(old)[0]]
        index = self._index
        index.seq = seq = index.seq + 1
        if not seq & 255 or seq > MOST_SEQ:
            self._check_now_and_then(seq, [shard])
        line = records.tombstone(name, seq)
        if shard.end + len(line) > records.MOST_BYTES:
            self._shrink(shard, len(line))
        step = self._single
        step.shard, step.key, step.entry = shard, key, None
        step.end, step.live = shard.end, shard.live
        step.live_after = shard.live - line_size(old)
        self._steps.current = step
        shard.append(line)
        if self._sync:
            self._shards.sync_one(shard)
        del self._entries[key]
        if self._room.marks is not None:
            self._room.marks.discard(key)
        shard.live = step.live_after
        shard.last_seq = seq
        self._steps.current = BEGUN
        if shard.end - shard.live > self._slack and shard.worn:
            self._compactor.step_in_passing(shard, line_size(old))

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

    def _shrink(self, shard: Shard, size: int) -> None:
        """Compact a shard that has reached its largest size. Raises LimitError where that is in vain."""
        if shard.dead:
            self._compactor.compact(shard)
        shard.check_room(size)

    # Many records

    def change(
        self, texts: Mapping[Key, bytes], deadlines: Sequence[float], gone: Iterable[Key]
    ) -> None:
        """Delete what is there of `gone`, then write the texts: all of it or nothing."""
        gone = [key for key in gone if key in self._entries]
        if len(texts) + len(gone) > 1:
            if self._room.bounded:
                self._make_room(texts, deadlines, gone)
            self._write(texts, deadlines, gone)
        else:
            for key in gone:
                self.delete(key, self._entries[key])
            for key, text in texts.items():
                self.put(key, self._entries.get(key), text, deadlines[0])

    def _make_room(
        self, texts: Mapping[Key, bytes], deadlines: Sequence[float], gone: Collection[Key] = ()
    ) -> None:
        """Evict what must go before this is written. Raises LimitError where nothing may be."""
        victims = self._room.victims(texts, deadlines, gone)
        if victims:
            self._write({}, [], victims, atomic=False)
            self._index.unseen += len(victims)
            self.evicted += len(victims)

    def _write(
        self,
        texts: Mapping[Key, bytes],
        deadlines: Sequence[float],
        gone: Collection[Key],
        *,
        atomic: bool = True,
    ) -> None:
        """Delete keys that are there, then write records, all or nothing; of parsed shards.

        Not `atomic`: a kill may leave some of it done.
        """
        batch = Batch(self._index, self._shards, self._journal, sync=self._sync, atomic=atomic)
        first = self._index.seq + 1
        self._add_tombstones(batch, gone)
        self._add_records(batch, texts, deadlines, gone)
        last = self._index.seq
        parts = list(batch.parts.values())
        self._check_now_and_then(last, [part.shard for part in parts])
        for part in parts:
            part.shard.check_room(part.size)
        self._shards.do_postponed()
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
        self._room.forget(gone)
        self._steps.current = BEGUN
        for part in parts:
            if part.shard.worn:
                self._compactor.step_in_passing(part.shard, part.size - part.growth)

    def _append(self, part: Part) -> None:
        # Large records are written as they are, small ones are joined, which costs less.
        if part.size > self._vector * len(part.lines):
            part.shard.append_parts(part.lines, part.size)
        else:
            part.shard.append(b"".join(part.lines))

    def _add_tombstones(self, batch: Batch, gone: Iterable[Key]) -> None:
        for each in gone:
            old = self._entries[each]
            _, name = self._name(each, old)
            part = batch.part(self._by_number[unpack_shard(old)[0]])
            self._index.seq = seq = self._index.seq + 1
            line = records.tombstone(name, seq)
            part.lines.append(line)
            part.size += len(line)
            part.growth -= line_size(old)
            part.last_seq = seq
            batch.gone.append(each)

    def _add_records(
        self,
        batch: Batch,
        texts: Mapping[Key, bytes],
        deadlines: Sequence[float],
        gone: Collection[Key],
    ) -> None:
        # Column by column, and without an object for each record that garbage collection looks at.
        olds = list(map(self._entries.get, texts))
        if gone:
            away = set(gone)
            olds = [None if key in away else old for key, old in zip(texts, olds, strict=True)]
        plain, names, numbers = self._named(list(texts), olds)
        places = [0 if old is None else place(old) for old in olds]
        seqs = range(self._index.seq + 1, self._index.seq + 1 + len(names))
        self._index.seq += len(names)
        heads = records.heads(names, seqs, places, deadlines)
        seeds = list(map(crc32, heads))
        crcs = list(map(crc32, texts.values(), seeds))
        tails = records.tails(crcs)
        for key, old, number, first, seq, expires, head, text, seed, crc, tail in zip(
            plain, olds, numbers, places, seqs, deadlines, heads, texts.values(), seeds, crcs, tails,
            strict=True,
        ):  # fmt: skip
            part = batch.parts.get(number) or batch.part(self._by_number[number])
            at = part.end + part.size
            start = at + len(head)
            stop = start + len(text)
            size = stop + TAIL - at
            if stop + TAIL > records.MOST_BYTES:
                part.shard.check_room(part.size + size)
            part.lines += (head, text, tail)
            part.size += size
            part.growth += size if old is None else size - line_size(old)
            part.last_seq = seq
            if expires == INF:
                batch.entries[key] = pack(start, stop, seed, crc, number, first or seq, size)
            else:
                batch.entries[key] = pack_timed(
                    start, stop, seed, crc, number, first or seq, size, expires
                )
                self._index.deadlines.push(expires, first or seq, key)

    def _named(
        self, wanted: list[Key], olds: list[Entry | None]
    ) -> tuple[list[Key], list[bytes], list[int]]:
        """Keys as they will come back, their JSON texts, and the shards they fall into."""
        mask = self._mask
        if set(map(type, wanted)) == {str}:
            try:
                names = list(map(without_spare, map(dumps, wanted)))
            except TypeError:
                names = list(map(keys.text, wanted))  # which says what is wrong
            return wanted, names, [crc & mask for crc in map(crc32, names)]
        pairs = [self._name(key, old) for key, old in zip(wanted, olds, strict=True)]
        plain = [key for key, _ in pairs]
        return plain, [name for _, name in pairs], [keys.bucket(key, mask) for key in plain]
