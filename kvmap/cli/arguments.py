"""What the command line takes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from kvmap.cli import help_texts as texts
from kvmap.cli import option_values, screen

_KINDS: Final = (
    *("auto", "json", "jsonl", "csv", "tsv"),
    *("kvmap", "shelve", "sqlitedict", "diskcache", "tinydb"),
)
_FORMS: Final = ("jsonl", "json", "csv", "tsv")
_READING: Final = ("reading", "figures")
"""The modules of commands that only read, and so wait for no owner."""
_CONFLICTS: Final = ("overwrite", "skip", "fail")


def parser() -> Parser:
    """The command line's parser; `run` in its result names a module and a function."""
    top = Parser(prog="kvmap", description=texts.TOP, epilog=texts.TOP_EPILOG)
    top.add_argument("-V", "--version", action=_Version, nargs=0, help="print the version")
    commands = top.add_subparsers(
        metavar="COMMAND", required=True, title="commands", parser_class=Command
    )
    top.commands = commands
    for add in (_read_entries, _write_entries, _move, _care):
        add(commands)
    return top


def _command(commands: Any, name: str, module: str, *, function: str = "") -> Command:
    does, more, examples = texts.COMMANDS[name]
    made: Command = commands.add_parser(
        name,
        help=does,
        description=f"{does[0].upper()}{does[1:]}. {more}".rstrip(),
        epilog="example:\n" + examples,
    )
    made.set_defaults(run=(module, function or name), command=name)
    return made


def _store_command(
    commands: Any, name: str, module: str, *, function: str = "", waits: bool = True
) -> Command:
    made = _command(commands, name, module, function=function)
    made.add_argument(
        "store", metavar="STORE", help="a directory, or a URL such as redis://host/0/name"
    )
    if waits:
        made.add_argument(
            "--timeout",
            type=option_values.time,
            default=0.0,
            metavar="TIME",
            help=texts.TIMEOUT_TO_READ if module in _READING else texts.TIMEOUT_TO_WRITE,
        )
    return made


def _read_entries(commands: Any) -> None:
    one = _store_command(commands, "get", "reading")
    _takes_keys(one)
    one.add_argument(
        "-r", "--raw", action="store_true", help="print a str without quotes and escapes"
    )
    one.add_argument(
        "-i", "--indent", action="store_true", help="spread the JSON over several lines"
    )
    _prints_json(one, "print an object with key and value for each")

    one = _store_command(commands, "exists", "reading")
    _takes_keys(one)
    _prints_json(one, "print an object with key and exists for each")

    one = _store_command(commands, "count", "reading")
    _selects(one)

    one = _store_command(commands, "ls", "reading")
    _selects(one)
    one.add_argument(
        "-l", "--long", action="store_true", help="with the value's bytes and the time left"
    )
    one.add_argument(
        "-n", "--limit", type=option_values.natural, metavar="N", help="at most N keys"
    )
    one.add_argument("-r", "--reverse", action="store_true", help="newest first")
    _takes_json_key(one, "print every key as JSON, a str in quotes")
    _takes_null(one, "end each key with a zero byte, and print a str as it is")
    _prints_json(one, "print an object with key, bytes and expires (Unix seconds or null) for each")

    one = _store_command(commands, "ttl", "reading")
    _takes_keys(one)
    _prints_json(one, "print an object with key, ttl (seconds) and expires (Unix seconds) for each")

    one = _store_command(commands, "stats", "figures")
    one.add_argument(
        "-n", "--limit", type=option_values.natural, default=10, metavar="N", help=texts.STATS_LIMIT
    )
    one.add_argument(
        "-q", "--quick", action="store_true", help="leave out what needs reading the values"
    )
    _prints_json(one)


def _write_entries(commands: Any) -> None:
    one = _store_command(commands, "set", "writing")
    one.add_argument("key", metavar="KEY")
    one.add_argument("value", metavar="VALUE", help="JSON; `-` reads it from standard input")
    one.add_argument("-s", "--text", action="store_true", help="VALUE is the str itself, not JSON")
    one.add_argument(
        "--new", action="store_true", help="only where the key is missing; else exit 1"
    )
    _takes_ttl(one, "the store's")
    one.add_argument(
        "--keep-ttl", action="store_true", help="an entry that is there keeps its deadline"
    )
    _takes_json_key(one)

    one = _store_command(commands, "incr", "writing")
    one.add_argument("key", metavar="KEY")
    one.add_argument(
        "by",
        metavar="BY",
        nargs="?",
        type=option_values.number,
        default=1,
        help="a number (default: 1)",
    )
    _takes_ttl(one, "an entry that is there keeps its deadline, a new one gets the store's")
    _takes_json_key(one)

    one = _store_command(commands, "expire", "writing")
    _takes_keys(one)
    one.add_argument(
        "time",
        metavar="TIME",
        type=option_values.ttl,
        help="from now: 90, 15m, 1h30m, 7d or `forever`",
    )

    one = _store_command(commands, "del", "writing", function="del_")
    _takes_keys(one)


