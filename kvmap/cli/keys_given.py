"""Keys on the command line: named, matched by a pattern, or read from standard input."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import orjson

from kvmap import keys
from kvmap.cli import screen
from kvmap.cli.places import shown as shown_store
from kvmap.cli.words import Refused
from kvmap.keys import Key
from kvmap.mapping import KVMap
from kvmap.moving.json_files import decode

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def from_text(text: str, as_json: bool) -> Key:
    """The key that a word on the command line names: a str, or what its JSON says."""
    if not as_json:
        return text
    try:
        return keys.plain(keys.from_json(decode(text.encode("utf-8", "surrogateescape"))))
    except ValueError as error:
        raise Refused(f"key {text!r:.80}: {error}{_as_json(text)}") from None


def _as_json(text: str) -> str:
    """How to write what a user seems to mean by a text that is no JSON."""
    if text.startswith('"'):
        return ""
    if text.startswith("("):
        return "; with -k a tuple is an array, such as '[\"ada\", 2]'"
    return f"; with -k a str is written {shlex.quote(json.dumps(text[:60], ensure_ascii=False))}"


def to_text(key: Key, as_json: bool = False) -> str:
    """A key for one line; a control character could break the line, or command the terminal.

    >>> to_text("ada"), to_text(17), to_text("a\\n"), to_text("ada", as_json=True)
    ('ada', '17', '"a\\\\n"', '"ada"')
    """
    if type(key) is str and not as_json and not _CONTROL.search(key):
        return key
    return escaped(keys.text(key).decode())


def escaped(text: str) -> str:
    """A JSON text without control characters, of which JSON itself escapes the first 32 only."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def named(args: Namespace) -> list[Key] | None:
    """The keys that are named, or stand on standard input; None where a pattern is to find them."""
    if args.glob is not None:
        if args.keys:
            raise Refused("name keys or give --glob, not both")
        return None
    if not args.keys:
        raise Refused("name a KEY, or `-` to read keys from standard input, or give --glob")
    words = args.keys
    if words == ["-"]:
        # All of it before the store is opened: what prints the keys may have it open.
        text = standard_input().read().decode("utf-8", "surrogateescape")
        words = text.removesuffix("\0").split("\0") if args.null else text.split("\n")
        if not args.null:
            words = [word.removesuffix("\r") for word in words[: -1 if words[-1] == "" else None]]
        if words == [""]:
            words = []
    return [from_text(word, args.json_key) for word in words]


def chosen(d: KVMap[Any, Any], given: list[Key] | None, args: Namespace) -> list[Key]:
    """The keys that `named` returned, or those that match the pattern."""
    return list(matching(d, pattern=args.glob)) if given is None else given


def matching(
    d: KVMap[Any, Any],
    *,
    prefix: str | None = None,
    pattern: str | None = None,
    reverse: bool = False,
    limit: int | None = None,
) -> Iterator[Key]:
    """The keys, in the map's order, that begin with the prefix and match the pattern.

    A prefix selects str keys. A pattern such as `user:*` is held against a key as `to_text` shows it.
    """
    found: Iterator[Key] = reversed(d) if reverse else iter(d)
    if prefix is not None:
        start = prefix
        found = (key for key in found if type(key) is str and key.startswith(start))
    if pattern is not None:
        match = re.compile(fnmatch.translate(pattern)).match
        found = (key for key in found if match(key if type(key) is str else to_text(key)))
    return islice(found, limit)


def say_missing(d: KVMap[Any, Any], store: str, key: Key, *, as_json: bool) -> None:
    """Say that a key is missing, and which one may be meant."""
    screen.say(f"{shown_store(store)} has no key {to_text(key, True)}{_hint(d, key, as_json)}")


def _hint(d: KVMap[Any, Any], key: Key, as_json: bool) -> str:
    if as_json or type(key) is not str:
        text = to_text(key)
        return f"; the str {to_text(text, True)} is there: leave out -k" if text in d else ""
    try:
        other = from_text(key, True)
    except (Refused, TypeError):
        return ""
    if type(other) is str or other not in d:
        return ""
    return f"; {to_text(other)}, which is no str, is there: add -k"


def standard_input() -> Any:
    """Standard input, as bytes."""
    if sys.stdin is None:
        raise Refused("standard input is closed")
    return sys.stdin.buffer


def write_json(content: Any) -> None:
    """Put a result on standard output, as one line of JSON."""
    screen.write(orjson.dumps(content) + b"\n")
