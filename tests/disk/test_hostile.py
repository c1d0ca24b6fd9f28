"""Stores made to do harm: every one is refused or read as it stands, and nothing else is touched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from on_disk import open_on, snapshot_on
from simulated import Disk

import kvmap
from kvmap import disk as disk_engine
from kvmap.disk.records import sealed

REFUSED = (kvmap.CorruptStoreError, kvmap.NotAStoreError)
MANIFEST, SHARD = "/store/kvmap.json", "/store/shards/00.jsonl"


@pytest.fixture
def store(path: Path) -> Path:
    """A closed store of one shard."""
    with kvmap.open(path, shards=1) as d:
        d.update({"ada": 1, "bob": [2]})
    return path


@pytest.fixture
def disk() -> Disk:
    """The same, on a simulated disk."""
    disk = Disk()
    with open_on(disk, shards=1) as d:
        d.update({"ada": 1, "bob": [2]})
    return disk


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside that is nobody's business."""
    found = tmp_path / "secret"
    found.write_bytes(b'{"key":"ada","seq":1,"value":"stolen","crc":"00000000"}\n')
    return found


def use(path: Path) -> None:
    """Do with a store what programs do."""
    for flag in ("r", "c"):
        with kvmap.open(path, flag) as d:
            d.get("ada")
            dict(d)
            if flag == "c":
                d["new"] = 1


def assert_refused(path: Path) -> None:
    with pytest.raises(REFUSED) as caught:
        use(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["kvmap.json", "shards/00.jsonl", "journal.jsonl", "lock"])
@pytest.mark.parametrize("target", ["link", "dangling link", "pipe", "folder"])
def test_what_is_no_plain_file(store: Path, secret: Path, name: str, target: str) -> None:
    file = store / name
    file.unlink(missing_ok=True)
    match target:
        case "link":
            file.symlink_to(secret)
        case "dangling link":
            file.symlink_to(secret.with_name("made"))
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
    before = secret.read_bytes()
    assert_refused(store)
    if name != "lock":
        assert not kvmap.verify(store).ok
        kvmap.repair(store)
        use(store)
    assert secret.read_bytes() == before
    assert not secret.with_name("made").exists()


@pytest.mark.parametrize("name", ["index.jsonl", "index.jsonl.new", "kvmap.json.new"])
def test_links_where_files_are_replaced(store: Path, secret: Path, name: str) -> None:
    (store / name).symlink_to(secret)
    before = secret.read_bytes()
    use(store)
    with kvmap.open(store) as d:
        d.clear()
        assert not dict(d)
    assert secret.read_bytes() == before


