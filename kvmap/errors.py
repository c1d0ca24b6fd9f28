"""Every error that kvmap raises of its own; a missing key is a plain `KeyError`."""

from __future__ import annotations

import os


class KVMapError(Exception):
    """The base of all errors below, so that one `except` catches them."""


class StoreLockedError(KVMapError, BlockingIOError):
    """Another map has the store open; the message names its process, host and since when."""


class StoreClosedError(KVMapError, ValueError):
    """The map was closed, or belongs to the process that this one was forked from."""


class KeyExistsError(KVMapError, ValueError):
    """`create` found the key already there; nothing was changed."""


class LimitError(KVMapError, ValueError):
    """A key, a value or the store would grow beyond its limit; nothing was changed."""


class ReadOnlyError(KVMapError, TypeError):
    """The store was opened with flag "r"."""


class NotAStoreError(KVMapError, ValueError):
    """The path is no kvmap store, or its manifest cannot be used; nothing was changed."""


class CorruptStoreError(KVMapError, ValueError):
    """Bytes on disk are not what was written there.

    `file` is the path of the damaged file and `offset` the byte where the damage was met.
    """

    def __init__(self, file: str | os.PathLike[str], offset: int, reason: str) -> None:
        super().__init__(file, offset, reason)
        self.file = os.fspath(file)
        self.offset = offset
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"{self.file}, byte {self.offset}: {self.reason}; "
            "kvmap.verify() lists all damage, kvmap.repair() keeps what is whole"
        )
