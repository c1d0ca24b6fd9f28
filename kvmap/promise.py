"""Entries that expire between the listing of all keys and the reading of their values."""

from __future__ import annotations

import threading

from kvmap.engine import State
from kvmap.keys import Key

_START = 1.0
_EACH = 20e-6
"""Seconds that `dict(d)` may take until it reads the first value, and for each entry."""


class Promise:
    """The values of entries that expire soon, for the thread that has just listed all keys.

    `dict(d)` lists the keys and then reads each value. Time stands still for it: an entry that
    expires in between is read once more. A key that anybody writes or deletes is none of these, nor
    one that was found missing. The promise ends when `dict(d)` must be done.
    """

    def __init__(self, state: State) -> None:
        """For the entries of this moment, which are about to be listed."""
        self._thread = threading.get_ident()
        self._now = state.now
        lasts = _START + _EACH * len(state)
        self._end = self._now() + lasts
        self._texts = state.expiring(lasts)

    def take(self, key: Key) -> bytes | None:
        """The text of such an entry, once."""
        if self._thread != threading.get_ident() or self._now() > self._end:
            return None
        return self._texts.pop(key, None)

    def drop(self, key: Key) -> None:
        """The entry was changed, or somebody found it missing."""
        self._texts.pop(key, None)
