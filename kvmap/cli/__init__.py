"""The `kvmap` command: look into a store, change it, move entries in and out.

Results go to standard output, everything else to standard error. Exit codes: 0 all is well, 1 a
key is missing or the store is damaged, 2 wrong use or refused, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress

from kvmap.cli import commands, screen
from kvmap.errors import CorruptStoreError, KVMapError

EXAMPLES = """\
examples:
  kvmap set sessions ada '{"name": "Ada"}' --ttl 2h
  kvmap get sessions ada
  kvmap ls sessions --long
  kvmap dump sessions > sessions.jsonl

A store is a directory. One process at a time has it open; --timeout waits for it. Exit codes: 0 all
is well, 1 a key is missing or the store is damaged, 2 wrong use or refused, 130 interrupted.
"""


_INTERRUPTED = {
    **dict.fromkeys(["set", "del_", "load", "compact"], "interrupted; the store is whole"),
    "repair": "interrupted; nothing is lost, run it again",
    "backup": "interrupted; there is no copy",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` are the process's own by default."""
    args = parser().parse_args(arguments)
    try:
        code: int = args.run(args)
        screen.flush()
        return code
    except KeyboardInterrupt:
        screen.say(_INTERRUPTED.get(args.run.__name__, "interrupted"))
        return 130
    except BrokenPipeError:
        # Whoever read the results has seen enough: end as other programs do, by SIGPIPE's number.
        _silence()
        return 141
    except CorruptStoreError as error:
        screen.say(f"{error.file}, byte {error.offset}: {error.reason}")
        screen.say(f"`kvmap verify {args.store}` lists all damage")
        return 1
    except (KVMapError, OSError) as error:
        told = commands.explain(error)
        screen.say(told.replace("kvmap.repair()", f"`kvmap repair {args.store}`"))
        _silence()
        return 2


def _silence() -> None:
    # What could not be written must not be tried again, and fail again, when the interpreter exits.
    try:
        sys.stdout.flush()
    except (OSError, AttributeError):
        with suppress(OSError, AttributeError):
            screen.silence()


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    top = _Parser(
        prog="kvmap",
        description="A dict on disk as plain JSON: look into a store, change it, move it.",
        epilog=EXAMPLES,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    under = top.add_subparsers(metavar="COMMAND", required=True, title="commands")

    def command(name: str, does: str, more: str, example: str) -> argparse.ArgumentParser:
        made = under.add_parser(
            name,
            help=does,
            description=f"{does[0].upper()}{does[1:]}. {more}",
            epilog="example:\n" + example,
        )
        made.set_defaults(run=getattr(commands, "del_" if name == "del" else name))
        made.add_argument("store", metavar="STORE", help="the store's directory")
        made.add_argument(
            "--timeout",
            type=commands.seconds,
            default=0.0,
            metavar="TIME",
            help="how long to wait for whoever has the store open (default: not at all)",
        )
        return made

    one = command("get", "print a value as JSON", "Exits 1 where the key is missing.", _GET)
    one.add_argument("key", metavar="KEY")
    one.add_argument("--raw", action="store_true", help="print a str without quotes and escapes")
    one.add_argument("--indent", action="store_true", help="spread the JSON over several lines")
    _takes_json_key(one)

    one = command("set", "store a value", "Makes the store where there is none.", _SET)
    one.add_argument("key", metavar="KEY")
    one.add_argument("value", metavar="VALUE", help="JSON; `-` reads it from standard input")
    one.add_argument("--text", action="store_true", help="VALUE is no JSON but the str itself")
    one.add_argument(
        "--ttl",
        type=commands.ttl,
        metavar="TIME",
        help="time to live: 90, 90s, 15m, 2h, 7d, or `forever` (default: the store's)",
    )
    _takes_json_key(one)

    one = command("del", "delete keys", "Exits 1 where one of them is missing.", _DEL)
    one.add_argument(
        "keys",
        metavar="KEY",
        nargs="+",
        help="`-` alone reads keys from standard input, one a line",
    )
    _takes_json_key(one)

    one = command("ls", "list keys, in the order they were inserted", _LS_MORE, _LS)
    one.add_argument("--prefix", metavar="TEXT", help="only str keys that begin with this")
    one.add_argument("--long", action="store_true", help="with the value's bytes and the time left")
    _prints_json(one, "one JSON object a line: key, bytes, expires (Unix seconds or null)")
    _takes_json_key(one, "print every key as JSON, a str in quotes")

    one = command("stats", "show what a store is made of", "Reads no values.", _STATS)
    _prints_json(one)

    one = command("verify", "read everything and check it", "Exits 1 on damage.", _VERIFY)
    _prints_json(one)

    one = command("repair", "keep what is whole of a damaged store", _REPAIR_MORE, _REPAIR)
    _prints_json(one)

    one = command("compact", "give back the space of dead records", _COMPACT_MORE, _COMPACT)
    _prints_json(one)

    one = command("dump", "print all entries as JSON Lines", "`kvmap load` reads them.", _DUMP)
    one.add_argument("--prefix", metavar="TEXT", help="only str keys that begin with this")

    one = command("load", "read entries into a store", _LOAD_MORE, _LOAD)
    one.add_argument("source", metavar="SOURCE", help="a file or directory; `-`: standard input")
    one.add_argument(
        "--from",
        dest="kind",
        default="auto",
        choices=["auto", "json", "jsonl", "shelve", "sqlitedict", "diskcache"],
        help="what SOURCE is (default: JSON or JSON Lines, as it looks)",
    )
    one.add_argument("--table", metavar="NAME", help="which table of a sqlitedict file")
    one.add_argument(
        "--on-error",
        choices=["stop", "skip"],
        default="stop",
        help="at an entry that can't be loaded: stop, or list it and go on (default: stop)",
    )
    one.add_argument(
        "--ttl",
        type=commands.ttl,
        metavar="TIME",
        help="time to live for entries that bring no deadline (default: forever)",
    )
    _prints_json(one, "print a report as JSON")

    one = command("backup", "copy a store to a new directory", "The copy is compact.", _BACKUP)
    one.add_argument("target", metavar="TARGET", help="a directory that is not there, or empty")
    return top


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: object) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **options,  # type: ignore[arg-type]
        )


