"""Writing a source's entries to a map, in batches, so that a load can be run again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from orjson import dumps

from kvmap import codecs, keys
from kvmap.errors import KeyExistsError, KVMapError, LimitError
from kvmap.mapping import KVMap
from kvmap.moving.entries import ConflictingEntryError, Item, LoadError, Source, Unreadable
from kvmap.settings import DEFAULT, Default

BATCH: Final = 2000
"""Entries written together, at most."""

CONFLICTS: Final = ("overwrite", "skip", "fail")
"""What `on_conflict` may be."""


@dataclass
class Report:
    """What a load has done so far."""

    loaded: int = 0
    kept: int = 0
    """Entries left out because their keys were in the map already, with `on_conflict="skip"`."""
    expired: int = 0
    """Entries left out because their deadline had passed."""
    skipped: list[Unreadable] = field(default_factory=list)
    """Entries left out because they can't be read, or the map can't hold them."""


def load(
    d: KVMap[Any, Any],
    source: Source | Iterable[Item | Unreadable],
    *,
    ttl: float | Default = DEFAULT,
    skip: bool = False,
    on_conflict: str = "overwrite",
    batch: int = BATCH,
    report: Report | None = None,
    progress: Callable[[Report], object] | None = None,
) -> Report:
    """Write a source's entries to a map, in their order, `batch` of them at a time.

    Deadlines are kept. An entry without one gets `ttl` seconds, or stays where that is infinite; by
    default it stays where the source says so, and otherwise gets the map's default. `on_conflict`
    says what happens to an entry whose key is there: "overwrite" it, "skip" the new one, or "fail".
    `skip`: go on after an entry that can't be loaded, and list it in the report.

    A load that was interrupted may be run again: overwriting the same entries changes nothing. O(n);
    a server is asked once for each batch. With another `on_conflict` it is asked for each entry.

    Raises LoadError where an entry stops the load, ValueError for another `on_conflict`. `report`,
    where given, is kept up to date, so that it says what was done when an exception ends the load.

    >>> import kvmap
    >>> with kvmap.open(":memory:") as d:
    ...     load(d, [Item("ada", 1), Item("bob", {2})], skip=True).loaded
    1
    """
    if on_conflict not in CONFLICTS:
        names = ", ".join(map(repr, CONFLICTS))
        raise ValueError(f"on_conflict must be one of {names}, not {on_conflict!r}")
    report = Report() if report is None else report
    writer = _Writer(d, ttl, skip, on_conflict, report)
    decode = codecs.make(d.settings.codec).decode
    untag = isinstance(source, Source) and source.tagged and d.settings.codec != "json"
    items: dict[Any, Item] = {}
    for item in source:
        try:
            if isinstance(item, Unreadable):
                raise _Refused(item)
            if not isinstance(item.expires, Default) and item.expires <= time.time():
                report.expired += 1
                continue
            with _refusals(item):
                key = keys.plain(item.key)
                items[key] = item._replace(value=decode(dumps(item.value))) if untag else item
        except _Refused as refused:
            writer.write(items)
            items = {}
            if not skip:
                raise refused.error() from None
            report.skipped.append(refused.entry)
        if len(items) >= batch:
            writer.write(items)
            items = {}
            if progress is not None:
                progress(report)
    writer.write(items)
    return report


class _Refused(Exception):
    """An entry can't be loaded."""

    def __init__(self, entry: Unreadable) -> None:
        super().__init__(entry)
        self.entry = entry

    def error(self) -> LoadError:
        return LoadError(f"{self.entry.entry}: {self.entry.reason}")


@contextmanager
def _refusals(item: Item) -> Iterator[None]:
    """Raise _Refused for what the block says of one entry; other errors pass."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if not _is_about_entry(error):
            raise
        reason = str(error).removeprefix(f"key {keys.shown(item.key)}: ")
        raise _Refused(Unreadable(item.place, reason)) from None


def _is_about_entry(error: TypeError | ValueError) -> bool:
    """Whether the error says that an entry is no good, not that the map can't be written to."""
    return isinstance(error, LimitError) or not isinstance(error, KVMapError)


class _Writer:
    """Writes batches to a map."""

    def __init__(
        self,
        d: KVMap[Any, Any],
        ttl: float | Default,
        skip: bool,
        on_conflict: str,
        report: Report,
    ) -> None:
        self._d = d
        self._ttl = None if ttl == math.inf else ttl
        self._skip = skip
        self._on_conflict = on_conflict
        self._report = report

    def write(self, items: dict[Any, Item]) -> None:
        if self._on_conflict == "skip":
            there = self._d.get_many(items)
            self._report.kept += len(there)
            items = {key: item for key, item in items.items() if key not in there}
        # In runs, so that the order stays.
        for is_absolute, run in groupby(items.items(), lambda pair: self._is_absolute(pair[1])):
            self._write_run(dict(run), is_absolute)

    def _is_absolute(self, item: Item) -> bool:
        """Whether the entry's deadline is a moment that the source names, or never."""
        if isinstance(item.expires, Default):
            return False
        return item.expires < math.inf or isinstance(self._ttl, Default)

    def _overwrite(self, run: dict[Any, Item], is_absolute: bool) -> None:
        values = {key: item.value for key, item in run.items()}
        if is_absolute:
            self._d.set_many(values, deadlines={key: item.moment for key, item in run.items()})
        else:
            self._d.set_many(values, ttl=self._ttl)

    def _write_run(self, run: dict[Any, Item], is_absolute: bool) -> None:
        if len(run) > 1 and self._on_conflict == "overwrite":
            try:
                self._overwrite(run, is_absolute)
            except (TypeError, ValueError) as error:
                if not _is_about_entry(error):
                    raise
            else:
                self._report.loaded += len(run)
                return
        for key, item in run.items():
            self._write_one(key, item, is_absolute)

    def _write_one(self, key: Any, item: Item, is_absolute: bool) -> None:
        try:
            with _refusals(item):
                if self._on_conflict == "overwrite":
                    self._overwrite({key: item}, is_absolute)
                else:
                    self._d.create(key, item.value, ttl=self._seconds(item, is_absolute))
        except KeyExistsError as error:
            if self._on_conflict == "fail":
                raise ConflictingEntryError(f"{item.place}: it is there already") from error
            self._report.kept += 1
        except _Refused as refused:
            if not self._skip:
                raise refused.error() from None
            self._report.skipped.append(refused.entry)
        else:
            self._report.loaded += 1

    def _seconds(self, item: Item, is_absolute: bool) -> float | Default | None:
        """The entry's time to live, as `KVMap.create` takes it."""
        if not is_absolute:
            return self._ttl
        moment = item.moment
        # One that expires just now expires soon.
        return None if moment is None else max(moment - time.time(), 0.001)
