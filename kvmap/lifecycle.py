"""Open maps at the end of a process, and in a forked child."""

from __future__ import annotations

import atexit
import os
import weakref
from contextlib import ExitStack
from typing import Protocol


class Open(Protocol):
    """A map, as far as this module needs one."""

    def close_at_exit(self) -> None:
        """Undo open transactions and close."""
        ...

    def after_fork(self) -> None:
        """Called in a forked child."""
        ...


_open: weakref.WeakValueDictionary[int, Open] = weakref.WeakValueDictionary()  # not hashable


def register(each: Open) -> None:
    """Close it at exit if nobody has, and let it know of forks."""
    _open[id(each)] = each


def unregister(each: Open) -> None:
    """It was closed."""
    _open.pop(id(each), None)


def _close_all() -> None:
    with ExitStack() as stack:  # which goes on where one of them fails
        for each in list(_open.values()):
            stack.callback(each.close_at_exit)


def _after_fork() -> None:
    for each in list(_open.values()):
        each.after_fork()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
