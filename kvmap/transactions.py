"""Transactions: writes that are collected in the journal and then made as one."""

from __future__ import annotations

import threading

from kvmap import keys
from kvmap.errors import StoreClosedError
from kvmap.keys import Key
from kvmap.overlay import Overlay
from kvmap.record import TAIL, Entry, deadline, number, unpack_order, unpack_value
from kvmap.writer import Change, WritableStore


class TransactionalStore(WritableStore):
    """A store in which one thread at a time can make many writes at once."""

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
                self._handed.clear()  # the block may have changed any of them in place
            if overlay.passed:
                self._rebuild_heap()
            with self._gate:
                self._target = self._index = self._base
                self._overlay = None
        if self._store.journal.end or self._store.stale:
            self._store.drop_journal(sync=self._sync)

    def _commit(self) -> None:
        """Write the transaction's outcome: a commit line in the journal, then the shards."""
        overlay = self._overlay
        if self._why is not None or overlay is None:
            raise StoreClosedError(f"{self._why} ({self._store.path}); the transaction is undone")
        for key, entry in overlay.lapsed.items():
            overlay.tombstones.setdefault(key, self._removal(key, entry))
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
            changes.sort(key=lambda change: number(change[2]))
            self._target = self._base
            try:
                self._write_all(
                    changes, gone, seal=lambda: self._store.seal_journal(sync=self._sync)
                )
            except BaseException:
                self._store.unseal_journal(sync=self._sync)
                raise
        overlay.committed = True

    def _final(self, key: Key, entry: Entry) -> Change:
        """The change that brings a transaction's record from the journal into its shard."""
        start, end, seed, crc, shard = unpack_value(entry)
        place, size = unpack_order(entry)
        mapped = self._maps[shard]
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
