"""What each command does: it takes the parsed command line and returns the exit code."""

from __future__ import annotations

import math
import os
import re
import stat
import sys
import time
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, Any

import orjson

import kvmap
from kvmap import keys, manifest
from kvmap.cli import screen
from kvmap.errors import KVMapError
from kvmap.importing import (
    DiskCache,
    LoadError,
    Report,
    Shelf,
    Source,
    SourceError,
    SqliteDict,
    decode,
    json_source,
)
from kvmap.importing import load as load_source
from kvmap.mapping import DEFAULT, KVMap
from kvmap.record import Entry, deadline, unpack_value
from kvmap.stats import ShardStats, Stats

Key = keys.Key


class Refused(KVMapError):
    """A user's mistake; the message is all they need."""


def explain(error: BaseException) -> str:
    """An error as one line for people, without Python's names."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, KVMapError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, kvmap.StoreLockedError):
        return str(error.strerror)
    return str(error)


# What is on the command line

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds(text: str) -> float:
    """
    >>> seconds("90"), seconds("1.5h"), seconds("7d")
    (90.0, 5400.0, 604800.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is no time: write 90, 90s, 15m, 2h or 7d")
    return float(found[1]) * _UNITS[found[2]]


def ttl(text: str) -> float:
    """A time to live in seconds; infinite for `forever`."""
    found = math.inf if text == "forever" else seconds(text)
    if found == 0:
        raise ArgumentTypeError("a time to live must be above 0")
    return found


def _key(args: Namespace, text: str) -> Key:
    if not args.json_key:
        return text
    try:
        return keys.from_json(decode(text.encode()))
    except ValueError as error:
        raise Refused(f"key {text!r:.80}: {error}") from None


def _shown(key: Key, as_json: bool) -> str:
    """A key for one line; a control character could break the line, or command the terminal."""
    if type(key) is str and not as_json and not _CONTROL.search(key):
        return key
    # JSON escapes the first 32 of them only.
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", orjson.dumps(key).decode())


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _standard_input() -> Any:
    if sys.stdin is None:
        raise Refused("standard input is closed")
    return sys.stdin.buffer


# Opening


def _open(args: Namespace, flag: str) -> KVMap[Any]:
    # The engine's messages on these tell of flags, which are for programmers.
    if flag != "c":
        _must_exist(args.store)
        if manifest.NAME not in os.listdir(args.store):
            raise Refused(f"{args.store} is no kvmap store: it holds no {manifest.NAME}")
    return kvmap.open(args.store, flag, timeout=args.timeout)


def _must_exist(path: str) -> None:
    try:
        found = os.stat(path)  # raises what is not allowed, too
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"there is no store at {path}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(f"{path} is not a directory; a store is one")


def _items(d: KVMap[Any], prefix: str | None) -> Iterator[tuple[Key, Entry]]:
    """The keys of a store that nobody writes to, with where their records stand."""
    for key, entry in d._everything().items():
        if prefix is None or (type(key) is str and key.startswith(prefix)):
            yield key, entry


# Single entries


def get(args: Namespace) -> int:
    key = _key(args, args.key)
    with _open(args, "r") as d:
        try:
            value = d[key]
        except KeyError:
            screen.say(f"{args.store} has no key {_shown(key, True)}")
            return 1
    if args.raw and type(value) is str:
        screen.write_text(value)
    else:
        option = orjson.OPT_INDENT_2 if args.indent else None
        screen.write(orjson.dumps(value, option=option) + b"\n")
    return 0


def set(args: Namespace) -> int:
    key = _key(args, args.key)
    text = args.value.encode("utf-8", "surrogateescape")
    if args.value == "-":
        text = _standard_input().read()
    try:
        # One newline at the end is the shell's, not the text's.
        value = text.removesuffix(b"\n").decode() if args.text else decode(text)
    except UnicodeDecodeError as error:
        raise Refused(f"the value is not UTF-8: {error}") from None
    except ValueError as error:
        raise Refused(f"the value: {error}; for a str, add --text") from None
    existed = os.path.lexists(args.store)
    with _open(args, "c") as d:
        try:
            d.set(key, value, ttl=DEFAULT if args.ttl is None else _or_none(args.ttl))
        except (TypeError, ValueError) as error:
            raise Refused(str(error)) from None
    if not existed:
        screen.note(f"made a new store, {args.store}")
    return 0


def _or_none(seconds: float) -> float | None:
    return None if seconds == math.inf else seconds


def del_(args: Namespace) -> int:
    names = args.keys
    if names == ["-"]:
        # All of it before the store is opened: what prints the keys may have it open.
        names = _standard_input().read().decode("utf-8", "surrogateescape").splitlines()
    wanted = [_key(args, name) for name in names]
    code = 0
    with _open(args, "w") as d:
        for key in wanted:
            try:
                del d[key]
            except KeyError:
                screen.say(f"{args.store} has no key {_shown(key, True)}")
                code = 1
    return code


# Looking


def ls(args: Namespace) -> int:
    with _open(args, "r") as d:
        now = time.time()
        lines = []
        for key, entry in _items(d, args.prefix):
            start, end = unpack_value(entry)[:2]
            expires = deadline(entry)
            if args.json:
                found = {"key": key, "bytes": end - start, "expires": _or_none(expires)}
                lines.append(orjson.dumps(found))
            elif args.long:
                left = "-" if expires == math.inf else screen.span(max(expires - now, 0))
                shown = _shown(key, args.json_key)
                lines.append(f"{end - start:>10}  {left:>7}  {shown}".encode())
            else:
                lines.append(_shown(key, args.json_key).encode())
            if len(lines) == 1000:
                screen.write(b"\n".join([*lines, b""]))
                lines = []
        screen.write(b"\n".join([*lines, b""]))
    return 0


def stats(args: Namespace) -> int:
    with _open(args, "r") as d:
        found = d.stats()
    if args.json:
        _write_json(asdict(found))
        return 0
    size, write = screen.size, screen.write_text
    timed = found.entries - found.deadlines.never
    write(f"{args.store}")
    write(f"  entries  {found.entries:>12,}  {timed:,} with a deadline")
    write(f"  values   {size(found.value_bytes):>12}  as JSON")
    write(f"  live     {size(found.live_bytes):>12}  records that hold the entries")
    write(f"  dead     {size(found.dead_bytes):>12}  goes when kvmap compacts")
    write(f"  on disk  {size(found.disk_bytes):>12}  in {found.files:,} files")
    if found.live_bytes + found.dead_bytes:
        _chart_shards(found)
    if found.entries:
        _chart_sizes(found)
    if timed:
        _chart_deadlines(found)
    return 0


ROWS = 16
"""Bars that the shards are drawn as, at most."""


def _chart_shards(found: Stats) -> None:
    group = max(len(found.shards) // ROWS, 1)
    rows = []
    for at in range(0, len(found.shards), group):
        some: tuple[ShardStats, ...] = found.shards[at : at + group]
        live, dead = sum([each.live for each in some]), sum([each.dead for each in some])
        label = f"{some[0].number:02x}" + (f"-{some[-1].number:02x}" if group > 1 else "")
        figure = f"{screen.size(live):>8}" + f" + {screen.size(dead)} dead".ljust(16) * (dead > 0)
        rows.append(screen.Row(label, (live, dead), figure))
    screen.chart("live and dead bytes by shard", rows)


def _chart_sizes(found: Stats) -> None:
    rows = []
    for least, most, entries in [(s.least, s.most, s.entries) for s in found.value_sizes]:
        label = screen.size(least) + (f" to {screen.size(most)}" if most > least else "")
        rows.append(screen.Row(label, (entries,), f"{entries:,}"))
    screen.chart("entries by size of value", rows)


def _chart_deadlines(found: Stats) -> None:
    hours = list(found.deadlines.hours)
    while hours and not hours[-1]:
        hours.pop()
    rows = [
        screen.Row(f"{hour} to {hour + 1} h", (count,), f"{count:,}")
        for hour, count in enumerate(hours)
    ]
    if found.deadlines.later:
        later = found.deadlines.later
        rows.append(screen.Row(f"after {len(found.deadlines.hours)} h", (later,), f"{later:,}"))
    screen.chart("entries that expire, by time from now", rows)


# The whole store


def compact(args: Namespace) -> int:
    with _open(args, "w") as d:
        before = d.stats()
        with screen.Progress("compact", "bytes") as progress:
            d.compact(progress)
        after = d.stats()
    freed = before.dead_bytes - after.dead_bytes
    if args.json:
        _write_json({"freed_bytes": freed, "live_bytes": after.live_bytes})
    screen.note(f"freed {screen.size(freed)} of dead records, kept {screen.size(after.live_bytes)}")
    return 0


def verify(args: Namespace) -> int:
    _must_exist(args.store)
    with screen.Progress("verify", "bytes") as progress:
        found = kvmap.verify(args.store, progress)
    if args.json:
        _write_json({"ok": found.ok, **asdict(found)})
    else:
        for each in found.damage:
            screen.write_text(_place(each))
    if found.ok:
        entries = sum([shard.records for shard in found.shards])
        screen.note(f"{args.store} is whole: {screen.amount(entries, 'entries')}")
        return 0
    count = len(found.damage)
    screen.say(
        f"{args.store} is damaged in {count:,} place{'s' if count > 1 else ''}; "
        f"`kvmap repair {args.store}` keeps what is whole"
    )
    return 1


def repair(args: Namespace) -> int:
    _must_exist(args.store)
    with screen.Progress("repair", "bytes") as progress:
        done = kvmap.repair(args.store, progress)
    if args.json:
        _write_json(asdict(done))
    else:
        for each in done.aside:
            screen.write_text(f"{_place(each.damage)}; now in {each.kept}")
        # A file may be gone, or cut short.
        aside = {(each.damage.file, each.damage.reason) for each in done.aside}
        for damage in done.found.damage:
            if (damage.file, damage.reason) not in aside:
                screen.write_text(f"{_place(damage)}; nothing to keep aside")
    told = ", its limits and default time to live are gone" if done.new_manifest else ""
    screen.note(f"{args.store} is whole: {done.records:,} records kept{told}")
    return 0


def _place(damage: kvmap.Damage) -> str:
    return f"{damage.file}, byte {damage.offset}, {damage.length:,} bytes: {damage.reason}"


def backup(args: Namespace) -> int:
    with _open(args, "r") as d, screen.Progress("backup", "bytes") as progress:
        try:
            d.backup(args.target, progress)
        except KVMapError:
            raise
        except ValueError as error:  # inside the store
            raise Refused(str(error)) from None
        copied = screen.amount(len(d), "entries")
    screen.note(f"copied {copied} to {args.target}")
    return 0


def dump(args: Namespace) -> int:
    shown = sys.stdout is not None and not sys.stdout.isatty()  # else the results show how far
    with _open(args, "r") as d, screen.Progress("dump", shown=shown) as progress:
        total = len(d)
        lines = []
        for number, (key, entry) in enumerate(_items(d, args.prefix), start=1):
            # The value's text as it is stored, its checksum verified: nothing to decode.
            text = d._text(key, entry)[0]
            expires = deadline(entry)
            lines.append(
                b'{"key":%b,"value":%b}\n' % (orjson.dumps(key), text)
                if expires == math.inf
                else b'{"key":%b,"value":%b,"expires":%r}\n' % (orjson.dumps(key), text, expires)
            )
            if len(lines) == 1000:
                screen.write(b"".join(lines))
                lines = []
                progress(number, None if args.prefix else total)
        screen.write(b"".join(lines))
    return 0


def load(args: Namespace) -> int:
    report = Report()
    try:
        with _source(args) as source:
            if source.pickled:
                screen.say(
                    f"{args.source} holds pickles, and reading a pickle runs whatever code is in "
                    "it; load only what you trust"
                )
            with _open(args, "c") as d, screen.Progress("load", source.unit) as progress:
                load_source(
                    d,
                    source,
                    ttl=None if args.ttl is None else _or_none(args.ttl),
                    skip=args.on_error == "skip",
                    report=report,
                    progress=lambda _: progress(source.done, source.total),
                )
    except LoadError as error:
        hint = "--on-error skip leaves such entries out"
        raise Refused(f"{_name(args.source)}, {error}; {_so_far(report)}; {hint}") from None
    except (KVMapError, OSError) as error:
        if not report.loaded:
            raise
        raise Refused(f"{explain(error)}; {_so_far(report)}") from None
    except KeyboardInterrupt:
        screen.say(_so_far(report))
        raise
    _tell(report, as_json=args.json)
    return 0


def _tell(report: Report, *, as_json: bool) -> None:
    if as_json:
        skipped = [each._asdict() for each in report.skipped]
        _write_json({**asdict(report), "skipped": skipped})
        return
    for entry, reason in report.skipped:
        screen.say(f"skipped {entry}: {reason}")
    left_out = ((len(report.skipped), "skipped"), (report.expired, "expired already"))
    told = "".join([f", {count:,} {why}" for count, why in left_out if count])
    tell = screen.say if report.skipped else screen.note
    tell(f"loaded {screen.amount(report.loaded, 'entries')}{told}")


def _so_far(report: Report) -> str:
    return f"stopped, {screen.amount(report.loaded, 'entries')} loaded so far"


def _name(source: str) -> str:
    return "standard input" if source == "-" else source


@contextmanager
def _source(args: Namespace) -> Iterator[Source]:
    if args.kind in _STORES:
        with _STORES[args.kind](args) as source:
            yield source
    elif args.source == "-":
        yield _json_source(args, _standard_input())
    else:
        with open(args.source, "rb") as file:
            yield _json_source(args, file)


_STORES: dict[str, Callable[[Namespace], Source]] = {
    "shelve": lambda args: Shelf(args.source),
    "sqlitedict": lambda args: SqliteDict(args.source, args.table),
    "diskcache": lambda args: DiskCache(args.source),
}


def _json_source(args: Namespace, file: IO[bytes]) -> Source:
    try:
        return json_source(file, args.kind)
    except SourceError as error:
        raise Refused(f"{_name(args.source)}: {error}") from None


def _write_json(content: Any) -> None:
    screen.write(orjson.dumps(content) + b"\n")
