"""The engine on a directory of JSON lines. ARCHITECTURE.md says how it works."""

from __future__ import annotations

import errno
from typing import cast

from kvmap.disk.engine import DiskEngine
from kvmap.disk.fs import FileSystem
from kvmap.disk.manifest import check_shards
from kvmap.disk.opening import open_home
from kvmap.disk.repair import repair
from kvmap.disk.snapshot import Snapshot
from kvmap.disk.tuning import Tuning
from kvmap.disk.verify import verify
from kvmap.engine import Engine
from kvmap.settings import Change, keep

__all__ = ["FileSystem", "Tuning", "open_engine", "open_snapshot", "repair", "verify"]

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def open_engine(
    path: str,
    flag: str,
    *,
    timeout: float = 0,
    sync: bool = False,
    shards: int | None = None,
    mode: int = 0o700,
    change: Change = keep,
    fs: FileSystem | None = None,
    tuning: Tuning | None = None,
) -> Engine:
    """Own a store in a directory. `change` makes its settings from those that it keeps.

    With flag "r", a directory that can't be written to is read as a snapshot.
    """
    if shards is not None:
        check_shards(shards)
    fs, tuning = fs or FileSystem(), tuning or Tuning()
    try:
        home = open_home(path, flag, fs, timeout=timeout, shards=shards, mode=mode, change=change)
    except OSError as error:
        if flag != "r" or error.errno not in _NOT_WRITABLE:
            raise
        return open_snapshot(path, fs=fs, tuning=tuning, change=change)
    try:
        return DiskEngine(home, fs, tuning, sync=sync)
    except BaseException:
        home.close(clean=False)
        raise


def open_snapshot(
    path: str,
    *,
    change: Change = keep,
    fs: FileSystem | None = None,
    tuning: Tuning | None = None,
) -> Engine:
    """Read a store as it is now, without owning it."""
    return cast(Engine, Snapshot(path, fs or FileSystem(), tuning or Tuning(), change))
