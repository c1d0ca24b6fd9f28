"""The deadlines of a local engine's entries, soonest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any

from kvmap.engine import INF
from kvmap.keys import Key

_Item = tuple[float, int, Key]
"""A deadline, the entry's place in the map's order, the key.

Keys are compared where two entries have one deadline and one place, which only forged files have.
"""


class Deadlines:
    """A heap. The deadline of an entry that was overwritten stays in it until it comes.

    So its user compares what comes out of it with the entry, and calls `rebuild` where it holds
    far more deadlines than there are entries.
    """

    __slots__ = ("_heap", "soonest")

    def __init__(self) -> None:
        self._heap: list[_Item] = []
        self.soonest = INF
        """No deadline comes before this moment; INF where there is none."""

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, deadline: float, place: int, key: Key) -> None:
        """Add a deadline. O(log n). Raises TypeError where keys that can't be compared are."""
        self.soonest = min(self.soonest, deadline)
        heappush(self._heap, (deadline, place, key))

    def due(self, now: float) -> Iterator[_Item]:
        """The deadlines up to `now`, soonest first; each is removed when the next is asked for."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            yield heap[0]
            heappop(heap)
            self.soonest = heap[0][0] if heap else INF

    def until(self, moment: float) -> Iterator[_Item]:
        """The deadlines up to `moment`, in no order; none is removed. O(those deadlines)."""
        heap, waiting = self._heap, [0]
        while waiting:
            at = waiting.pop()
            if at < len(heap) and heap[at][0] <= moment:
                yield heap[at]
                waiting += (2 * at + 1, 2 * at + 2)

    def rebuild(self, items: Iterable[Any]) -> None:
        """Hold these deadlines alone, each a tuple as `push` takes it. O(n). Raises as `push`."""
        heap = list(items)
        heapify(heap)
        soonest = heap[0][0] if heap else INF
        self.soonest = min(self.soonest, soonest)  # never too late, whatever comes in between
        self._heap = heap
        self.soonest = soonest
