"""A shard: an append-only file that is written at its known end and read through a map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from errno import EIO
from typing import Final

from kvmap.disk.folder import Folder, shard_name, write_at
from kvmap.disk.fs import MOST_PARTS, Map, named
from kvmap.disk.manifest import EMPTY, UNKNOWN, Known
from kvmap.disk.parser import stretches
from kvmap.disk.records import MOST_BYTES
from kvmap.disk.tuning import Tuning
from kvmap.errors import CorruptStoreError, LimitError

NO_MAP: Final = b""
"""Stands in for a map: every slice of it is too short, so that a reader takes the longer way."""


class Shard:
    """The file of one bucket. Whoever calls what changes it holds the engine's lock."""

    __slots__ = (
        "_append_until",
        "_before_append",
        "_descriptor",
        "_folder",
        "_inherited",
        "_mapped",
        "_maps",
        "_pwrite",
        "_reads",
        "_tuning",
        "cut_unsynced",
        "dirty",
        "end",
        "failed",
        "known",
        "last_seq",
        "live",
        "loaded",
        "name",
        "number",
        "parsed",
        "path",
        "read_until",
        "retry_compaction_at",
        "synced",
        "writable",
    )

    def __init__(
        self,
        folder: Folder,
        number: int,
        known: Known,
        maps: list[Map | bytes],
        tuning: Tuning,
        before_append: Callable[[Shard], None] = lambda shard: None,
        *,
        writable: bool,
    ) -> None:
        self.number = number
        self.name = shard_name(number)
        self.path = folder.file_path(self.name)
        self.writable = writable
        self.known = known
        """What the manifest knew of the file when the store was opened, or when it was replaced."""
        self.loaded = False
        """Whether the index knows this shard's keys."""
        self.parsed = False
        """Whether its records were taken apart since the store was opened, so that reads may trust
        the index about it, and so that it may be written to. The hint file does not make it so."""
        self.end = 0
        """Bytes of records, dead and live."""
        self.live = 0
        """Bytes of the records that the index points to."""
        self.last_seq = 0
        """The sequence number of the last record that was read or written, once `loaded`."""
        self.dirty = not known.exact
        """Whether bytes may not be on disk yet."""
        self._inherited = not known.exact
        """Whether a crash has left bytes whose sync may have failed; see `sync`."""
        self.synced = known.length
        """Bytes from the start that are on disk for certain."""
        self.failed = False
        """Whether a sync has failed, so that no later one can be trusted with the same file."""
        self.cut_unsynced = not known.exact
        """Whether a power cut may bring back what was cut off, by a killed owner too."""
        self.read_until = MOST_BYTES
        """The end of what is read where a crash has left a batch that may not be removed."""
        self.retry_compaction_at = 0
        """How far the file grows before a compaction that failed is tried again."""
        self._folder = folder
        self._pwrite = folder.fs.pwrite
        self._before_append = before_append
        self._append_until = -1
        """Where an append may end that needs nothing before: MOST_BYTES, or less than any."""
        self._descriptor = -1
        self._maps = maps
        self._mapped = self._reads = 0  # bytes; reads past them
        self._tuning = tuning

    @property
    def dead(self) -> int:
        """Bytes of records that hold no entry."""
        return self.end - self.live

    @property
    def worn(self) -> bool:
        """Whether compaction pays: it then frees about as much as it copies."""
        return (self.end - self.live) * 8 > self.live * 7 + 8 * self._tuning.slack_bytes

    # Opening

    def open(self) -> None:
        """Open the file as it is now, if it is there, and check its length against the manifest.

        Raises CorruptStoreError where bytes are missing, or where there are more than there were.
        """
        size, length = self._size(), self.known.length
        if (size or 0) < length or (self.known.exact and (size or 0) > length):
            wrong = f"{size} bytes long, but {length} when it was closed"
            wrong = "the file is missing" if size is None else wrong
            raise CorruptStoreError(self.path, min(size or 0, length), wrong)
        if (size or 0) > MOST_BYTES:
            raise CorruptStoreError(self.path, MOST_BYTES, "longer than a shard can be")
        if self._descriptor < 0 and size is not None:
            self._descriptor = self._folder.open_file(self.name, write=self.writable)
        self.end = size or 0

    def _size(self) -> int | None:
        """What is to be read: of the file that is open, whatever has become of its name."""
        if self._descriptor < 0:
            size = self._folder.size(self.name)
        else:
            with named(self.path):
                size = self._folder.fs.descriptor_status(self._descriptor).size
        return None if size is None else min(size, self.read_until)

    def open_empty(self) -> bool:
        """Be ready, without reading, where the manifest says that there is no file or an empty one."""
        if self.known == EMPTY:
            self.open()
            self.forget()
        return self.loaded

    def map(self) -> None:
        """Let readers use a map of all that is there."""
        end = self.end  # a writer may move it on meanwhile
        if end > self._mapped:
            with named(self.path):
                self._maps[self.number] = self._folder.fs.map(self._descriptor, end)
            self._mapped = end
        self._reads = 0

    def unmap(self) -> None:
        """Let readers take the longer way."""
        self._maps[self.number] = NO_MAP
        self._mapped = 0

    def read_past_map(self) -> bool:
        """Count a read past the map (0.6 µs more); return whether a new map (10 µs, faults) pays."""
        self._reads += 1
        grown = self.end - self._mapped
        return self._reads > 64 + (self._mapped >> 16) or (
            grown > self._tuning.map_slack_bytes and grown > self._mapped >> 3
        )

    # Reading

    def read(self, begin: int, stop: int) -> bytes:
        """Bytes of the file; fewer where it ends before `stop`."""
        if stop <= self._mapped:
            return self._maps[self.number][begin:stop]
        data = b""
        try:
            while begin < stop and self._descriptor >= 0:
                part = self._folder.fs.pread(self._descriptor, stop - begin, begin)
                if not part:
                    break
                data = data + part if data else part
                begin += len(part)
        except OSError as error:
            error.filename = self.path
            raise
        return data

    def stretches(
        self, start: int = 0, end: int | None = None, size: int = 0
    ) -> Iterator[tuple[int, bytes]]:
        """All records from byte `start` on, in parts of whole lines, and where each part begins."""
        most = size or self._tuning.stretch_bytes
        return stretches(self.read, start, self.end if end is None else end, most)

    # Writing

    def append(self, line: bytes) -> None:
        """Write whole lines at the end. Where this raises, `cut` is due."""
        if self.end + len(line) > self._append_until:
            self._prepare(len(line))
        self.dirty = True
        try:
            done = self._pwrite(self._descriptor, line, self.end)
            if done != len(line):
                write_at(self._folder.fs, self._descriptor, line[done:], self.end + done)
        except OSError as error:
            error.filename = self.path
            raise
        self.end += len(line)

    def append_parts(self, parts: Sequence[bytes], size: int) -> None:
        """Write `size` bytes in parts, as `append`; for parts so large that a copy costs more."""
        if self.end + size > self._append_until:
            self._prepare(size)
        self.dirty = True
        fs, at = self._folder.fs, self.end
        with named(self.path):
            for first in range(0, len(parts), MOST_PARTS):
                some = parts[first : first + MOST_PARTS]
                done, wanted = fs.pwritev(self._descriptor, some, at), sum(map(len, some))
                if done != wanted:
                    write_at(fs, self._descriptor, b"".join(some)[done:], at + done)
                at += wanted
        self.end = at

    def check_room(self, size: int) -> None:
        """Raise LimitError where the file can't grow by so many bytes."""
        if self.end + size > MOST_BYTES:
            raise LimitError(
                f"{self.path} can't grow past 4 GiB; use more shards, or smaller values"
            )

    def _prepare(self, size: int) -> None:
        self.check_room(size)
        self._before_append(self)
        if self._descriptor < 0:
            self._folder.remove(self.name)  # nothing is in it
            self._descriptor = self._folder.create_file(self.name)
        self._append_until = MOST_BYTES

    def hold_appends(self) -> None:
        """Let the next append wait for what must be done before it."""
        self._append_until = -1

    def cut(self, end: int) -> None:
        """Take back what was appended past `end`, whether or not that was completed.

        It is synced before the next append, or a power cut might mix the two.
        """
        if self._descriptor >= 0:
            fs = self._folder.fs
            with named(self.path):
                if fs.descriptor_status(self._descriptor).size > end:
                    self.hold_appends()
                    self.dirty = self.cut_unsynced = True
                    fs.truncate(self._descriptor, end)
        self.end = end
        self.synced = min(self.synced, end)

    def sync(self) -> None:
        """Return when all bytes would survive a power cut; the name is for `Folder.sync`.

        Raises OSError, from then on at each call until another file takes this one's place.
        """
        if self.failed:
            raise OSError(EIO, "a sync failed, so what was written may be lost", self.path)
        if self.dirty:
            if self._descriptor < 0 and self._folder.size(self.name) is not None:
                self._descriptor = self._folder.open_file(self.name, write=self.writable)
            if self._inherited and self._descriptor >= 0:
                self._write_again()
            self.sync_cut()
            self.dirty = False
            self.synced = self.end

    def sync_cut(self) -> None:
        """Return when no power cut can bring back what was cut off. It does less than `sync`."""
        if self._descriptor >= 0:
            try:
                with named(self.path):
                    self._folder.fs.sync(self._descriptor)
            except BaseException:
                self.failed = True
                raise
        self.cut_unsynced = False

    def _write_again(self) -> None:
        """Write what a crash has left in its own place: a sync passes over what one failed to write."""
        fs, at = self._folder.fs, self.synced
        with named(self.path):
            while data := fs.pread(self._descriptor, self._tuning.stretch_bytes, at):
                write_at(fs, self._descriptor, data, at)
                at += len(data)
        self._inherited = False

    # Another file in this one's place

    @property
    def is_current(self) -> bool:
        """Whether the shard's name stands for the file that is open, or for none where none is."""
        if self._descriptor < 0:
            return self._folder.size(self.name) is None
        return self._folder.stands_for(self.name, self._descriptor)

    def check_current(self) -> None:
        """Raise CorruptStoreError where the file was removed or replaced. Two system calls."""
        if self._descriptor >= 0 and not self.is_current:
            raise CorruptStoreError(
                self.path,
                0,
                "the file was removed or replaced while the store was open, so that nothing more is "
                "written; open the store again",
            )

    def take(self, descriptor: int, end: int, synced: int, live: int) -> None:
        """Use a new file of `end` bytes from now on; harmless when that was done before."""
        if self._descriptor != descriptor:
            old, self._descriptor = self._descriptor, descriptor
            self.unmap()
            if old >= 0:
                self._folder.fs.close(old)
        self.known = UNKNOWN
        self.failed = self.cut_unsynced = self._inherited = False
        self.dirty = synced < end
        self.retry_compaction_at = 0
        self.end, self.synced, self.live = end, synced, live
        self.map()

    def forget(self) -> None:
        """Let go of a file that was removed: the shard is empty."""
        self.close()
        self.known = UNKNOWN
        self.loaded = self.parsed = True
        self.dirty = self.failed = self.cut_unsynced = self._inherited = False
        self.end = self.synced = self.live = self.last_seq = self.retry_compaction_at = 0

    def close(self) -> None:
        """Give up the descriptor and the map; an iterator that has the map can go on with it."""
        self.hold_appends()
        descriptor, self._descriptor = self._descriptor, -1
        self.unmap()
        if descriptor >= 0:
            self._folder.fs.close(descriptor)

    def state(self) -> Known:
        """What the manifest is to say of the shard when the store is closed."""
        return Known(self.end, exact=True) if self.loaded else self.known
