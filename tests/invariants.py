"""What must be true of an open map after every step."""

from typing import Any

import kvmap
from kvmap.keys import bucket
from kvmap.record import Record, deadline, unpack_order, unpack_shard, walk


def check(d: kvmap.KVMap[Any]) -> None:
    """Assert every invariant of an open map, outside a transaction, against its files' bytes.

    O(bytes of the loaded shards).
    """
    assert d._overlay is None
    assert d._index is d._base
    assert d._target is (None if d._store.read_only else d._base)
    assert not d._store.journal.end
    _check_shards(d)
    _check_order(d)
    _check_deadlines(d)


def _check_shards(d: kvmap.KVMap[Any]) -> None:
    indexed: dict[int, dict[Any, bytes]] = {}
    for key, entry in d._base.items():
        assert bucket(key, d._mask) == unpack_shard(entry)[0]
        indexed.setdefault(unpack_shard(entry)[0], {})[key] = entry
    for shard in d._shards:
        entries = indexed.pop(shard.number, {})
        if not shard.loaded:
            assert not entries
            continue
        mapped = shard.mapped()
        data = b"" if mapped is None else mapped[:]
        assert len(data) >= shard.end
        assert not data[shard.end :].strip(b"\0"), "unused space is zero"
        assert shard.live == sum(unpack_order(entry)[1] for entry in entries.values())
        assert 0 <= shard.live <= shard.end
        assert shard.synced <= shard.end
        on_disk = _latest(data[: shard.end], shard.number)
        for key, (record, entry) in on_disk.items():
            if record.value is None:
                assert key not in entries, "a deleted key stays deleted"
            elif key in entries or record.expires > d._now():
                assert entries[key] == entry
        assert entries.keys() <= on_disk.keys()
    assert not indexed


def _latest(data: bytes, shard: int) -> dict[Any, tuple[Record, bytes]]:
    """The latest record of each key, parsed afresh, and the entry that should be in the index."""
    found: dict[Any, tuple[Record, bytes]] = {}
    last = 0
    for begin, end, record in walk(data):
        assert isinstance(record, Record), record
        assert end - begin == record.size
        assert record.seq > last, "the numbers of writes rise"
        last = record.seq
        found[record.key] = record, record.entry(shard, begin)
    return found


def _check_order(d: kvmap.KVMap[Any]) -> None:
    if d._complete is not None:
        assert d._complete is d._base
        assert all(shard.loaded for shard in d._shards)
    if d._whole is not None:
        assert d._whole is d._complete
        places = [unpack_order(entry)[0] for entry in d._base.values()]
        assert places == sorted(set(places))
        assert not places or places[-1] <= d._seq


def _check_deadlines(d: kvmap.KVMap[Any]) -> None:
    heap = d._heap
    assert all(heap[(i - 1) // 2] <= heap[i] for i in range(1, len(heap)))
    known = {(moment, key) for moment, _, key in heap}
    for key, entry in d._base.items():
        assert deadline(entry) == float("inf") or (deadline(entry), key) in known
