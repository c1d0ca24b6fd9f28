"""The `kvmap` command: look into a store, change it, move entries in and out.

Results go to standard output, everything else to standard error. Exit codes: 0 all is well; 1 a key
is missing, entries were left out, or the store is damaged; 2 wrong use or refused; 130 interrupted.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import suppress
from importlib import import_module

from kvmap.cli import screen
from kvmap.cli.arguments import parser
from kvmap.cli.places import shown
from kvmap.cli.words import command, explain
from kvmap.errors import CorruptStoreError, KVMapError

_INTERRUPTED = {
    **dict.fromkeys(
        ["set", "del", "incr", "expire", "load", "compact", "config"], "the store is whole"
    ),
    "repair": "nothing is lost, run it again",
    "backup": "there is no copy",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` are the process's own by default."""
    args = parser().parse_args(arguments)
    try:
        code = _run(args)
        screen.flush()
        return code
    except KeyboardInterrupt:
        state = _INTERRUPTED.get(args.command)
        screen.say("interrupted" + (f"; {state}" if state else ""))
        return 130
    except BrokenPipeError:
        # Whoever read the results has seen enough: end as other programs do, by SIGPIPE's number.
        _silence()
        return 141
    except CorruptStoreError as error:
        screen.say(f"{error.place}: {error.reason}")
        if error.offset is not None:
            screen.say(f"{command('verify', _store(args))} lists all damage")
        return 1
    except (KVMapError, OSError) as error:
        screen.say(explain(error, _store(args), may_wait="timeout" in args))
        _silence()
        return 2


def _store(args: Namespace) -> str:
    """What messages call the command's store; `completion` has none."""
    return shown(args.store) if "store" in args else ""


def _run(args: Namespace) -> int:
    module, name = args.run
    # Imported here, so that each command pays for its own imports only.
    code: int = getattr(import_module(f"kvmap.cli.{module}"), name)(args)
    return code


def _silence() -> None:
    # What could not be written must not be tried again, and fail again, when the interpreter exits.
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            screen.silence()
