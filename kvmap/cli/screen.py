"""Results go to standard output, messages to standard error."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_TOGETHER: Final = 1000
"""Lines that are written with one call."""


def write(data: bytes) -> None:
    """Write a result; text is UTF-8, whatever the locale."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    with _naming_output():
        sys.stdout.buffer.write(data)


def write_text(text: str) -> None:
    """Write a line of text as a result."""
    # Surrogates stand for a file name's bytes that are no UTF-8.
    write(text.encode("utf-8", "surrogateescape") + b"\n")


class Lines:
    """Collects lines and writes many at a time, each followed by `end`."""

    def __init__(self, end: bytes) -> None:
        self._end = end
        self._lines: list[bytes] = []

    def __call__(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        if self._lines:
            write(self._end.join([*self._lines, b""]))
            self._lines.clear()


def flush() -> None:
    """Write the results that are still buffered."""
    if sys.stdout is not None:
        with _naming_output():
            sys.stdout.flush()


@contextmanager
def _naming_output() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = "standard output"
        raise


def silence() -> None:
    """Give up standard output, whose reader has gone, or which can't be written to."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def say(text: str) -> None:
    """Print what went wrong, or must be known."""
    if sys.stderr is not None:
        line = f"kvmap: {text}\n"
        sys.stderr.write(line.encode("utf-8", "backslashreplace").decode())
        sys.stderr.flush()


def note(text: str) -> None:
    """Print a success, to a person only: not into a pipe or a file."""
    if on_terminal():
        say(text)


def on_terminal() -> bool:
    """Whether a person reads the messages."""
    return sys.stderr is not None and sys.stderr.isatty()


def rich_or_none() -> Any:
    """The optional package `rich`; None where it is not installed."""
    try:
        import rich.progress
        import rich.text
    except ImportError:
        return None
    return rich
