"""The codec "extended": more of Python's own types, as tagged plain JSON.

A value of plain JSON types has the same text as with the codec "json". Any other is an object with
one member, whose name starts with `$`:

| Python                            | JSON                                                        |
|-----------------------------------|-------------------------------------------------------------|
| `b"ab"`                           | `{"$bytes":"YWI="}`, base64                                 |
| `bytearray(b"ab")`                | `{"$bytearray":"YWI="}`                                     |
| `(1, 2)`                          | `{"$tuple":[1,2]}`                                          |
| `{1, 2}`                          | `{"$set":[1,2]}`, sorted by the elements' texts             |
| `frozenset({1, 2})`               | `{"$frozenset":[1,2]}`                                      |
| `{1: "a"}`, some key is no `str`  | `{"$dict":[[1,"a"]]}`                                       |
| `{"$set": 1}`, a dict of your own | `{"$$set":1}`, if its one key starts with `$`               |
| `datetime(2026, 1, 2, 12)`        | `{"$datetime":"2026-01-02T12:00:00"}`, ISO 8601             |
| `datetime(…, tzinfo=UTC)`         | `{"$datetime":"2026-01-02T12:00:00+00:00"}`                 |
| `datetime(…, tzinfo=ZoneInfo(…))` | `{"$datetime":"…T12:00:00+09:00[Asia/Tokyo]"}`, RFC 9557    |
| `date(2026, 1, 2)`                | `{"$date":"2026-01-02"}`                                    |
| `time(12, 30)`                    | `{"$time":"12:30:00"}`                                      |
| `timedelta(days=1, seconds=1.5)`  | `{"$timedelta":"P1DT1.5S"}`, ISO 8601                       |
| `Decimal("1.50")`                 | `{"$decimal":"1.50"}`                                       |
| `UUID(int=5)`                     | `{"$uuid":"00000000-0000-0000-0000-000000000005"}`          |
| `1 + 2j`                          | `{"$complex":[1.0,2.0]}`                                    |
| `2**64`, beyond 64 bits           | `{"$int":"18446744073709551616"}`, up to 4,300 digits       |
| `nan`, `inf`, `-inf`              | `{"$float":"nan"}`, `{"$float":"inf"}`, `{"$float":"-inf"}` |

A subclass of `dict`, `list`, `str`, `int` or `float` that is equal to its plain value comes back as
that, as with "json". A subclass of any other type is refused.

A `fold` of 1 is written as `[_fold=1]`. A fixed offset keeps no name. Where the time zone has got
another offset since, the moment is kept, and the hour on the clock differs.

To decode runs no code but that of the types above. An object with one member whose name starts with
`$` and is no tag raises ValueError.
"""

from __future__ import annotations

import enum
import math
from typing import Any, Final
from uuid import UUID

from orjson import (
    OPT_PASSTHROUGH_DATACLASS,
    OPT_PASSTHROUGH_DATETIME,
    JSONEncodeError,
    dumps,
    loads,
)

from kvmap.keys import shown
from kvmap.plain import (
    DEEPEST,
    SCALARS,
    Form,
    Misfit,
    check_depth,
    members,
    parts,
    plain,
)
from kvmap.tags import READERS, WRITERS
from kvmap.values import decode_many as json_decode_many
from kvmap.values import without_spare

_OPTIONS = OPT_PASSTHROUGH_DATACLASS | OPT_PASSTHROUGH_DATETIME
_QUOTE: Final = ord('"')
_DOLLAR: Final = ord("$")  # as an int, it is looked for in a third of the time
_DOLLARS: Final = 32


TYPES: Final = frozenset({*WRITERS, tuple, set, frozenset, complex})
"""The types, beyond JSON's own, that have a tag."""


