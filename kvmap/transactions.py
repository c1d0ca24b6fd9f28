"""Transactions: writes that are collected in the journal and then made as one."""

from __future__ import annotations

import threading

from kvmap import keys
from kvmap.errors import StoreClosedError
from kvmap.keys import Key
from kvmap.overlay import Overlay
from kvmap.record import TAIL, Entry, moved, number, unpack_order, unpack_shard, unpack_value
from kvmap.writer import Batch, WritableStore


class TransactionalStore(WritableStore):
    """A store in which one thread at a time can make many writes at once."""

    def _begin_transaction(self) -> None:
        with self._gate:
            self._index = {}
            self._writer = threading.get_ident()
            self._overlay = self._target = Overlay(self._base)

    def _end_transaction(self) -> None:
        """Go back to the base; may be called again when it was interrupted."""
        if self._why is not None:
            return
        overlay = self._overlay
        if overlay is not None:
            if self._handed is not None and not overlay.committed:
                self._handed.clear()  # the block may have changed any of them in place
            if overlay.passed:
                self._rebuild_heap()
        with self._gate:
            self._target = self._index = self._base
            self._overlay = None
        if self._store.journal.end or self._store.stale:
            self._store.drop_journal(sync=self._sync)

    def _commit(self) -> None:
        """Write the transaction's outcome: a commit line in the journal, then the shards.

        No other write may follow before the transaction has ended, for it would be lost with it.
        """
        self._check_idle()
        self._busy = True
        overlay = self._overlay
        if self._why is not None or overlay is None:
            raise StoreClosedError(f"{self._why} ({self._store.path}); the transaction is undone")
        for key, entry in overlay.lapsed.items():
            overlay.tombstones.setdefault(key, self._removal(key, entry))
        gone = [key for key in overlay.gone if key in overlay.fresh or key in overlay.tombstones]
        lines = [
            *[self._final(key, entry) for key, entry in overlay.over.items()],
            *[self._final(key, entry) for key, entry in overlay.fresh.items()],
            *[(*overlay.tombstones[key], key, None) for key in gone if key not in overlay.fresh],
        ]
        if lines:
            self._target = self._base
            try:
                self._write(
                    self._final_batch(lines),
                    gone,
                    seal=lambda: self._store.seal_journal(sync=self._sync),
                )
            except BaseException:
                self._store.unseal_journal(sync=self._sync)
                raise
        overlay.committed = True

    def _final(self, key: Key, entry: Entry) -> tuple[int, bytes, Key, Entry]:
        """The shard that a transaction's record goes into from the journal, and its line."""
        end, size = unpack_value(entry)[1] + TAIL, unpack_order(entry)[1]
        mapped = self._maps[unpack_shard(entry)[0]]
        assert mapped is not None
        return keys.bucket(key, self._mask), mapped[end - size : end], key, entry

    def _final_batch(self, lines: list[tuple[int, bytes, Key, Entry | None]]) -> Batch:
        # A file's last record must be its latest: what is written after a crash counts from it.
        lines.sort(key=lambda each: number(each[1]))
        batch = Batch(self._store)
        for shard, line, key, entry in lines:
            old = self._base.get(key)
            freed = 0 if old is None else unpack_order(old)[1]
            at = batch.add(shard, line, -freed if entry is None else len(line) - freed)
            if entry is not None:
                end = unpack_value(entry)[1] + TAIL
                batch.entries[key] = moved(entry, at + len(line) - end, shard)
        # A key that was inserted and then overwritten in the block stays where it was inserted.
        batch.entries = dict(
            sorted(batch.entries.items(), key=lambda each: unpack_order(each[1])[0])
        )
        return batch
