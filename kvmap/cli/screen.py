"""What people see: results on standard output, talk and progress on standard error."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self


def write(data: bytes) -> None:
    """Put a result on standard output; it is UTF-8 there, whatever the locale."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    with _named():
        sys.stdout.buffer.write(data)


def flush() -> None:
    """Let go of results that wait to be written."""
    if sys.stdout is not None:
        with _named():
            sys.stdout.flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = "standard output"
        raise


def write_text(text: str) -> None:
    # Surrogates stand for a file name's bytes that are no UTF-8.
    write(text.encode("utf-8", "surrogateescape") + b"\n")


def say(text: str) -> None:
    """Tell what went wrong, or what must be known."""
    if sys.stderr is not None:
        print(f"kvmap: {text}", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Tell a person that all went well; nobody else wants to know."""
    if on_terminal():
        say(text)


def on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def rich_or_none() -> Any:
    """The optional package `rich`, None where it is not installed."""
    try:
        import rich.progress
        import rich.text
    except ImportError:
        return None
    return rich


# Figures


def size(count: float) -> str:
    """Bytes for people, in decimal units.

    >>> size(999), size(12_345), size(5_000_000_000)
    ('999 B', '12.3 kB', '5.0 GB')
    """
    if count < 999.5:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.95 or unit == "TB":
            break
    return f"{count:.1f} {unit}"


def span(seconds: float) -> str:
    """A time for people, in its two largest units.

    >>> span(5), span(125), span(3 * 3600 + 60), span(2 * 86400)
    ('5s', '2m05s', '3h01m', '2d00h')
    """
    whole = int(seconds)
    for unit, length, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60)):
        if whole >= length:
            return f"{whole // length}{unit}{whole % length // part:02}{smaller}"
    return f"{whole // 60}m{whole % 60:02}s" if whole >= 60 else f"{whole}s"


def amount(count: int, unit: str) -> str:
    """
    >>> amount(1, "entries"), amount(1234, "entries"), amount(1234, "bytes")
    ('1 entry', '1,234 entries', '1.2 kB')
    """
    if unit == "bytes":
        return size(count)
    return "1 entry" if count == 1 else f"{count:,} entries"


# Progress


class Progress:
    """A bar for long work: how far, how fast, how long still. Only on a terminal.

    Call it with what is done and, where known, how much there is.
    """

    PATIENCE = 0.4
    """Seconds that work may take without a bar."""
    EVERY = 0.1

    def __init__(self, what: str, unit: str = "entries", *, shown: bool = True) -> None:
        self._what, self._unit = what, unit
        self._began = time.monotonic()
        shown = shown and on_terminal()
        self._next = self._began + self.PATIENCE if shown else float("inf")
        self._bar: Any = None
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __call__(self, done: int, total: int | None = None) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self.EVERY
        rate = done / (now - self._began)
        parts = [amount(done, self._unit), f"{amount(round(rate), self._unit)}/s"]
        if total and rate:
            parts.append(f"{span(max(total - done, 0) / rate)} left")
        self._draw(min(done / total, 1.0) if total else None, "  ".join(parts))

    def _draw(self, part: float | None, figures: str) -> None:
        rich = rich_or_none()
        if rich is not None:
            if self._bar is None:
                self._bar = _rich_bar(rich, self._what)
            task = self._bar.task_ids[0]
            # Without a total, rich draws a bar that moves to and fro.
            self._bar.update(
                task, completed=part or 0, total=None if part is None else 1, figures=figures
            )
            return
        bar = "" if part is None else f"[{'#' * int(part * 30):<30}] {part:4.0%}  "
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r" + f"{self._what}  {bar}{figures}"[:width] + "\x1b[K")
        sys.stderr.flush()
        self._drawn = True


def _rich_bar(rich: Any, what: str) -> Any:
    progress = rich.progress
    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.fields[figures]}"),
        console=rich.console.Console(stderr=True),
        transient=True,
    )
    bar.add_task(what, total=1, figures="")
    bar.start()
    return bar


# Bars


class Row(NamedTuple):
    """A bar with its label before it and its figure after it."""

    label: str
    parts: Sequence[float]
    """Lengths of the bar's parts, in any unit that the rows of one chart share."""
    figure: str


STYLES = (("green", "█", "#"), ("red", "░", "-"))
"""For each part of a bar: its colour, its character, and the one for plain text."""


def chart(title: str, rows: Sequence[Row]) -> None:
    """Draw rows as bars: in colour on a terminal, in ASCII elsewhere or without `rich`."""
    rich = rich_or_none() if sys.stdout is not None and sys.stdout.isatty() else None
    columns = min(shutil.get_terminal_size().columns, 100)
    label = max([len(row.label) for row in rows])
    figure = max([len(row.figure) for row in rows])
    room = max(columns - label - figure - 6, 10)
    longest = max([sum(row.parts) for row in rows]) or 1
    console = None if rich is None else rich.console.Console(file=sys.stdout, highlight=False)
    lines: list[list[tuple[str, str]]] = [[], [(title, "bold")]]
    for row in rows:
        line = [(f"  {row.label:>{label}}  ", "")]
        lengths = _lengths(row.parts, longest, room)
        for (colour, block, plain), length in zip(STYLES, lengths, strict=False):
            line.append(((plain if rich is None else block) * length, colour))
        line.append((f"{' ' * (room - sum(lengths))}  {row.figure:>{figure}}", ""))
        lines.append(line)
    for line in lines:
        if rich is None or console is None:
            write_text("".join([text for text, _ in line]))
        else:
            console.print(rich.text.Text.assemble(*line), soft_wrap=True)


def _lengths(parts: Sequence[float], longest: float, room: int) -> list[int]:
    """Characters for the parts of a bar; what is there is seen, however little it is.

    >>> _lengths([999, 1], longest=1000, room=20)
    [19, 1]
    """
    lengths = [max(round(part / longest * room), int(part > 0)) for part in parts]
    while sum(lengths) > room:
        lengths[lengths.index(max(lengths))] -= 1
    return lengths


def silence() -> None:
    """Give up standard output: whoever read it has gone, or it can't be written to."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