def encode(value: Any) -> bytes:
    """The value as JSON text, with tags where it needs them. O(size of the value).

    Raises TypeError or ValueError, naming the place in the value, for what has no tag either.

    >>> from datetime import date
    >>> encode({"at": date(2026, 1, 2), "tags": {"b", "a"}})
    b'{"at":{"$date":"2026-01-02"},"tags":{"$set":["a","b"]}}'
    >>> encode({"files": [open]})
    Traceback (most recent call last):
        ...
    TypeError: value['files'][0]: builtin_function_or_method can't be kept; make it a dict, ...
    """
    try:
        text = dumps(value, _tagged, _OPTIONS)
    except JSONEncodeError as error:
        _raise_interrupt(error)
    else:
        if _is_written(value):
            return text
    try:
        return dumps(plain(value, 0, _FORM), None, _OPTIONS)
    except Misfit as misfit:
        raise misfit.error() from None


def encode_many(values: list[Any]) -> list[bytes]:
    """Each value as JSON text, as `encode` makes it and with its errors. O(size of the values)."""
    try:
        texts = [without_spare(dumps(value, _tagged, _OPTIONS)) for value in values]
    except JSONEncodeError as error:
        _raise_interrupt(error)
    else:
        if _is_written(values):
            return texts
    return list(map(encode, values))


def _raise_interrupt(error: JSONEncodeError) -> None:
    """Raise the Ctrl-C that ended `_tagged`, if that is why there is no text."""
    cause = error.__cause__
    if cause is not None and not isinstance(cause, Exception):
        raise cause from None


def decode(text: bytes) -> Any:
    """The value of a text that `encode` made. O(size of the text).

    Raises ValueError, naming the place, for a tag that is unknown or holds what it can't;
    orjson.JSONDecodeError for what is not JSON.

    >>> decode(b'{"at":{"$date":"2026-01-02"},"tags":{"$set":["a"]}}')
    {'at': datetime.date(2026, 1, 2), 'tags': {'a'}}
    >>> decode(b'[{"$gt":5}]')
    Traceback (most recent call last):
        ...
    ValueError: value[0]: unknown tag '$gt'; a dict with this one key is written with '$$gt'
    """
    value = loads(text)
    return _untagged(value) if _DOLLAR in text and _has_tag(text) else value


def decode_many(texts: list[bytes]) -> list[Any]:
    """The values of these texts, in their order, as `decode` returns them and with its errors."""
    return [
        _untagged(value) if _DOLLAR in text and _has_tag(text) else value
        for text, value in zip(texts, json_decode_many(texts), strict=True)
    ]


def _is_written(value: Any) -> bool:
    """Whether the text that orjson wrote with `_tagged` returns the value.

    O(parts of the value). Nothing is quicker: marshal, which is, does not tell tuples from lists.
    """
    kind: type[Any] = type(value)
    parts: Any
    if kind is dict:
        parts = value.values()
        if len(parts) == 1 and next(iter(value)).startswith("$"):
            return False
    elif kind is list:
        parts = value
    else:
        return kind in _WRITTEN or (kind is float and math.isfinite(value))
    for part in parts:
        kind = type(part)
        if kind in _WRITTEN:
            continue
        if kind is float:
            if part - part != 0.0:  # NaN or infinite
                return False
        elif not _is_written(part):
            return False
    return True


def _tagged(value: Any) -> Any:
    return _other(value, 0)


def _other(value: Any, depth: int) -> Any:
    """The tagged form of a value that JSON has no text for. Raises Misfit."""
    kind: type[Any] = type(value)
    check_depth(depth + 1)
    if (leaf := WRITERS.get(kind)) is not None:
        name, written = leaf
        return {name: written(value)}
    if kind is tuple:
        return {"$tuple": parts(value, depth + 1, _FORM)}
    if kind is set or kind is frozenset:
        return {f"${kind.__name__}": _elements(value, depth + 1)}
    if kind is complex:
        return {"$complex": parts((value.real, value.imag), depth + 1, _FORM)}
    if isinstance(value, enum.Enum):
        hint = "store its .value, or open with type= or encode="
    else:
        hint = "make it a dict, list, str or number, or open with type= or encode="
    raise Misfit(TypeError, f"{kind.__name__} can't be kept; {hint}")


