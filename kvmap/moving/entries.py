"""What a source yields, and the errors of moving."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, Self

from kvmap.errors import KVMapError
from kvmap.keys import shown
from kvmap.settings import DEFAULT, Default


class SourceError(KVMapError, ValueError):
    """The source is not what it was said to be; nothing was loaded."""


class LoadError(KVMapError, ValueError):
    """An entry can't be loaded; those before it were."""


class ConflictingEntryError(LoadError):
    """The key of an entry is in the map already, and the load was asked not to overwrite it."""


class Item(NamedTuple):
    """An entry of a source.

    `expires` is its deadline in Unix seconds; infinite: the entry stays; DEFAULT: the source does
    not say, so that the map's default time to live holds.
    """

    key: Any
    value: Any
    expires: float | Default = DEFAULT
    line: int = 0
    """The line of the file that the entry begins in, counted from 1; 0 where there are no lines."""

    @property
    def moment(self) -> float | None:
        """The deadline in Unix seconds; None where there is none."""
        finite = isinstance(self.expires, float) and self.expires < math.inf
        return self.expires if finite else None  # type: ignore[return-value]

    @property
    def place(self) -> str:
        """What messages call the entry."""
        name = f"key {shown(self.key)}"
        return f"line {self.line}, {name}" if self.line else name


class Unreadable(NamedTuple):
    """An entry that can't be read or stored: which one, and why."""

    entry: str
    reason: str


class Source(ABC):
    """Something that entries come from. Iterating reads it, once; `close` when done."""

    unit: ClassVar[str] = "entries"
    """What `done` and `total` count: "entries" or "bytes"."""
    tagged: ClassVar[bool] = False
    """Whether values are JSON as a store holds it, so that the map's codec reads them."""
    pickled: bool = False
    """Whether reading it runs code that the source contains."""
    total: int | None = None
    """How many units there are; None where that is not known."""
    done: int = 0
    """How many units were read."""

    @abstractmethod
    def __iter__(self) -> Iterator[Item | Unreadable]: ...

    def close(self) -> None:  # noqa: B027  # most sources hold nothing open
        """Close what was opened; harmless when repeated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def read(
    key: Any, value: Callable[[], Any], expires: float | Default = DEFAULT
) -> Item | Unreadable:
    """The entry whose value this call returns; Unreadable where the call raises."""
    try:
        return Item(key, value(), expires)
    except Exception as error:  # a pickle may raise anything, for instance where a class is gone
        reason = f"can't be read: {type(error).__name__}: {error}"
        return Unreadable(f"key {shown(key)}", reason)


def check_deadline(expires: Any) -> float:
    """A deadline in Unix seconds, infinite for None. Raises ValueError for anything else."""
    if expires is None:
        return math.inf
    if type(expires) not in (int, float) or not math.isfinite(expires):
        raise ValueError(f'"expires" must be Unix seconds or null, not {shown(expires)}')
    return float(expires)
