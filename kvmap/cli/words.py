"""Errors in the words of the command line, not in those of a Python program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kvmap.errors import KVMapError, StoreLockedError


class Refused(KVMapError):
    """A user's mistake; the message is all that they need."""


_WORDS: Final = [
    (r"""codec="extended" keeps it""", "a store made with --codec extended keeps it"),
    (r"; [^;]*open with type= or encode=", ""),
    (r"Limits\((\w+)=\.\.\.\)", r"limits.\1"),
    (r"\blimits?[. ](key_chars|value_bytes|store_bytes|entries)\b", r"--\1"),
    (r"--(key|value|store)_", r"--\1-"),
    (r"\b(evict|codec|shards|timeout)=['\"]?(\w+)['\"]?", r"--\1 \2"),
    (r" \(None\)", ""),
    (r"(--evict|or) None", r"\1 none"),
    (r"; None: the entry stays", "; `forever`: the entry stays"),
    (r"kvmap\.(repair|verify)\(\)", r"`kvmap \1`"),
]
"""Patterns in the library's messages, and what stands there on the command line."""


def explain(error: BaseException, store: str = "", *, may_wait: bool = False) -> str:
    """An error as one line for people; commands in it name the store.

    `may_wait`: the command has the option --timeout.

    >>> explain(FileNotFoundError(2, "No such file or directory", "people.csv"))
    'people.csv: No such file or directory'
    >>> explain(ValueError("evict='sieve' needs a bound: Limits(entries=...)"))
    '--evict sieve needs a bound: --entries'
    """
    if isinstance(error, StoreLockedError):
        return f"{error.strerror}{'; --timeout 10s waits for it' if may_wait else ''}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return re.sub(
        r"`kvmap (repair|verify)`", lambda found: command(found[1], store), in_words(str(error))
    )


def command(name: str, store: str) -> str:
    """A command that a user may copy.

    >>> command("repair", "my store")
    "`kvmap repair 'my store'`"
    """
    return f"`kvmap {name} {shlex.quote(store)}`"


def in_words(message: str) -> str:
    """A message of the library, with options in place of arguments."""
    for pattern, word in _WORDS:
        message = re.sub(pattern, word, message)
    return message


@contextmanager
def refusing() -> Iterator[None]:
    """Make Refused of a ValueError or TypeError that says what is wrong with the command's words."""
    try:
        yield
    except KVMapError:
        raise
    except (TypeError, ValueError) as error:
        raise Refused(in_words(str(error))) from None
