"""The kinds of store that a test runs on, each with a way to open engines and maps of its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers import AnyMap, Clock, directory_in_memory, killed
from unsynced import Unsynced

from kvmap.disk.fs import FileSystem
from kvmap.engine import Engine
from kvmap.memory import MemoryEngine
from kvmap.opening import before
from kvmap.settings import Change, changing

SETTINGS = ("limits", "ttl", "codec", "evict")


class Store:
    """Opens engines, and maps before them, by names; the time is the test's."""

    kind: str
    is_local = True
    """Whether one process owns it: its writers wait for each other, its iterations are live."""
    is_kept = True
    """Whether its entries outlive close()."""
    LIFE: tuple[str, ...] = ("left alone", "compacted")
    """What may happen to a map of this kind: the names of `life()`."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self._engines: list[Engine] = []

    def open_engine(self, name: str, flag: str, change: Change, **options: Any) -> Engine:
        raise NotImplementedError

    def engine(self, name: str = "store", flag: str = "c", **options: Any) -> Engine:
        """An engine; options that are no settings are the engine's own, such as `shards`."""
        settings = {each: options.pop(each) for each in SETTINGS if each in options}
        engine = self.open_engine(name, flag, changing(**settings), **options)
        self._engines.append(engine)
        return engine

    def open(
        self,
        name: str = "store",
        flag: str = "c",
        *,
        type: Any = None,
        encode: Any = None,
        decode: Any = None,
        writeback: bool = False,
        **options: Any,
    ) -> AnyMap:
        """A map before an engine."""
        engine = self.engine(name, flag, **options)
        return before(engine, type=type, encode=encode, decode=decode, writeback=writeback)

    def life(self) -> dict[str, Callable[[AnyMap], AnyMap]]:
        """What may happen to a map; each returns the map that goes on."""
        return {"left alone": lambda d: d, "compacted": _compacted}

    def check(self, d: AnyMap) -> None:
        """Assert what must be true of an open map outside of a transaction."""
        keys = list(d)
        assert len(d) == len(keys)
        assert list(reversed(d)) == keys[::-1]
        assert [key for key, _ in d.items()] == keys
        assert all(key in d for key in keys)

    def close(self) -> None:
        """Close what the test has left open."""
        for engine in self._engines:
            engine.close()


def _compacted(d: AnyMap) -> AnyMap:
    d.compact()
    return d


class MemoryStore(Store):
    kind = "memory"
    is_kept = False

    def open_engine(self, name: str, flag: str, change: Change, **options: Any) -> Engine:
        return MemoryEngine(change(None), self.clock.now)


class DiskStore(Store):
    """In a directory. Nothing is synced: no test that uses it cuts the power."""

    kind = "disk"
    LIFE = (
        *("left alone", "compacted", "reopened", "killed", "backed up"),
        *("compacted, reopened", "compacted, killed", "killed, compacted"),
    )

    def __init__(self, folder: Path, clock: Clock, files: FileSystem | None = None) -> None:
        super().__init__(folder, clock)
        self.files = files or Unsynced(clock)

    def open_engine(self, name: str, flag: str, change: Change, **options: Any) -> Engine:
        disk = pytest.importorskip("kvmap.disk")
        if not hasattr(disk, "open_engine"):
            pytest.skip("the disk engine is not there yet")
        where = str(self.folder / name)
        shards = None if (self.folder / name / "kvmap.json").exists() else 4
        options = {"shards": shards, "sync": False, "timeout": 0, "mode": 0o700, **options}
        engine: Engine = disk.open_engine(where, flag, change=change, fs=self.files, **options)
        return engine

    def life(self) -> dict[str, Callable[[AnyMap], AnyMap]]:
        return {
            **super().life(),
            "reopened": self.reopened,
            "killed": self.killed,
            "compacted, reopened": lambda d: self.reopened(_compacted(d)),
            "compacted, killed": lambda d: self.killed(_compacted(d)),
            "killed, compacted": lambda d: _compacted(self.killed(d)),
            "backed up": self.backed_up,
        }

    def reopened(self, d: AnyMap) -> AnyMap:
        """Closed, and opened again."""
        d.close()
        return self.open(d.path.name)

    def killed(self, d: AnyMap) -> AnyMap:
        """What an open that follows a `kill -9` of the owner finds; this one is closed."""
        copy = killed(d, self.folder / f"{d.path.name}+")
        d.close()
        return self.open(copy.name)

    def backed_up(self, d: AnyMap) -> AnyMap:
        """A backup, opened."""
        copy = self.folder / f"{d.path.name}-copy"
        d.backup(copy)
        d.close()
        return self.open(copy.name)

    def check(self, d: AnyMap) -> None:
        """The map is what its files say, too."""
        from invariants import check

        super().check(d)
        check(d, self.files)


@contextmanager
def opened(kind: type[Store], clock: Clock) -> Iterator[Store]:
    """A store of a kind, in a directory of its own that goes with it.

    Nothing is synced, so the directory may be in memory, where files cost less.
    """
    with directory_in_memory() as folder:
        store = kind(folder, clock)
        yield store
        store.close()


each_life = pytest.mark.parametrize(
    ("store", "happen"),
    [
        pytest.param(kind, name, id=f"{kind.kind}-{name}", marks=marks)
        for kind, marks in ((MemoryStore, ()), (DiskStore, (pytest.mark.disk,)))
        for name in kind.LIFE
    ],
    indirect=True,
)
"""Runs a test for each kind of local store and each thing that may happen to a map on it."""
