"""Values: their JSON text, and the refusal of what would not come back equal.

orjson turns more into JSON than can be told apart afterwards: a UUID becomes a str, an enum its
value, NaN null. Such values are refused here, with the place where they stand.
"""

from __future__ import annotations

import enum
import marshal
import math
from typing import Any

from orjson import (
    OPT_PASSTHROUGH_DATACLASS,
    OPT_PASSTHROUGH_DATETIME,
    JSONDecodeError,
    JSONEncodeError,
    dumps,
    loads,
)

from kvmap.keys import Key, shown
from kvmap.plain import (
    LARGEST,
    LEAST,
    SCALARS,
    Form,
    Misfit,
    members,
    parts,
    plain,
)

_OPTIONS = OPT_PASSTHROUGH_DATACLASS | OPT_PASSTHROUGH_DATETIME
_SHORT = 160
"""Bytes of a text, at most, whose value a loop checks sooner than marshal does."""
_SPARE = 4096
"""Bytes of a text, at most, that may be far less than those of its buffer."""
_SMALL = 1024
"""Bytes of a text on average, at most, whose values marshal checks together: it copies them."""


def encode(value: Any) -> bytes:
    """The value as JSON text. O(size of the value).

    Raises TypeError or ValueError, naming the place in the value, for what would not come back
    equal to what went in. A tuple is written as a list.

    >>> encode({"name": "Ada", "tags": ("a", "b")})
    b'{"name":"Ada","tags":["a","b"]}'
    >>> encode({"tags": ["a", "b", 3j]})
    Traceback (most recent call last):
        ...
    TypeError: value['tags'][2]: complex is not JSON; codec="extended" keeps it
    """
    try:
        text = dumps(value, None, _OPTIONS)
    except JSONEncodeError:
        pass
    else:
        if _is_kept(value, text):
            return text
    try:
        return dumps(plain(value, 0, _JSON), None, _OPTIONS)
    except Misfit as misfit:
        raise misfit.error() from None


def encode_many(values: list[Any]) -> list[bytes]:
    """Each value as JSON text, as `encode` makes it and with its errors.

    Quicker than one by one for many small values. O(size of the values).

    >>> encode_many([1, {"name": "Ada"}])
    [b'1', b'{"name":"Ada"}']
    """
    try:
        texts = [without_spare(dumps(value, None, _OPTIONS)) for value in values]
    except JSONEncodeError:
        return list(map(encode, values))
    if sum(map(len, texts)) < _SMALL * len(texts) and _are_kept(values, texts):
        return texts
    return [
        text if _is_kept(value, text) else encode(value)
        for value, text in zip(values, texts, strict=True)
    ]


def without_spare(text: bytes) -> bytes:
    """A copy of a small text that is to be kept: what orjson returns holds on to the kilobytes that
    it was written into."""
    return b"%b" % text if len(text) < _SPARE else text


def decode_many(texts: list[bytes]) -> list[Any]:
    """The values of these JSON texts, in their order. O(size of the texts).

    Quicker than one by one for small texts. Raises the orjson.JSONDecodeError, a ValueError, of the
    first text that is not JSON.

    >>> decode_many([b"1", b'{"name":"Ada"}'])
    [1, {'name': 'Ada'}]
    """
    if sum(map(len, texts)) < _SMALL * len(texts):
        try:
            values: list[Any] = loads(b"[" + b",".join(texts) + b"]")
        except JSONDecodeError:
            values = []
        # Texts that are not JSON alone may be JSON together, as `[1` and `2]` are. The number shows
        # it, unless others, such as `3,4`, make up for it: only a forger would arrange that, and
        # could have stored any value.
        if len(values) == len(texts):
            return values
    return list(map(loads, texts))


