"""Values of one type, in and out: `kvmap.open("users", type=User)`.

msgspec writes and reads dataclasses, `TypedDict`s, attrs classes, its own structs and containers of
these; pydantic its models, and types with a model in them. Where msgspec is missing, or has no
decoder for the type (a union of two dataclasses, say), pydantic does it if it is installed.
The two write `bytes` differently: msgspec as base64, pydantic as UTF-8 unless the model says
otherwise.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from orjson import JSONDecodeError, JSONEncodeError, dumps, loads

from kvmap.keys import shown
from kvmap.plain import DEEPEST, LARGEST, LEAST

_DIGITS = bytes(ord("0") if chr(byte) in "0123456789" else byte for byte in range(256))
_LONG = b"0" * 19
"""What stands, its digits replaced, in every text with an int beyond 64 bits."""


class _Library(NamedTuple):
    """What msgspec or pydantic makes of a type."""

    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]
    refusal: type[Exception]
    """What `read` raises for a text that is not JSON or does not fit the type."""
    reason: Callable[[Any], str]
    """Says of a refusal which part does not fit, and why."""


def functions(kind: Any) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    """Two functions, `encode` and `decode`, for values of this type.

    `encode` raises TypeError or ValueError, naming the place in the value, for a value of another
    type and for what would not come back equal: it reads what it has written. `decode` raises
    ValueError, naming the place, for a text that does not fit the type.

    Raises ImportError where neither msgspec nor pydantic is installed, and TypeError where neither
    knows the type.

    >>> from dataclasses import make_dataclass
    >>> User = make_dataclass("User", [("name", str), ("visits", int, 0)])
    >>> encode, decode = functions(User)
    >>> encode(User("Ada", 1)), decode(b'{"name":"Ada"}')
    (b'{"name":"Ada","visits":1}', User(name='Ada', visits=0))
    >>> encode(User("Ada", "one"))
    Traceback (most recent call last):
        ...
    TypeError: $.visits: expected `int`, got `str`; the value does not fit User
    """
    name = shown(kind) if typing.get_args(kind) else getattr(kind, "__name__", shown(kind))
    library = _library(kind, name)
    write, read, refusal = library.write, library.read, library.refusal

    def encode(value: Any) -> bytes:
        try:
            text = write(value)
        except Exception as error:
            _refuse_unwritten(value, write, error)
        try:
            back = read(text)
        except (refusal, RecursionError) as error:
            _check_depth(text)
            _refuse_numbers(value, "$")
            reason = f"{library.reason(error)}; the value does not fit {name}"
            raise TypeError(reason) from error
        if not bool(back == value) and (difference := _difference(value, back, "$")) is not None:
            _refuse_numbers(value, "$")
            raise TypeError(f"{difference}; the value does not fit {name}")
        if _LONG in text.translate(_DIGITS):
            _refuse_numbers(value, "$")
        _check_depth(text)
        return text

    def decode(text: bytes) -> Any:
        try:
            return read(text)
        except (refusal, RecursionError) as error:
            loads(text)  # raises where it is not JSON at all
            reason = f"{library.reason(error)}; what is stored does not fit {name}"
            raise ValueError(reason) from error

    return encode, decode


def _library(kind: Any, name: str) -> _Library:
    if isinstance(kind, str):
        raise TypeError(f"type must be a type, such as a dataclass or list[User], not {kind!r}")
    msgspec, pydantic = _installed("msgspec"), _installed("pydantic")
    refused: list[str] = []
    if msgspec is not None and not _has_model(kind, set()):
        try:
            return _with_msgspec(kind, msgspec)
        except Exception as error:
            refused.append(f"msgspec: {error}")
    if pydantic is not None:
        try:
            return _with_pydantic(kind, pydantic)
        except Exception as error:
            refused.append(f"pydantic: {str(error).splitlines()[0]}")
    if refused:
        raise TypeError(f"type={name} has no JSON that could be read again; {'; '.join(refused)}")
    raise ImportError(
        f"type={name} needs msgspec (pip install msgspec), or pydantic for its models"
    )


def _installed(package: str) -> ModuleType | None:
    try:
        return import_module(package)
    except ModuleNotFoundError:
        return None


def _with_msgspec(kind: Any, msgspec: Any) -> _Library:
    def reason(error: Exception) -> str:
        text, _, place = str(error).rpartition(" - at `")
        if not text:
            return f"$: {_lowered(str(error))}"
        return f"{place.removesuffix('`')}: {_lowered(text)}"

    decoder = msgspec.json.Decoder(kind)
    return _Library(msgspec.json.Encoder().encode, decoder.decode, msgspec.DecodeError, reason)


def _with_pydantic(kind: Any, pydantic: Any) -> _Library:
    adapter = pydantic.TypeAdapter(kind)
    adapter.rebuild(raise_errors=True)  # where a name in the type can't be found

    def write(value: Any) -> bytes:
        # `round_trip`: without computed fields, which a model does not take again.
        written: bytes = adapter.dump_json(value, by_alias=True, round_trip=True, warnings=False)
        return written

    def reason(error: Any) -> str:
        first = error.errors(include_url=False)[0]
        place = "".join(f".{at}" if isinstance(at, str) else f"[{at}]" for at in first["loc"])
        return f"${place}: {_lowered(first['msg'])}"

    return _Library(write, adapter.validate_json, pydantic.ValidationError, reason)


def _has_model(kind: Any, seen: set[int]) -> bool:
    """Whether a pydantic model or dataclass is part of the type."""
    if id(kind) in seen:
        return False
    seen.add(id(kind))
    if hasattr(kind, "__pydantic_validator__"):
        return True
    inner: list[Any] = [*typing.get_args(kind), getattr(kind, "__value__", None)]
    if isinstance(kind, type):
        try:
            inner += typing.get_type_hints(kind).values()
        except Exception:  # a name that can't be found yet: the library will say so
            inner += getattr(kind, "__annotations__", {}).values()
    return any(_has_model(part, seen) for part in inner)


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


# Where a value does not fit


def _parts(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The parts of a value with their places; None where it has none."""
    kind = type(value)
    if isinstance(value, dict):
        return ((f"[{shown(key)}]", part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ((f"[{i}]", part) for i, part in enumerate(value))
    names: Any = None
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    elif hasattr(kind, "__struct_fields__"):
        names = kind.__struct_fields__
    elif hasattr(kind, "__attrs_attrs__"):
        names = [field.name for field in kind.__attrs_attrs__]
    elif hasattr(kind, "__pydantic_fields__"):
        names = [*kind.__pydantic_fields__, *(value.__pydantic_extra__ or {})]
    return None if names is None else ((f".{name}", getattr(value, name)) for name in names)


def _difference(value: Any, back: Any, place: str) -> str | None:
    """Where, and how, a value that came back differs from what was written; None if nowhere.

    It looks into objects that are only equal to themselves.
    """
    if type(value) is not type(back):
        if bool(value == back):
            return None
        return f"{place}: expected `{type(back).__name__}`, got `{type(value).__name__}`"
    parts, back_parts = _parts(value), _parts(back)
    if parts is None or back_parts is None:
        if bool(value == back):
            return None
        return f"{place}: {shown(value)} would come back as {shown(back)}"
    there = dict(back_parts)
    for name, part in parts:
        if name not in there:
            return f"{place}{name}: would be lost"
        if (found := _difference(part, there.pop(name), place + name)) is not None:
            return found
    return f"{place}{next(iter(there))}: would be added" if there else None


def _check_depth(text: bytes) -> None:
    """Raise ValueError where orjson, which reads the store's files, finds the text too deep."""
    if text.count(b"[") + text.count(b"{") > DEEPEST:
        try:
            dumps(loads(text))
        except (JSONDecodeError, JSONEncodeError) as error:
            raise ValueError(f"$: nested deeper than {DEEPEST} levels") from error


def _refuse_numbers(value: Any, place: str) -> None:
    """Raise ValueError if a number in the value is none that every reader of JSON returns."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place}: {value} is not JSON; store null (None) instead")
    if isinstance(value, int) and not LEAST <= value <= LARGEST:
        raise ValueError(f"{place}: {shown(value)} does not fit in 64 bits; store a str instead")
    if isinstance(value, (set, frozenset)):
        for part in value:
            _refuse_numbers(part, place)
    for name, part in _parts(value) or ():
        _refuse_numbers(part, place + name)


def _refuse_unwritten(value: Any, write: Callable[[Any], bytes], error: Exception) -> NoReturn:
    """Raise TypeError or ValueError for the innermost part that can't be written."""
    if isinstance(error, RecursionError):
        raise ValueError("$: nested too deep, or in itself") from error
    place, part = "$", value
    while True:
        for name, inner in _parts(part) or ():
            try:
                write(inner)
            except Exception as found:
                place, part, error = place + name, inner, found
                break
        else:
            break
    kind = TypeError if isinstance(error, TypeError) else ValueError
    raise kind(f"{place}: {shown(part)} can't be written: {_lowered(str(error))}") from error
