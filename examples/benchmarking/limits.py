"""The figures that kvmap has to reach, and whether a run reaches them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarking.contestants import named
from benchmarking.measure import MILLI, Figures
from benchmarking.report import EACH_KEY, Check, Table

TABLE = ((200_000, 100), (50_000, 1_000), (5_000, 16_000))
"""Numbers of keys and bytes of a value's JSON; the columns of AGAINST_ENGINES."""

AGAINST_ENGINES = {
    "get": (0.85, 0.95, 1.15),
    "in, hit": (0.3, 0.3, 0.3),
    "in, miss": (0.3, 0.3, 0.3),
    "get missing": (0.3, 0.3, 0.3),
    "items": (1.0, 1.1, 1.2),
    "set": (1.7, 1.1, 1.2),
    "overwrite": (1.6, 1.1, 1.3),
    "delete": (1.2, 0.9, 1.5),
    "update": (2.4, 1.4, 1.2),
}
"""Times the fastest engine at that operation, at most."""

RIVALS = ("shelve", "diskcache", "sqlitedict", "tinydb")
AGAINST_RIVALS = (0.2, 1.0, 1.0)
LEVEL = 1.1  # a tenth is noise
IN_MEMORY = ("in, hit", "in, miss", "get missing")  # kvmap and shelve both look these up in memory
MOST_CHECKED = 1_000_000  # keys; beyond that, figures only


def column(size: int) -> int:
    """The column of the table that comes closest to this size."""
    return 0 if size < 300 else 1 if size < 4000 else 2


@dataclass(frozen=True)
class _Run:
    """A run, and the column of limits that its size of records comes under."""

    table: Table
    column: int

    def against(self, whose: str, names: Iterable[str], row: str, limit: float) -> list[Check]:
        others = [self.table[name][row] for name in names if name in self.table]
        own = self.table["kvmap"][row]
        return [Check(f"{row} / {whose}", own / min(others), limit)] if others else []


def checks(table: Table, size: int) -> list[Check]:
    """What kvmap has to show against those of the others that were measured."""
    run = _Run(table, column(size))
    own = table["kvmap"]
    found: list[Check] = []
    for row, limits in AGAINST_ENGINES.items():
        found += run.against("engine", named("engine"), row, limits[run.column])
    for row in EACH_KEY:
        limit = LEVEL if row in IN_MEMORY else AGAINST_RIVALS[run.column]
        found += run.against("fastest rival", RIVALS, row, limit)
    if run.column == 0:
        found += run.against("dict of JSON", named("floor"), "get", 1.5)
    found.append(Check("len", own["len"], 10, "us"))
    if run.column == 2:
        found.append(Check("reopen + len", own["reopen + len"] / MILLI, 15, "ms"))
    for row, other, limit in (
        ("set + get, same key", "set + get, apart", 1.3),
        ("set, sync=True", "one fdatasync", 1.25),
    ):
        if row in own:
            found.append(Check(f"{row} / {other}", own[row] / own[other], limit))
    return found


def checks_at_size(parts: Mapping[str, Figures]) -> list[Check]:
    """What kvmap has to show alone; none for a run of more keys than that."""
    if "churn" not in parts:
        return []
    few, many, churn = parts["at 10 thousand"], parts["at size"], parts["churn"]
    dict_few, dict_many = parts["dict at 10 thousand"], parts["dict at size"]
    threads, syncs = parts["readers"], parts["batch_syncs"]
    found = [
        Check(
            f"{row}: growth from 10 thousand keys / a dict's",
            many[row] / few[row] / (dict_many[row] / dict_few[row]),
            1.5,
        )
        for row in ("get", "set", "delete")
    ]
    found += [
        Check("open + first get", many["open + first get, ms"], 25, "ms"),
        Check("open + first len", many["open + full len, s"], 0.7, "s"),
        Check("open + full iteration", many["open + full iteration, s"], 1, "s"),
        Check("RssAnon", many["RssAnon, MB"], 220, "MB"),
        Check("close", many["close, s"], 0.5, "s"),
        Check("len", many["len"], 10, "us"),
        Check("ten overwrites: slowest set", churn["slowest set, ms"], 60, "ms"),
        Check("ten overwrites: disk / live bytes", churn["disk / live"], 2.2),
        Check("open file descriptors", parts["small"]["descriptors"], 99),
        Check(
            "four readers beside a writer / alone",
            threads["get, beside a writer"] / threads["get, alone"],
            2,
        ),
        Check("import", parts["imports"]["import, ms"], 5, "ms"),
    ]
    found += [
        Check(
            f"{batch}: syncs of shards / shards touched",
            syncs[f"{batch}: their syncs"] / syncs[f"{batch}: shards touched"],
            1,
        )
        for batch in ("transaction", "set_many")
    ]
    return found


def as_json(found: Iterable[Check]) -> list[dict[str, Any]]:
    return [check.as_json() for check in found]