def add(key: Key, text: bytes, by: int | float) -> tuple[bytes, int | float]:
    """Add to the number that the JSON text of a key holds: the text of the sum, and the sum. O(1).

    A sum of ints is an int. Raises TypeError where the text or `by` is no number (a bool is none),
    and ValueError where the sum does not fit in 64 bits or is not finite.

    >>> add("visits", b"41", 1)
    (b'42', 42)
    >>> add("visits", b'"41"', 1)
    Traceback (most recent call last):
        ...
    TypeError: the value of key 'visits' is a str ('41'), not a number; nothing can be added to it
    """
    if isinstance(by, bool) or not isinstance(by, (int, float)):
        raise TypeError(f"{shown(by)} is of type {type(by).__name__}; an int or float can be added")
    number = loads(text)
    if type(number) is not int and type(number) is not float:
        name = "None" if number is None else f"a {type(number).__name__} ({shown(number)})"
        raise TypeError(
            f"the value of key {shown(key)} is {name}, not a number; nothing can be added to it"
        )
    try:
        total = number + by
    except OverflowError:
        total = math.inf
    if isinstance(total, int):
        total = int(total)
        if not LEAST <= total <= LARGEST:
            raise ValueError(
                f"key {shown(key)}: {number} + {shown(by)} does not fit in 64 bits; nothing was added"
            )
    else:
        total = float(total)
        if not math.isfinite(total):
            raise ValueError(
                f"key {shown(key)}: {number} + {shown(by)} is not a finite number; nothing was added"
            )
    return dumps(total), total


def increment(
    key: Key, text: bytes | None, by: int | float, default: int | float | None
) -> tuple[bytes, int | float]:
    """What `add` returns for the text of an entry, or for `default` where there is none. O(1).

    Raises KeyError where both are None, and what `add` raises.

    >>> increment("visits", None, 1, 0)
    (b'1', 1)
    """
    if text is None:
        if default is None:
            raise KeyError(key)
        text = encode(default)
    return add(key, text, by)


def _is_kept(value: Any, text: bytes) -> bool:
    """Whether this text, which orjson wrote, returns the value."""
    if len(text) < _SHORT or type(value) is str:
        return _is_plain(value)
    return _are_kept(value, (text,))


def _is_plain(value: Any) -> bool:
    """Whether every part of the value is of a type that JSON returns as it was (or a tuple)."""
    kind: type[Any] = type(value)
    parts: Any
    if kind is dict:
        parts = value.values()
    elif kind is list or kind is tuple:
        parts = value
    else:
        return kind in SCALARS or (kind is float and math.isfinite(value))
    for part in parts:
        kind = type(part)
        if kind in SCALARS:
            continue
        if kind is float:
            if part - part != 0.0:  # NaN or infinite
                return False
        elif not _is_plain(part):
            return False
    return True


def _are_kept(value: Any, texts: tuple[bytes] | list[bytes]) -> bool:
    """Whether these texts, which orjson wrote of the value or of its parts, return it.

    marshal refuses every type but Python's own, subclasses too; those that are not JSON's have no
    text. A copy is what it costs. Measured on 16 KB of 1,300 parts: marshal 20 µs, a loop 80, sets
    of the types level by level 63, the decoded text compared 85, orjson's writing 15.
    """
    try:
        packed = marshal.dumps(value)
    except ValueError:
        return False
    if (
        (0x7F in packed or 0xFF in packed)  # the last byte of a NaN or an infinity
        and any(text.find(b"null") >= 0 for text in texts)
        and _may_hold_nan(packed)
    ):
        return _is_plain(value)
    return True


def _may_hold_nan(packed: bytes) -> bool:
    """Whether marshal's bytes can be those of a NaN or an infinity: by the last two of its eight."""
    return any(
        not before or before[-1] >= 0xF0
        for last in (b"\x7f", b"\xff")
        for before in packed.split(last)[:-1]
    )


def _other(value: Any, depth: int) -> Any:
    """A tuple as a list. Raises Misfit for what has no JSON text."""
    kind: type[Any] = type(value)
    if kind is tuple:
        return parts(value, depth, _JSON)
    if kind is int:
        raise Misfit(
            ValueError, f'{shown(value)} does not fit in 64 bits; codec="extended" keeps it'
        )
    if kind is float:
        raise Misfit(
            ValueError,
            f'{value} is not JSON; store null (None) instead, or codec="extended" keeps it',
        )
    from kvmap.extended import TYPES  # which imports decimal, uuid and zoneinfo

    if kind in TYPES:
        hint = 'codec="extended" keeps it'
    elif isinstance(value, enum.Enum):
        hint = "store its .value, or open with type= or encode="
    else:
        hint = "make it a dict, list, str or number, or open with type= or encode="
    raise Misfit(TypeError, f"{kind.__name__} is not JSON; {hint}")


def _object(found: dict[Any, Any], depth: int) -> dict[str, Any]:
    return members(found, depth, _JSON)


_JSON = Form(_other, _object)
