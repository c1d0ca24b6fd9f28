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
    JSONEncodeError,
    dumps,
)

from kvmap.keys import shown

_OPTIONS = OPT_PASSTHROUGH_DATACLASS | OPT_PASSTHROUGH_DATETIME
_ALWAYS_PLAIN = frozenset({str, int, bool, type(None)})
_NUMBERS = frozenset({int, float, bool})
_LEAST, _LARGEST = -(2**63), 2**64 - 1
_LONG = 256
"""Bytes of a value's text from which on its parts may be many."""
_LARGE = 1 << 20
"""Bytes of text that are not worth another copy to check them all in one step."""
_DEEPEST = 254
"""Levels of nesting that orjson writes."""


def encode(value: Any) -> bytes:
    """The value as JSON text. O(size of the value).

    Raises TypeError or ValueError, naming the place in the value, for what would not come back
    equal to what went in.

    >>> encode({"name": "Ada", "tags": ("a", "b")})
    b'{"name":"Ada","tags":["a","b"]}'
    >>> encode({"tags": ["a", "b", 3j]})
    Traceback (most recent call last):
        ...
    TypeError: value['tags'][2]: complex is not JSON; open with encode= to store it
    """
    try:
        text = dumps(value, None, _OPTIONS)
    except JSONEncodeError:
        pass
    else:
        if type(value) in _ALWAYS_PLAIN or (
            _is_plain(value) if len(text) < _LONG else _is_plain_at_length(value, text)
        ):
            return text
    return dumps(_plain(value, "value", 0), None, _OPTIONS)


def encode_all(values: list[Any]) -> list[bytes]:
    """Each value as JSON text, as `encode` makes it and with its errors; quicker for many."""
    try:
        texts = [dumps(value, None, _OPTIONS) for value in values]
    except JSONEncodeError:
        return list(map(encode, values))
    if sum(map(len, texts)) < _LARGE and _is_plain_at_length(values, b"".join(texts)):
        return texts
    return [
        text if _is_plain_at_length(value, text) else encode(value)
        for value, text in zip(values, texts, strict=True)
    ]


def _is_plain(value: Any) -> bool:
    """Whether every part of the value is of a type that JSON returns as it was (or a tuple)."""
    kind: type[Any] = type(value)
    parts: Any
    if kind is dict:
        parts = value.values()
    elif kind is list or kind is tuple:
        parts = value
        if len(parts) > 8:
            # An array of one kind, at a quarter of the loop's cost.
            kinds = set(map(type, parts))
            if kinds <= _ALWAYS_PLAIN or (kinds <= _NUMBERS and math.isfinite(sum(parts))):
                return True
    elif kind is float:
        return math.isfinite(value)
    else:
        return kind in _ALWAYS_PLAIN
    for part in parts:
        kind = type(part)
        if kind in _ALWAYS_PLAIN:
            continue
        if kind is float:
            if part - part != 0.0:  # NaN or infinite
                return False
        elif not _is_plain(part):
            return False
    return True


def _is_plain_at_length(value: Any, text: bytes) -> bool:
    """As `_is_plain`, of a value with a long text, at a third of the cost where it has many parts."""
    try:
        # Which refuses every type but Python's own, subclasses too. Of its own types that are not
        # JSON's, the text tells already.
        packed = marshal.dumps(value)
    except ValueError:
        return False
    if _may_hold_nan(packed) and b"null" in text:
        return _is_plain(value)
    return True


def _may_hold_nan(packed: bytes) -> bool:
    """Whether marshal's bytes can be those of a NaN or an infinity: by the last two of its eight."""
    return any(
        not before or before[-1] >= 0xF0
        for last in (b"\x7f", b"\xff")
        if last in packed  # which is found out many times faster
        for before in packed.split(last)[:-1]
    )


def _plain(value: Any, place: str, depth: int) -> Any:
    """The value in plain types: subclasses of dict, list, str, int and float that are equal to them.

    Raises TypeError or ValueError for the first part that JSON can't return equal.
    """
    kind: type[Any] = type(value)
    same: Any = value
    if depth >= _DEEPEST and isinstance(value, (dict, list, tuple)):
        raise ValueError(f"{_short(place)}: nested deeper than {_DEEPEST} levels, or in itself")
    if isinstance(value, str):
        same = str.__str__(value)
        try:
            same.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{_short(place)}: the str is not valid UTF-8: {error}") from None
    elif isinstance(value, int):
        same = value if kind is bool else int.__int__(value)
        if not _LEAST <= same <= _LARGEST:
            raise ValueError(f"{_short(place)}: {shown(same)} does not fit in 64 bits")
    elif isinstance(value, float):
        same = float.__float__(value)
        if not math.isfinite(same):
            raise ValueError(f"{_short(place)}: {same} is not JSON; store None or a str instead")
    elif isinstance(value, dict):
        found: dict[Any, Any] = value
        same = {}
        for key, part in dict.items(found):
            if not isinstance(key, str):
                raise TypeError(
                    f"{_short(place)}: the key {shown(key)} is of type {type(key).__name__}; "
                    "a JSON object has only str keys"
                )
            name = _plain(key, f"{place}, its key {shown(key)}", depth)
            if hash(name) != hash(key):
                raise TypeError(
                    f"{_short(place)}: the key {shown(key)} is of type {type(key).__name__}, "
                    "which hashes otherwise than the str JSON returns"
                )
            same[name] = _plain(part, f"{place}[{shown(key)}]", depth + 1)
    elif isinstance(value, list):
        items: list[Any] = value
        same = [_plain(x, f"{place}[{i}]", depth + 1) for i, x in enumerate(list.__iter__(items))]
    elif kind is tuple:
        parts: tuple[Any, ...] = value
        return [_plain(part, f"{place}[{i}]", depth + 1) for i, part in enumerate(parts)]
    elif value is not None:
        hint = "store its .value, or " if isinstance(value, enum.Enum) else ""
        raise TypeError(
            f"{_short(place)}: {kind.__name__} is not JSON; {hint}open with encode= to store it"
        )
    if kind is not type(same) and not _is_equal(value, same):
        raise TypeError(
            f"{_short(place)}: {kind.__name__} is not equal to the plain value JSON returns; "
            "open with encode= to store it"
        )
    return same


def _is_equal(value: Any, same: Any) -> bool:
    """Whether a value of a subclass is equal to its plain form; tuples in it count as equal."""
    if isinstance(value, dict):
        items: dict[Any, Any] = value
        same = dict(dict.items(items))
    elif isinstance(value, list):
        parts: list[Any] = value
        same = list(list.__iter__(parts))
    return bool(value == same)


def _short(place: str) -> str:
    return place if len(place) <= 200 else place[:100] + "…" + place[-80:]
