"""The scripts that run on the server: one for each operation, so that each is atomic."""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Final

_FUNCTION: Final = re.compile(r"^local function (\w+)", re.M)

_TIME: Final = b"local time = call('TIME')"

_LAST_PLACE: Final = b"local function last_place()\n  return place\n"
_LAST_PLACE_OF_MANY: Final = b"""local function last_place()
  return math.max(place, math.floor(now() * 1000000))
"""


class Script:
    """One operation: its source, and the name by which the server remembers it."""

    __slots__ = ("digest", "is_write", "name", "source")

    def __init__(self, name: str, source: bytes, *, is_write: bool) -> None:
        self.name = name
        self.source = source
        self.digest = sha1(source).hexdigest().encode()
        self.is_write = is_write
        """Whether its first two arguments are a caller's name and an operation's number."""

    def __repr__(self) -> str:
        return f"<script {self.name}>"

    def for_many(self) -> Script:
        """This script, for a map of several partitions: places in the order are microseconds.

        One partition counts its places, which saves asking for the time.
        """
        source = self.source.replace(_LAST_PLACE, _LAST_PLACE_OF_MANY)
        return Script(self.name, source, is_write=self.is_write)

    def by_clock(self, key: bytes) -> Script:
        """This script, by a clock of a test: a key that holds Unix seconds."""
        clock = b"local time = {call('GET', '%b'), 0}" % key
        return Script(self.name, self.source.replace(_TIME, clock), is_write=self.is_write)


def _part(name: str) -> str:
    return (files("kvmap.redis") / "scripts" / f"{name}.lua").read_text("utf-8")


def _with_helpers(*parts: str) -> bytes:
    """One source of these parts, without the local functions that nothing in it calls.

    Each function takes the server a tenth of a microsecond to define, at every call. A function
    begins with its comment and ends before an empty line.
    """
    pieces = [piece.strip("\n") for part in parts for piece in part.split("\n\n")]
    kept: list[str] = []
    for piece in reversed(pieces):
        defined = _FUNCTION.search(piece)
        if defined is None or any(re.search(rf"\b{defined[1]}\(", each) for each in kept):
            kept.append(piece)
    return "\n\n".join(reversed(kept)).encode()


@cache
def reading(name: str) -> Script:
    """A script that changes nothing."""
    return Script(name, _with_helpers(_part("_reading"), _part(name)), is_write=False)


@cache
def writing(name: str) -> Script:
    """A script that a repeated call does not run a second time."""
    source = _with_helpers(_part("_reading"), _part("_writing"), _part(name))
    return Script(name, source, is_write=True)
