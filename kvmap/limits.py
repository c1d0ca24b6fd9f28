"""Bounds on what a store takes."""

from __future__ import annotations

from dataclasses import dataclass, fields

from kvmap import keys
from kvmap.errors import LimitError
from kvmap.keys import Key


@dataclass(frozen=True)
class Limits:
    """Bounds on what a store takes; None where there is none.

    `key_chars` counts the characters of a str key, of another key's JSON text. `value_bytes` counts
    the bytes of a value's JSON. `entries` counts the entries, `store_bytes` the bytes of all live
    records. A write that would go beyond one raises LimitError and changes nothing; with `evict=`,
    other entries make room for it instead, where `entries` or `store_bytes` is the bound.

    >>> Limits(key_chars=32, value_bytes=16 * 1024)
    Limits(key_chars=32, value_bytes=16384, entries=None, store_bytes=None)
    """

    key_chars: int | None = None
    value_bytes: int | None = None
    entries: int | None = None
    store_bytes: int | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            bound = getattr(self, each.name)
            if bound is not None and type(bound) is not int:
                raise TypeError(f"limit {each.name} must be an int or None, not {bound!r}")
            if bound is not None and bound < 1:
                raise ValueError(f"limit {each.name} must be at least 1, not {bound}")

    def check_entry(self, key: Key, text: bytes) -> None:
        """Raise LimitError, naming the key, where a key or a value's JSON text is too long."""
        if self.key_chars is not None:
            length = len(key if type(key) is str else keys.text(key).decode())
            if length > self.key_chars:
                raise LimitError(
                    f"key {keys.shown(key)} has {length} characters, the limit is {self.key_chars}"
                )
        if self.value_bytes is not None and len(text) > self.value_bytes:
            raise LimitError(
                f"the value of key {keys.shown(key)} has {len(text)} bytes as JSON, the limit is "
                f"{self.value_bytes}"
            )
