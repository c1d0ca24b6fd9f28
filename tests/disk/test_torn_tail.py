"""A torn tail: whatever a crash leaves of the last record, what is whole before it is kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from invariants import check
from on_disk import open_on, snapshot_on
from simulated import SECTOR, Disk

import kvmap
from kvmap import disk as disk_engine
from kvmap.disk.records import sealed

KEPT: dict[str, Any] = {"ada": {"name": "Ada"}, "bob": [1, "\n", '","seq":1', ',"crc":"00000000"}']}
LAST: dict[str, Any] = {"last": {"é": ["x" * 20, None]}}
SHARD = "/store/shards/00.jsonl"


def killed(*writes: dict[str, Any]) -> Disk:
    """A disk with a store of one shard, whose owner was killed after these."""
    disk = Disk()
    with open_on(disk, shards=1) as d:
        d["first"] = 0
        d.close()
    with open_on(disk) as d:
        for write in writes:
            for key, value in write.items():
                d[key] = value
        return disk.copy()


def last_record(disk: Disk) -> tuple[bytes, int]:
    """A shard's bytes, and where its last record begins."""
    data = bytes(disk.file(SHARD).data)
    return data, data.rindex(b"\n", 0, len(data) - 1) + 1


def with_bytes(disk: Disk, data: bytes, path: str = SHARD) -> Disk:
    copy = disk.copy()
    copy.put(path, data)
    return copy


def assert_recovers(disk: Disk, expected: dict[str, object]) -> None:
    """All of `expected` is there, and the store goes on working."""
    with snapshot_on(disk) as then:
        assert dict(then) == expected
    with open_on(disk, "/store", "r") as d:
        assert dict(d) == expected
    assert disk_engine.verify("/store", fs=disk).ok
    with open_on(disk) as d:
        assert list(d.items()) == list(expected.items())
        check(d, disk)
        d["new"] = 1
        check(d, disk)
    with open_on(disk) as d:
        assert dict(d) == {**expected, "new": 1}
        check(d, disk)


def ends(begin: int, end: int) -> Iterable[int]:
    """Where to cut a record off: near its ends at every byte."""
    return [*range(begin, begin + 30), *range(begin + 30, end - 24, 7), *range(end - 24, end)]


def test_cut_at_every_byte_of_the_last_record() -> None:
    disk = killed(KEPT, LAST)
    data, begin = last_record(disk)
    assert len(data) - begin > 60
    for cut in range(begin, len(data)):
        assert_recovers(with_bytes(disk, data[:cut]), {"first": 0, **KEPT})
    assert_recovers(disk, {"first": 0, **KEPT, **LAST})


@pytest.mark.parametrize("until", ["the end of a sector", "far behind"])
def test_zeros_from_every_byte_of_the_last_record(until: str) -> None:
    disk = killed(KEPT, LAST)
    data, begin = last_record(disk)
    size = -len(data) % SECTOR if until == "the end of a sector" else 5000
    for cut in ends(begin, len(data)):
        torn = data[:cut] + bytes(len(data) - cut + size)
        assert_recovers(with_bytes(disk, torn), {"first": 0, **KEPT})
    assert_recovers(with_bytes(disk, data + bytes(size)), {"first": 0, **KEPT, **LAST})


