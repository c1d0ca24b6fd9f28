"""Every error that kvmap raises of its own; a missing key is a plain `KeyError`."""

from __future__ import annotations

import os


class KVMapError(Exception):
    """The base of all errors that are kvmap's own, so that one `except` catches them."""


class StoreLockedError(KVMapError, BlockingIOError):
    """Another map has the store open; the message names its process, host and since when.

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
    """`KVMap.create` found the key already there; nothing was changed."""


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
    """A write to a store that was opened with flag "r"; nothing was changed."""


class NotAStoreError(KVMapError, ValueError):
    """The path is no kvmap store, or its manifest cannot be used; nothing was changed.

    >>> import kvmap, os
    >>> kvmap.open(os.path.dirname(kvmap.__file__))
    Traceback (most recent call last):
        ...
    kvmap.errors.NotAStoreError: ... is not empty and no kvmap store ...
    """


class HeldError(KVMapError, TimeoutError):
    """A write waited a minute for another thread's transaction or edit; nothing was changed."""


class ConflictError(KVMapError, RuntimeError):
    """What a transaction or an edit has read was changed by another process; nothing was written.

    Run the block again.
    """


class StoreUnavailableError(KVMapError, ConnectionError):
    """The server can't be reached, or refuses the call; nothing was changed."""


class StoreTimeoutError(KVMapError, TimeoutError):
    """The server did not answer in time; nothing was changed."""


class OutcomeUnknownError(KVMapError, ConnectionError):
    """The server went away before it answered a write, which was done once or not at all."""


class CorruptStoreError(KVMapError, ValueError):
    """What is stored is not what was written there.

    `file` is the path of the damaged file, `offset` the byte where the damage was met, and
    `reason` what is wrong there. The other entries can be read; `kvmap.repair` keeps them. On a
    server `file` is the URL and the key there, and `offset` is None.
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
