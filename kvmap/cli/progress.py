"""A bar for long work, on a terminal only: with `rich` where it is installed, else in plain text."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Any, Final, Self

from kvmap.cli.quantities import amount, span
from kvmap.cli.screen import on_terminal, rich_or_none

_WIDTH: Final = 30


class Progress:
    """How far, how fast, how long still. Call it with what is done and, where known, the total."""

    PATIENCE: float = 0.4
    """Seconds that work may take without a bar."""
    EVERY: float = 0.1
    """Seconds between two drawings."""

    def __init__(self, what: str, unit: str = "entries", *, shown: bool = True) -> None:
        self._what, self._unit = what, unit
        self._began = time.monotonic()
        self._next = self._began + self.PATIENCE if shown and on_terminal() else float("inf")
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
        rate = done / max(now - self._began, 1e-9)
        parts = [amount(done, self._unit), f"{amount(round(rate), self._unit)}/s"]
        if total and rate:
            parts.append(f"{span(max(total - done, 0) / rate)} left")
        self._draw(min(done / total, 1.0) if total else None, "  ".join(parts))

    def _draw(self, part: float | None, figures: str) -> None:
        rich = rich_or_none()
        if rich is not None:
            if self._bar is None:
                self._bar = _rich_bar(rich, self._what)
            # Without a total, rich draws a bar that moves to and fro.
            self._bar.update(
                self._bar.task_ids[0],
                completed=part or 0,
                total=None if part is None else 1,
                figures=figures,
            )
            return
        bar = "" if part is None else f"[{'#' * int(part * _WIDTH):<{_WIDTH}}] {part:4.0%}  "
        columns = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r" + f"{self._what}  {bar}{figures}"[:columns] + "\x1b[K")
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
