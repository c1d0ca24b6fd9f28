"""A value as text for a key: the same in every run, and for no other value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from kvmap.keys import shown

_BY_REPR: Final = frozenset(
    {
        *(str, int, float, bool, complex, bytes, type(None), type(Ellipsis), range),
        *(date, timedelta, timezone, Decimal, Fraction, UUID),
    }
)
"""Types whose repr holds everything, and is the same in every run."""


def argument_text(value: Any, place: str) -> str:
    """The value as text; equal dicts and equal sets have one text, whatever their order.

    Raises TypeError, naming `place`, for a value that has no such text.

    >>> argument_text({"b": {2, 1}, "a": (1,)}, "query")
    "{'a': (1,), 'b': {1, 2}}"
    >>> argument_text([object()], "query")
    Traceback (most recent call last):
        ...
    TypeError: argument query[0]: object has no stable text for a key; ...
    """
    kind: type[Any] = type(value)
    if kind in _BY_REPR or isinstance(value, PurePath):
        return repr(value)
    convert = _CONTAINERS.get(kind)
    if convert is not None:
        return convert(value, place)
    if kind is datetime or kind is time:
        if value.tzinfo is not None:
            argument_text(value.tzinfo, f"{place}.tzinfo")  # the repr holds the zone's repr
        return repr(value)
    if kind is ZoneInfo and value.key is not None:
        return repr(value)
    if isinstance(value, Enum):
        return f"{_name(kind)}({argument_text(value.value, place)})"
    if isinstance(value, MethodType):
        return f"{argument_text(value.__self__, place)}.{value.__name__}"
    if isinstance(value, BuiltinFunctionType):
        owner = value.__self__
        if owner is not None and not isinstance(owner, ModuleType):
            return f"{argument_text(owner, place)}.{value.__name__}"
        return _name(value)
    if isinstance(value, (type, FunctionType)) and "<" not in value.__qualname__:
        return _name(value)
    fields = _fields(value)
    if fields is not None:
        parts = [
            f"{each}={argument_text(getattr(value, each), f'{place}.{each}')}" for each in fields
        ]
        return f"{_name(kind)}({', '.join(parts)})"
    raise TypeError(
        f"argument {place}: {kind.__name__} has no stable text for a key; leave the parameter out "
        "with memoize(ignore=...), so that calls that differ only there share a result, or make "
        "the key with memoize(key=...)"
    )


def _list_text(value: list[Any], place: str) -> str:
    return f"[{', '.join(_texts(value, place))}]"


def _tuple_text(value: tuple[Any, ...], place: str) -> str:
    return f"({', '.join(_texts(value, place))}{',' if len(value) == 1 else ''})"


def _dict_text(value: dict[Any, Any], place: str) -> str:
    entries = [
        f"{argument_text(key, place)}: {argument_text(part, f'{place}[{shown(key)}]')}"
        for key, part in value.items()
    ]
    return f"{{{', '.join(sorted(entries))}}}"


def _set_text(value: set[Any], place: str) -> str:
    parts = sorted(argument_text(part, place) for part in value)
    return f"{{{', '.join(parts)}}}" if parts else "set()"


def _frozenset_text(value: frozenset[Any], place: str) -> str:
    return f"frozenset({_set_text(set(value), place)})"


_CONTAINERS: Final[dict[type[Any], Callable[[Any, str], str]]] = {
    list: _list_text,
    tuple: _tuple_text,
    dict: _dict_text,
    set: _set_text,
    frozenset: _frozenset_text,
}


def _texts(parts: list[Any] | tuple[Any, ...], place: str) -> list[str]:
    return [argument_text(part, f"{place}[{i}]") for i, part in enumerate(parts)]


def _fields(value: Any) -> tuple[str, ...] | None:
    """The names of the fields that make a dataclass or a named tuple what it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple([each.name for each in dataclasses.fields(value) if each.compare])
    if isinstance(value, tuple):
        return getattr(value, "_fields", None)
    return None


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
