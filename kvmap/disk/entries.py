"""The entries of given keys, as they are at this moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kvmap.disk.index import Index
from kvmap.disk.lookup import Lookup
from kvmap.disk.reader import Reader
from kvmap.disk.records import UNTIMED, Entry, deadline, unpack_value
from kvmap.disk.room import Room
from kvmap.disk.shards import Shards
from kvmap.disk.steps import Steps
from kvmap.errors import CorruptStoreError
from kvmap.keys import Key, shown


class Entries:
    """What an engine reads of keys that it is given. Docstrings of `kvmap.engine.Engine` hold here."""

    def __init__(
        self,
        index: Index,
        lookup: Lookup,
        reader: Reader,
        shards: Shards,
        room: Room,
        steps: Steps,
        now: Callable[[], float],
        check_open: Callable[[], None],
    ) -> None:
        self._index = index
        self._entries = index.entries
        self._lookup = lookup
        self._reader = reader
        self._shards = shards
        self._room = room
        self._steps = steps
        self._now = now
        self._check_open = check_open

    def find(self, key: Any) -> Entry | None:
        """The entry of a key, expired or not. Raises StoreClosedError."""
        self._check_open()
        entry = self._lookup.find(key)
        if entry is None:
            self._check_open()  # closed meanwhile
        return entry

    def live(self, key: object) -> Entry | None:
        """The entry of a key; None where there is none, or where it has expired."""
        entry = self._entries.get(key)
        if entry is None and not self._index.settled:
            entry = self.find(key)
        if entry is not None and len(entry) > UNTIMED and deadline(entry) <= self._now():
            self.sweep()
            return None
        return entry

    def sweep(self) -> None:
        """Take out what has expired, so that a clock that is set back does not bring it back."""
        if self._steps.current is None:
            self._reader.sweep()

    def get_many(self, keys: Iterable[Key], /) -> list[bytes | None]:
        self._check_open()
        wanted = list(keys)
        texts = self._reader.get_many(wanted)
        if self._room.marks is not None:
            self._room.marks.update(
                [key for key, text in zip(wanted, texts, strict=True) if text is not None]
            )
        return texts

    def deadline(self, key: Key, /) -> float | None:
        entry = self.live(key)
        return None if entry is None else deadline(entry)

    def damaged(self, key: Key, reason: str) -> Exception:
        entry = self._entries.get(key)
        if entry is None:
            return ValueError(f"the value of key {shown(key)}: {reason}")
        start, _, _, _, number = unpack_value(entry)
        path = self._shards.all[number].path
        return CorruptStoreError(path, start, f"the value of key {shown(key)}: {reason}")