@pytest.mark.parametrize("flip", [1, 0x10, 0x80])
def test_a_flipped_bit_in_the_last_record_is_no_torn_tail(flip: int) -> None:
    """It was whole once: to drop it would be to lose an acknowledged write without a word."""
    disk = killed(KEPT, LAST)
    data, begin = last_record(disk)
    for at in ends(begin, len(data)):
        wrong = with_bytes(disk, data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
        with pytest.raises(kvmap.CorruptStoreError) as caught, open_on(wrong) as d:
            dict(d)
        assert caught.value.file == SHARD
        assert begin <= caught.value.offset <= at
        assert not disk_engine.verify("/store", fs=wrong).ok
        disk_engine.repair("/store", fs=wrong)
        with open_on(wrong) as d:
            found = dict(d)
            assert {**found, **LAST} == {"first": 0, **KEPT, **LAST}
            check(d, wrong)


def test_a_flipped_bit_before_the_last_record_is_no_torn_tail() -> None:
    disk = killed(KEPT, LAST)
    data, _ = last_record(disk)
    for at in range(0, len(data), 3):
        wrong = with_bytes(disk, data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(kvmap.CorruptStoreError), open_on(wrong) as d:
            dict(d)


@pytest.mark.parametrize("zeros", [False, True])
def test_a_torn_overwrite_or_delete_leaves_what_was_there(zeros: bool) -> None:
    disk = Disk()
    with open_on(disk, shards=1) as d:
        d.update(KEPT)
        d["ada"] = "overwritten"
        overwritten = disk.copy()
        del d["ada"]
        deleted = disk.copy()
    for each, before in [(overwritten, KEPT), (deleted, {**KEPT, "ada": "overwritten"})]:
        data, begin = last_record(each)
        for cut in ends(begin, len(data)):
            torn = data[:cut] + bytes((-cut % SECTOR) if zeros else 0)
            assert_recovers(with_bytes(each, torn), before)


def test_a_torn_tail_in_one_of_many_shards() -> None:
    disk = Disk()
    with open_on(disk, shards=8) as d:
        d.update(dict.fromkeys(map(str, range(50)), "x"))
        d["torn"] = "lost"
        left = disk.copy()
    (name,) = [each for each, data in left.state().items() if b'"torn"' in data]
    data = left.state()[name]
    left.put(name, data[:-20])
    with open_on(left) as d:
        d["new"] = 1  # before the torn shard is read
        assert list(d) == [*map(str, range(50)), "new"]
        check(d, left)


def test_a_batch_that_is_cut_anywhere_is_all_or_nothing() -> None:
    """The journal, then each shard's part: a kill leaves a first part of these writes."""
    disk = Disk()
    before = {"a": 1, "b": 1, "c": 1}
    states: list[Disk] = []
    with open_on(disk, shards=2) as d:
        d.update(before)
        disk.happened = lambda call: states.append(disk.copy())
        with d.transaction():
            d["a"] = 2
            del d["b"]
            d["d"] = 2
        disk.happened = lambda call: None
    after = {"a": 2, "c": 1, "d": 2}
    seen = []
    for state in states:
        with snapshot_on(state) as then:
            seen.append(dict(then))
        assert_recovers(state, seen[-1])
    assert seen[0] == before
    assert seen[-1] == after
    assert all(each in (before, after) for each in seen)
    assert seen == sorted(seen, key=lambda each: each == after), "it is done once"


def test_every_cut_of_a_journal_is_all_or_nothing() -> None:
    disk = Disk()
    before = {"a": 1, "b": 1}
    with open_on(disk, shards=1) as d:
        d.update(before)
        journals: list[tuple[bytes, Disk]] = []

        def note(call: str) -> None:
            journal = disk.state().get("/store/journal.jsonl", b"")
            if journal.endswith(b"\n"):
                journals.append((journal, disk.copy()))

        disk.happened = note
        d.update(a=2, c=2)
        disk.happened = lambda call: None
    journal, written = journals[-1]
    assert b'"c"' in written.state()[SHARD], "the batch is complete, but for the journal's removal"
    for cut in range(len(journal) + 1):
        for tail in (b"", bytes(-cut % SECTOR)):
            state = with_bytes(written, journal[:cut] + tail, "/store/journal.jsonl")
            whole = journal[:cut] == journal and not tail
            # A journal is complete before the first byte of its batch is written, so one that is
            # cut is explained by a power cut alone, which may leave all of the batch.
            expected = [before] if whole else [before, {"a": 2, "b": 1, "c": 2}]
            with open_on(state) as d:
                assert dict(d) in expected
                check(d, state)
            assert "/store/journal.jsonl" not in state.state()


@pytest.mark.parametrize("cut", [1, 5000])
def test_a_batch_whose_first_record_is_long_and_cut_is_dropped(cut: int) -> None:
    disk = Disk()
    with open_on(disk, shards=1) as d:
        d["a"] = 1
        states: list[Disk] = []
        disk.happened = lambda call: states.append(disk.copy())
        d.update(b="x" * 9000, c=1)
        disk.happened = lambda call: None
    state = next(each for each in states if b'"c"' in each.state()[SHARD])
    data = state.state()[SHARD]
    left = with_bytes(state, data[: data.index(b'{"key":"c"') - cut])
    assert "/store/journal.jsonl" in left.state()
    assert_recovers(left, {"a": 1})


def test_a_journal_that_a_power_cut_brings_back_takes_no_later_record() -> None:
    """It names the numbers of its batch, and another record stands where that began."""
    disk = killed(KEPT, LAST)
    _, begin = last_record(disk)
    for first, whole in ((4, False), (5, True)):
        journal = sealed(b'{"first":%d,"last":%d,"ends":[[0,%d]]' % (first, first + 1, begin))
        left = with_bytes(disk, journal, "/store/journal.jsonl")
        assert_recovers(left, {"first": 0, **KEPT, **(LAST if whole else {})})
