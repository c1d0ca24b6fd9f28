"""The journal: where the shards ended before a batch, so that a crash leaves all of it or nothing.

    {"first":18,"last":20,"ends":[[3,1048],[17,512]],"crc":"6e0e05cf"}

It is there only while a batch is being appended. Who finds it cuts the shards back to these ends.
A power cut may bring back a journal whose removal was not synced. It does no harm: nothing that was
written after it was synced either, and it names the sequence numbers of its batch, so it is not
taken for a shard that holds something else there.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from orjson import JSONDecodeError, dumps, loads

from kvmap.disk.folder import JOURNAL, Folder
from kvmap.disk.parser import Record, parse
from kvmap.disk.records import sealed, unsealed
from kvmap.disk.shard import Shard


class Ends(NamedTuple):
    """What a journal says: the sequence numbers of its batch, and where shards ended before it."""

    first: int
    last: int
    ends: dict[int, int]


class Journal:
    """The journal of an open store. Whoever calls holds the engine's lock."""

    __slots__ = ("_content", "_folder", "removal_unsynced")

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._content = b""
        """Of the last batch; empty until its journal is complete."""
        self.removal_unsynced = False
        """Whether a power cut may bring back a journal that was removed."""

    def write(self, first: int, last: int, shards: Iterable[Shard], *, sync: bool) -> None:
        """Note where these shards end, before the records `first` to `last` are appended."""
        content = {
            "first": first,
            "last": last,
            "ends": [[shard.number, shard.end] for shard in shards],
        }
        self._content = b""
        line = sealed(dumps(content)[:-1])
        self._folder.write(JOURNAL, line, sync=sync)
        if sync:
            self._folder.sync()
        self._content = line

    def restore(self, *, sync: bool) -> None:
        """Be there again, where it was removed: the batch that it is about is to be undone."""
        if self._content:
            if self._folder.size(JOURNAL) is None:
                self._folder.replace(JOURNAL, self._content, sync=sync)
            if sync:
                self._folder.sync()

    def remove(self, *, sync: bool) -> None:
        """The batch is complete, or undone. Harmless where there is no journal."""
        self.removal_unsynced = True
        self._folder.remove(JOURNAL)
        if sync:
            self.sync()
        self._content = b""

    def sync(self) -> None:
        """Return when no power cut can bring a journal back that was removed."""
        if self.removal_unsynced:
            self._folder.sync()
            self.removal_unsynced = False


def read_journal(folder: Folder) -> Ends | None:
    """What the journal says; None where there is none, or where a crash has cut it short.

    A kill cuts it short only before the first byte of its batch is written. A power cut may do so
    later, where the batch was not to be synced.
    """
    if folder.size(JOURNAL) is None:
        return None
    try:
        data = folder.read(JOURNAL)
    except FileNotFoundError:  # the owner has just removed it
        return None
    with suppress(JSONDecodeError, LookupError, TypeError, ValueError):
        if unsealed(data) is not None:
            content: dict[str, Any] = loads(data)
            first, last = content["first"], content["last"]
            ends: dict[int, int] = dict(content["ends"])
            if {type(each) for each in (first, last, *ends, *ends.values())} == {int}:
                return Ends(first, last, ends)
    return None


def is_about(journal: Ends, shards: Iterable[Shard]) -> bool:
    """Whether the shards, which are open, are as the batch of this journal may have left them."""
    by_number = {shard.number: shard for shard in shards}
    if not journal.ends.keys() <= by_number.keys() or min(journal.ends.values(), default=0) < 0:
        return False
    for number, end in journal.ends.items():
        shard = by_number[number]
        if end < shard.known.length:
            return False  # the store was closed since
        if end and shard.end >= end and shard.read(end - 1, end) != b"\n":
            return False
        record = _record_at(shard, end)
        if record is not None and not journal.first <= record.seq <= journal.last:
            return False
    return True


def _record_at(shard: Shard, at: int) -> Record | None:
    """The whole record that begins at byte `at`, if there is one."""
    _, data = next(shard.stretches(at, size=1 << 12), (at, b""))
    with suppress(ValueError):
        return parse(data[: data.find(b"\n") + 1], shard.number, at)
    return None
