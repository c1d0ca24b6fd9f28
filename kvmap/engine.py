"""What stands behind a map: atomic operations on JSON texts and deadlines, by key.

`Engine` is what `KVMap` needs of a store, and all that it knows of one. The memory engine, the disk
engine and the Redis engine implement it; `tests/contract` runs against each of them.

A key reaches an engine as `kvmap.keys.plain` returns it, a value as the JSON text that a codec
made. The face has checked both against the limits of one entry. The limits of the whole store are
the engine's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from kvmap.keys import Key

if TYPE_CHECKING:
    from kvmap.settings import Settings
    from kvmap.stats import Stats

INF: Final = math.inf
"""As a time to live or a deadline: the entry stays."""

KEEP_DEADLINE: Final = -1.0
"""As a time to live: an entry that is there keeps its deadline; a new one gets the default."""

Progress = Callable[[int, int], object]
"""Called as progress(done, total)."""


class If(Enum):
    """A condition on the entry that a write finds."""

    ABSENT = "absent"
    PRESENT = "present"


Condition = If | bytes | None
"""`bytes`: the value's text is still this one. None: no condition."""


class Changes:
    """What a transaction does to the state that it began with."""

    __slots__ = ("deleted", "written")

    def __init__(self) -> None:
        self.deleted: set[Key] = set()
        """Keys to delete first."""
        self.written: dict[Key, tuple[bytes, float]] = {}
        """Then the texts and deadlines (Unix seconds, or INF) to write, in this order.

        A key that is also in `deleted` moves to the end of the map's order.
        """

    def __bool__(self) -> bool:
        return bool(self.deleted or self.written)


class Seen:
    """What a transaction has read, for engines whose other writers do not wait for it."""

    __slots__ = ("state", "texts")

    def __init__(self) -> None:
        self.texts: dict[Key, bytes | None] = {}
        """The text that was read of each key; None where the key was missing."""
        self.state: object = None
        """`Engine.state()` at the first read of more than single keys; None where there was none."""


class State(Protocol):
    """Atomic operations on entries: on an engine's, or on what a transaction's block sees.

    Any number of threads may call them. Every operation raises StoreClosedError once the engine is
    closed. A write raises ReadOnlyError on a read-only engine, LimitError where the store would grow
    beyond its limits, and OSError (or a subclass) where the medium refuses; it is wholly done or not
    at all, an exception such as KeyboardInterrupt included.

    `ttl` is in seconds: positive, INF for an entry that stays, or KEEP_DEADLINE.
    """

    @property
    def settings(self) -> Settings:
        """Limits, default time to live, codec and eviction, as kept in the store."""
        ...

    @property
    def version(self) -> int:
        """A number that rises with every write of this process.

        An iteration that finds it unchanged need not read again what it has read. Closing raises it
        too. A server, whose iterations are not live, returns 0.
        """
        ...

    @property
    def net_size(self) -> int:
        """Entries inserted less entries deleted; an expiry or an eviction does not change it.

        An iteration that finds it changed raises RuntimeError, as a dict's does. A server, whose
        iterations survive other writers, returns 0.
        """
        ...

    @property
    def next_deadline(self) -> float:
        """No entry expires before this moment, in Unix seconds of `now()`; INF where none does.

        A server returns INF: its pages are right for the moment at which it made them.
        """
        ...

    # Reading

    def get(self, key: Key, /) -> bytes | None:
        """The text of an entry that is there and has not expired; None for any other key.

        Raises TypeError for an unhashable key, CorruptStoreError for a damaged record.
        """
        ...

    def get_many(self, keys: Iterable[Key], /) -> list[bytes | None]:
        """The text of each of these keys, as `get` returns it; the state of one moment."""
        ...

    def __contains__(self, key: object, /) -> bool:
        """Whether an entry is there and has not expired. Raises TypeError for an unhashable key."""
        ...

    def __len__(self) -> int:
        """The number of entries that have not expired."""
        ...

    def peek(self, count: int, /) -> tuple[int | None, list[tuple[Key, bytes]]]:
        """How many entries there are, and the first few; for a repr, so without a lock.

        None, and no entries, where finding out would take more than a moment.
        """
        ...

    def keys(self, *, reverse: bool = False) -> Iterator[list[Key]]:
        """The keys in insertion order, in pages that are made when they are asked for.

        A page holds the keys that are there, and not expired, when it is made. Where entries were
        inserted or deleted since the call, a local engine raises RuntimeError at the next page.
        """
        ...

    def items(self, *, reverse: bool = False) -> Iterator[tuple[list[Key], list[bytes]]]:
        """The entries in insertion order, in pages as those of `keys`: keys, and their texts."""
        ...

    def deadline(self, key: Key, /) -> float | None:
        """When the entry expires, in Unix seconds; INF where it stays, None where it is missing."""
        ...

    def deadlines(self, keys: Iterable[Key], /) -> list[float | None]:
        """What `deadline` returns for each of these keys; one trip to a server."""
        ...

    def expiring(self, seconds: float, /) -> dict[Key, bytes]:
        """The entries that expire within so many seconds. O(those entries)."""
        ...

    def now(self) -> float:
        """The time by which entries expire, in Unix seconds."""
        ...

    # Writing

    def put(self, key: Key, text: bytes, ttl: float, only_if: Condition = None, /) -> bool:
        """Write an entry if the condition holds; return whether it was written.

        An entry that is there keeps its place in the order, and its key as first written.

        Raises ValueError, naming the key, where it has no JSON text.
        """
        ...

    def put_many(self, texts: Mapping[Key, bytes], ttl: float, /) -> None:
        """Write all of these or, where anything fails, none."""
        ...

    def put_until(self, entries: Mapping[Key, tuple[bytes, float]], /) -> None:
        """As `put_many`; each entry has a deadline of its own, in Unix seconds or INF.

        A key whose deadline has passed is deleted.
        """
        ...

    def setdefault(self, key: Key, text: bytes, ttl: float, /) -> bytes:
        """Write an entry if the key is missing; return the text that is there afterwards."""
        ...

    def incr(
        self, key: Key, by: int | float, default: int | float | None, ttl: float, /
    ) -> int | float:
        """Add to a number, or to `default` where the key is missing; return the sum.

        `ttl` is KEEP_DEADLINE unless the caller named one. Raises KeyError where the key is missing
        and `default` is None, and what `kvmap.values.add` raises.
        """
        ...

    def expire(self, key: Key, ttl: float, /) -> bool:
        """Give an entry a new deadline; return whether it was there."""
        ...

    def pop(self, key: Key, /) -> bytes | None:
        """Remove an entry and return its text; None where it is missing."""
        ...

    def popitem(self, *, last: bool = True) -> tuple[Key, bytes] | None:
        """Remove the newest entry, or the oldest, in amortized O(1); None where there is none."""
        ...

    def delete(self, key: Key, /) -> bool:
        """Remove an entry; return whether it was there."""
        ...

    def delete_many(self, keys: Iterable[Key], /) -> int:
        """Remove all of these keys that are there, or none; return how many were there."""
        ...

    def clear(self) -> None:
        """Remove all entries in one step, also for a crash."""
        ...

    def purge(self) -> int:
        """Drop what has expired; return how many entries these are since the last call."""
        ...


