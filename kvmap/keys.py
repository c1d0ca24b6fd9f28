"""Keys: what may be one, its JSON text, and the bucket it falls into.

A key is a str, int, float, bool, None, or a tuple of these, nested as deep as you like. As in a
dict, `1`, `1.0` and `True` are one key, so they share a bucket although their texts differ.
"""

from __future__ import annotations

import math
from typing import Any
from zlib import crc32

from orjson import dumps

Key = Any

_LEAST, _LARGEST = -(2**63), 2**64 - 1
_DEEPEST = 200


def text(key: Key) -> bytes:
    """The key as JSON. Raises TypeError or ValueError, naming the key, for what can't be one."""
    if type(key) is not str:
        check(key)
    try:
        return dumps(key)
    except TypeError as error:
        raise ValueError(f"key {shown(key)}: {error}") from None


def bucket(key: Key, mask: int) -> int:
    """The number of the key's shard: a CRC-32 of its JSON text, the same in every run.

    Raises TypeError for what can't be a key; it may be equal to one all the same, as Decimal(1) is
    to 1.
    """
    return crc32(canonical_text(key)) & mask


def canonical_text(key: Key) -> bytes:
    """One JSON text for all keys that are equal: `1`, `1.0` and `True` share `1`.

    Raises TypeError for what can't be a key; it may be equal to one all the same, as for `bucket`.
    """
    return dumps(key) if type(key) is str else dumps(_canonical(key))


def plain(key: Key) -> Key:
    """The key as it will come back from the file: subclasses of str and int become the plain type.

    Raises TypeError or ValueError for what can't be a key.
    """
    if type(key) is str:
        return key
    check(key)
    same = _plain(key)
    if same != key or hash(same) != hash(key):
        raise TypeError(f"key {shown(key)}: {type(key).__name__} is not equal to its JSON text")
    return same


def from_json(value: Any, depth: int = 0) -> Key:
    """The key that a decoded JSON text stands for. Raises ValueError for what can't be a key."""
    if type(value) is list:
        if depth > _DEEPEST:
            raise ValueError(f"a key nested deeper than {_DEEPEST} levels")
        parts: list[Any] = value
        return tuple([from_json(part, depth + 1) for part in parts])
    if type(value) is dict:
        raise ValueError("a JSON object is no key")
    return value


def check(key: Key, depth: int = 0) -> None:
    """Raise TypeError or ValueError, naming the key, unless it can be one."""
    if isinstance(key, str) or key is None or type(key) is bool:
        return
    if isinstance(key, int):
        if not _LEAST <= key <= _LARGEST:
            raise ValueError(f"key {shown(key)}: JSON keys hold integers of up to 64 bits")
    elif isinstance(key, float):
        if not math.isfinite(key):
            raise ValueError(f"key {shown(key)}: not a number that JSON can hold")
    elif type(key) is tuple:
        if depth > _DEEPEST:
            raise ValueError(f"key {shown(key)}: nested deeper than {_DEEPEST} levels")
        parts: tuple[Any, ...] = key
        for part in parts:
            check(part, depth + 1)
    else:
        hash(key)  # an unhashable key fails as it does in a dict
        raise TypeError(
            f"key {shown(key)}: {type(key).__name__} can't be a key; "
            "use str, int, float, bool, None or a tuple of these"
        )


def shown(thing: Any) -> str:
    """A short repr for an error's message; it never fails."""
    try:
        text = repr(thing)
    except Exception:
        return f"<{type(thing).__name__}>"
    return text if len(text) <= 80 else text[:60] + "…" + text[-16:]


def _plain(key: Key) -> Key:
    """The plain type's own conversion, past whatever a subclass overrides."""
    if type(key) is tuple:
        parts: tuple[Any, ...] = key
        return tuple([_plain(part) for part in parts])
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, int) and type(key) is not bool:
        return int.__int__(key)
    if isinstance(key, float):
        return float.__float__(key)
    return key


def _canonical(key: Key, depth: int = 0) -> Any:
    """One form for all keys that are equal, fit for JSON. Raises TypeError for what can't be a key."""
    if type(key) is tuple:
        if depth > _DEEPEST:
            raise TypeError(f"a key nested deeper than {_DEEPEST} levels")
        parts: tuple[Any, ...] = key
        return [_canonical(part, depth + 1) for part in parts]
    if key is None:
        return None
    same = _plain(key)
    if hash(same) != hash(key) or not isinstance(same, (str, int, float)):
        raise TypeError(f"key {shown(key)}: {type(key).__name__} can't be a key")
    if isinstance(same, str):
        return same
    if isinstance(same, float) and not same.is_integer():
        return same if math.isfinite(same) else None
    whole = int(same)
    if _LEAST <= whole <= _LARGEST:
        return whole
    try:
        return float(whole)  # too large for JSON, but it may be equal to a float that is a key
    except OverflowError:
        return None
