"""All shards of a store: their maps, their syncs, and new files in their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kvmap.disk.damage import walk
from kvmap.disk.folder import Folder, write_at
from kvmap.disk.fs import Map, named
from kvmap.disk.manifest import Known
from kvmap.disk.parser import Record, Table
from kvmap.disk.shard import NO_MAP, Shard
from kvmap.disk.steps import Steps
from kvmap.disk.tuning import Tuning
from kvmap.errors import CorruptStoreError


class NewFile:
    """A file that is to take a shard's place; nobody reads it until then."""

    __slots__ = ("_fs", "descriptor", "end", "shard")

    def __init__(self, shard: Shard, folder: Folder) -> None:
        self.shard = shard
        self.end = 0
        self._fs = folder.fs
        self.descriptor = shard.create_new()

    def append(self, data: bytes) -> None:
        """Write whole lines at the end. Raises OSError where there is no room."""
        with named(self.shard.path):
            write_at(self._fs, self.descriptor, data, self.end)
        self.end += len(data)

    def sync(self) -> None:
        """Return when all bytes would survive a power cut."""
        with named(self.shard.path):
            self._fs.sync(self.descriptor)

    def drop(self) -> None:
        """Remove it, unless it has taken the shard's place; harmless when that was done before."""
        if self.descriptor >= 0 and not self.shard.is_named(self.descriptor):
            descriptor, self.descriptor = self.descriptor, -1
            self.shard.drop_new(descriptor)


class _Replacement:
    """The step in which a new file takes a shard's place."""

    def __init__(self, new: NewFile, publish: Callable[[], None]) -> None:
        self._new = new
        self._publish = publish

    def settle(self) -> None:
        """What the file system says decides: the name stands for the old file or for the new one."""
        new = self._new
        if new.descriptor >= 0:
            if new.shard.is_named(new.descriptor):
                self._publish()
                new.descriptor = -1  # it is the shard's
            new.drop()


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
            Shard(folder, number, each, self.maps, tuning, writable=writable)
            for number, each in enumerate(known)
        ]
        self._steps = steps
        self._before_replace = before_replace

    @property
    def live(self) -> int:
        """Bytes of all records that hold an entry."""
        return sum([shard.live for shard in self.all])

    def replace(self, shard: Shard, parts: Iterator[bytes]) -> None:
        """Write a new file in a shard's place, sync it, and use it.

        Raises OSError where there is no room, and leaves the shard as it was.
        """
        new = NewFile(shard, self.folder)
        try:
            for part in parts:
                new.append(part)
            self.put_in_place(new, lambda: shard.take(new.descriptor, new.end, shard.live))
        except BaseException:
            new.drop()
            raise

    def put_in_place(self, new: NewFile, publish: Callable[[], None]) -> None:
        """Sync a new file and let it be its shard's. `publish` uses it, and may be called twice.

        All of it is done, or the shard is as it was.
        """
        new.sync()
        self._before_replace(new.shard)
        before = self._steps.current
        step = self._steps.current = _Replacement(new, publish)
        try:
            new.shard.rename_new()
        finally:
            step.settle()
        self._steps.current = before

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

    def sync(self) -> None:
        """Return when all records, and the names of the shards' files, would survive a power cut."""
        for shard in self.all:
            self.sync_one(shard)
        self.folder.sync()

    def sync_one(self, shard: Shard) -> None:
        """The same for one shard."""
        if shard.failed:
            self.rewrite(shard)
        shard.sync()
        self.folder.sync()

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
