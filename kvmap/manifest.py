"""The manifest: what a store is, and how it was left when it was closed.

One line of JSON under a checksum, written whole and synced at each change. `closed` is there only
while no write has been made since the store was closed: the length and CRC-32 of each shard, None
for one that was not read since a crash. With the first write it becomes `least`: what each shard's
file begins with, whatever a crash does to the rest; None for one that was rewritten since.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from orjson import JSONDecodeError, dumps, loads

from kvmap.errors import NotAStoreError
from kvmap.record import sealed, unsealed
from kvmap.shard import HIGHEST, State

NAME = "kvmap.json"
FORMAT = 1
MOST_SHARDS = 4096


@dataclass(frozen=True)
class Limits:
    """Bounds on what a store takes; None where there is none.

    `key_chars` counts the characters of a str key, of another key's JSON text. `value_bytes` counts
    the bytes of a value's JSON. `store_bytes` counts the bytes of all live records. A write that
    would go beyond one raises LimitError; nothing is evicted.

    >>> Limits(key_chars=32, value_bytes=16 * 1024)
    Limits(key_chars=32, value_bytes=16384, store_bytes=None)
    """

    key_chars: int | None = None
    value_bytes: int | None = None
    store_bytes: int | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            bound = getattr(self, each.name)
            if bound is not None and type(bound) is not int:
                raise TypeError(f"limit {each.name} must be an int or None, not {bound!r}")
            if bound is not None and bound < 1:
                raise ValueError(f"limit {each.name} must be at least 1, not {bound}")


class Manifest:
    """What `kvmap.json` holds."""

    def __init__(
        self,
        shards: int,
        ttl: float | None = None,
        limits: Limits | None = None,
        *,
        seq: int = 0,
        emptying: bool = False,
        index: str | None = None,
        closed: list[State | None] | None = None,
        least: list[State | None] | None = None,
    ) -> None:
        self.shards = shards
        self.ttl = ttl
        self.limits = limits or Limits()
        self.seq = seq
        """A number that no write had passed when the store was closed; all since have higher ones."""
        self.emptying = emptying
        """The shards' files are being removed; whoever finds this set goes on with it."""
        self.index = index
        """The checksum of the stored index, where there is one that can be used."""
        self.closed = closed
        self.least = least

    def changed(self, **changes: Any) -> Manifest:
        """A copy of it, but for these fields."""
        return Manifest(**{**vars(self), **changes})

    def to_bytes(self) -> bytes:
        content: dict[str, Any] = {
            "format": FORMAT,
            "shards": self.shards,
            "ttl": self.ttl,
            "limits": asdict(self.limits),
            "seq": self.seq,
        }
        if self.emptying:
            content["emptying"] = True
        if self.index is not None:
            content["index"] = self.index
        if self.closed is not None:
            content["closed"] = [state and list(state) for state in self.closed]
        if self.least is not None:
            content["least"] = [state and list(state) for state in self.least]
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
            return cls._from_json(content)
        except (LookupError, TypeError, ValueError) as error:
            raise NotAStoreError(f"{path}: not a manifest that kvmap wrote: {error!r}") from None

    @classmethod
    def _from_json(cls, content: dict[str, Any]) -> Manifest:
        count = check_shards(content["shards"])
        found = cls(
            shards=count,
            ttl=content["ttl"],
            limits=Limits(**content["limits"]),
            seq=content["seq"],
            emptying=content.get("emptying", False),
            index=content.get("index"),
            closed=_states(content.get("closed"), count),
            least=_states(content.get("least"), count),
        )
        if _count(found.seq) > HIGHEST:
            raise ValueError("seq")
        if found.ttl is not None and not 0 < found.ttl < math.inf:
            raise ValueError("ttl")
        if type(found.emptying) is not bool or not isinstance(found.index, str | None):
            raise ValueError("emptying or index")
        return found


def check_shards(count: Any) -> int:
    """Return a number of shards that a store can have, or raise TypeError or ValueError."""
    if type(count) is not int:
        raise TypeError(f"shards must be an int, not {type(count).__name__}")
    if not 1 <= count <= MOST_SHARDS or count & (count - 1):
        raise ValueError(f"shards must be a power of two from 1 to {MOST_SHARDS}, not {count}")
    return count


def _states(listed: Any, count: int) -> list[State | None] | None:
    if listed is None:
        return None
    if len(listed) != count:
        raise ValueError(f"{len(listed)} shards instead of {count}")
    return [
        None if each is None else State(_count(each[0]), _count(each[1]), each[2] is True)
        for each in listed
    ]


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value
