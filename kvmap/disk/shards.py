"""All shards of a store: their maps, their syncs, and new files in their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kvmap.disk.damage import walk
from kvmap.disk.folder import NEW, Folder, write_at
from kvmap.disk.fs import Map, Syncing, named
from kvmap.disk.manifest import Known
from kvmap.disk.parser import Record, Table
from kvmap.disk.shard import NO_MAP, Shard
from kvmap.disk.steps import Step, Steps
from kvmap.disk.tuning import Tuning
from kvmap.errors import CorruptStoreError


class NewFile:
    """A file that is to take a shard's place; nobody reads it until then."""

    __slots__ = ("_folder", "descriptor", "end", "shard")

    def __init__(self, shard: Shard, folder: Folder) -> None:
        self.shard = shard
        self.end = 0
        self._folder = folder
        folder.remove(shard.name + NEW)
        self.descriptor = folder.create_file(shard.name + NEW)

    def append(self, data: bytes) -> None:
        """Write whole lines at the end. Raises OSError where there is no room."""
        with named(self.shard.path):
            write_at(self._folder.fs, self.descriptor, data, self.end)
        self.end += len(data)

    def sync(self) -> None:
        """Return when all bytes would survive a power cut."""
        with named(self.shard.path):
            self._folder.fs.sync(self.descriptor)

    def begin_sync(self) -> Syncing:
        """Begin what `sync` does."""
        with named(self.shard.path):
            return self._folder.fs.begin_sync(self.descriptor)

    def rename(self) -> None:
        """Let the shard's name stand for this file, which is complete."""
        self._folder.rename(self.shard.name + NEW, self.shard.name)

    @property
    def is_in_place(self) -> bool:
        """Whether the shard's name stands for this file."""
        return self._folder.stands_for(self.shard.name, self.descriptor)

    def drop(self) -> None:
        """Remove it, unless it has taken the shard's place; harmless when that was done before."""
        if self.descriptor >= 0 and not self.is_in_place:
            # Where the lock was lost, the name may stand for another owner's file.
            ours = self._folder.stands_for(self.shard.name + NEW, self.descriptor)
            descriptor, self.descriptor = self.descriptor, -1
            self._folder.fs.close(descriptor)
            if ours:
                self._folder.remove(self.shard.name + NEW)


class _Replacement:
    """The step in which a new file takes a shard's place, amid another step or on its own."""

    def __init__(self, new: NewFile, publish: Callable[[], None], around: Step | None) -> None:
        self._new = new
        self._publish = publish
        self._around = around

    def finish(self) -> None:
        """What the file system says decides: the name stands for the old file or for the new one."""
        new = self._new
        if new.descriptor >= 0:
            if new.is_in_place:
                self._publish()
                new.descriptor = -1  # it is the shard's
            new.drop()

    def settle(self) -> None:
        """Finish this, and settle what it was a part of."""
        self.finish()
        if self._around is not None:
            self._around.settle()


class Shards:
    """All shards of a store, and their maps."""

    def __init__(
        self,
        store_folder: Folder,
        folder: Folder,
        known: Sequence[Known],
        tuning: Tuning,
        steps: Steps,
        before_replace: Callable[[Shard], None],
        check_owner: Callable[[], None] = lambda: None,
        *,
        writable: bool,
    ) -> None:
        self.store_folder = store_folder
        """Where the manifest, the journal and the hint file are."""
        self.folder = folder
        """Where the shards' files are."""
        self.mask = len(known) - 1
        self.maps: list[Map | bytes] = [NO_MAP] * len(known)
        """By the shard's number; what readers use without a lock."""
        self.all = [
            Shard(folder, number, each, self.maps, tuning, self._before_append, writable=writable)
            for number, each in enumerate(known)
        ]
        self._steps = steps
        self._before_replace = before_replace
        self._check_owner = check_owner
        self._postponed: Callable[[], None] | None = None

    @property
    def live(self) -> int:
        """Bytes of all records that hold an entry."""
        return sum([shard.live for shard in self.all])

    def new_file(self, shard: Shard) -> NewFile:
        """A file that may take a shard's place. Raises StoreLockedError where the lock was lost."""
        self._check_owner()
        return NewFile(shard, self.folder)

    def replace(self, shard: Shard, parts: Iterator[bytes]) -> None:
        """Write a new file in a shard's place, sync it, and use it.

        Raises OSError where there is no room, and leaves the shard as it was.
        """
        new = self.new_file(shard)
        try:
            for part in parts:
                new.append(part)
            new.sync()
            self.put_in_place(new, lambda: shard.take(new.descriptor, new.end, new.end, shard.live))
        except BaseException:
            new.drop()
            raise

    def put_in_place(self, new: NewFile, publish: Callable[[], None]) -> None:
        """Let a new file be its shard's. `publish` uses it, and may be called twice.

        What was synced of the old file is synced in the new one. All of it is done, or the shard is
        as it was.
        """
        self._before_replace(new.shard)
        around = self._steps.current
        step = self._steps.current = _Replacement(new, publish, around)
        try:
            new.rename()
        finally:
            step.finish()
            self._steps.current = around

    def rewrite(self, shard: Shard) -> None:
        """Write a shard whose sync has failed to a new file, byte by byte, and sync that.

        What the page cache returns may no longer be what was written, so each record is checked.
        Raises CorruptStoreError where one is lost.
        """
        table = Table(shard.number, self.mask)

        def parts() -> Iterator[bytes]:
            for at, part in shard.stretches():
                try:
                    table.add(part, at)
                except ValueError as error:
                    raise CorruptStoreError(
                        shard.path, at, f"lost with a failed sync: {error}"
                    ) from None
                yield part

        self.replace(shard, parts())

    def postpone(self, work: Callable[[], None]) -> None:
        """Let this be done before the next append, the next sync or the close; it may fail again."""
        self._postponed = work
        for shard in self.all:
            shard.hold_appends()

    def do_postponed(self) -> None:
        """Do what was postponed. Raises OSError where it fails; it stays postponed then."""
        if self._postponed is not None:
            self._postponed()
            self._postponed = None

    def _before_append(self, shard: Shard) -> None:
        self.do_postponed()
        if shard.failed and shard.cut_unsynced:
            self.rewrite(shard)
        elif shard.cut_unsynced:
            shard.sync_cut()

    def sync(self) -> None:
        """Return when all records, and the names of the shards' files, would survive a power cut."""
        self.do_postponed()
        for shard in self.all:
            self.sync_one(shard)
        self.folder.sync()

    def sync_one(self, shard: Shard) -> None:
        """The same for one shard."""
        if shard.failed:
            self.rewrite(shard)
        shard.sync()
        self.folder.sync()

    def forget(self) -> None:
        """All files were removed: the shards are empty."""
        self._postponed = None
        for shard in self.all:
            shard.forget()

    def close(self) -> None:
        """Give up all descriptors and maps."""
        for shard in self.all:
            shard.close()

    def last_seq(self, shard: Shard) -> int:
        """The sequence number of the last whole record in a shard's file; 0 where there is none.

        Reads from the end of the file, twice as much each time, so O(the last record) but for
        damage.
        """
        shard.open()
        size = self.folder.size(shard.name) or 0
        length = 1 << 16
        while size:
            start = max(0, size - length)
            data = shard.read(start, size)
            cut = data.find(b"\n") + 1 if start else 0
            seqs = [
                found.seq
                for _, _, found in walk(data[cut:], shard.number, start + cut)
                if isinstance(found, Record)
            ]
            if seqs or not start:
                return max(seqs, default=0)
            length *= 2
        return 0
