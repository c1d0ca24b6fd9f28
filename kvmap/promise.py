"""Entries that expire between the listing of all keys and the reading of their values."""

from __future__ import annotations

import threading

from kvmap.keys import Key

SOON = 60.0
"""Seconds within which a loop over listed keys is expected to read their values."""


class Promise:
    """The values of entries that expire soon, for the thread that has just listed all keys.

    `dict(d)` lists the keys and then reads each value. Time stands still for it: an entry that
    expires in between is read once more. A key that anybody writes or deletes is none of these.
    """

    def __init__(self, texts: dict[Key, bytes]) -> None:
        self._thread = threading.get_ident()
        self._texts = texts

    def take(self, key: Key) -> bytes | None:
        """The text of such an entry, once."""
        if self._thread != threading.get_ident():
            return None
        return self._texts.pop(key, None)

    def drop(self, key: Key) -> None:
        """The entry was changed."""
        self._texts.pop(key, None)
