"""Stores made to do harm: every one is refused or read as it stands, and nothing else is touched."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from kvmap.record import sealed

import kvmap

REFUSED = (kvmap.CorruptStoreError, kvmap.NotAStoreError)


@pytest.fixture
def store(path: Path) -> Path:
    """A closed store of one shard."""
    with kvmap.open(path, shards=1) as d:
        d.update({"ada": 1, "bob": [2]})
    return path


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


def unmanifested(store: Path, line: bytes) -> None:
    """Leave one line in the store, which seems to have been killed."""
    manifest = orjson.loads((store / "kvmap.json").read_bytes())
    del manifest["crc"], manifest["closed"]
    (store / "kvmap.json").write_bytes(sealed(orjson.dumps(manifest)[:-1]))
    (store / "shards" / "00.jsonl").write_bytes(line)


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


@pytest.mark.parametrize(
    "change",
    [
        {"shards": 1_000_000},
        {"shards": 2**20},
        {"shards": -1},
        {"shards": 1.0},
        {"shards": "1"},
        {"shards": [1]},
        {"shards": 2},
        {"ttl": "soon"},
        {"ttl": -1},
        {"ttl": {}},
        {"limits": None},
        {"limits": {"key_chars": "9"}},
        {"limits": {"other": 1}},
        {"seq": -1},
        {"seq": 2**63},
        {"seq": "1"},
        {"closed": 1},
        {"closed": {"0": [1, 2, True]}},
        {"closed": [[2**60, 1, True]]},
        {"closed": [["../x", 1, True]]},
        {"closed": [[1]]},
        {"closed": [17]},
        {"closed": None, "least": [[1, 2**70, False]]},
        {"emptying": 1},
        {"index": ["x"]},
    ],
    ids=str,
)
def test_a_manifest_that_lies(store: Path, change: dict[str, Any]) -> None:
    file = store / "kvmap.json"
    manifest = orjson.loads(file.read_bytes())
    del manifest["crc"]
    try:
        file.write_bytes(sealed(orjson.dumps(manifest | change)[:-1]))
    except TypeError:  # more than 64 bits
        text = orjson.dumps(manifest | {"least": [[1, 1.5e300, False]], "closed": None})
        file.write_bytes(sealed(text[:-1]))
    assert_refused(store)
    kvmap.repair(store)
    with kvmap.open(store) as d:
        assert dict(d) == {"ada": 1, "bob": [2]}


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


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("closed", [True, False])
def test_a_record_with_a_valid_checksum(store: Path, line: str, closed: bool) -> None:
    text = sealed(LINES[line]())
    if closed:
        file = store / "kvmap.json"
        manifest = orjson.loads(file.read_bytes())
        del manifest["crc"]
        manifest["closed"] = [[len(text), kvmap.record.crc32(text), True]]  # type: ignore[attr-defined]
        file.write_bytes(sealed(orjson.dumps(manifest)[:-1]))
        (store / "shards" / "00.jsonl").write_bytes(text)
    else:
        unmanifested(store, text)
    assert_refused(store)
    kvmap.repair(store)
    with kvmap.open(store) as d:
        assert not dict(d)


def test_a_key_written_twice_in_two_types(store: Path) -> None:
    unmanifested(
        store,
        sealed(b'{"key":1,"seq":1,"value":"int"') + sealed(b'{"key":true,"seq":2,"value":"bool"'),
    )
    with kvmap.open(store) as d:
        assert dict(d) == {1: "bool"}


@pytest.mark.parametrize("text", [b"1x", b"1,2", b"[", b"", b"NaN", b'"\xff"'])
@pytest.mark.parametrize("place", [0, 1, 4, 9])
def test_an_iteration_stops_at_what_is_not_json(store: Path, text: bytes, place: int) -> None:
    lines = [b'{"key":%d,"seq":%d,"value":%d' % (n, n + 1, n) for n in range(10)]
    lines[place] = b'{"key":%d,"seq":%d,"value":%b' % (place, place + 1, text)
    unmanifested(store, b"".join(map(sealed, lines)))
    with kvmap.open(store, "r") as d:
        for view in (d.items(), d.values()):
            found = []
            with pytest.raises(kvmap.CorruptStoreError):
                for each in view:
                    found.append(each)  # noqa: PERF402 - not all will come
            assert len(found) == place
