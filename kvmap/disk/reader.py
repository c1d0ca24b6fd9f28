"""Reading more than one entry: pages of an iteration, many keys at once, coming deadlines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from zlib import crc32

from kvmap.disk.index import Index
from kvmap.disk.loading import Loading
from kvmap.disk.lookup import Lookup
from kvmap.disk.records import UNTIMED, Entry, deadline, place, unpack_value
from kvmap.disk.shards import Shards
from kvmap.disk.steps import Steps
from kvmap.disk.tuning import Tuning
from kvmap.errors import CorruptStoreError
from kvmap.keys import Key
from kvmap.turn import Turn

Pair = tuple[Key, Entry]


class _Pages:
    """How many entries the next page has: few at first, for those who want only a few."""

    __slots__ = ("count", "most_bytes", "most_entries")

    def __init__(self, tuning: Tuning) -> None:
        self.count = 16
        self.most_bytes = tuning.page_bytes
        self.most_entries = tuning.page_entries

    def grow(self) -> None:
        """Twice as many, up to a bound."""
        self.count = min(2 * self.count, self.most_entries)

    def fit(self, entries: int, size: int) -> None:
        """So many that they have about `most_bytes`, as `entries` of `size` bytes have shown."""
        self.count = min(self.count, entries * self.most_bytes // (size or 1) + 1)


class Reader:
    """Reads of an open store that take no lock unless something has to be loaded or has expired."""

    def __init__(
        self,
        index: Index,
        loading: Loading,
        lookup: Lookup,
        shards: Shards,
        turn: Turn,
        steps: Steps,
        tuning: Tuning,
        now: Callable[[], float],
        check_open: Callable[[], None],
    ) -> None:
        self._index = index
        self._entries = index.entries
        self._loading = loading
        self._lookup = lookup
        self._maps = shards.maps
        self._turn = turn
        self._steps = steps
        self._tuning = tuning
        self._now = now
        self._check_open = check_open

    def sweep(self) -> None:
        """Take out what has expired."""
        if self._index.deadlines.soonest <= self._now():
            self._steps.check_reentry()
            with self._turn.lock:
                self._steps.settle()
                self._index.sweep()

    def count(self) -> int:
        """The number of entries that have not expired."""
        self._loading.load_all()
        if self._index.deadlines.soonest <= self._now():
            self.sweep()
        self._check_open()
        return len(self._index.entries)

    def keys(self, *, reverse: bool = False) -> Iterator[list[Key]]:
        """The keys in the map's order, in pages."""
        self._check_open()
        try:
            # From the shards, for whoever reads the values must find them.
            self._loading.parse_all()
        except CorruptStoreError:
            # The hint file may name the keys all the same, for whoever reads what is whole.
            self._loading.load_in_order()
        pages = self._pages(reverse, _Pages(self._tuning))
        return ([key for key, _ in page] for page in pages)

    def items(self, *, reverse: bool = False) -> Iterator[tuple[list[Key], list[bytes]]]:
        """The entries in the map's order, in pages."""
        self._check_open()
        self._loading.parse_all()
        size = _Pages(self._tuning)
        return self._items(self._pages(reverse, size), size)

    def _items(
        self, pages: Iterator[list[Pair]], size: _Pages
    ) -> Iterator[tuple[list[Key], list[bytes]]]:
        maps, most = self._maps, 4 * size.most_bytes
        for page in pages:
            names, texts, total, passed = list[Key](), list[bytes](), 0, 0
            for key, entry in page:
                # As `_text`, without a call: 4 % of an iteration.
                start, end, seed, crc, number = unpack_value(entry)
                data = maps[number][start:end]
                text = data if crc32(data, seed) == crc else self._lookup.text(key, entry)
                if text is not None:
                    names.append(key)
                    texts.append(text)
                    total += len(text)
                passed += 1
                if total > most:
                    break
            size.fit(passed, total)
            yield names, texts
            for key, _ in page[passed:]:
                # Far larger than those before. What is left may have changed since.
                entry = self._entries.get(key, b"")
                if entry and deadline(entry) > self._now():
                    text = self._text(key, entry)
                    if text is not None:
                        yield [key], [text]

    def _pages(self, reverse: bool, size: _Pages) -> Iterator[list[Pair]]:
        self.sweep()
        self._check_open()
        items = self._index.entries.items()
        # Made here: a reversed iterator begins with what is the last entry now.
        rest: Iterator[Pair] = iter(reversed(items) if reverse else items)
        return self._each_page(rest, reverse, self._index.net_size, size)

    def _each_page(
        self, rest: Iterator[Pair], reverse: bool, net_size: int, size: _Pages
    ) -> Iterator[list[Pair]]:
        index, last = self._index, -1
        while True:
            self.sweep()
            self._check_open()
            if index.net_size != net_size:
                raise RuntimeError("dictionary changed size during iteration")
            try:
                page = list(islice(rest, size.count))
            except RuntimeError:
                # An entry has expired, or the index was put in order. Rare, so what is left may be
                # copied.
                rest = iter(self._behind(last, reverse))
                page = list(islice(rest, size.count))
            if not page:
                return
            last = place(page[-1][1])
            size.grow()
            if index.deadlines.soonest <= self._now():
                page = [(key, entry) for key, entry in page if deadline(entry) > self._now()]
            yield page

    def _behind(self, last: int, reverse: bool) -> list[Pair]:
        """The entries whose turn comes after the place `last`; all of them for -1."""
        with self._turn.lock:
            pairs = list(self._index.entries.items())
        if reverse:
            pairs.reverse()
        if last < 0:
            return pairs
        return [
            pair for pair in pairs if (place(pair[1]) < last) is reverse and place(pair[1]) != last
        ]

    def _text(self, key: Key, entry: Entry) -> bytes | None:
        start, end, seed, crc, number = unpack_value(entry)
        text = self._maps[number][start:end]
        return text if crc32(text, seed) == crc else self._lookup.text(key, entry)

    def get_many(self, names: Sequence[Key]) -> list[bytes | None]:
        """The text of each of these keys, all of one moment."""
        for key in names:
            if key not in self._index.entries and not self._index.settled:
                self._lookup.find(key)
        with self._index.gate:
            found = list(map(self._index.entries.get, names))
            self._check_open()
        now, version = self._now(), self._index.seq
        texts = [
            None
            if entry is None or (len(entry) > UNTIMED and deadline(entry) <= now)
            else self._text(key, entry)
            for key, entry in zip(names, found, strict=True)
        ]
        if self._index.seq == version:
            return texts
        # Somebody has written meanwhile, and compaction may have moved a record: once more, alone.
        self._steps.check_reentry()
        with self._turn.lock:
            self._steps.settle()
            entries = [self._lookup.find(key) for key in names]
            return [
                None if entry is None or deadline(entry) <= now else self._text(key, entry)
                for key, entry in zip(names, entries, strict=True)
            ]

    def expiring(self, seconds: float, /) -> dict[Key, bytes]:
        """The entries that expire within so many seconds."""
        self._check_open()
        self._loading.load_all()
        self.sweep()
        self._steps.check_reentry()
        with self._turn.lock:
            self._steps.settle()
            found: dict[Key, bytes] = {}
            for moment, _, key in self._index.deadlines.until(self._now() + seconds):
                entry = self._index.entries.get(key)
                if entry is not None and deadline(entry) == moment:
                    text = self._text(key, entry)
                    if text is not None:
                        found[key] = text
        self._check_open()
        return found

    def peek(self, count: int, /) -> tuple[int | None, list[tuple[Key, bytes]]]:
        """How many entries there are and the first few, where that takes no more than a moment."""
        index = self._index
        if not index.ordered or not index.all_parsed or index.deadlines.soonest <= self._now():
            return None, []
        try:
            pairs = list(islice(index.entries.items(), count))
        except RuntimeError:
            return None, []
        texts = [(key, self._text(key, entry)) for key, entry in pairs]
        return len(index.entries), [(key, text) for key, text in texts if text is not None]