def _elements(values: set[Any] | frozenset[Any], depth: int) -> list[Any]:
    check_depth(depth + 1)
    # Sorted, so that equal sets have the same text.
    return sorted([_hashable(part, depth + 1, "element") for part in values], key=dumps)


def _object(found: dict[Any, Any], depth: int) -> dict[str, Any]:
    if all(isinstance(key, str) for key in found):
        same = members(found, depth, _FORM)
        if len(same) == 1 and next(iter(same)).startswith("$"):
            return {f"${name}": part for name, part in same.items()}
        return same
    check_depth(depth + 3)
    pairs: list[list[Any]] = []
    for key, part in found.items():
        name = _hashable(key, depth + 3, "key")
        try:
            pairs.append([name, plain(part, depth + 3, _FORM)])
        except Misfit as misfit:
            misfit.inside(f"[{shown(key)}]")
            raise
    return {"$dict": pairs}


def _hashable(part: Any, depth: int, what: str) -> Any:
    """A key or an element of a set as `plain` returns it. Raises Misfit."""
    try:
        if not _is_hashable_when_read(part):
            raise Misfit(TypeError, "the dict or list in it comes back as a plain one, unhashable")
        return plain(part, depth, _FORM)
    except Misfit as misfit:
        misfit.inside(f", its {what} {shown(part)}")
        raise


def _is_hashable_when_read(part: Any) -> bool:
    if type(part) is tuple or type(part) is frozenset:
        members: tuple[Any, ...] | frozenset[Any] = part
        return all(map(_is_hashable_when_read, members))
    return not isinstance(part, (dict, list))


_FORM = Form(_other, _object)

_WRITTEN = frozenset({*SCALARS, *TYPES} - {tuple, UUID, float})
"""Types whose values orjson writes so that they can be read, or hands to `_tagged`."""


def _has_tag(text: bytes) -> bool:
    """Whether a str in the text may start with `$`.

    One byte is found 30 times faster than two, so the first few are looked at one by one.
    """
    at = text.find(b"$")
    for _ in range(_DOLLARS):
        if at < 0:
            return False
        if text[at - 1] == _QUOTE:
            return True
        at = text.find(b"$", at + 1)
    return text.find(b'"$', max(at - 1, 0)) >= 0


def _untagged(value: Any) -> Any:
    try:
        return _untag(value, 0)
    except Misfit as misfit:
        raise misfit.error() from None


def _untag(value: Any, depth: int) -> Any:
    """The value that plain JSON with tags stands for; lists and dicts are changed in place."""
    if depth > DEEPEST:
        raise Misfit(ValueError, f"nested deeper than {DEEPEST} levels")
    if type(value) is dict:
        if len(value) == 1:
            [(name, content)] = value.items()
            if name.startswith("$"):
                return _read(name, content, depth)
        places: Any = value.items()
    elif type(value) is list:
        places = enumerate(value)
    else:
        return value
    for place, part in places:
        if type(part) is dict or type(part) is list:
            try:
                value[place] = _untag(part, depth + 1)
            except Misfit as misfit:
                misfit.inside(f"[{shown(place)}]")
                raise
    return value


def _read(name: str, content: Any, depth: int) -> Any:
    """The value that an object with this one member stands for."""
    if type(content) is dict or type(content) is list:
        try:
            content = _untag(content, depth + 1)
        except Misfit as misfit:
            misfit.inside(f"[{shown(name)}]")
            raise
    if name.startswith("$$"):
        return {name[1:]: content}
    reader = READERS.get(name)
    if reader is None:
        raise Misfit(
            ValueError,
            f"unknown tag {shown(name)}; a dict with this one key is written with "
            f"{shown('$' + name)}",
        )
    try:
        return reader(content)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise Misfit(ValueError, f"{shown(content)} is no content of {name}: {error}") from None
