"""The names and numbers by which a server recognizes an operation that is repeated."""

from __future__ import annotations

import secrets
import time
from collections import deque
from typing import Final

PREFIX: Final = b"caller:"
"""What begins a caller's name among the fields of a partition's state."""


class Caller:
    """One of those who call at the same time: a name, and the number of its last operation."""

    __slots__ = ("name", "number")

    def __init__(self) -> None:
        self.name = PREFIX + secrets.token_hex(6).encode()
        self.number = 0

    def next_number(self) -> bytes:
        """The next operation's number: above the last, and near the time in microseconds."""
        self.number = max(self.number + 1, time.time_ns() // 1000)
        return b"%d" % self.number


class Callers:
    """As many callers as have been needed at once, so that the server keeps few numbers."""

    def __init__(self) -> None:
        self._idle: deque[Caller] = deque()
        self.names: list[bytes] = []
        """The names of all callers so far."""

    def take(self) -> Caller:
        """A caller that nobody else uses until it is given back."""
        try:
            return self._idle.pop()
        except IndexError:
            caller = Caller()
            self.names.append(caller.name)
            return caller

    def give_back(self, caller: Caller) -> None:
        self._idle.append(caller)

    def renew(self) -> None:
        """In a forked child: use no name of the parent's."""
        self._idle = deque()
        self.names = []
