"""The index as a transaction sees it: its own changes over an index that stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from itertools import chain, filterfalse

from kvmap.keys import Key
from kvmap.record import Entry


class Overlay(MutableMapping[Key, Entry]):
    """Ordered as a dict would be after the same changes. Every call but iteration is O(1)."""

    def __init__(self, base: dict[Key, Entry]) -> None:
        self.base = base
        self.gone: set[Key] = set()
        """Keys of the base that were deleted, whether or not they were inserted again."""
        self.over: dict[Key, Entry] = {}
        """Keys of the base that were overwritten and so keep their place."""
        self.fresh: dict[Key, Entry] = {}
        """Keys inserted since, in order; they come after all of the base."""
        self.tombstones: dict[Key, tuple[int, bytes]] = {}
        """How the shards are told of keys that were deleted: which shard, and the line."""
        self.lapsed: dict[Key, Entry] = {}
        """What expired after it had overwritten an entry of the base, which must not come back."""
        self.swept = 0
        """Entries that expired meanwhile and are no longer in this view."""
        self.passed = False
        """Whether deadlines passed meanwhile; the base may need them when this view is gone."""
        self.committed = False
        self._changes = 0

    def __getitem__(self, key: Key) -> Entry:
        if key in self.fresh:
            return self.fresh[key]
        if key in self.over:
            return self.over[key]
        if key in self.gone:
            raise KeyError(key)
        return self.base[key]

    def __setitem__(self, key: Key, entry: Entry) -> None:
        if key in self.fresh or key in self.gone or key not in self.base:
            if key not in self.fresh:
                self._changes += 1
            self.fresh[key] = entry
        else:
            self.over[key] = entry

    def __delitem__(self, key: Key) -> None:
        if key in self.fresh:
            del self.fresh[key]
        elif key in self.base and key not in self.gone:
            self.gone.add(key)
            self.over.pop(key, None)
        else:
            raise KeyError(key)
        self._changes += 1

    def expire(self, key: Key, entry: Entry) -> None:
        """Take out an entry whose deadline has passed."""
        if key in self.over:
            self.lapsed[key] = entry
        del self[key]
        self.swept += 1

    def __len__(self) -> int:
        return len(self.base) - len(self.gone) + len(self.fresh)

    def __iter__(self) -> Iterator[Key]:
        return self._walk(chain(filterfalse(self.gone.__contains__, self.base), self.fresh))

    def __reversed__(self) -> Iterator[Key]:
        kept = filterfalse(self.gone.__contains__, reversed(self.base))
        return self._walk(chain(reversed(self.fresh), kept))

    def _walk(self, keys: Iterator[Key]) -> Iterator[Key]:
        changes = self._changes
        for key in keys:
            yield key
            if self._changes != changes:
                raise RuntimeError("dictionary changed size during iteration")
