"""How often each cache has what is asked for, at the same number of entries.

    pip install '.[bench]'
    python examples/eviction.py
    python examples/eviction.py --quick --svg hits.svg

Runs the same requests through kvmap with `evict="sieve"` and `evict="oldest"`, cachetools' LRU and
LFU, and the three policies of diskcache that evict. Prints a table in Markdown of hit ratios in
percent. A request that misses writes its key, as a cache of pages or answers does. cachetools and
diskcache are left out where they are not installed.

The requests: Zipf distributions, where few keys are asked for often; a loop over more keys than the
cache holds; a Zipf distribution with scans in between, each of keys that nobody asks for again; and
a real sequence, the words of the Python standard library's source.
"""

import argparse
import itertools
import random
import re
import sysconfig
import tempfile
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

from benchmarking.svg import document, text

import kvmap

Key = str | int
Cache = MutableMapping[Any, Any]
Table = dict[str, dict[str, float]]
"""Percentages of hits: by name of the requests, then by name of the cache."""


# The requests


def zipf(exponent: float, keys: int, count: int) -> list[Key]:
    """`count` of so many keys, the n-th as often as n ** -exponent says, in a random order."""
    weights = list(itertools.accumulate(n**-exponent for n in range(1, keys + 1)))
    names = random.Random(2).sample(range(keys), keys)
    return list(random.Random(1).choices(names, cum_weights=weights, k=count))


def loop(keys: int, count: int) -> list[Key]:
    return [number % keys for number in range(count)]


def with_scans(requests: Sequence[Key], every: int, length: int) -> list[Key]:
    """After each `every` requests, `length` keys that are asked for once; as many in all."""
    names = itertools.count()
    mixed: list[Key] = []
    for start in range(0, len(requests), every):
        mixed += requests[start : start + every]
        mixed += [f"scan {next(names)}" for _ in range(length)]
    return mixed[: len(requests)]


def words(count: int) -> list[Key]:
    """The first words of the standard library's source, file by file."""
    found: list[Key] = []
    for file in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        found += re.findall(r"[A-Za-z_]\w*", file.read_text(errors="replace"))
        if len(found) >= count:
            break
    return found[:count]


def all_requests(entries: int, count: int) -> dict[str, list[Key]]:
    keys = 10 * entries
    return {
        "Zipf 0.8": zipf(0.8, keys, count),
        "Zipf 1.0": zipf(1.0, keys, count),
        "Zipf 1.2": zipf(1.2, keys, count),
        "loop": loop(entries + entries // 4, count),
        "Zipf 1.0 and scans": with_scans(zipf(1.0, keys, count), 2 * entries, entries),
        "source words": words(count),
    }


# The caches


def kvmap_caches(entries: int) -> dict[str, AbstractContextManager[Cache]]:
    limits = kvmap.Limits(entries=entries)
    return {
        f"kvmap {policy}": kvmap.open(":memory:", limits=limits, evict=policy)
        for policy in ("sieve", "oldest")
    }


def cachetools_caches(entries: int) -> dict[str, AbstractContextManager[Cache]]:
    try:
        import cachetools
    except ImportError:
        return {}
    return {
        "cachetools LRU": nullcontext(cachetools.LRUCache(entries)),
        "cachetools LFU": nullcontext(cachetools.LFUCache(entries)),
    }


def diskcache_caches(entries: int, folder: str) -> dict[str, AbstractContextManager[Cache]]:
    try:
        import diskcache
    except ImportError:
        return {}

    class Counted(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
        """Its bound is a number of entries, not the bytes of its file."""

        def volume(self) -> int:
            return len(self)

    return {
        f"diskcache {short}": Counted(
            f"{folder}/{short}",
            eviction_policy=policy,
            size_limit=entries + 1,  # it culls what has reached the limit
            cull_limit=1,
            sqlite_synchronous=0,  # quicker, and no other hits
        )
        for short, policy in (
            ("FIFO", "least-recently-stored"),
            ("LRU", "least-recently-used"),
            ("LFU", "least-frequently-used"),
        )
    }


def hits(cache: Cache, requests: Sequence[Key]) -> float:
    """The percentage of requests that found their key."""
    found = 0
    for key in requests:
        # Read as a program reads its cache: `in` alone is no use of an entry.
        if cache.get(key) is None:
            cache[key] = 1
        else:
            found += 1
    return 100 * found / len(requests)


def measure(entries: int, requests: Sequence[Key]) -> Iterator[tuple[str, float]]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        caches = kvmap_caches(entries) | cachetools_caches(entries)
        caches |= diskcache_caches(entries, folder)
        for name, cache in caches.items():
            yield name, hits(opened.enter_context(cache), requests)


# The report


def markdown(table: Table) -> str:
    """A row for each cache; what is best in its column is bold."""
    names = list(next(iter(table.values())))
    lines = [f"| hits, % | {' | '.join(table)} |", "|---|" + "---:|" * len(table)]
    for name in names:
        cells = []
        for row in table.values():
            best = 0 < round(row[name], 1) == round(max(row.values()), 1)
            cells.append(f"**{row[name]:.1f}**" if best else f"{row[name]:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


WIDTH, MARGIN, LABEL, BAR, PITCH, TITLE = 640, 16, 96, 11, 16, 28
STYLE = """
.kvmap { fill: #bf4b00 }
.other { fill: #7fa8d6 }
@media (prefers-color-scheme: dark) {
  .kvmap { fill: #ff8b3d }
  .other { fill: #3f71ab }
}
"""


def chart(table: Table, entries: int) -> str:
    """An SVG document: a panel for each kind of requests, a bar for each cache."""
    panel = (WIDTH - 3 * MARGIN) / 2
    height = TITLE + PITCH * len(next(iter(table.values()))) + MARGIN
    parts = [
        text(MARGIN, 26, "Hit ratio, in percent", "title"),
        text(MARGIN, 46, f"Each cache holds {entries:,} entries. Longer is better."),
    ]
    for number, (name, row) in enumerate(table.items()):
        x, y = MARGIN + number % 2 * (panel + MARGIN), 62 + number // 2 * height
        parts.append(f'<g transform="translate({x:g} {y:g})">')
        parts.append(text(0, 12, name, "panel"))
        for line, (cache, percent) in enumerate(row.items()):
            top = TITLE + line * PITCH
            kind = "kvmap" if cache.startswith("kvmap") else "other"
            length = percent / 100 * (panel - LABEL - 32)
            parts.append(text(0, top, cache))
            parts.append(
                f'<rect class="{kind}" x="{LABEL}" y="{top - BAR + 1}" '
                f'width="{length:.1f}" height="{BAR}" rx="1.5"/>'
            )
            parts.append(text(LABEL + length + 4, top, f"{percent:.1f}"))
        parts.append("</g>")
    total = 62 + (len(table) + 1) // 2 * height
    title = "Hit ratios of caches with the same number of entries"
    return document(title, WIDTH, total, STYLE, parts)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare hit ratios of caches.")
    parser.add_argument("--entries", type=int, default=1000, help="that each cache holds")
    parser.add_argument("--requests", type=int, default=50_000, help="of each kind")
    parser.add_argument("--quick", action="store_true", help="few of both")
    parser.add_argument("--svg", type=Path, help="write a chart to this file")
    options = parser.parse_args()
    if options.quick:
        options.entries, options.requests = 100, 3000
    table: Table = {
        name: dict(measure(options.entries, requests))
        for name, requests in all_requests(options.entries, options.requests).items()
    }
    print(markdown(table))
    if options.svg:
        options.svg.write_text(chart(table, options.entries))


if __name__ == "__main__":
    main()
