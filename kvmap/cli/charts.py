"""Bars beside figures, as text."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from kvmap.cli.screen import rich_or_none, write_text

_WIDEST: Final = 100
_COLOUR: Final = "green"


class Row(NamedTuple):
    """A bar with its label before it and its figure after it."""

    label: str
    length: float
    """In any unit that the rows of one chart share."""
    figure: str


def chart(title: str, rows: Sequence[Row]) -> None:
    """Draw rows as bars: in colour on a terminal with `rich`, in ASCII elsewhere."""
    rich = rich_or_none() if sys.stdout is not None and sys.stdout.isatty() else None
    columns = min(shutil.get_terminal_size().columns, _WIDEST)
    figure = max([len(row.figure) for row in rows])
    label = min(max([len(row.label) for row in rows]), max((columns - figure) // 2, 10))
    room = max(columns - label - figure - 6, 10)
    longest = max([row.length for row in rows]) or 1
    lines: list[list[tuple[str, str]]] = [[], [(title, "bold")]]
    for row in rows:
        # What is there is seen, however little it is.
        filled = max(round(row.length / longest * room), int(row.length > 0))
        bar = ("#" if rich is None else "█") * filled
        name = row.label if len(row.label) <= label else row.label[: label - 1] + "~"
        end = f"{' ' * (room - filled)}  {row.figure:>{figure}}"
        lines.append([(f"  {name:<{label}}  ", ""), (bar, _COLOUR), (end, "")])
    if rich is None:
        for line in lines:
            write_text("".join([text for text, _ in line]).rstrip())
        return
    console = rich.console.Console(file=sys.stdout, highlight=False)
    for line in lines:
        console.print(rich.text.Text.assemble(*line), soft_wrap=True)
