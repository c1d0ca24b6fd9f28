"""`kvmap load`: entries from a file, or from another store, into a store."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, Any, Final

from kvmap.cli import screen
from kvmap.cli.keys_given import standard_input, write_json
from kvmap.cli.places import NoStoreError, is_url, open_to_read, open_to_write, shown
from kvmap.cli.progress import Progress
from kvmap.cli.quantities import amount
from kvmap.cli.words import Refused, explain, in_words
from kvmap.errors import KVMapError
from kvmap.mapping import KVMap
from kvmap.moving.csv_files import CSV
from kvmap.moving.entries import LoadError, Source, SourceError
from kvmap.moving.json_files import open_json
from kvmap.moving.loading import Report
from kvmap.moving.loading import load as load_source
from kvmap.moving.maps import Map
from kvmap.settings import DEFAULT

_LISTED: Final = 20
"""Skipped entries that are listed one by one, at most."""


def load(args: Namespace) -> int:
    if _is_same(args.store, args.source):
        raise Refused(f"{shown(args.store)} can't be loaded into itself")
    report = Report()
    try:
        with _source(args) as (source, codec), _target(args, codec) as d:
            if source.pickled:
                screen.say(
                    f"{args.source} holds pickles, and reading a pickle runs whatever code is in "
                    "it; load only what you trust"
                )
            with Progress("load", source.unit) as progress:
                load_source(
                    d,
                    source,
                    ttl=DEFAULT if args.ttl is None else args.ttl,
                    skip=args.on_error == "skip",
                    on_conflict=args.on_conflict,
                    report=report,
                    progress=lambda _: progress(source.done, source.total),
                )
    except LoadError as error:
        hint = "" if args.on_conflict == "fail" else "; --on-error skip leaves such entries out"
        message = in_words(str(error))
        raise Refused(f"{_name(args.source)}, {message}; {_so_far(report)}{hint}") from None
    except (KVMapError, OSError) as error:
        if not report.loaded:
            raise
        message = explain(error, shown(args.store), may_wait=True)
        raise Refused(f"{message}; {_so_far(report)}; run it again to go on") from None
    except KeyboardInterrupt:
        screen.say(f"{_so_far(report)}; run it again to go on")
        raise
    _say(report, as_json=args.json)
    return 1 if report.skipped else 0


def _say(report: Report, *, as_json: bool) -> None:
    if as_json:
        skipped = [
            {"entry": each.entry, "reason": in_words(each.reason)} for each in report.skipped
        ]
        write_json({**asdict(report), "skipped": skipped})
        return
    for entry, reason in report.skipped[:_LISTED]:
        screen.say(f"skipped {entry}: {in_words(reason)}")
    if len(report.skipped) > _LISTED:
        more = amount(len(report.skipped) - _LISTED, "entries")
        screen.say(f"skipped {more} more; --json lists all")
    left_out = (
        (len(report.skipped), "skipped"),
        (report.expired, "expired already"),
        (report.kept, "there already"),
    )
    rest = "".join([f", {count:,} {why}" for count, why in left_out if count])
    write = screen.say if report.skipped else screen.note
    write(f"loaded {amount(report.loaded, 'entries')}{rest}")


def _so_far(report: Report) -> str:
    return f"stopped, {amount(report.loaded, 'entries')} loaded so far"


def _name(source: str) -> str:
    return "standard input" if source == "-" else shown(source)


def _is_same(store: str, source: str) -> bool:
    if is_url(store) or is_url(source):
        return store == source
    return os.path.isdir(source) and os.path.realpath(store) == os.path.realpath(source)


def _target(args: Namespace, codec: str) -> KVMap[Any, Any]:
    """The store to load into; one that is new has the source's codec, or the one that is named."""
    try:
        d = open_to_write(args.store, args.timeout)
    except NoStoreError:
        return open_to_write(args.store, args.timeout, new=True, codec=args.codec or codec)
    if args.codec not in (None, d.settings.codec):
        d.close()
        raise Refused(
            f"{shown(args.store)} was made with --codec {d.settings.codec}, and keeps it; name a new "
            "store, or leave --codec out"
        )
    return d


@contextmanager
def _source(args: Namespace) -> Iterator[tuple[Source, str]]:
    """What to load, and the codec of the store that it comes from."""
    kind = _kind(args.source) if args.kind == "auto" else args.kind
    if kind == "kvmap":
        with open_to_read(args.source, args.timeout, whole=True) as d:
            yield Map(d), d.settings.codec
    elif kind in _STORES:
        with _STORES[kind](args) as source:
            yield source, "json"
    elif args.source == "-":
        yield _file_source(args, kind, standard_input()), "json"
    else:
        with open(args.source, "rb") as file:
            yield _file_source(args, kind, file), "json"


def _kind(source: str) -> str:
    """What a source is by its name and its files. What may hold pickles must be named."""
    if is_url(source):
        return "kvmap"
    if os.path.isdir(source):
        if os.path.exists(os.path.join(source, "kvmap.json")):
            return "kvmap"
        from kvmap.moving.diskcaches import is_diskcache

        if is_diskcache(source):
            raise Refused(f"{source} is a diskcache directory; load it with --from diskcache")
        raise Refused(f"{source} is a directory, but no store that is known")
    ending = os.path.splitext(source)[1].lower()
    if ending in (".csv", ".tsv"):
        return ending[1:]
    if os.path.isfile(source) and _is_sqlite(source):
        raise Refused(f"{source} may hold pickles; say what it is: --from sqlitedict or shelve")
    if source != "-" and not os.path.exists(source):
        from kvmap.moving.shelves import is_shelf

        if is_shelf(source):
            raise Refused(f"{source} is a shelve store; load it with --from shelve")
    return "auto"


def _is_sqlite(path: str) -> bool:
    """As sqlitedict writes it, and `shelve` from Python 3.13 on."""
    with open(path, "rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _tinydb(args: Namespace) -> Source:
    from kvmap.moving.tinydbs import TinyDB

    return TinyDB(args.source, args.table)


def _shelf(args: Namespace) -> Source:
    from kvmap.moving.shelves import Shelf

    return Shelf(args.source)


def _sqlitedict(args: Namespace) -> Source:
    from kvmap.moving.sqlitedicts import SqliteDict

    return SqliteDict(args.source, args.table)


def _diskcache(args: Namespace) -> Source:
    from kvmap.moving.diskcaches import DiskCache

    return DiskCache(args.source)


_STORES: Final[dict[str, Callable[[Namespace], Source]]] = {
    "shelve": _shelf,
    "sqlitedict": _sqlitedict,
    "diskcache": _diskcache,
    "tinydb": _tinydb,
}


def _file_source(args: Namespace, kind: str, file: IO[bytes]) -> Source:
    try:
        if kind in ("csv", "tsv"):
            separator = "," if kind == "csv" else "\t"
            return CSV(file, separator, key=args.key, json_cells=args.json_cells)
        return open_json(file, kind)
    except SourceError as error:
        raise Refused(f"{_name(args.source)}: {error}") from None
