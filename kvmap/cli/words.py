"""Errors in the words of the command line, not in those of a Python program."""

from __future__ import annotations

import re
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
    (r"--evict None", "--evict none"),
    (r"; None: the entry stays", "; `forever`: the entry stays"),
    (r"kvmap\.(repair|verify)\(\)", r"`kvmap \1`"),
]
"""Patterns in the library's messages, and what stands there on the command line."""


def explain(error: BaseException) -> str:
    """An error as one line for people.

    >>> explain(FileNotFoundError(2, "No such file or directory", "people.csv"))
    'people.csv: No such file or directory'
    >>> explain(ValueError("evict='sieve' needs a bound: Limits(entries=...)"))
    '--evict sieve needs a bound: --entries'
    """
    if isinstance(error, StoreLockedError):
        return f"{error.strerror}; --timeout 10s waits for it"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return in_words(str(error))


def in_words(message: str) -> str:
    """A message of the library, with options in place of arguments."""
    for pattern, word in _WORDS:
        message = re.sub(pattern, word, message)
    return message