def _move(commands: Any) -> None:
    one = _store_command(commands, "dump", "reading")
    _selects(one)
    one.add_argument("--as", dest="form", choices=_FORMS, default="jsonl", help=texts.DUMP_FORM)

    one = _store_command(commands, "load", "loading")
    one.add_argument(
        "source", metavar="SOURCE", help="a file, directory or URL; `-`: standard input"
    )
    one.add_argument("--from", dest="kind", default="auto", choices=_KINDS, help=texts.LOAD_FROM)
    one.add_argument("--table", metavar="NAME", help="which table of a sqlitedict or tinydb file")
    one.add_argument("--key", metavar="COLUMN", help=texts.LOAD_KEY)
    one.add_argument("--json-cells", action="store_true", help=texts.LOAD_CELLS)
    one.add_argument(
        "--on-conflict", choices=_CONFLICTS, default="overwrite", help=texts.LOAD_CONFLICT
    )
    one.add_argument("--on-error", choices=["stop", "skip"], default="stop", help=texts.LOAD_ERROR)
    _takes_ttl(one, "the store's", "time to live for entries that bring no deadline")
    one.add_argument("--codec", choices=["json", "extended"], help="for a store that load makes")
    _prints_json(one, "print a report as JSON")


def _care(commands: Any) -> None:
    one = _store_command(commands, "config", "care")
    _takes_ttl(one, "as it is", "time to live for entries that are written without another one")
    one.set_defaults(limits={})
    for name, type_, does in (
        ("entries", option_values.count_or_none, "how many entries the store holds"),
        (
            "store-bytes",
            option_values.size_or_none,
            "how large its live records may be: 4096, 64kB, 2GiB",
        ),
        ("value-bytes", option_values.size_or_none, "how large one value may be, as JSON"),
        ("key-chars", option_values.count_or_none, "how long one key may be"),
    ):
        one.add_argument(
            f"--{name}", action=_Limit, type=type_, metavar="N", help=f"{does}, or `none`"
        )
    one.add_argument("--evict", choices=["none", "oldest", "sieve"], help=texts.CONFIG_EVICT)
    one.add_argument("--codec", choices=["json", "extended"], help="for a new store")
    one.add_argument(
        "--shards", type=option_values.natural, metavar="N", help="for a new store: a power of two"
    )
    _prints_json(one)

    one = _store_command(commands, "verify", "care", waits=False)
    _prints_json(one)

    one = _store_command(commands, "repair", "care", waits=False)
    one.add_argument("--codec", choices=["json", "extended"], help=texts.REPAIR_CODEC)
    _prints_json(one)

    one = _store_command(commands, "compact", "care")
    _prints_json(one)

    one = _store_command(commands, "backup", "care", waits=False)
    one.add_argument("target", metavar="TARGET", help="a directory that is not there, or empty")

    one = _command(commands, "completion", "care")
    one.add_argument("shell", metavar="SHELL", choices=["bash", "zsh"], help="bash or zsh")


# Options that several commands have


def _takes_keys(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "keys",
        metavar="KEY",
        nargs="*",
        help="`-` alone reads keys from standard input, one a line",
    )
    made.add_argument(
        "-g", "--glob", metavar="PATTERN", help="all keys that match, such as 'user:*'"
    )
    _takes_json_key(made)
    _takes_null(
        made, "keys on standard input, and values, end with a zero byte, not with a newline"
    )


def _takes_json_key(
    made: argparse.ArgumentParser, does: str = "a KEY is JSON: 17, null, '[\"ada\", 2]'"
) -> None:
    made.add_argument("-k", "--json-key", action="store_true", help=does)


def _takes_null(made: argparse.ArgumentParser, does: str) -> None:
    made.add_argument("-0", "--null", action="store_true", help=does)


def _takes_ttl(made: argparse.ArgumentParser, default: str, does: str = "time to live") -> None:
    made.add_argument(
        "-t",
        "--ttl",
        type=option_values.ttl,
        metavar="TIME",
        help=f"{does}: 90, 15m, 1h30m, 7d or `forever` (default: {default})",
    )


def _selects(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "pattern", metavar="PATTERN", nargs="?", help="only keys that match, such as 'user:*'"
    )
    made.add_argument("-p", "--prefix", metavar="TEXT", help="only str keys that begin with this")


def _prints_json(made: argparse.ArgumentParser, does: str = "print JSON") -> None:
    made.add_argument("-j", "--json", action="store_true", help=does)


class Parser(argparse.ArgumentParser):
    """A parser that knows what was added to it."""

    commands: Any = None
    """What `add_subparsers` returned."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        self.added: list[argparse.Action] = []
        super().__init__(allow_abbrev=False, **options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        action = super().add_argument(*names, **options)
        self.added.append(action)
        return action

    def every_action(self) -> Iterator[argparse.Action]:
        """All arguments and options, those of the commands included."""
        yield from self.added
        for command in () if self.commands is None else self.commands.choices.values():
            yield from command.added


class Command(Parser):
    """A command's own parser: options may stand among keys, and errors show the command's usage."""

    _mixing = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        if self._mixing:  # called by what is called below
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            found, others = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False
        if others:
            # Keys behind a wrong option are among them.
            others = [word for word in others if word.startswith("-")] or others
            self.error(f"unrecognized arguments: {' '.join(others)}")
        return found, others


class _Limit(argparse.Action):
    """Collects the limits that are named."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, *_: object
    ) -> None:
        namespace.limits = {**namespace.limits, self.dest: value}


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from kvmap import __version__

        screen.write_text(f"kvmap {__version__}")
        parser.exit()
