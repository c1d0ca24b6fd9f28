"""Stores of the standard library's `shelve`."""

from __future__ import annotations

import dbm
import os
import shelve
from collections.abc import Iterator

from kvmap.moving.entries import Item, Source, SourceError, Unreadable, read


class Shelf(Source):
    """A store of `shelve`; `path` as it was given to `shelve.open`. Its values are pickles.

    Raises SourceError for what is no shelve store, FileNotFoundError where there is nothing.
    """

    pickled = True

    def __init__(self, path: str) -> None:
        for name in (path, os.path.splitext(path)[0]):  # it may be the path of one of its files
            if is_shelf(name):
                break
        else:
            os.stat(path)  # raises where there is nothing at all
            raise SourceError(f"{path} is no shelve store")
        try:
            self._shelf = shelve.open(name, flag="r")  # noqa: SIM115  # see close
        except dbm.error as error:  # for instance written by a dbm module that this Python lacks
            raise SourceError(f"{path}: {error}") from None
        self._keys = list(self._shelf)
        self.total = len(self._keys)

    def __iter__(self) -> Iterator[Item | Unreadable]:
        for key in self._keys:
            self.done += 1
            yield read(key, lambda: self._shelf[key])  # noqa: B023  # called at once

    def close(self) -> None:
        self._shelf.close()


def is_shelf(path: str) -> bool:
    """Whether it looks like a shelve store's name as `shelve.open` takes it."""
    return bool(dbm.whichdb(path))