def test_a_linked_folder_of_shards(store: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (store / "shards").rename(outside)
    (store / "shards").symlink_to(outside)
    before = (outside / "00.jsonl").read_bytes()
    assert_refused(store)
    with pytest.raises(REFUSED):
        kvmap.open(store, "n")
    kvmap.repair(store)
    assert (outside / "00.jsonl").read_bytes() == before


def lie(disk: Disk, **changes: Any) -> None:
    """Change the manifest, under a right checksum."""
    manifest = orjson.loads(disk.state()[MANIFEST])
    del manifest["crc"]
    disk.put(MANIFEST, sealed(orjson.dumps(manifest | changes)[:-1]))


def use_on(disk: Disk) -> None:
    """Do with a store what programs do."""
    with snapshot_on(disk) as d:
        dict(d)
    for flag in ("r", "c"):
        with open_on(disk, "/store", flag) as d:
            d.get("ada")
            dict(d)
            len(d)
            if flag == "c":
                d["new"] = 1


def assert_refused_on(disk: Disk) -> None:
    with pytest.raises(REFUSED) as caught:
        use_on(disk)
    assert "/store" in str(caught.value)
    assert not disk_engine.verify("/store", fs=disk).ok
    assert not disk.descriptors


@pytest.mark.parametrize(
    "change",
    [
        {"shards": [[0, True]] * 1_000},
        {"shards": [[0, True]] * 3},
        {"shards": []},
        {"shards": 1},
        {"shards": "1"},
        {"shards": {"0": [1, True]}},
        {"shards": [[2**60, True]]},
        {"shards": [["../x", True]]},
        {"shards": [[1]]},
        {"shards": [[17, True]]},
        {"shards": [[0, 1]]},
        {"shards": [[-1, False]]},
        {"shards": [[1.5e300, False]]},
        {"ttl": "soon"},
        {"ttl": -1},
        {"ttl": {}},
        {"limits": None},
        {"limits": {"key_chars": "9"}},
        {"limits": {"other": 1}},
        {"codec": "pickle"},
        {"codec": ["json"]},
        {"evict": "newest"},
        {"evict": {}},
        {"seq": -1},
        {"seq": 2**62},
        {"seq": 2**53},
        {"seq": "1"},
        {"in_use": 1},
        {"emptying": 1},
        {"format": "1"},
    ],
    ids=str,
)
def test_a_manifest_that_lies(disk: Disk, change: dict[str, Any]) -> None:
    lie(disk, **change)
    assert_refused_on(disk)
    disk_engine.repair("/store", fs=disk)
    with open_on(disk) as d:
        assert dict(d) == {"ada": 1, "bob": [2]}


def test_a_file_of_a_shard_that_the_store_does_not_have(disk: Disk) -> None:
    """Its records may be the latest ones of a key, so nothing is read past it."""
    disk.put("/store/shards/01.jsonl", disk.state()[SHARD])
    with pytest.raises(kvmap.CorruptStoreError, match=r"01\.jsonl.*the store has 1 shard"):
        open_on(disk)
    assert not disk.descriptors


def test_a_manifest_of_a_newer_format_is_left_alone(disk: Disk) -> None:
    lie(disk, format=2)
    before = disk.state()
    for use in (disk_engine.verify, disk_engine.repair):
        with pytest.raises(kvmap.NotAStoreError, match="format 2"):
            use("/store", fs=disk)
    assert {**disk.state(), "/store/lock": b""} == {**before, "/store/lock": b""}
    assert not disk.descriptors


def test_a_manifest_without_limits_on_its_depth(disk: Disk) -> None:
    disk.put(MANIFEST, b"[" * 1_000_000)
    assert_refused_on(disk)


DEEP = 100_000
LINES: dict[str, Callable[[], bytes]] = {
    "a huge seq": lambda: b'{"key":"ada","seq":9223372036854775807,"value":1',
    "a larger seq": lambda: b'{"key":"ada","seq":1' + b"0" * 5000 + b',"value":1',
    "a negative seq": lambda: b'{"key":"ada","seq":-1,"value":1',
    "a seq of zero": lambda: b'{"key":"ada","seq":0,"value":1',
    "a tombstone before all": lambda: b'{"key":"ada","seq":-1',
    "no number": lambda: b'{"key":"ada","seq":true,"value":1',
    "a float": lambda: b'{"key":"ada","seq":1.5,"value":1',
    "a seq of null": lambda: b'{"key":"ada","seq":null,"value":1',
    "first after seq": lambda: b'{"key":"ada","seq":1,"first":2,"value":1',
    "first before all": lambda: b'{"key":"ada","seq":1,"first":-1,"value":1',
    "first that is true": lambda: b'{"key":"ada","seq":1,"first":true,"value":1',
    "first of a str": lambda: b'{"key":"ada","seq":1,"first":"1","value":1',
    "expires of a str": lambda: b'{"key":"ada","seq":1,"expires":"now","value":1',
    "expires of a list": lambda: b'{"key":"ada","seq":1,"expires":[1],"value":1',
    "expires that is true": lambda: b'{"key":"ada","seq":1,"expires":true,"value":1',
    "a key that is an object": lambda: b'{"key":{"a":1},"seq":1,"value":1',
    "a deep key": lambda: b'{"key":' + b"[" * DEEP + b"]" * DEEP + b',"seq":1,"value":1',
    "a key of 250 levels": lambda: b'{"key":' + b"[" * 250 + b"]" * 250 + b',"seq":1,"value":1',
    "a deep value": lambda: b'{"key":"ada","seq":1,"value":' + b"[" * DEEP + b"]" * DEEP,
    "a value cut": lambda: b'{"key":"ada","seq":1,"value":[1,',
    "a value of no JSON": lambda: b'{"key":"ada","seq":1,"value":NaN',
    "no key": lambda: b'{"seq":1,"value":1',
    "one field more": lambda: b'{"key":"ada","seq":1,"other":1,"value":1',
    "not UTF-8": lambda: b'{"key":"\xff","seq":1,"value":1',
    "an array": lambda: b'["key","ada","seq",1,"value",1',
}


LINES |= {
    "seq twice": lambda: b'{"key":"ada","seq":1,"seq":2,"value":1',
    "a seq that begins with 0": lambda: b'{"key":"ada","seq":01,"value":1',
    "a space after the brace": lambda: b'{ "key":"ada","seq":1,"value":1',
    "a space before the value": lambda: b'{"key":"ada","seq":1,"value": 1,"x":2',
    "expires before first": lambda: b'{"key":"ada","seq":2,"expires":1.5,"first":1,"value":1',
    "expires that is infinite": lambda: b'{"key":"ada","seq":1,"expires":1e999,"value":1',
    "expires of 400 digits": lambda: (
        b'{"key":"ada","seq":1,"expires":1' + b"0" * 400 + b',"value":1'
    ),
    "expires that is cut": lambda: b'{"key":"ada","seq":1,"expires":,"value":1',
    "a key written otherwise": lambda: b'{"key":"\\u0061da","seq":1,"value":1',
    "a key of a lone surrogate": lambda: b'{"key":"\\ud800","seq":1,"value":1',
    "a key of a huge number": lambda: b'{"key":1e999,"seq":1,"value":1',
    "a key that is too large": lambda: b'{"key":1' + b"0" * 5000 + b',"seq":1,"value":1',
    "a tombstone with a place": lambda: b'{"key":"ada","seq":2,"first":1',
    "a tombstone with a deadline": lambda: b'{"key":"ada","seq":2,"expires":1.5',
    "two values": lambda: b'{"key":"ada","seq":1,"value":1,"value":2',
    "an empty value": lambda: b'{"key":"ada","seq":1,"value":',
    "a newline in the value": lambda: b'{"key":"ada","seq":1,"value":[1,\n2]',
    "a zero byte": lambda: b'{"key":"ada","seq":1,"value":"\0"',
    "a seq of 2**62": lambda: b'{"key":"ada","seq":4611686018427387904,"value":1',
    "a seq of 2**53": lambda: b'{"key":"ada","seq":9007199254740992,"value":1',
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("closed", [True, False])
def test_a_record_with_a_valid_checksum(disk: Disk, line: str, closed: bool) -> None:
    text = sealed(LINES[line]())
    lie(disk, in_use=not closed, shards=[[len(text) if closed else 0, closed]])
    disk.put(SHARD, text)
    assert_refused_on(disk)
    disk_engine.repair("/store", fs=disk)
    assert disk_engine.verify("/store", fs=disk).ok
    with open_on(disk) as d:
        assert not dict(d)
    use_on(disk)


def unmanifested(disk: Disk, text: bytes) -> None:
    """Leave these lines in the store, which seems to have been killed."""
    lie(disk, in_use=True, shards=[[0, False]])
    disk.put(SHARD, text)


@pytest.mark.parametrize("order", ["verify first", "read first"])
def test_a_record_in_another_shard_is_refused_before_and_after_len(order: str) -> None:
    disk = Disk()
    with open_on(disk, shards=2) as d:
        d.update({str(number): number for number in range(8)})
    first, second = "/store/shards/00.jsonl", "/store/shards/01.jsonl"
    data, other = disk.state()[first], disk.state()[second]
    stray = sealed(b'{"key":"stray","seq":99,"value":1')
    lie(disk, in_use=True, shards=[[0, False], [0, False]])
    for name, there in ((first, data), (second, other)):
        case = disk.copy()
        case.put(name, there + stray)
        if order == "verify first":
            ok = disk_engine.verify("/store", fs=case).ok
            with open_on(case) as d:
                outcomes = []
                for read in (lambda: d.get("stray"), lambda: len(d), lambda: d.get("stray")):
                    try:
                        outcomes.append(read())
                    except kvmap.CorruptStoreError:
                        outcomes.append("raised")
            assert ok == ("raised" not in outcomes)
            # The shard that the key belongs into is whole, and does not hold it.
            assert outcomes[0] == outcomes[2] == (1 if ok else None)
        else:
            disk_engine.repair("/store", fs=case)
            with open_on(case) as d:
                assert d["stray"] == 1
                assert len(d) == 9


def test_a_sequence_number_at_its_limit_can_be_repaired(disk: Disk) -> None:
    """2**62 made a store that could not be opened, once; the highest allowed one is read."""
    unmanifested(disk, sealed(b'{"key":"ada","seq":%d,"value":1' % (2**53 - 1)))
    with open_on(disk) as d:
        assert d["ada"] == 1
        with pytest.raises(kvmap.LimitError, match="sequence numbers"):
            d["bob"] = 1
        with pytest.raises(kvmap.LimitError, match="sequence numbers"):
            d.update(bob=1, cyd=1)
        assert dict(d) == {"ada": 1}


def test_a_key_written_twice_in_two_types(disk: Disk) -> None:
    unmanifested(
        disk,
        sealed(b'{"key":1,"seq":1,"value":"int"') + sealed(b'{"key":true,"seq":2,"value":"bool"'),
    )
    with open_on(disk) as d:
        assert dict(d) == {1: "bool"}


def test_a_line_of_many_likely_beginnings_takes_no_time(disk: Disk) -> None:
    """An undamaged record behind a damaged newline is kept whatever its value holds."""
    value = orjson.dumps('{"key":' * 200)
    first = sealed(b'{"key":"ada","seq":1,"value":1')
    second = sealed(b'{"key":"bob","seq":2,"value":' + value)
    unmanifested(disk, first[:-1] + b"\x1a" + second)
    report = disk_engine.verify("/store", fs=disk)
    assert not report.ok
    disk_engine.repair("/store", fs=disk)
    with open_on(disk) as d:
        assert dict(d) == {"ada": 1, "bob": '{"key":' * 200}


@pytest.mark.parametrize("text", [b"1x", b"1,2", b"[", b"", b"NaN", b'"\xff"'])
@pytest.mark.parametrize("place", [0, 1, 4, 9])
def test_an_iteration_stops_at_what_is_not_json(disk: Disk, text: bytes, place: int) -> None:
    lines = [b'{"key":%d,"seq":%d,"value":%d' % (n, n + 1, n) for n in range(10)]
    lines[place] = b'{"key":%d,"seq":%d,"value":%b' % (place, place + 1, text)
    unmanifested(disk, b"".join(map(sealed, lines)))
    with open_on(disk, "/store", "r") as d:
        for view in (d.items(), d.values()):
            found = []
            with pytest.raises(kvmap.CorruptStoreError):
                for each in view:
                    found.append(each)  # noqa: PERF402 - not all will come
            assert len(found) <= place, "a page is decoded at once"
