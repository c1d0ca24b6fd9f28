"""A torn tail: whatever a kill leaves of the last record, what is whole before it is kept."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import killed
from invariants import check

import kvmap
from kvmap.record import unpack_order

KEPT = {"ada": {"name": "Ada"}, "bob": [1, "\n", '","seq":1']}
LAST = {"last": {"é": ["x" * 20, None]}}


@pytest.fixture
def shard(path: Path, tmp_path: Path) -> Iterator[Path]:
    """The only shard of a store that was killed."""
    with kvmap.open(path, shards=1) as d:
        d.update(KEPT)
        d.update(LAST)
        yield killed(d, tmp_path / "killed") / "shards" / "00.jsonl"


def last_record(shard: Path) -> tuple[bytes, int, int]:
    """The shard's bytes, and where its last record begins and ends."""
    data = shard.read_bytes()
    end = len(data.rstrip(b"\0"))
    return data, data.rindex(b"\n", 0, end - 1) + 1, end


def assert_recovers(shard: Path, torn: bytes, expected: dict[str, object]) -> None:
    """With these bytes in a shard, all of `expected` is there, and the store goes on working."""
    store = shutil.copytree(shard.parent.parent, shard.parent.parent.with_name("torn"))
    (store / "shards" / shard.name).write_bytes(torn)
    with kvmap.open(store, "r") as d:
        assert dict(d) == expected
    with kvmap.open(store) as d:
        assert list(d.items()) == list(expected.items())
        check(d)
        d["new"] = 1
        check(d)
    with kvmap.open(store) as d:
        assert dict(d) == {**expected, "new": 1}
        check(d)
    shutil.rmtree(store)


def test_cut_at_every_byte_of_the_last_record(shard: Path) -> None:
    data, begin, end = last_record(shard)
    assert end - begin > 60
    for cut in range(begin, end):
        assert_recovers(shard, data[:cut], KEPT)
    assert_recovers(shard, data[:end], {**KEPT, **LAST})


def test_zeros_from_every_byte_of_the_last_record(shard: Path) -> None:
    data, begin, end = last_record(shard)
    for cut in range(begin, end):
        assert_recovers(shard, data[:cut] + bytes(len(data) - cut), KEPT)
    assert_recovers(shard, data, {**KEPT, **LAST})


@pytest.mark.parametrize("zeros", [False, True])
def test_a_torn_overwrite_or_delete_leaves_what_was_there(
    path: Path, tmp_path: Path, zeros: bool
) -> None:
    with kvmap.open(path, shards=1) as d:
        d.update(KEPT)
        d["ada"] = "overwritten"
        overwritten = killed(d, tmp_path / "overwritten") / "shards" / "00.jsonl"
        del d["ada"]
        deleted = killed(d, tmp_path / "deleted") / "shards" / "00.jsonl"
    for shard, before in [(overwritten, KEPT), (deleted, {**KEPT, "ada": "overwritten"})]:
        data, begin, end = last_record(shard)
        for cut in range(begin, end):
            assert_recovers(shard, data[:cut] + bytes(len(data) - cut if zeros else 0), before)


def test_a_torn_update_keeps_its_whole_records(path: Path, tmp_path: Path) -> None:
    # Only a transaction promises all or none after a kill.
    with kvmap.open(path, shards=1) as d:
        d.update({str(number): "x" * number for number in range(10)})
        sizes = [unpack_order(entry)[1] for entry in d._base.values()]
        shard = killed(d, tmp_path / "killed") / "shards" / "00.jsonl"
    data = shard.read_bytes()
    for cut in range(0, sum(sizes), 7):
        whole = sum(sum(sizes[: n + 1]) <= cut for n in range(10))
        assert_recovers(shard, data[:cut], {str(n): "x" * n for n in range(whole)})


def test_a_torn_tail_in_one_of_many_shards(path: Path, tmp_path: Path) -> None:
    with kvmap.open(path, shards=8) as d:
        d.update(dict.fromkeys(map(str, range(50)), "x"))
        d["torn"] = "lost"
        number = next(shard for shard in d._shards if b"lost" in shard.read(0)).path
        copy = killed(d, tmp_path / "killed")
    shard = copy / "shards" / Path(number).name
    data, begin, end = last_record(shard)
    shard.write_bytes(data[: (begin + end) // 2])
    with kvmap.open(copy) as d:
        d["new"] = 1  # before the torn shard is read
        assert list(d) == [*map(str, range(50)), "new"]
        check(d)


def test_every_cut_of_a_journal_is_all_or_nothing(path: Path, tmp_path: Path) -> None:
    before = {"a": 1, "b": 1, "c": 1}
    after = {"a": 2, "c": 1, "d": 2}
    with kvmap.open(path, shards=2) as d:
        d.update(before)
        start = killed(d, tmp_path / "start")
        with d.transaction():
            d["a"] = 2
            del d["b"]
            d["d"] = 2
            unsealed = (path / "journal.jsonl").read_bytes().rstrip(b"\0")
            d._store.seal_journal(sync=False)
            sealed = (path / "journal.jsonl").read_bytes()
            d._store.journal.end = len(unsealed)
    length = len(sealed.rstrip(b"\0"))
    assert length > len(unsealed)
    for cut in range(length + 1):
        for data in (sealed[:cut], sealed[:cut] + bytes(len(sealed) - cut)):
            copy = shutil.copytree(start, tmp_path / "copy")
            (copy / "journal.jsonl").write_bytes(data)
            expected = after if cut == length else before
            with kvmap.open(copy, "r") as d:
                assert dict(d) == expected
            with kvmap.open(copy) as d:
                assert list(d.items()) == list(expected.items())
                check(d)
            assert not (copy / "journal.jsonl").exists()
            shutil.rmtree(copy)
