"""Operations on many keys: one script for each partition that they fall into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from orjson import dumps

from kvmap import keys
from kvmap.engine import INF, Changes, Seen
from kvmap.errors import LimitError
from kvmap.keys import Key
from kvmap.redis import fields
from kvmap.redis.scripts import Script, reading, writing
from kvmap.redis.server import Server
from kvmap.redis.texts import limit_texts, moment_text, ttl_text
from kvmap.settings import Settings

_GET_MANY: Final = reading("get_many")
_DEADLINES: Final = reading("deadlines")
_PUT_MANY: Final = writing("put_many")
_DELETE_MANY: Final = writing("delete_many")
_COMMIT: Final = writing("commit")

MOST_ARGUMENTS: Final = 1_000_000
"""Arguments of one command; a server takes 1,048,576."""

MOST_BYTES: Final = 500_000_000
"""Bytes of one command; a server closes the connection at 1 GB, and at 512 MB for one value."""


class _Part:
    """What one partition gets of a batch."""

    __slots__ = ("deadlines", "entries", "forms", "indexes")

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.deadlines: list[bytes] = []
        self.forms: list[bytes] = []
        self.indexes: list[int] = []


class Batches:
    """Each is all or nothing in a partition; partitions follow each other."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._partition = server.layout.partition

    def get_many(self, keys: Iterable[Key]) -> list[bytes | None]:
        """The texts of these keys, each None where it is missing."""
        return self._read(_GET_MANY, keys)

    def deadlines(self, keys: Iterable[Key]) -> list[float | None]:
        """The deadlines of these keys: INF where there is none, None where the key is missing."""
        return [None if text is None else float(text) for text in self._read(_DEADLINES, keys)]

    def _read(self, script: Script, keys: Iterable[Key]) -> list[bytes | None]:
        """What a script says of each of these keys; None where it says nothing."""
        wanted: dict[int, list[tuple[int, bytes]]] = {}
        count = 0
        for key in keys:
            field = fields.of_any(key)
            if field is not None:
                wanted.setdefault(self._partition(field), []).append((count, field))
            count += 1
        texts: list[bytes | None] = [None] * count
        for partition, asked in wanted.items():
            names = [field for _, field in asked]
            found = fields.split(self._server.read(script, partition, *names))
            for (position, _), text in zip(asked, found, strict=True):
                texts[position] = text or None
        return texts

    def put_many(self, texts: Mapping[Key, bytes], ttl: float, settings: Settings) -> None:
        """Write these entries. Raises LimitError where they are more than one command holds."""
        self._put(texts.items(), None, ttl, settings)

    def put_until(self, entries: Mapping[Key, tuple[bytes, float]], settings: Settings) -> None:
        """As `put_many`, each entry with a deadline of its own: Unix seconds, or INF."""
        texts = [(key, text) for key, (text, _) in entries.items()]
        self._put(texts, [deadline for _, deadline in entries.values()], INF, settings)

    def _put(
        self,
        texts: Iterable[tuple[Key, bytes]],
        deadlines: list[float] | None,
        ttl: float,
        settings: Settings,
    ) -> None:
        parts: dict[int, _Part] = {}
        for index, (key, text) in enumerate(texts, 1):
            field, form = fields.to_write(key)
            number = self._partition(field)
            part = parts.get(number)
            if part is None:
                part = parts[number] = _Part()
            part.entries += (field, text)
            part.indexes.append(index)
            if deadlines is not None:
                part.deadlines.append(moment_text(deadlines[index - 1]))
            if form:
                part.forms += (field, form)
        each = b"each" if deadlines is not None else ttl_text(ttl)
        begin = (each, ttl_text(settings.ttl), *limit_texts(settings.limits))
        for part in parts.values():
            check_size([*part.entries, *part.deadlines, *part.forms])
        place = b""
        for number, part in parts.items():
            distances = dumps(part.indexes) if len(parts) > 1 else b""
            count = b"%d" % len(part.indexes)
            arguments = (
                *begin,
                count,
                place,
                distances,
                *part.entries,
                *part.deadlines,
                *part.forms,
            )
            place = self._server.write(_PUT_MANY, number, *arguments)

    def delete_many(self, keys: Iterable[Key]) -> int:
        """Remove these keys; return how many were there."""
        parts: dict[int, dict[bytes, None]] = {}
        for key in keys:
            field = fields.of_any(key)
            if field is not None:
                parts.setdefault(self._partition(field), {})[field] = None
        for names in parts.values():
            check_size(names)
        return sum(
            [
                int(self._server.write(_DELETE_MANY, number, *names))
                for number, names in parts.items()
            ]
        )

    def commit(self, changes: Changes, seen: Seen, settings: Settings) -> None:
        """Make a transaction's changes in one script.

        Raises ConflictError, and ValueError where its keys lie in several partitions.
        """
        texts = [(fields.of_any(key), text) for key, text in seen.texts.items()]
        arguments = [
            *limit_texts(settings.limits),
            b"" if seen.state is None else _text(seen.state),
        ]
        looked_at = [(field, text or b"") for field, text in texts if field is not None]
        arguments.append(b"%d" % len(looked_at))
        for each in looked_at:
            arguments += each
        gone = [field for field in map(fields.of_any, changes.deleted) if field is not None]
        arguments += (b"%d" % len(gone), *gone, b"%d" % len(changes.written))
        for key, (text, deadline) in changes.written.items():
            field, form = fields.to_write(key)
            arguments += (field, text, moment_text(deadline), form)
        check_size(arguments)
        partition = self._only_partition([*seen.texts, *changes.deleted, *changes.written])
        if partition is not None:
            self._server.write(_COMMIT, partition, *arguments)

    def _only_partition(self, names: list[Key]) -> int | None:
        """The partition of all these keys; None where there are none."""
        first: Key = None
        only: int | None = 0 if self._server.layout.partitions == 1 else None
        for key in names if only is None else ():
            field = fields.of_any(key)
            if field is None:
                continue
            partition = self._partition(field)
            if only is None:
                first, only = key, partition
            elif partition != only:
                raise ValueError(
                    f"a transaction can't hold the keys {keys.shown(first)} and {keys.shown(key)}: "
                    f"they are in the partitions {only} and {partition} of "
                    f"{self._server.layout.partitions}; open a new map with shards=1"
                )
        return only


def check_size(arguments: Iterable[bytes]) -> None:
    """Raise LimitError for more than the server takes in one command."""
    sizes = [len(each) for each in arguments]
    if len(sizes) > MOST_ARGUMENTS or sum(sizes) > MOST_BYTES:
        raise LimitError(
            f"{len(sizes):,} keys and values of {sum(sizes):,} bytes are too much for one step on a "
            f"server: at most {MOST_ARGUMENTS:,}, of {MOST_BYTES:,} bytes; write them in parts"
        )


def _text(token: object) -> bytes:
    if not isinstance(token, bytes):
        raise TypeError(f"{token!r} is no state of this map")
    return token
