"""From figures to what a person reads: medians, ratios and tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarking.measure import Figures

EACH_KEY = (
    "set",
    "overwrite",
    "get",
    "get missing",
    "in, hit",
    "in, miss",
    "items",
    "update",
    "delete",
)
OPERATIONS = (*EACH_KEY, "len", "reopen + first get", "reopen + len")
WEIGHTS = (
    "memory, MB",
    "disk, per byte of JSON",
    "file sizes, per byte of JSON",
    "slowest get, ms",
    "slowest set, ms",
    "close, ms",
)
PROMISES = ("set + get, same key", "set + get, apart", "set, sync=True", "one fdatasync")
"""What is measured of kvmap alone."""
Table = Mapping[str, Figures]  # figures by contestant


@dataclass(frozen=True)
class Check:
    """A figure and the most it may be."""

    what: str
    measured: float
    limit: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        return self.measured <= self.limit

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "passed": self.passed}


def medians(rounds: Iterable[Figures]) -> Figures:
    by_name: dict[str, list[float]] = {}
    for figures in rounds:
        for name, figure in figures.items():
            by_name.setdefault(name, []).append(figure)
    return {name: statistics.median(values) for name, values in by_name.items()}


def ratios(table: Table) -> dict[str, Figures]:
    """Everyone's time as a multiple of kvmap's."""
    own = table.get("kvmap", {})
    return {
        name: {row: figures[row] / own[row] for row in OPERATIONS if row in figures and row in own}
        for name, figures in table.items()
    }


def show_run(run: Mapping[str, Any]) -> str:
    """One size of records and one number of keys, as text."""
    table: Table = run["medians"]
    lines = [
        f"{run['keys']:,} records of {run['size']:,} B of JSON; medians of {run['rounds']} rounds",
        "",
        _grid("microseconds", OPERATIONS, table, run["sampled"]),
    ]
    if "kvmap" in table and len(table) > 1:
        lines += ["", _grid("times kvmap's", OPERATIONS, ratios(table), {})]
    lines += ["", _grid("besides", WEIGHTS, table, {})]
    if PROMISES[0] in table.get("kvmap", {}):
        promises = (f"{row}: {_number(table['kvmap'][row])}" for row in PROMISES)
        lines += ["", "kvmap, microseconds: " + "; ".join(promises)]
    if any(run["sampled"].values()):
        lines += ["", "* of fewer operations than asked for, to save time:"]
        lines += [
            f"  {name}: {_counts(counts)}" for name, counts in run["sampled"].items() if counts
        ]
    for name, held in run["held"].items():
        if held < run["keys"]:
            lines.append(f"{name} holds {held:,} keys, which is what could be loaded in its time")
    return "\n".join(lines)


def show_parts(parts: Mapping[str, Figures]) -> str:
    lines = []
    for part, figures in parts.items():
        lines.append(part)
        lines += [f"  {name:<26}{_number(figure):>10}" for name, figure in figures.items()]
    return "\n".join(lines)


def show_written(table: Mapping[str, Figures]) -> str:
    """Write amplification: rows of sizes, columns of contestants."""
    rows = list(dict.fromkeys(row for figures in table.values() for row in figures))
    return _grid("bytes written per byte set", rows, table, {})


def markdown(result: Mapping[str, Any]) -> str:
    """The figures as tables for a page: one for each run, and one of bytes written."""
    tables = [
        _markdown(
            f"µs; {run['keys']:,} of {run['size']:,} B", OPERATIONS, run["medians"], run["sampled"]
        )
        for run in result["runs"]
    ]
    if written := result.get("scale", {}).get("written"):
        rows = list(dict.fromkeys(row for figures in written.values() for row in figures))
        tables.append(_markdown("bytes written per byte set", rows, written, {}))
    return "\n\n".join(tables) + "\n"


def _markdown(
    title: str, rows: Sequence[str], table: Table, marked: Mapping[str, Mapping[str, int]]
) -> str:
    lines = [f"| {title} | {' | '.join(table)} |", "|---" + "|---:" * len(table) + "|"]
    for row in rows:
        cells = [
            (_number(figures[row]) if row in figures else "")
            + ("\\*" if row in marked.get(name, {}) else "")
            for name, figures in table.items()
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def show_checks(checks: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{'':<56}{'measured':>12}{'at most':>10}"]
    for check in checks:
        measured = f"{_number(check['measured'])} {check['unit']}".rstrip()
        verdict = "pass" if check["passed"] else "MISS"
        lines.append(f"{check['what']:<56}{measured:>12}{check['limit']:>10g}  {verdict}")
    passed = sum(check["passed"] for check in checks)
    return "\n".join([*lines, f"{passed} of {len(checks)} passed"])


def _grid(
    title: str, rows: Sequence[str], table: Table, marked: Mapping[str, Mapping[str, int]]
) -> str:
    """Rows of operations, columns of contestants; a star at what is marked."""
    widths = {name: max(len(name), 8) + 2 for name in table}
    header = "".join(f"{name:>{width}} " for name, width in widths.items())
    lines = [f"{title:<28}{header}".rstrip()]
    for row in rows:
        line = f"{row:<28}"
        for name, width in widths.items():
            star = "*" if row in marked.get(name, {}) else " "
            figure = table[name].get(row)
            line += ("-" if figure is None else _number(figure)).rjust(width) + star
        lines.append(line.rstrip())
    return "\n".join(lines)


def _number(figure: float) -> str:
    """Three digits, about."""
    if 0 < figure < 0.1:
        return f"{figure:.2g}"
    return f"{figure:,.{0 if figure >= 100 else 1 if figure >= 10 else 2}f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{row} {count:,}" for row, count in counts.items())
