"""The manifest: what a store is, and how it was left.

One line of JSON under a checksum, replaced as a whole and synced at each change. While a store is in
use the manifest says so; a crash leaves it like that. Then each shard's file begins with the bytes
that it had when the store was closed, and what follows them is what a crash has left. The close of
a store whose shards could not all be read again leaves those shards like that, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from orjson import JSONDecodeError, dumps, loads

from kvmap.disk.records import MOST_BYTES, MOST_SEQ, sealed, unsealed
from kvmap.errors import NotAStoreError
from kvmap.settings import Settings

NAME: Final = "kvmap.json"
FORMAT: Final = 1
OUTDATED: Final = "a record has a higher sequence number"

DEFAULT_SHARDS: Final = 32
MOST_SHARDS: Final = 32
"""Up to Python 3.12 a shard takes two descriptors: its file's and its map's. So these are 64."""


class Known(NamedTuple):
    """What the manifest knows of a shard's file."""

    length: int
    """Bytes that were there, whole and synced, when the store was last closed."""
    exact: bool
    """Whether that is the whole file."""


SKIPPED: Final = 1 << 16
"""Sequence numbers that are left out after a crash. Writes that failed before it may have used them,
and a power cut may bring such a write back: two entries with one place in the order, else."""

EMPTY: Final = Known(0, exact=True)
UNKNOWN: Final = Known(0, exact=False)


@dataclass(frozen=True)
class Manifest:
    """What `kvmap.json` holds."""

    settings: Settings
    shards: tuple[Known, ...]
    seq: int = 0
    """No write before the last close had a higher sequence number."""
    in_use: bool = False
    """Whether the store is being written to, or a crash has ended that."""
    emptying: bool = False
    """The shards' files are being removed; who finds this set goes on with that."""

    @classmethod
    def new(cls, settings: Settings, shards: int) -> Manifest:
        """The manifest of an empty store."""
        return cls(settings, (EMPTY,) * shards)

    def changed(self, **changes: Any) -> Manifest:
        """A copy of it, but for these fields."""
        return replace(self, **changes)

    def to_bytes(self) -> bytes:
        content = {
            "format": FORMAT,
            **self.settings.to_json(),
            "seq": self.seq,
            "in_use": self.in_use,
            "emptying": self.emptying,
            "shards": [list(known) for known in self.shards],
        }
        return sealed(dumps(content)[:-1])

    @classmethod
    def from_bytes(cls, path: str, data: bytes) -> Manifest:
        """Read a manifest, checking everything. Raises NotAStoreError, saying what is wrong."""
        try:
            content = loads(data)
        except JSONDecodeError as error:
            raise NotAStoreError(
                f"{path}, byte {error.pos}: not a manifest; kvmap.repair() makes a new one"
            ) from None
        if not isinstance(content, dict) or type(content.get("format")) is not int:
            raise NotAStoreError(f"{path}: not a kvmap manifest")
        if content["format"] > FORMAT:
            raise NotAStoreError(
                f"{path}: the store has format {content['format']}, "
                f"this kvmap reads formats up to {FORMAT}; install a newer kvmap"
            )
        if content["format"] != FORMAT or unsealed(data) is None:
            raise NotAStoreError(
                f"{path}, byte 0: the manifest was damaged or edited (its checksum is wrong); "
                "kvmap.repair() makes a new one"
            )
        try:
            return cls(
                Settings.from_json(content),
                _shards(content["shards"]),
                _count(content["seq"], MOST_SEQ),
                _flag(content["in_use"]),
                _flag(content["emptying"]),
            )
        except (LookupError, TypeError, ValueError) as error:
            raise NotAStoreError(f"{path}: not a manifest that kvmap wrote: {error!r}") from None


def check_shards(count: Any) -> int:
    """Return a number of shards that a store can have. Raises TypeError or ValueError."""
    if type(count) is not int:
        raise TypeError(f"shards must be an int, not {type(count).__name__}")
    if not 1 <= count <= MOST_SHARDS or count & (count - 1):
        raise ValueError(f"shards must be a power of two from 1 to {MOST_SHARDS}, not {count}")
    return count


def _shards(listed: Any) -> tuple[Known, ...]:
    check_shards(len(listed))
    return tuple([Known(_count(length, MOST_BYTES), _flag(exact)) for length, exact in listed])


def _count(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r} is not a count up to {most}")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{value!r} is neither true nor false")
    return value
