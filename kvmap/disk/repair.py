"""`repair` keeps every whole record of a damaged store, and the bytes that it takes out.

Each step leaves a store that a second repair finishes. A batch that a crash has interrupted is cut
off first, for its journal speaks of offsets. Bytes are synced in `damaged/` before they are taken
out. Records are written and synced where they belong before they go from where they were. Until the
end the manifest describes the files as they were, so nothing reads a half as a whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from kvmap.disk.engine import DiskEngine
from kvmap.disk.folder import HINT, SHARDS, Folder
from kvmap.disk.fs import FileSystem
from kvmap.disk.manifest import NAME, UNKNOWN, Manifest
from kvmap.disk.mend import Mend
from kvmap.disk.opening import Home
from kvmap.disk.ownership import Ownership
from kvmap.disk.quarantine import Quarantine, Quarantined
from kvmap.disk.recognize import open_store
from kvmap.disk.report import Report
from kvmap.disk.survey import Survey
from kvmap.disk.tuning import Tuning
from kvmap.engine import Progress
from kvmap.settings import Settings
from kvmap.urls import whole_path

__all__ = ["Quarantined", "Repaired", "repair"]


@dataclass(frozen=True)
class Repaired:
    """What `repair` did."""

    found: Report
    """The store as it was before."""
    records: int
    """Whole records that were kept, overwritten ones included; one that stood twice counts once."""
    moved: int
    """How many of them stood in another shard's file."""
    renumbered: int
    """How many of them had the sequence number, or the place in the order, of another record. They
    come last now."""
    quarantined: tuple[Quarantined, ...]
    new_manifest: bool
    """Whether the manifest was made anew; limits, default ttl and eviction are then gone, and the
    codec is the one that `repair` was given."""


def repair(
    path: str | os.PathLike[str],
    progress: Progress | None = None,
    *,
    codec: str = "json",
    fs: FileSystem | None = None,
) -> Repaired:
    """Keep every whole record of a damaged store, and the bytes taken out in its `damaged/` folder.

    What it leaves can be opened, read and written. A store without damage is left alone, but for
    what a crash has left: it is closed as the next owner would close it; and a hint file that is
    stale is removed. Where damage took a key's
    latest record, an older one or a deleted one may show again. Killed or interrupted, it can be run
    again and loses nothing.

    `codec` is the store's, where the manifest is lost, which holds it; without it, values that the
    codec "extended" wrote come back as JSON objects. Where it was forgotten, remove `kvmap.json` and
    repair the store again.

    O(bytes of the store), and memory as for `verify` and for what stands in wrong places. Each damaged
    shard is written anew, up to three times. `progress` is called as
    progress(done_bytes, total_bytes).

    Raises ValueError for a URL, StoreLockedError where the store is open, FileNotFoundError where
    there is nothing, NotAStoreError for what is no store or was written by a newer kvmap,
    CorruptStoreError for a link in place of `lock` or `damaged`, LimitError where a shard would grow
    past 4 GiB, and OSError.

    >>> import kvmap
    >>> with kvmap.open() as d:
    ...     d["ada"] = 1
    >>> _ = (d.path / "kvmap.json").write_text("oops")
    >>> done = kvmap.repair(d.path)
    >>> done.new_manifest, done.records, done.quarantined[0].kept
    (True, 1, 'damaged/kvmap.json.at-0')
    """
    name = whole_path(path)
    fs = fs or FileSystem()
    Settings(codec=codec)  # for its refusal of another name
    folder = open_store(name, fs)
    try:
        ownership = Ownership.acquire(folder, 0)
        try:
            return _repair(folder, ownership, progress, codec)
        except BaseException:
            ownership.release()
            raise
    finally:
        folder.close()


def _repair(
    folder: Folder, ownership: Ownership, progress: Progress | None, codec: str
) -> Repaired:
    quarantine = Quarantine(folder)
    mends: list[Mend] = []
    survey = Survey(folder, progress, passes=2, codec=codec)
    try:
        survey.stop_before_batch()
        report = survey.read()
        if not report.ok:
            mends.append(Mend(survey, ownership, quarantine))
            mends[0].run()
    finally:
        survey.close()
    if mends and not survey.manifest.emptying:
        mends.append(_untie(folder, ownership, quarantine, survey.manifest))
    known = survey.manifest.shards
    if report.ok and report.index == "stale":
        ownership.check()
        folder.remove(HINT)
    if report.ok and report.closed and all(each.exact for each in known):
        ownership.release(clean=True)
    else:
        _close_well(folder, ownership, survey, damaged=not report.ok)
    survey.finish()
    return Repaired(
        report,
        survey.kept - quarantine.records - sum([each.repeated for each in mends]),
        sum([each.moved for each in mends]),
        sum([each.renumbered for each in mends]),
        tuple(quarantine.all),
        new_manifest=report.manifest != "whole",
    )


def _untie(
    folder: Folder, ownership: Ownership, quarantine: Quarantine, manifest: Manifest
) -> Mend:
    """Read the mended files once more, for each record's place in the order may be another's."""
    unknown = manifest.changed(shards=(UNKNOWN,) * len(manifest.shards))
    survey = Survey(folder, None, manifest=unknown)
    try:
        survey.read()
        mend = Mend(survey, ownership, quarantine)
        if survey.tied:
            mend.untie()
        return mend
    finally:
        survey.close()


def _close_well(folder: Folder, ownership: Ownership, survey: Survey, *, damaged: bool) -> None:
    """Open the store, whose records are whole, as its next owner does; sync and close it."""
    fs, manifest = folder.fs, survey.manifest
    home = Home(
        Folder.open(fs, folder.path),
        folder.subfolder(SHARDS),
        ownership,
        manifest,
        read_only=False,
    )
    try:
        home.folder.unsynced = home.shards.unsynced = True  # what a killed process left
        if manifest.emptying:
            home.finish_emptying()
        shards = home.manifest.shards
        if damaged:
            shards = (UNKNOWN,) * len(shards)
            if survey.manifest_state != "whole":
                ownership.check()
                home.manifest = home.manifest.changed(in_use=True, shards=shards)
                home.folder.replace(NAME, home.manifest.to_bytes())
        home.change_manifest(in_use=True, shards=shards)
        engine = DiskEngine(home, fs, Tuning(), sync=False)
        engine.load()
        engine.close()
    except BaseException:
        home.close(clean=False)
        raise
