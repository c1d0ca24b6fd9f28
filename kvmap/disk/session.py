"""A session: from the opening of a store to its close; the manifest says how it was left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from kvmap.disk import hint
from kvmap.disk.compaction import Compactor
from kvmap.disk.index import Index
from kvmap.disk.journal import Journal
from kvmap.disk.loading import Loading
from kvmap.disk.manifest import UNKNOWN
from kvmap.disk.opening import Home
from kvmap.disk.shard import Shard
from kvmap.disk.shards import Shards
from kvmap.disk.steps import BEGUN, Steps
from kvmap.disk.tuning import Tuning
from kvmap.errors import CorruptStoreError, ReadOnlyError, StoreClosedError, StoreLockedError

CLOSED = "the map is closed"
FORKED = (
    "the map belongs to the process that this one was forked from; close it there before forking and "
    "open the store in one of both, or read it here with kvmap.snapshot()"
)


class Session:
    """Whether a store may be read and written, and what makes it survive a power cut.

    The caller has the lock, but for `check_open` and what only reads an attribute.
    """

    def __init__(
        self,
        home: Home,
        shards: Shards,
        journal: Journal,
        index: Index,
        loading: Loading,
        compactor: Compactor,
        steps: Steps,
        tuning: Tuning,
    ) -> None:
        self.closed_reason: str | None = None
        self.writable = False
        """Whether a write may begin at once: the store is open, and its manifest says `in_use`."""
        self._home = home
        self._shards = shards
        self._journal = journal
        self._index = index
        self._loading = loading
        self._compactor = compactor
        self._steps = steps
        self._tuning = tuning

    def check_open(self) -> None:
        """Raise StoreClosedError where it is closed."""
        if self.closed_reason is not None:
            raise StoreClosedError(f"{self.closed_reason} ({self._home.folder.path})")

    def check_writable(self) -> None:
        """Raise StoreClosedError or ReadOnlyError where nothing can be written."""
        self.check_open()
        if self._home.read_only:
            raise ReadOnlyError(
                f'{self._home.folder.path} was opened with flag "r", or is a snapshot'
            )

    def begin_use(self) -> None:
        """Before the first write: let the manifest say that the store is in use."""
        self.check_writable()
        self.check_files()
        shards = [known._replace(exact=False) for known in self._home.manifest.shards]
        self._home.change_manifest(in_use=True, shards=tuple(shards))
        self.writable = True

    def check_files(self, shards: Iterable[Shard] = ()) -> None:
        """Raise where the lock file, or one of these shards' files, was removed or replaced.

        No write begins any more where it is the lock file: another process may own the store.
        """
        try:
            self._home.ownership.check()
        except StoreLockedError:
            self.writable = False
            raise
        for shard in shards:
            shard.check_current()

    def before_replace(self, shard: Shard) -> None:
        """Before another file takes a shard's place: let nothing name what the old one holds."""
        self.check_files([shard])
        self._journal.sync()
        known = list(self._home.manifest.shards)
        known[shard.number] = UNKNOWN
        self._home.change_manifest(in_use=True, shards=tuple(known))
        if self._index.hint is not None:
            self._index.hint.drop(shard.number)

    def clear(self, forget: Callable[[], None]) -> None:
        """Remove all records, as a step; `forget` lets go of what is in memory."""
        self._compactor.stop()
        step = self._steps.current = _Clear(self._home, forget)
        self._home.begin_emptying(self._index.seq)
        step.settle()
        self._steps.current = BEGUN

    def sync(self) -> None:
        """Return when everything that was written would survive a power cut."""
        if not self._home.read_only:
            self._steps.current = BEGUN
            try:
                self._sync()
            finally:
                self._steps.settle()

    def _sync(self) -> None:
        self.check_files(self._shards.all)
        self._shards.sync()
        self._journal.sync()
        self._home.folder.sync()

    def close(self) -> None:
        """Sync, say in the manifest how the store is left, and give everything up.

        Raises OSError where that fails; the store is closed then too, as after a kill.
        """
        clean = False
        try:
            if not self._home.read_only:
                self._steps.settle()
                self._leave()
                clean = True
        finally:
            try:
                self._give_up(clean=clean)
            except BaseException:  # an interrupt, for one; what is given up already does no harm
                self._give_up(clean=clean)
                raise

    def _give_up(self, *, clean: bool) -> None:
        self.closed_reason = CLOSED
        self.writable = False
        self._index.close()
        self._shards.close()
        self._home.close(clean=clean)

    def _leave(self) -> None:
        """Make everything survive a power cut, and say in the manifest how the store was left.

        A session that has only read does so for what an earlier one has left: a shard that a crash
        has left unsynced, and a store without a hint file, make each opening slower.
        """
        self._compactor.stop()
        shards = tuple([shard.state() for shard in self._shards.all])
        written = self._home.manifest.in_use or shards != self._home.manifest.shards
        if written:
            self._sync()
        if self._index.complete:
            self.check_files()
            with suppress(CorruptStoreError):  # no hint file for what has no order
                self._loading.load_in_order()
                there = self._index.hint or hint.covered(self._shards)
                hint.save(self._shards, self._index.entries, there, self._tuning)
        if written:
            self._home.change_manifest(
                seq=self._index.seq,
                shards=tuple([shard.state() for shard in self._shards.all]),
                in_use=False,
            )

    def abandon(self) -> None:
        """In a forked child: the parent stays the owner."""
        self.closed_reason = FORKED
        self.writable = False
        self._index.abandon()
        self._shards.close()
        self._home.abandon()


class _Clear:
    """The step in which all records are removed."""

    def __init__(self, home: Home, forget: Callable[[], None]) -> None:
        self._home = home
        self._forget = forget

    def settle(self) -> None:
        """The manifest decides: once it says that the store is being emptied, the records are gone."""
        if self._home.manifest.emptying:
            self._forget()
            self._home.finish_emptying()