class Engine(State, Protocol):
    """A store: its entries, and what a map needs to look after it."""

    @property
    def name(self) -> str:
        """What messages call the store: its path, or its URL without a password."""
        ...

    @property
    def path(self) -> Path | None:
        """The store's directory; None where it has none."""
        ...

    @property
    def remote(self) -> bool:
        """Whether each call is a trip to a server, where others write at the same time.

        So who needs many entries asks for them at once, and for each only once.
        """
        ...

    @property
    def closed(self) -> bool:
        """Whether the engine was closed, or belongs to the process this one was forked from."""
        ...

    def damaged(self, key: Key, reason: str) -> Exception:
        """The error for a text that was read of `key` and can't be decoded; says where it stands."""
        ...

    # Transactions

    def hold(self, holder: object, *, wait: bool = True) -> bool:
        """Make other writers wait until `release(holder)`; return whether that succeeded.

        With `wait`, waits for another holder to release it, and raises HeldError after a minute.
        Without, returns False at once. Any thread may release it. While it is held, its holder
        reads, and writes only by `commit`. A server returns True and lets others write: `commit`
        checks what was seen. Raises ReadOnlyError on a read-only engine.
        """
        ...

    def release(self, holder: object) -> None:
        """Let the others write again; harmless where this holder does not hold it."""
        ...

    @property
    def held(self) -> bool:
        """Whether somebody holds it, so that other writers wait. A server returns False."""
        ...

    def state(self) -> object:
        """A token that differs after any change of the store, for `Seen.state`.

        None where other writers wait for a transaction anyway.
        """
        ...

    def commit(self, changes: Changes, seen: Seen) -> None:
        """Make all these changes, or none; called between `hold` and `release`.

        Raises ConflictError, having changed nothing, where what was seen is no longer so.
        """
        ...

    # Care

    def refresh(self) -> None:
        """Move a read-only snapshot to the store's present state; nothing to do for the others."""
        ...

    def load(self, progress: Progress | None = None) -> None:
        """Read what is otherwise read when it is first needed."""
        ...

    def configure(self, settings: Settings) -> None:
        """Keep other settings in the store, from now on."""
        ...

    def stats(self) -> Stats:
        """Figures about the store. O(entries)."""
        ...

    def compact(self, progress: Progress | None = None) -> None:
        """Give back all space that holds no entry; does nothing where there is none to give."""
        ...

    def backup(self, path: Path, progress: Progress | None = None) -> None:
        """Write a copy of the store's state at one moment to a new directory.

        Raises io.UnsupportedOperation where the engine has no files.
        """
        ...

    def sync(self) -> None:
        """Return when everything so far would survive a power cut, as far as the medium allows."""
        ...

    def close(self) -> None:
        """Let go of the store; closing twice is harmless. What was held is released."""
        ...

    def after_fork(self) -> None:
        """Called in a forked child: give up, or renew, what belongs to the parent."""
        ...
