"""`kvmap stats`: what a store is made of, in figures and pictures."""

from __future__ import annotations

import heapq
import math
import re
import time
from argparse import Namespace
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from kvmap import codecs, keys
from kvmap.cli import screen
from kvmap.cli.charts import Row, chart
from kvmap.cli.keys_given import to_text, write_json
from kvmap.cli.places import open_to_read, shown
from kvmap.cli.progress import Progress
from kvmap.cli.quantities import size
from kvmap.keys import Key
from kvmap.mapping import KVMap
from kvmap.moving.entries import Unreadable
from kvmap.moving.maps import Map
from kvmap.stats import Stats

_PREFIX: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*/?|[^:/|(]*[:/|(]", re.IGNORECASE)
"""A URL's scheme and host, or what stands before the first separator, with it."""

_AHEAD: Final = (
    (60, "within 1m"),
    (600, "1m to 10m"),
    (3600, "10m to 1h"),
    (6 * 3600, "1h to 6h"),
    (86_400, "6h to 1d"),
    (7 * 86_400, "1d to 7d"),
    (30 * 86_400, "7d to 30d"),
    (365 * 86_400, "30d to 1y"),
    (math.inf, "after 1y"),
)
"""Times until a deadline, and what a chart calls them."""


@dataclass
class Contents:
    """What is known of a store when all its entries were read."""

    count: int
    """How many of the largest entries and prefixes to keep."""
    largest: list[tuple[int, int, Key]] = field(default_factory=list)
    prefixes: Counter[str] = field(default_factory=Counter)
    """Bytes of keys and values, by prefix."""
    entries: Counter[str] = field(default_factory=Counter)
    deadlines: Counter[str] = field(default_factory=Counter)
    unreadable: list[Unreadable] = field(default_factory=list)

    def add(self, number: int, key: Key, bytes_: int, left: float) -> None:
        """An entry: the number makes entries of one size comparable."""
        heapq.heappush(self.largest, (bytes_, -number, key))
        if len(self.largest) > self.count:
            heapq.heappop(self.largest)
        prefix = prefix_of(key)
        self.prefixes[prefix] += bytes_
        self.entries[prefix] += 1
        if left < math.inf:
            self.deadlines[next(label for end, label in _AHEAD if left < end)] += 1

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "largest": [{"key": key, "bytes": bytes_} for bytes_, _, key in self.in_order()],
            "prefixes": [
                {"prefix": name, "entries": self.entries[name], "bytes": bytes_}
                for name, bytes_ in self.prefixes.most_common(self.count)
            ],
            "expiring": [
                {"when": label, "entries": self.deadlines[label]}
                for _, label in _AHEAD
                if label in self.deadlines
            ],
        }

    def in_order(self) -> list[tuple[int, int, Key]]:
        """The largest entries, largest first; of equals, the one inserted first."""
        return sorted(self.largest, reverse=True)


def prefix_of(key: Key) -> str:
    """What a key shares with others of its kind.

    >>> prefix_of("user:ada"), prefix_of("https://example.org/a"), prefix_of("f(1)")
    ('user:', 'https://example.org/', 'f(')
    >>> prefix_of(("user", "ada")), prefix_of("ada"), prefix_of(17)
    ('["user",...', 'other str keys', 'int keys')
    """
    if type(key) is tuple:
        return f"[{to_text(key[0], True)},..." if key else "[]"
    if type(key) is not str:
        return f"{'null' if key is None else type(key).__name__} keys"
    found = _PREFIX.match(key)
    return "other str keys" if found is None else to_text(found[0])


def stats(args: Namespace) -> int:
    contents = None if args.quick else Contents(args.limit)
    with open_to_read(args.store, args.timeout, whole=True) as d:
        found = d.stats()
        if contents is not None:
            _read(d, contents)
        settings = d.settings
    unreadable = [] if contents is None else contents.unreadable
    if args.json:
        more = {} if contents is None else contents.to_json()
        write_json({**asdict(found), **more, "settings": settings.to_json()})
    else:
        _write_figures(args.store, found)
        if found.entries:
            _chart_sizes(found)
        if contents is not None:
            _chart_contents(contents)
        elif found.entries > found.deadlines.never:
            _chart_hours(found)
    for entry, reason in unreadable:
        screen.say(f"{entry}: {reason}")
    return 1 if unreadable else 0


def _read(d: KVMap[Any, Any], contents: Contents) -> None:
    encode = codecs.make(d.settings.codec).encode
    source = Map(d)
    now = time.time()
    with Progress("read values") as progress:
        for item in source:
            if isinstance(item, Unreadable):
                contents.unreadable.append(item)
                continue
            bytes_ = len(keys.text(item.key)) + len(encode(item.value))
            left = math.inf if item.moment is None else item.moment - now
            contents.add(source.done, item.key, bytes_, left)
            progress(source.done, source.total)


def _write_figures(store: str, found: Stats) -> None:
    timed = found.entries - found.deadlines.never
    rows = [
        ("entries", f"{found.entries:,}", f"{timed:,} with a deadline"),
        ("values", size(found.value_bytes), "as JSON"),
        ("live", size(found.live_bytes), "records that hold the entries"),
        ("dead", size(found.dead_bytes), "goes when kvmap compacts"),
        ("on disk", size(found.disk_bytes), f"in {found.files:,} files"),
    ]
    if not found.files:
        rows[3:] = [("memory", size(found.disk_bytes), "on the server")]
    counts = found.counts
    if counts.hit_ratio is not None:
        figure = f"{counts.hits:,} hits, {counts.misses:,} misses"
        rows.append(("hit ratio", f"{counts.hit_ratio:.1%}", figure))
    if counts.evictions:
        rows.append(("evicted", f"{counts.evictions:,}", "since it was opened"))
    screen.write_text(shown(store))
    for name, figure, more in rows:
        screen.write_text(f"  {name:<9}{figure:>12}  {more}")


def _chart_sizes(found: Stats) -> None:
    rows = []
    for each in found.value_sizes:
        label = size(each.least) + (f" to {size(each.most)}" if each.most > each.least else "")
        rows.append(Row(label, each.entries, f"{each.entries:,}"))
    chart("entries by size of value", rows)


def _chart_contents(contents: Contents) -> None:
    if contents.largest:
        rows = [Row(to_text(key), bytes_, size(bytes_)) for bytes_, _, key in contents.in_order()]
        chart("largest entries, key and value", rows)
    if len(contents.prefixes) > 1:
        top = contents.prefixes.most_common(contents.count)
        rows = [
            Row(name, bytes_, f"{size(bytes_)} in {contents.entries[name]:,}")
            for name, bytes_ in top
        ]
        rest = contents.prefixes.total() - sum([bytes_ for _, bytes_ in top])
        if rest:
            others = contents.entries.total() - sum([contents.entries[name] for name, _ in top])
            rows.append(Row("all others", rest, f"{size(rest)} in {others:,}"))
        chart("bytes by prefix of the key", rows)
    if contents.deadlines:
        last = max(i for i, (_, label) in enumerate(_AHEAD) if label in contents.deadlines)
        rows = [
            Row(label, contents.deadlines[label], f"{contents.deadlines[label]:,}")
            for _, label in _AHEAD[: last + 1]
        ]
        chart("entries that expire, by time from now", rows)


def _chart_hours(found: Stats) -> None:
    hours = list(found.deadlines.hours)
    while hours and not hours[-1]:
        hours.pop()
    rows = [Row(f"{hour}h to {hour + 1}h", count, f"{count:,}") for hour, count in enumerate(hours)]
    if found.deadlines.later:
        later = found.deadlines.later
        rows.append(Row(f"after {len(found.deadlines.hours)}h", later, f"{later:,}"))
    chart("entries that expire, by time from now", rows)
