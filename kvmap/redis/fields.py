"""Keys as the server holds them: one JSON text for all keys that are equal."""

from __future__ import annotations

from numbers import Number
from typing import Any

from orjson import JSONDecodeError, dumps, loads

from kvmap import keys
from kvmap.keys import Key


def of_any(key: object) -> bytes | None:
    """The field to look up; None for what can't be a key, so that nothing is there.

    Raises TypeError for an unhashable key.
    """
    try:
        return keys.canonical_text(key)
    except TypeError:
        hash(key)
    return of_any(_plain_number(key)) if isinstance(key, Number) else None


def _plain_number(number: Any) -> Key:
    """The int or float that is equal to a number of another type, such as Decimal; else None."""
    for kind in (int, float):
        try:
            if (same := kind(number)) == number:
                return same
        except (ArithmeticError, TypeError, ValueError):
            continue
    return b""  # no key, and equal to none


def to_write(key: Key) -> tuple[bytes, bytes]:
    """The field to write, and the key's own text where it is another (empty: it is not).

    Raises TypeError or ValueError, naming the key, for what can't be one.
    """
    if type(key) is str:
        try:
            return dumps(key), b""
        except TypeError:
            pass
    text = keys.text(key)
    field = keys.canonical_text(key)
    return field, b"" if text == field else text


def parsed(array: bytes) -> list[Key]:
    """The keys in a JSON array. Raises ValueError where it is none."""
    try:
        found: list[Any] = loads(array)
    except JSONDecodeError as error:
        raise ValueError(f"the keys are not JSON: {error}") from None
    return [each if type(each) is str else keys.from_json(each) for each in found]


def split(texts: bytes) -> list[bytes]:
    """Texts each of which ends with a zero byte, which no JSON text holds."""
    return texts.split(b"\0")[:-1]
