"""Figures about a map on a server."""

from __future__ import annotations

from kvmap.redis.pages import Pages
from kvmap.redis.server import Server
from kvmap.stats import PartStats, Stats, coming, spread


def measure(server: Server, pages: Pages, now: float) -> Stats:
    """Add up lengths and deadlines, page by page. O(entries); no value is sent."""
    lengths: list[int] = []
    deadlines: list[float] = []
    parts: list[PartStats] = []
    for number in range(server.layout.partitions):
        size = 0
        for some, ends, key_bytes in pages.figures(number):
            lengths += some
            deadlines += ends
            size += sum(some) + key_bytes
        parts.append(PartStats(number, size, 0))
    return Stats(
        entries=len(lengths),
        value_bytes=sum(lengths),
        live_bytes=sum([part.live for part in parts]),
        dead_bytes=0,
        disk_bytes=_memory(server),
        files=0,
        parts=tuple(parts),
        value_sizes=spread(lengths),
        deadlines=coming(deadlines, now),
    )


def _memory(server: Server) -> int:
    """Bytes of memory that the server estimates for the map."""
    layout = server.layout
    names = [name for number in range(layout.partitions) for name in layout.keys(number)]
    return sum([server.command(name, "MEMORY", "USAGE", name) or 0 for name in names])
