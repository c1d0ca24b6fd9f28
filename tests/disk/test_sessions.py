"""What a session finds that an earlier one has left, and what it leaves to the next one."""

from __future__ import annotations

from typing import Any

import pytest
from invariants import check, files
from on_disk import open_on
from orjson import loads
from simulated import Choice, Disk

import kvmap
from kvmap.disk.tuning import Tuning

SMALL = Tuning(slack_bytes=300, step_bytes=300, hint_bytes=100, map_slack_bytes=300)
SHARD = "shards/00.jsonl"
HINT = "/store/index.jsonl"


def inexact(disk: Disk) -> int:
    """The number of shards of which the manifest does not know the whole file."""
    return sum(not exact for _, exact in loads(disk.state()["/store/kvmap.json"])["shards"])


def half_compacted(disk: Disk) -> kvmap.KVMap[Any, Any]:
    """A map whose only shard is being compacted."""
    d = open_on(disk, shards=1, tuning=SMALL)
    d.update(dict.fromkeys(range(40), "x" * 50))
    number = 0
    while SHARD + ".new" not in files(d, disk):
        d["other"] = number = number + 1
    return d


# Sessions that read


def test_a_session_that_only_reads_leaves_the_next_one_a_hint_file() -> None:
    disk = Disk()
    with open_on(disk, shards=4, tuning=SMALL) as d:
        d.update(dict.fromkeys(range(300), "x" * 50))
    disk.put(HINT, b"")
    with open_on(disk, tuning=SMALL) as d:
        assert d[1] == "x" * 50
    assert len(disk.file(HINT).data) == 0, "not all keys were loaded"
    with open_on(disk, "/store", "r", tuning=SMALL) as d:
        assert len(d) == 300
    assert len(disk.file(HINT).data) == 0, "it was opened only to be read"
    with open_on(disk, tuning=SMALL) as d:
        assert len(d) == 300
    assert len(disk.file(HINT).data) > 300
    before = disk.state()
    with open_on(disk, tuning=SMALL) as d:
        assert len(d) == 300
    assert disk.state() == before


def test_a_session_that_only_reads_syncs_what_a_kill_has_left() -> None:
    disk = Disk()
    with open_on(disk, shards=4, tuning=SMALL) as d:
        d.update(dict.fromkeys(range(30), "x" * 50))
        d["last"] = 1
        disk = disk.copy()  # a kill
    with open_on(disk, tuning=SMALL) as d:
        assert d[1] == "x" * 50
    assert inexact(disk) == 3, "the other shards were not read"
    for _ in range(2):
        with open_on(disk, tuning=SMALL) as d:
            assert len(d) == 31
            check(d, disk)
        assert inexact(disk) == 0
        disk = disk.copy(Choice("lost"))


def test_a_session_that_only_reads_writes_nothing_where_the_lock_is_lost() -> None:
    disk = Disk()
    with open_on(disk, shards=4, tuning=SMALL) as d:
        d.update(dict.fromkeys(range(300), "x" * 50))
    disk.put(HINT, b"")
    d = open_on(disk, tuning=SMALL)
    assert len(d) == 300
    here = disk.open_directory("/store")
    disk.remove(here, "lock")
    disk.close(here)
    with pytest.raises(kvmap.StoreLockedError):
        d.close()
    assert len(disk.file(HINT).data) == 0
    assert not disk.descriptors


# What a crash has left


def test_the_next_owner_removes_what_a_killed_one_had_not_completed() -> None:
    disk = Disk()
    d = half_compacted(disk)
    expected = dict(d)
    left = disk.copy()  # a kill
    d.close()
    for name in ("kvmap.json", "index.jsonl", "journal.jsonl"):
        left.put(f"/store/{name}.new", b"half")
    left.put("/store/shards/notes.new", b"not ours")
    for flag, stays in (("r", True), ("c", False)):
        with open_on(left, "/store", flag, tuning=SMALL) as d:
            assert dict(d) == expected
        new = [name for name in left.state() if name.endswith("l.new") or "json.new" in name]
        assert len(new) == (4 if stays else 0)
    assert "/store/shards/notes.new" in left.state()


# A lock that is lost while a shard is compacted in passing


def test_a_compaction_in_passing_that_finds_the_lock_gone_ends_all_writing() -> None:
    """It was taken for want of room, and the map went on writing into the files of another owner."""
    disk = Disk()
    d = half_compacted(disk)
    here = disk.open_directory("/store")

    disk.remove(here, "lock")
    raised = 0
    for number in range(100):  # fewer than after which the lock is looked for anyway
        before = files(d, disk)
        try:
            d["other"] = number
        except kvmap.StoreLockedError:
            raised += 1
            assert files(d, disk) == before
        else:
            assert not raised, "a write after one that has found the lock gone"
    assert raised > 50
    for write in (d.clear, d.compact, lambda: d.update(a=1, b=2), d.sync, d.close):
        before = files(d, disk)
        with pytest.raises(kvmap.StoreLockedError):
            write()
        assert files(d, disk) == before
    disk.close(here)
    assert not disk.descriptors


def test_a_compaction_begins_nothing_where_the_lock_is_gone() -> None:
    """The new file's name may be that of the next owner's own."""
    disk = Disk()
    d = open_on(disk, shards=1, tuning=SMALL)
    d.update(dict.fromkeys(range(40), "x" * 50))
    here = disk.open_directory("/store")
    disk.remove(here, "lock")
    disk.put("/store/shards/00.jsonl.new", b"the next owner's")
    with pytest.raises(kvmap.StoreLockedError):
        for number in range(100):
            d["other"] = number
    with pytest.raises(kvmap.StoreLockedError):
        d.close()
    disk.close(here)
    assert disk.file("/store/shards/00.jsonl.new").data == b"the next owner's"
