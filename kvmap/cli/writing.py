"""Commands that change entries. Each returns the exit code."""

from __future__ import annotations

import math
from argparse import Namespace
from itertools import islice
from typing import Any

import orjson

from kvmap import codecs
from kvmap.cli import keys_given, screen
from kvmap.cli.keys_given import say_missing, to_text
from kvmap.cli.places import open_to_write, shown
from kvmap.cli.words import Refused, refusing
from kvmap.errors import KeyExistsError
from kvmap.moving.json_files import decode
from kvmap.settings import DEFAULT, KEEP, Default

_TOGETHER = 1000


def set(args: Namespace) -> int:
    key = keys_given.from_text(args.key, args.json_key)
    text = args.value.encode("utf-8", "surrogateescape")
    if args.value == "-":
        text = keys_given.standard_input().read()
    value = _text(text) if args.text else _json(text)
    with open_to_write(args.store, args.timeout, new=True) as d:
        try:
            with refusing():
                if not args.text and d.settings.codec != "json":
                    value = codecs.make(d.settings.codec).decode(orjson.dumps(value))
                if args.new:
                    d.create(key, value, ttl=seconds(args.ttl))
                else:
                    d.set(key, value, ttl=KEEP if args.keep_ttl else seconds(args.ttl))
        except KeyExistsError:
            screen.say(f"{shown(args.store)} has key {to_text(key, True)} already")
            return 1
    return 0


def _text(text: bytes) -> str:
    try:
        # One newline at the end is the shell's, not the text's.
        return text.removesuffix(b"\n").decode()
    except UnicodeDecodeError as error:
        raise Refused(f"the value is not UTF-8: {error}") from None


def _json(text: bytes) -> Any:
    try:
        value = decode(text)
    except ValueError as error:
        raise Refused(f"the value: {error}; for a str, add --text") from None
    with refusing():
        codecs.make("json").encode(value)
    return value


def seconds(ttl: float | None) -> float | Default | None:
    """An option's time to live as `KVMap.set` takes it; without the option the store's default."""
    if ttl is None:
        return DEFAULT
    return None if ttl == math.inf else ttl


def incr(args: Namespace) -> int:
    key = keys_given.from_text(args.key, args.json_key)
    with open_to_write(args.store, args.timeout, new=True) as d, refusing():
        total = d.incr(key, args.by, ttl=KEEP if args.ttl is None else seconds(args.ttl))
    screen.write(orjson.dumps(total) + b"\n")
    return 0


def expire(args: Namespace) -> int:
    given = keys_given.named(args)
    left = None if args.time == math.inf else args.time
    code = 0
    with open_to_write(args.store, args.timeout) as d:
        for key in keys_given.chosen(d, given, args):
            try:
                d.expire(key, left)
            except KeyError:
                say_missing(d, args.store, key, as_json=args.json_key)
                code = 1
    return code


def del_(args: Namespace) -> int:
    given = keys_given.named(args)
    code = 0
    with open_to_write(args.store, args.timeout) as d:
        wanted = iter(keys_given.chosen(d, given, args))
        while some := list(islice(wanted, _TOGETHER)):
            there = [key for key in dict.fromkeys(some) if key in d]
            if len(there) < len(dict.fromkeys(some)):
                code = 1
                for key in dict.fromkeys(some):
                    if key not in d:
                        say_missing(d, args.store, key, as_json=args.json_key)
            d.delete_many(there)
    return code
