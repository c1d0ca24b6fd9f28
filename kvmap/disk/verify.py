"""`verify` reads a whole store and says what is damaged; it changes nothing and needs no lock."""

from __future__ import annotations

import os
from typing import Final

from kvmap.disk.folder import Folder
from kvmap.disk.fs import FileSystem
from kvmap.disk.manifest import NAME
from kvmap.disk.opening import Home
from kvmap.disk.ownership import NoOwner
from kvmap.disk.recognize import open_store
from kvmap.disk.report import Damage, Report, ShardReport
from kvmap.disk.survey import Survey
from kvmap.disk.view import stop_at_one_moment
from kvmap.engine import Progress
from kvmap.errors import CorruptStoreError, HeldError
from kvmap.urls import whole_path

__all__ = ["Damage", "Report", "ShardReport", "verify"]

_TRIES: Final = 20


def verify(
    path: str | os.PathLike[str], progress: Progress | None = None, *, fs: FileSystem | None = None
) -> Report:
    """Read a whole store; return what is in it and what is damaged.

    Nothing is changed and no lock is taken, so a read-only directory serves, and a store that a
    process has open: of that one, everything up to one moment is read. What `verify` calls whole can
    be read whole. A torn record after a crash is no damage, nor is a hint file that is stale: of
    other shards, or not what the shards say.

    O(bytes of the store), and memory for the keys of one shard, or of all where there is a hint file.
    `progress` is called as progress(done_bytes, total_bytes).

    Raises ValueError for a URL, FileNotFoundError where there is nothing, NotAStoreError for what is
    no store or was written by a newer kvmap, HeldError where the owner changes the files too fast,
    and OSError.

    >>> import kvmap
    >>> with kvmap.open() as d:
    ...     d["ada"] = 1
    ...     report = kvmap.verify(d.path)
    >>> report.ok, report.closed, sum(shard.records for shard in report.shards)
    (True, False, 1)
    """
    name = whole_path(path)
    fs = fs or FileSystem()
    for _ in range(_TRIES):
        folder = open_store(name, fs)
        try:
            before = _manifest(folder)
            try:
                report = _read(folder, progress)
            except FileNotFoundError:
                continue  # its owner has just removed a file
            except CorruptStoreError:
                if before == _manifest(folder):
                    raise
                continue
            # What was read before the owner changed the files may not fit them.
            if report.ok or before == _manifest(folder):
                return report
        finally:
            folder.close()
    raise HeldError(f"{name}: its owner changes the files faster than they can be read; try again")


def _manifest(folder: Folder) -> bytes | None:
    try:
        return None if folder.size(NAME) is None else folder.read(NAME)
    except (OSError, CorruptStoreError):
        return None


def _read(folder: Folder, progress: Progress | None) -> Report:
    survey = Survey(folder, progress)
    try:
        if survey.shards is not None and survey.shards_folder is not None:
            if survey.fits and survey.manifest_state == "whole" and survey.manifest.in_use:
                home = Home(
                    folder, survey.shards_folder, NoOwner(), survey.manifest, read_only=True
                )
                stop_at_one_moment(home, survey.shards)
                for shard in survey.shards.all:
                    shard.open()
            survey.stop_before_batch()
        return survey.read()
    finally:
        survey.close()