def _takes_json_key(
    made: argparse.ArgumentParser, does: str = "a KEY is JSON: 17, null, '[\"ada\", 2]'"
) -> None:
    made.add_argument("--json-key", action="store_true", help=does)


def _prints_json(made: argparse.ArgumentParser, does: str = "print JSON") -> None:
    made.add_argument("--json", action="store_true", help=does)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version  # slow to import

        try:
            found = version("kvmap")
        except PackageNotFoundError:
            found = "(run from its source)"
        screen.write_text(f"kvmap {found}")
        parser.exit()


_GET = "  kvmap get sessions ada --indent\n  kvmap get sessions '[\"ada\", 2]' --json-key"
_SET = """\
  kvmap set sessions ada '{"visits": 1}' --ttl 2h
  kvmap set pages front - --text < index.html"""
_DEL = "  kvmap del sessions ada bob\n  kvmap ls sessions --prefix tmp: | kvmap del sessions -"
_LS = "  kvmap ls sessions --prefix user: --long"
_LS_MORE = """A str that holds control characters, and
every key that is no str, is shown as JSON."""
_STATS = "  kvmap stats sessions\n  kvmap stats sessions --json | jq .dead_bytes"
_VERIFY = "  kvmap verify sessions && echo all is well"
_REPAIR_MORE = "What is taken out is kept aside, in damaged/."
_REPAIR = "  kvmap repair sessions"
_COMPACT_MORE = "There is no need to: kvmap compacts in passing."
_COMPACT = "  kvmap compact sessions"
_DUMP = """\
  kvmap dump sessions > sessions.jsonl
  kvmap dump sessions | jq -c 'select(.value.visits > 9)' | kvmap load regulars -"""
_LOAD_MORE = """Makes the store where there is none;
overwrites keys that are there.

SOURCE is JSON Lines, {"key": …, "value": …, "expires": …} each, one JSON object, or, with --from,
another library's store. Deadlines are kept. The stores of shelve, sqlitedict and diskcache hold
pickles, and reading a pickle runs whatever code is in it: load only what you trust."""
_LOAD = """\
  kvmap load sessions sessions.jsonl
  kvmap load settings settings.json
  kvmap load cache old_cache/ --from diskcache --on-error skip"""
_BACKUP = "  kvmap backup sessions /mnt/backup/sessions"
