"""From figures to what a person reads: medians, tables, and the floors that kvmap is to pass."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarking.contestants import named
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
SYNCED = ("set, sync=True", "one fdatasync")
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


def floors(table: Table) -> list[Check]:
    """What kvmap has to show against those of the others that were measured."""
    own = table["kvmap"]
    engines, floor = _those(table, named("engine")), _those(table, named("floor"))
    pickling = _those(table, ("shelve", "diskcache", "sqlitedict"))
    checks: list[Check] = []

    def at_most(limit: float, others: list[Figures], whose: str, *rows: str) -> None:
        checks.extend(
            Check(f"{row} / {whose}", own[row] / min(other[row] for other in others), limit)
            for row in rows
            if others
        )

    at_most(0.9, engines, "engine", "get")
    at_most(1.5, floor, "floor", "get")
    at_most(0.3, engines, "engine", "in, hit", "in, miss")
    at_most(1.0, engines, "engine", "items")
    at_most(1.3, engines, "engine", "set", "overwrite", "delete")
    at_most(1.8, engines, "engine", "update")
    checks.append(Check("len", own["len"], 10, "us"))
    if pickling:
        for row in (*EACH_KEY, "len"):  # opening has floors of its own, at size
            slowest = max(other[row] for other in pickling)
            checks.append(Check(f"{row} / slowest that pickles", own[row] / slowest, 0.1))
            at_most(1.0, pickling, "fastest that pickles", row)
    if "one fdatasync" in own:
        checks.append(Check("sync=True set / fdatasync", own[SYNCED[0]] / own[SYNCED[1]], 1.3))
    return checks


def floors_at_size(parts: Mapping[str, Figures]) -> list[Check]:
    few, many, churn = parts["at 10 thousand"], parts["at size"], parts["churn"]
    checks = [
        Check(f"{row}, of that at 10 thousand keys", many[row] / few[row], 1.5)
        for row in ("get", "set", "overwrite", "delete", "len")
    ]
    return [
        *checks,
        Check("len", many["len"], 10, "us"),
        Check("open + first get", many["open + first get, ms"], 25, "ms"),
        Check("open + full len", many["open + full len, s"], 1, "s"),
        Check("open + full iteration", many["open + full iteration, s"], 1, "s"),
        Check("memory growth", many["memory, MB"], 220, "MB"),
        Check("close", many["close, s"], 0.5, "s"),
        Check("ten overwrites: disk / live bytes", churn["disk / live"], 2.2),
        Check("ten overwrites: slowest set", churn["slowest set, ms"], 100, "ms"),
        Check("open file descriptors", parts["small"]["descriptors"], 99),
        Check(
            "four readers beside a writer, of that alone",
            parts["readers"]["get, beside a writer"] / parts["readers"]["get, alone"],
            2,
        ),
        Check("import", parts["imports"]["import, ms"], 5, "ms"),
    ]


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
    if SYNCED[1] in table.get("kvmap", {}):
        synced = (f"{row} {_number(table['kvmap'][row])}" for row in SYNCED)
        lines += ["", "kvmap, microseconds: " + "; ".join(synced)]
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


def show_checks(checks: Sequence[Check]) -> str:
    lines = [f"{'':<48}{'measured':>12}{'at most':>10}"]
    for check in checks:
        measured = f"{_number(check.measured)} {check.unit}".rstrip()
        verdict = "pass" if check.passed else "MISS"
        lines.append(f"{check.what:<48}{measured:>12}{check.limit:>10g}  {verdict}")
    passed = sum(check.passed for check in checks)
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


def _those(table: Table, names: Iterable[str]) -> list[Figures]:
    return [table[name] for name in names if name in table]


def _number(figure: float) -> str:
    """Three digits, about."""
    if 0 < figure < 0.1:
        return f"{figure:.2g}"
    return f"{figure:,.{0 if figure >= 100 else 1 if figure >= 10 else 2}f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{row} {count:,}" for row, count in counts.items())
