"""Commands that look into a store; its owner may go on writing. Each returns the exit code."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import orjson

from kvmap import codecs
from kvmap.cli import keys_given, screen
from kvmap.cli.keys_given import escaped, to_text, write_json
from kvmap.cli.places import is_url, open_to_read, shown
from kvmap.cli.progress import Progress
from kvmap.cli.quantities import span
from kvmap.cli.words import Refused, command
from kvmap.keys import Key
from kvmap.mapping import KVMap
from kvmap.moving import durations
from kvmap.moving.csv_files import HEADER, Row
from kvmap.moving.entries import Item, Unreadable
from kvmap.moving.maps import Map, line, text_of

_TOGETHER = 500
"""Keys, or lines, that are handled together."""


def get(args: Namespace) -> int:
    given = keys_given.named(args)
    code = 0
    with open_to_read(args.store, args.timeout, whole=given is None) as d:
        wanted = iter(keys_given.chosen(d, given, args))
        encode = codecs.make(d.settings.codec).encode
        while some := list(islice(wanted, _TOGETHER)):
            found = d.get_many(some)
            for key in some:
                if key in found:
                    _write_value(args, key, found[key], encode(found[key]))
                else:
                    keys_given.say_missing(d, args.store, key, as_json=args.json_key)
                    code = 1
    return code


def _write_value(args: Namespace, key: Key, value: Any, text: bytes) -> None:
    shown = escaped(text.decode()).encode()
    if args.json:
        text = b'{"key":%b,"value":%b}' % (to_text(key, True).encode(), shown)
    elif args.raw and isinstance(value, (str, bytes)):
        text = value if isinstance(value, bytes) else value.encode()
    elif args.indent:
        indented = orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
        text = "\n".join([escaped(line) for line in indented.split("\n")]).encode()
    else:
        text = shown
    screen.write(text + (b"\0" if args.null else b"\n"))


def exists(args: Namespace) -> int:
    given = keys_given.named(args)
    with open_to_read(args.store, args.timeout, whole=given is None) as d:
        wanted = keys_given.chosen(d, given, args)
        found = [(key, key in d) for key in wanted]
    if args.json:
        for key, there in found:
            write_json({"key": key, "exists": there})
    return 0 if found and all(there for _, there in found) else 1


def count(args: Namespace) -> int:
    with open_to_read(args.store, args.timeout, whole=True) as d:
        if args.prefix is None and args.pattern is None:
            found = len(d)
        else:
            found = sum(1 for _ in _selected(d, args))
    screen.write_text(str(found))
    return 0


def ttl(args: Namespace) -> int:
    given = keys_given.named(args)
    code = 0
    with open_to_read(args.store, args.timeout, whole=given is None) as d:
        for key in keys_given.chosen(d, given, args):
            try:
                left = d.ttl(key)
            except KeyError:
                keys_given.say_missing(d, args.store, key, as_json=args.json_key)
                code = 1
                continue
            if args.json:
                expires = None if left is None else round(time.time() + left, 3)
                left = None if left is None else round(left, 3)
                write_json({"key": key, "ttl": left, "expires": expires})
            else:
                screen.write_text("forever" if left is None else durations.write(left))
    return code


def ls(args: Namespace) -> int:
    end = b"\0" if args.null else b"\n"
    code = 0
    with open_to_read(args.store, args.timeout, whole=True) as d:
        selected = _selected(d, args, reverse=args.reverse, limit=args.limit)
        if not args.long and not args.json:
            write = screen.Lines(end)
            for key in selected:
                # Between zero bytes a str may stand as it is.
                plain = args.null and type(key) is str and not args.json_key
                write(key.encode() if plain else to_text(key, args.json_key).encode())
            write.flush()
            return 0
        encode = codecs.make(d.settings.codec).encode
        write = screen.Lines(end)
        for item in Map(d, selected):
            if isinstance(item, Unreadable):
                screen.say(f"{item.entry}: {item.reason}")
                code = 1
            elif args.json:
                write(_as_json(item, len(encode(item.value))))
            else:
                write(_as_long(item, len(encode(item.value)), args.json_key))
        write.flush()
    return code


def _as_json(item: Item, size: int) -> bytes:
    return orjson.dumps({"key": item.key, "bytes": size, "expires": item.moment})


def _as_long(item: Item, size: int, json_key: bool) -> bytes:
    left = "-" if item.moment is None else span(max(item.moment - time.time(), 0))
    return f"{size:>10}  {left:>7}  {to_text(item.key, json_key)}".encode()


def dump(args: Namespace) -> int:
    drawn = sys.stdout is not None and not sys.stdout.isatty()  # else the results show how far
    code = 0
    with open_to_read(args.store, args.timeout, whole=True) as d:
        every = args.prefix is None and args.pattern is None
        source = Map(d, None if every else _selected(d, args))
        with Progress("dump", shown=drawn) as progress:
            write = screen.Lines(b"")
            form = _Form(args.form, d)
            write(form.head)
            for item in source:
                if isinstance(item, Unreadable):
                    screen.say(f"{item.entry}: {item.reason}")
                    code = 1
                else:
                    write(form.entry(item))
                    progress(source.done, source.total)
            write(form.tail)
            write.flush()
    if code:
        hint = ""
        if not is_url(args.store):
            hint = f"; {command('verify', shown(args.store))} lists all damage"
        screen.say(f"entries are missing from the dump{hint}")
    return code


class _Form:
    """How a dump writes entries."""

    def __init__(self, name: str, d: KVMap[Any, Any]) -> None:
        self._d = d
        self._row = Row("\t" if name == "tsv" else ",")
        self._separator = b"\n"
        self.head = self.tail = b""
        self.entry: Callable[[Item], bytes] = partial(line, d)
        if name in ("csv", "tsv"):
            self.head = self._row.line(HEADER)
            self.entry = self._as_row
        elif name == "json":
            self.head, self.tail = b"{", b"\n}\n"
            self.entry = self._as_member

    def _as_row(self, item: Item) -> bytes:
        key = item.key if type(item.key) is str else to_text(item.key)
        return self._row(key, text_of(self._d, item), item.moment)

    def _as_member(self, item: Item) -> bytes:
        if type(item.key) is not str:
            raise Refused(
                f"key {to_text(item.key)} is no str, as in a JSON object; --as jsonl keeps it"
            )
        separator, self._separator = self._separator, b",\n"
        return b"%b  %b: %b" % (separator, orjson.dumps(item.key), text_of(self._d, item))


def _selected(
    d: KVMap[Any, Any], args: Namespace, *, reverse: bool = False, limit: int | None = None
) -> Iterator[Key]:
    return keys_given.matching(
        d, prefix=args.prefix, pattern=args.pattern, reverse=reverse, limit=limit
    )
