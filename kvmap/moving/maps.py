"""Another map as a source, and a map's entries as JSON Lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from orjson import dumps

from kvmap import codecs
from kvmap.errors import CorruptStoreError
from kvmap.keys import Key, shown
from kvmap.mapping import KVMap
from kvmap.moving.entries import Item, Source, Unreadable

_PAGE: Final = 500


class Map(Source):
    """The entries of an open map, in its order, with their deadlines; the map is the caller's.

    Deadlines are right to a millisecond. A server is asked twice for each 500 entries, once for their
    values and once for their deadlines.

    >>> import kvmap
    >>> with kvmap.open(":memory:") as d:
    ...     d["ada"] = 1
    ...     [(each.key, each.value) for each in Map(d)]
    [('ada', 1)]
    """

    def __init__(self, d: KVMap[Any, Any], keys: Iterable[Key] | None = None) -> None:
        self._d = d
        self._keys: Iterable[Key] = d if keys is None else keys
        if keys is None:
            self.total = len(d)

    def __iter__(self) -> Iterator[Item | Unreadable]:
        keys = iter(self._keys)
        while page := list(islice(keys, _PAGE)):
            found = dict(self._read(page))
            moments = self._d.deadlines(
                [key for key, value in found.items() if not isinstance(value, Unreadable)]
            )
            for key, value in found.items():
                self.done += 1
                if isinstance(value, Unreadable):
                    yield value
                elif key in moments:  # else it has expired meanwhile
                    moment = moments[key]
                    yield Item(key, value, math.inf if moment is None else round(moment, 3))

    def _read(self, page: list[Key]) -> Iterator[tuple[Key, Any]]:
        try:
            yield from self._d.get_many(page).items()
            return
        except CorruptStoreError:
            pass  # the rest of the page is whole
        for key in page:
            try:
                found = self._d.get_many([key])
            except CorruptStoreError as error:
                yield key, Unreadable(f"key {shown(key)}", f"{error.place}: {error.reason}")
            else:
                yield from found.items()


def text_of(d: KVMap[Any, Any], item: Item) -> bytes:
    """The JSON text of a value as the map's store holds it. O(size of the value)."""
    return codecs.make(d.settings.codec).encode(item.value)


def line(d: KVMap[Any, Any], item: Item) -> bytes:
    r"""An entry of a map as a line of JSON, which `JSONLines` reads; the value as the store holds it.

    >>> import kvmap
    >>> with kvmap.open(":memory:") as d:
    ...     line(d, Item("ada", [1, None]))
    b'{"key":"ada","value":[1,null],"expires":null}\n'
    """
    moment = dumps(item.moment)
    return b'{"key":%b,"value":%b,"expires":%b}\n' % (dumps(item.key), text_of(d, item), moment)
