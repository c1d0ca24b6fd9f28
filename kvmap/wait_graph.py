"""Which computation waits for which: a graph, so that none of them waits for itself.

Each computation of a memoized function is a node. An edge leads from it to every computation that
a call within it waits for, or has begun.
"""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from typing import Final

GUARD: Final = threading.RLock()
"""Taken for single steps on what all memoized functions share; nothing else is called meanwhile."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=GUARD.acquire, after_in_parent=GUARD.release, after_in_child=GUARD.release
    )


class Node:
    """A computation's place in the graph. It keeps neither arguments nor results alive.

    >>> f, g, h = Node(), Node(), Node()
    >>> f.begin_wait(g)
    >>> g.begin_wait(h)
    >>> f.needs(h), h.needs(f)
    (True, False)
    """

    __slots__ = ("_is_wanted", "_waits_for")

    def __init__(self) -> None:
        self._waits_for: list[Node] = []
        self._is_wanted = True

    def is_wanted(self) -> bool:
        """Whether the result may be kept: nobody has asked to forget it since the beginning."""
        return self._is_wanted

    def disown(self) -> None:
        """Let the result not be kept; those that wait for it get it all the same."""
        self._is_wanted = False

    def begin_wait(self, other: Node) -> None:
        """Add an edge. GUARD is held."""
        self._waits_for.append(other)

    def end_wait(self, other: Node) -> None:
        """Take an edge back, if it is there. GUARD is held."""
        if other in self._waits_for:
            self._waits_for.remove(other)

    def needs(self, other: Node) -> bool:
        """Whether this computation is `other`, or waits for it at any distance. GUARD is held.

        O(computations under way).
        """
        seen: set[Node] = set()
        ahead: list[Node] = [self]
        while ahead:
            node = ahead.pop()
            if node is other:
                return True
            if node not in seen:
                seen.add(node)
                ahead.extend(node._waits_for)
        return False


inside_of: ContextVar[Node | None] = ContextVar("kvmap_memoize", default=None)
"""The computation that the calling thread or task is part of."""
