"""The scripts that run on the server: one for each operation, so that each is atomic."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Final

_TIME: Final = b"local time = call('TIME')"


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

    def by_clock(self, key: bytes) -> Script:
        """This script, by a clock of a test: a key that holds Unix seconds."""
        clock = b"local time = {call('GET', '%b'), 0}" % key
        return Script(self.name, self.source.replace(_TIME, clock), is_write=self.is_write)


def _part(name: str) -> bytes:
    return (files(__package__) / "scripts" / f"{name}.lua").read_bytes()


@cache
def reading(name: str) -> Script:
    """A script that changes nothing."""
    return Script(name, _part("_reading") + _part(name), is_write=False)


@cache
def writing(name: str) -> Script:
    """A script that a repeated call does not run a second time."""
    source = _part("_reading") + _part("_writing") + _part(name)
    return Script(name, source, is_write=True)
