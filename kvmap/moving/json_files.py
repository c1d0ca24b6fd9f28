"""JSON: one object whose members are entries, or JSON Lines with an entry on each line."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import IO, Any, Final

import orjson

from kvmap import keys
from kvmap.moving import durations
from kvmap.moving.entries import Item, Source, SourceError, Unreadable, check_deadline
from kvmap.settings import DEFAULT, Default

_FIELDS: Final = {"key", "value", "expires", "ttl"}
_SHAPE: Final = '{"key": …, "value": …}, with or without "expires" or "ttl"'

# orjson makes a float of an integer that does not fit in 64 bits.
_LONG: Final = re.compile(rb"[0-9]{19}")

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def decode(text: bytes) -> Any:
    """The value of a JSON text; integers are exact, whatever their size. O(size of the text).

    Raises ValueError, naming the column, and the line where the text has several.

    >>> decode(b'{"a": 123456789012345678901234567890}')
    {'a': 123456789012345678901234567890}
    >>> decode(b'{"a": }')
    Traceback (most recent call last):
        ...
    ValueError: not JSON: ... at column 7
    """
    try:
        return json.loads(text.decode()) if _LONG.search(text) else orjson.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, " if text.count(b"\n", 0, -1) else ""
        raise ValueError(f"not JSON: {error.msg}, at {where}column {error.colno}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deep") from None


class JSONLines(Source):
    """One `{"key": …, "value": …, "expires": …}` on each line, as `kvmap dump` writes it.

    `expires` is Unix seconds, or null for an entry that stays; `ttl` is seconds, or a text such as
    "1h30m". Both may be left out.
    """

    unit = "bytes"
    tagged = True

    def __init__(self, lines: Iterable[bytes], total: int | None = None) -> None:
        self._lines = lines
        self.total = total

    def __iter__(self) -> Iterator[Item | Unreadable]:
        for number, line in enumerate(self._lines, start=1):
            self.done += len(line)
            if line.isspace():
                continue
            try:
                yield entry(decode(line), number)
            except ValueError as error:
                yield Unreadable(f"line {number}", str(error))


def entry(fields: Any, number: int) -> Item:
    """The entry of these fields, from this line. Raises ValueError where they are not an entry's."""
    if type(fields) is not dict or not {"key", "value"} <= fields.keys():
        raise ValueError(f"not {_SHAPE}")
    unknown = ", ".join([f"{keys.shown(name)}" for name in fields if name not in _FIELDS])
    if unknown:
        raise ValueError(f"unknown field {unknown}: not {_SHAPE}")
    return Item(keys.from_json(fields["key"]), fields["value"], _expires(fields), number)


def _expires(fields: dict[str, Any]) -> float | Default:
    if "ttl" not in fields:
        return check_deadline(fields["expires"]) if "expires" in fields else DEFAULT
    if "expires" in fields:
        raise ValueError('"expires" and "ttl" exclude each other')
    ttl = fields["ttl"]
    if isinstance(ttl, str):
        ttl = durations.parse(ttl)
    if ttl is not None and (type(ttl) not in (int, float) or not ttl > 0):
        raise ValueError(
            f'"ttl" must be seconds above 0, a text such as "1h30m" or null, not {ttl}'
        )
    return check_deadline(None if ttl is None else time.time() + ttl)


class JSONObject(Source):
    """One JSON object: its members are the entries. The whole of it is held in memory."""

    tagged = True

    def __init__(self, text: bytes) -> None:
        try:
            found = decode(text)
        except ValueError as error:
            raise SourceError(str(error)) from None
        if type(found) is not dict:
            raise SourceError(f"neither one JSON object nor JSON Lines, each {_SHAPE}")
        self._items = found
        self.total = len(found)

    def __iter__(self) -> Iterator[Item | Unreadable]:
        for key, value in self._items.items():
            self.done += 1
            yield Item(key, value)


def open_json(file: IO[bytes], kind: str = "auto") -> Source:
    """The entries of an open file; `kind` is "json" for one object, "jsonl", or "auto" for either.

    With "auto", a file is one object where it is a single line without a field of an entry, or
    where its first line alone is no JSON. The file is the caller's to close. O(size) for one object.

    Raises SourceError where it is neither.

    >>> import io
    >>> list(open_json(io.BytesIO(b'{"ada": 1}')))
    [Item(key='ada', value=1, expires=<the store's own>, line=0)]
    """
    if kind not in ("auto", "json", "jsonl"):
        raise ValueError(f"kind must be 'auto', 'json' or 'jsonl', not {kind!r}")
    total = None
    with suppress(OSError):  # raised by what is not a file of the system
        total = os.fstat(file.fileno()).st_size or None  # a pipe has no size
    start = list(_start(file))
    lines = chain(start, file)
    if kind == "jsonl" or (kind == "auto" and _are_lines([line for line in start if line.strip()])):
        return JSONLines(lines, total)
    return JSONObject(b"".join(lines))


def _start(file: IO[bytes]) -> Iterator[bytes]:
    """The first lines, up to the second that is not blank."""
    found = 0
    for number, line in enumerate(file):
        yield line.removeprefix(_BYTE_ORDER_MARK) if number == 0 else line
        found += bool(line.strip())
        if found == 2:
            break


def _are_lines(start: list[bytes]) -> bool:
    """Whether a file that begins with these lines is JSON Lines, not one JSON object.

    A single line with "key" or "value" is taken for an entry: a misspelt field must not make it an
    object, and each of its fields an entry.
    """
    if not start:
        return True
    try:
        fields = decode(start[0])
    except ValueError:
        return re.match(rb'\s*{\s*"key"\s*:', start[0]) is not None
    return type(fields) is dict and (len(start) > 1 or "key" in fields or "value" in fields)
