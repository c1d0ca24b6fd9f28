"""Codecs: how values become JSON text, and texts values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orjson import loads

from kvmap import values


@dataclass(frozen=True, slots=True)
class Codec:
    """Four functions, called as they stand: no method lies between a map and what does the work.

    `encode` returns JSON text in one line, as bytes. It raises TypeError or ValueError, naming the
    place in the value, for what would not come back equal. `encode_many` does the same for a list
    of values: all texts, or the error of the first value that has none.

    `decode` returns the value of a text. It raises orjson.JSONDecodeError for what is not JSON, and
    what a hook raises; any other ValueError says which part of the value does not fit.
    `decode_many` does the same for a list of texts: all values, or the error of the first text
    that has none.
    """

    name: str
    """As the store keeps it: "json" or "extended"."""
    encode: Callable[[Any], bytes]
    encode_many: Callable[[list[Any]], list[bytes]]
    decode: Callable[[bytes], Any]
    decode_many: Callable[[list[bytes]], list[Any]]
    may_fail: bool
    """Whether `decode` may raise for a text that is JSON."""
    type: Any = None
    """The type that all values have, as `make` was given it; None where any is allowed."""


def make(
    name: str,
    *,
    type: Any = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
) -> Codec:
    """The codec of this name, "json" or "extended".

    `type`: the type of the values, for `kvmap.typed`. `encode` and `decode`: called with each value
    on its way in, before it becomes JSON, and out, after it was read.

    Raises ValueError for a name that is unknown and for options that exclude each other, TypeError
    for a hook that can't be called and a type that has no JSON, ImportError where `type` needs a
    package that is not installed.

    >>> json, extended = make("json"), make("extended")
    >>> extended.decode(extended.encode({1, 2})), json.decode(json.encode((1, 2)))
    ({1, 2}, [1, 2])
    >>> from datetime import date
    >>> days = make("json", encode=date.isoformat, decode=date.fromisoformat)
    >>> days.encode(date(2026, 1, 2))
    b'"2026-01-02"'
    """
    for hook, given in (("encode", encode), ("decode", decode)):
        if given is not None and not callable(given):
            raise TypeError(f"{hook} must be callable or None, not {given!r}")
    if name == "json":
        codec = _JSON
    elif name == "extended":
        codec = _extended()
    else:
        raise ValueError(f"codec must be 'json' or 'extended', not {name!r}")
    if type is not None:
        if encode is not None or decode is not None:
            raise ValueError("type= does what encode= and decode= do; give either")
        if name != "json":
            raise ValueError(
                f"type= decides by itself how values are written, so it can't be given with "
                f"codec={name!r}; open another store, with codec='json', for values of this type"
            )
        from kvmap import typed

        return _one_by_one(name, *typed.functions(type), type=type)
    return codec if encode is None and decode is None else _hooked(codec, encode, decode)


def _extended() -> Codec:
    from kvmap import extended  # imports decimal, uuid and zoneinfo: 5 ms

    return Codec(
        "extended",
        extended.encode,
        extended.encode_many,
        extended.decode,
        extended.decode_many,
        may_fail=True,
    )


def _one_by_one(
    name: str, encode: Callable[[Any], bytes], decode: Callable[[bytes], Any], *, type: Any
) -> Codec:
    def encode_many(values: list[Any]) -> list[bytes]:
        return list(map(encode, values))

    def decode_many(texts: list[bytes]) -> list[Any]:
        return list(map(decode, texts))

    return Codec(name, encode, encode_many, decode, decode_many, may_fail=True, type=type)


def _hooked(
    codec: Codec, before: Callable[[Any], Any] | None, after: Callable[[Any], Any] | None
) -> Codec:
    """The codec, with `before` called on each value first, and `after` on each value it returns."""
    write, write_many = codec.encode, codec.encode_many
    read, read_many = codec.decode, codec.decode_many
    encode, encode_many, decode, decode_many = write, write_many, read, read_many
    if before is not None:

        def encode(value: Any, /) -> bytes:
            return write(before(value))

        def encode_many(values: list[Any], /) -> list[bytes]:
            return write_many(list(map(before, values)))

    if after is not None:

        def decode(text: bytes, /) -> Any:
            return after(read(text))

        def decode_many(texts: list[bytes], /) -> list[Any]:
            return list(map(after, read_many(texts)))

    may_fail = codec.may_fail or after is not None
    return Codec(codec.name, encode, encode_many, decode, decode_many, may_fail)


_JSON = Codec("json", values.encode, values.encode_many, loads, values.decode_many, may_fail=False)
