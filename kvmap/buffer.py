"""What a transaction's block sees and writes: its own changes over the engine's state."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice

from kvmap import keys, values
from kvmap.engine import INF, KEEP_DEADLINE, Changes, Condition, Engine, If, Seen
from kvmap.errors import StoreClosedError
from kvmap.keys import Key
from kvmap.settings import Settings

_PAGE = 256


class Buffer:
    """Implements `kvmap.engine.State`, whose docstrings hold; `changes` is what to commit.

    Other writers wait meanwhile, or the engine's `commit` finds out what they have changed. So only
    an expiry changes what is below, and an expired key stays a key of the buffer.
    """

    def __init__(self, engine: Engine) -> None:
        self.changes = Changes()
        self.seen = Seen()
        self.ended = False
        """Whether the block has ended, so that an iterator that outlives it goes no further."""
        self._engine = engine
        self._remote = engine.remote
        self._deadlines: dict[Key, float | None] = {}
        """What was read there of deadlines."""
        self._fresh: set[Key] = set()
        """Written keys that the engine's state lacks, or that were deleted before: they come last."""
        self._timed = False
        """Whether any written entry has a deadline."""
        self._may_lapse = False
        """Whether entries may have expired since the block's first write."""
        self._writes = 0
        self._resized = 0
        """Entries inserted less entries deleted in the block."""

    @property
    def settings(self) -> Settings:
        return self._engine.settings

    @property
    def version(self) -> int:
        return self._engine.version + self._writes + self.ended

    @property
    def net_size(self) -> int:
        return self._engine.net_size + self._resized

    @property
    def next_deadline(self) -> float:
        soonest = self._engine.next_deadline
        if self._timed:
            own = [deadline for _, deadline in self.changes.written.values()]
            soonest = min([soonest, *own])
        return soonest

    def now(self) -> float:
        return self._engine.now()

    # Reading

    def get(self, key: Key, /) -> bytes | None:
        self._check_open()
        written = self.changes.written.get(key)
        if written is not None:
            return written[0] if written[1] == INF or written[1] > self.now() else None
        if key in self.changes.deleted:
            return None
        return self._read(key)

    def _read(self, key: Key) -> bytes | None:
        """The engine's text. What a server said first holds for the block: else `commit` refuses."""
        if self._remote and key in self.seen.texts:
            return self.seen.texts[key]
        text = self._engine.get(key)
        self.seen.texts.setdefault(key, text)
        return text

    def _read_many(self, keys: Iterable[Key]) -> None:
        """Ask a server for all of these keys at once, before they are looked at one by one."""
        if self._remote:
            changes, seen = self.changes, self.seen.texts
            known = (changes.written, changes.deleted, seen)
            wanted = [key for key in keys if not any(key in each for each in known)]
            if len(wanted) > 1:
                self._check_open()
                seen.update(zip(wanted, self._engine.get_many(wanted), strict=True))

    def get_many(self, keys: Iterable[Key], /) -> list[bytes | None]:
        wanted = list(keys)
        self._read_many(wanted)
        return [self.get(key) for key in wanted]

    def __contains__(self, key: object, /) -> bool:
        return self.get(key) is not None

    def __len__(self) -> int:
        self._see_all()
        deleted, written = self.changes.deleted, self.changes.written
        if not self._may_lapse and self.seen.state is None:
            return len(self._engine) - len(deleted) + len(self._fresh)
        below = [*deleted, *[key for key in written if key not in self._fresh]]
        replaced = sum([text is not None for text in self._engine.get_many(below)])
        now = self.now()
        own = sum([deadline > now for _, deadline in written.values()])
        return len(self._engine) - replaced + own

    def peek(self, count: int, /) -> tuple[int | None, list[tuple[Key, bytes]]]:
        """As `State` says. What a repr shows does not count as seen, so nothing conflicts with it."""
        deleted, written, fresh, now = (
            self.changes.deleted,
            self.changes.written,
            self._fresh,
            self.now(),
        )
        total, first = self._engine.peek(count + min(len(deleted), _PAGE))
        if total is None:
            return None, []
        live = {key: text for key, (text, deadline) in written.items() if deadline > now}
        below = [(key, live.get(key, text)) for key, text in first if key not in deleted]
        below = [(key, text) for key, text in below if key in live or key not in written]
        if len(first) == total:  # the written ones come after all of these
            below += [(key, text) for key, text in live.items() if key in fresh]
        # One that expires meanwhile in the engine, too, may be counted twice.
        gone = len(deleted) + len(written) - len(live)
        return max(total - gone + len(fresh), len(below)), below[:count]

    def keys(self, *, reverse: bool = False) -> Iterator[list[Key]]:
        return (found for found, _ in self.items(reverse=reverse))

    def items(self, *, reverse: bool = False) -> Iterator[tuple[list[Key], list[bytes]]]:
        self._see_all()
        passed: set[Key] = set()
        below = self._below(self._engine.keys(reverse=reverse), passed)
        written, fresh = list(self.changes.written), self._fresh.copy()
        if reverse:
            written.reverse()
        own = partial(self._own, written, fresh, passed)
        # Backwards, those that expire below meanwhile come last.
        return self._live((own(), below, own()) if reverse else (below, own()), self._resized)

    def _live(
        self, parts: Iterable[Iterator[list[Key]]], resized: int
    ) -> Iterator[tuple[list[Key], list[bytes]]]:
        for part in parts:
            for page in part:
                found = dict(zip(page, self.get_many(page), strict=True))
                self._check_size(resized)
                live = {key: text for key, text in found.items() if text is not None}
                yield list(live), list(live.values())
        self._check_size(resized)

    def _check_size(self, resized: int) -> None:
        if self._resized != resized:
            raise RuntimeError("dictionary changed size during iteration")

    def _below(self, pages: Iterator[list[Key]], passed: set[Key]) -> Iterator[list[Key]]:
        """The engine's keys that were not deleted; `passed` gets the overwritten ones."""
        for page in pages:
            kept = [key for key in page if key not in self.changes.deleted]
            passed.update([key for key in kept if key in self.changes.written])
            yield kept

    def _own(
        self, written: Iterable[Key], fresh: Collection[Key], passed: set[Key]
    ) -> Iterator[list[Key]]:
        """The keys that come after the engine's: `fresh` ones, and those that expired there.

        These come last for others too, once the block has ended. `passed` gets all of them.
        """
        own = [
            key
            for key in written
            if key not in passed and (key in fresh or key not in self._engine)
        ]
        passed.update(own)
        names = iter(own)
        yield from iter(lambda: list(islice(names, _PAGE)), [])

    def _see_all(self) -> None:
        self._check_open()
        if self.seen.state is None:
            self.seen.state = self._engine.state()

    def deadline(self, key: Key, /) -> float | None:
        if self.get(key) is None:
            return None
        written = self.changes.written.get(key)
        if written is not None:
            return written[1]
        if not self._remote:
            return self._engine.deadline(key)
        if key not in self._deadlines:
            self._deadlines[key] = self._engine.deadline(key)
        return self._deadlines[key]

    def deadlines(self, keys: Iterable[Key], /) -> list[float | None]:
        wanted = list(keys)
        self._read_many(wanted)
        if self._remote:
            unknown = [key for key in wanted if key not in self._deadlines]
            self._deadlines.update(zip(unknown, self._engine.deadlines(unknown), strict=True))
        return [self.deadline(key) for key in wanted]

    def expiring(self, seconds: float, /) -> dict[Key, bytes]:
        moment = self.now() + seconds
        soon = list(self._engine.expiring(seconds)) + [
            key for key, (_, deadline) in self.changes.written.items() if deadline <= moment
        ]
        texts = {key: self.get(key) for key in soon if (self.deadline(key) or INF) <= moment}
        return {key: text for key, text in texts.items() if text is not None}

    # Writing

    def put(self, key: Key, text: bytes, ttl: float, only_if: Condition = None, /) -> bool:
        keys.text(key)
        there = self.get(key)
        if isinstance(only_if, If):
            if (only_if is If.ABSENT) is not (there is None):
                return False
        elif only_if is not None and there != only_if:
            return False
        if ttl == KEEP_DEADLINE:
            kept = self.deadline(key)
            deadline = self._moment(self.settings.ttl) if kept is None else kept
        else:
            deadline = self._moment(ttl)
        self._put(key, text, deadline, is_new=there is None)
        return True

    def _put(self, key: Key, text: bytes, deadline: float, *, is_new: bool) -> None:
        if is_new:
            self._forget(key)  # an expired entry's place is not kept
            self._fresh.add(key)
            self._resized += 1
        self._timed = self._timed or deadline != INF
        self.changes.written[key] = values.without_spare(text), deadline
        self._wrote()

    def _wrote(self) -> None:
        self._writes += 1
        self._may_lapse = self._may_lapse or self.next_deadline < INF

    def _moment(self, ttl: float) -> float:
        return INF if ttl == INF else self.now() + ttl

    def _forget(self, key: Key) -> None:
        """Take a key that is there, or has expired, out of what the block sees."""
        if key not in self._fresh and (key in self.changes.written or self._is_below(key)):
            self.changes.deleted.add(key)
        self._fresh.discard(key)
        self.changes.written.pop(key, None)

    def _is_below(self, key: Key) -> bool:
        return self._read(key) is not None if self._remote else key in self._engine

    def put_many(self, texts: Mapping[Key, bytes], ttl: float, /) -> None:
        for key in texts:
            keys.text(key)
        self._read_many(texts)
        for key, text in texts.items():
            self.put(key, text, ttl)

    def put_until(self, entries: Mapping[Key, tuple[bytes, float]], /) -> None:
        for key in entries:
            keys.text(key)
        self._read_many(entries)
        for key, (text, deadline) in entries.items():
            self._put(key, text, deadline, is_new=self.get(key) is None)

    def setdefault(self, key: Key, text: bytes, ttl: float, /) -> bytes:
        there = self.get(key)
        if there is None:
            self.put(key, text, ttl)
        return text if there is None else there

    def incr(
        self, key: Key, by: int | float, default: int | float | None, ttl: float, /
    ) -> int | float:
        text, total = values.increment(key, self.get(key), by, default)
        self.put(key, text, ttl)
        return total

    def expire(self, key: Key, ttl: float, /) -> bool:
        there = self.get(key)
        return there is not None and self.put(key, there, ttl)

    def pop(self, key: Key, /) -> bytes | None:
        there = self.get(key)
        if there is not None:
            self._forget(key)
            self._resized -= 1
            self._wrote()
        return there

    def popitem(self, *, last: bool = True) -> tuple[Key, bytes] | None:
        for page, texts in self.items(reverse=last):
            for key, text in zip(page, texts, strict=True):
                self.pop(key)
                return key, text
        return None

    def delete(self, key: Key, /) -> bool:
        return self.pop(key) is not None

    def delete_many(self, keys: Iterable[Key], /) -> int:
        wanted = list(dict.fromkeys(keys))
        self._read_many(wanted)
        return sum([self.delete(key) for key in wanted])

    def clear(self) -> None:
        for page in list(self.keys()):
            self.delete_many(page)

    def purge(self) -> int:
        return 0  # the engine's entries stay as they are while the block lasts

    def _check_open(self) -> None:
        if self.ended:
            if self._engine.closed:
                raise StoreClosedError("the map was closed inside the block, which is undone")
            raise RuntimeError("the transaction that this iterator or view belongs to has ended")
