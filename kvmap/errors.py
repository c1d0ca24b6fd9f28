"""Every error that kvmap raises of its own; a missing key is a plain `KeyError`."""

from __future__ import annotations

import os


class KVMapError(Exception):
    """The base of all errors that are kvmap's own, so that one `except` catches them.

    >>> import kvmap
    >>> try:
    ...     kvmap.verify(kvmap.__path__[0])
    ... except kvmap.KVMapError as error:
    ...     print(type(error).__name__)
    NotAStoreError
    """


class StoreLockedError(KVMapError, BlockingIOError):
    """Another map has the store open; the message names its process, host and since when.

    `kvmap.open(path, timeout=10)` waits ten seconds for it; `kvmap.snapshot(path)` reads beside it.

    >>> import kvmap
    >>> with kvmap.open() as d:
    ...     kvmap.open(d.path)
    Traceback (most recent call last):
        ...
    kvmap.errors.StoreLockedError: [Errno ...] ... is open in this process since ...
    """


class StoreClosedError(KVMapError, ValueError):
    """The map was closed, or belongs to the process that this one was forked from.

    >>> import kvmap
    >>> d = kvmap.open()
    >>> d.close()
    >>> d["ada"] = 1
    Traceback (most recent call last):
        ...
    kvmap.errors.StoreClosedError: ...
    """


class KeyExistsError(KVMapError, ValueError):
    """`KVMap.create` found the key already there; nothing was changed.

    >>> import kvmap
    >>> with kvmap.open(":memory:") as d:
    ...     d.create("ada", 1)
    ...     d.create("ada", 2)
    Traceback (most recent call last):
        ...
    kvmap.errors.KeyExistsError: key 'ada' is there already
    """


class LimitError(KVMapError, ValueError):
    """A key, a value or the store would grow beyond its limit; nothing was changed.

    >>> import kvmap
    >>> with kvmap.open(limits=kvmap.Limits(key_chars=3)) as d:
    ...     d["adam"] = 1
    Traceback (most recent call last):
        ...
    kvmap.errors.LimitError: ...
    """


class ReadOnlyError(KVMapError, TypeError):
    """A write to a snapshot, or to a store that was opened with flag "r"; nothing was changed.

    >>> import kvmap
    >>> with kvmap.open() as d, kvmap.snapshot(d.path) as then:
    ...     then["ada"] = 1
    Traceback (most recent call last):
        ...
    kvmap.errors.ReadOnlyError: ...
    """


class NotAStoreError(KVMapError, ValueError):
    """The path is no kvmap store, or its manifest cannot be used; nothing was changed.

    >>> import kvmap, os
    >>> kvmap.open(os.path.dirname(kvmap.__file__))
    Traceback (most recent call last):
        ...
    kvmap.errors.NotAStoreError: ... is not empty and no kvmap store ...
    """


class HeldError(KVMapError, TimeoutError):
    """A write waited a minute for another thread's transaction or edit; nothing was changed.

    `verify` raises it where the store's owner changes the files faster than they can be read. Both may
    be tried again.

    >>> issubclass(HeldError, TimeoutError)
    True
    """


class ConflictError(KVMapError, RuntimeError):
    """What a transaction or an edit has read was changed by another process; nothing was written.

    Only a map on a server raises it. Run the block again:

    >>> import kvmap
    >>> with kvmap.open(":memory:") as d:  # or "redis://localhost/0/bank"
    ...     d.update(ada=10, bob=0)
    ...     while True:
    ...         try:
    ...             with d.transaction():
    ...                 d["ada"] -= 3
    ...                 d["bob"] += 3
    ...             break
    ...         except kvmap.ConflictError:
    ...             continue
    ...     dict(d)
    {'ada': 7, 'bob': 3}
    """


class StoreUnavailableError(KVMapError, ConnectionError):
    """The server can't be reached, or refuses the call; nothing was changed. It may be called again.

    >>> issubclass(StoreUnavailableError, ConnectionError)
    True
    """


class StoreTimeoutError(KVMapError, TimeoutError):
    """The server did not answer within `timeout` seconds; nothing was changed. It may be called again.

    >>> issubclass(StoreTimeoutError, TimeoutError)
    True
    """


class OutcomeUnknownError(KVMapError, ConnectionError):
    """The server went away before it answered a write, which was done once or not at all.

    A write such as `d[key] = value` may be made again. Before `incr`, `create` or `pop` is made again,
    read the entry to see whether it was done.

    >>> issubclass(OutcomeUnknownError, ConnectionError)
    True
    """


class CorruptStoreError(KVMapError, ValueError):
    """What is stored is not what was written there.

    `file` is the path of the damaged file, `offset` the byte where the damage was met, and
    `reason` what is wrong there. The other entries can be read; `kvmap.repair` keeps them. On a
    server `file` is the URL and the key there, and `offset` is None.

    >>> import kvmap
    >>> with kvmap.open(shards=1) as d:
    ...     d["ada"] = "Lovelace"
    >>> shard = d.path / "shards" / "00.jsonl"
    >>> _ = shard.write_text(shard.read_text().replace("Lovelace", "Lovelock"))
    >>> with kvmap.open(d.path) as d:
    ...     d["ada"]
    Traceback (most recent call last):
        ...
    kvmap.errors.CorruptStoreError: .../shards/00.jsonl, byte 0: ...
    """

    def __init__(self, file: str | os.PathLike[str], offset: int | None, reason: str) -> None:
        super().__init__(file, offset, reason)
        self.file = os.fspath(file)
        self.offset = offset
        self.reason = reason

    @property
    def place(self) -> str:
        """Where the damage is, for a message."""
        return self.file if self.offset is None else f"{self.file}, byte {self.offset}"

    def __str__(self) -> str:
        if self.offset is None:
            advice = "the other entries are whole; write this one anew, or delete it"
        else:
            advice = "kvmap.verify() lists all damage, kvmap.repair() keeps what is whole"
        return f"{self.place}: {self.reason}; {advice}"
