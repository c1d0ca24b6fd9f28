"""Moving in: each source read as the library that wrote it left it, nothing lost unnoticed."""

import datetime
import io
import json
import math
import pickle
import shelve
import sqlite3
import time
import zlib
from collections.abc import Iterator
from dbm import dumb
from pathlib import Path
from typing import Any

import pytest
from helpers import files_of

import kvmap
from kvmap import importing
from kvmap.importing import (
    DiskCache,
    Item,
    LoadError,
    Report,
    Shelf,
    Source,
    SourceError,
    SqliteDict,
    Unreadable,
    json_source,
    load,
)


@pytest.fixture
def d(path: Path) -> Iterator[kvmap.KVMap[Any]]:
    with kvmap.open(path) as d:
        yield d


def from_bytes(text: bytes, kind: str = "auto") -> Source:
    return json_source(io.BytesIO(text), kind)


class Gone:
    """Of a class that JSON can't hold."""


# JSON and JSON Lines


def test_json_lines(d: kvmap.KVMap[Any]) -> None:
    d["ada"] = "old"
    expires = time.time() + 1000
    text = b"""\
{"key":"ada","value":{"visits":1}}

{"value":[1.5,null],"key":["t",[1,2]],"expires":%r}\r
{"key":17,"value":"x","expires":null}
{"key":"past","value":0,"expires":1.5}
""" % (expires)

    report = load(d, from_bytes(text))

    assert dict(d) == {"ada": {"visits": 1}, ("t", (1, 2)): [1.5, None], 17: "x"}
    assert d.ttl("ada") is None
    assert d.ttl(17) is None
    assert d.ttl(("t", (1, 2))) == pytest.approx(expires - time.time(), abs=5)
    assert report == Report(loaded=3, expired=1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"key":"a","value":tru}', "not JSON: .* at column 2[0-9]"),
        (b'{"key":"a","value":1', "not JSON"),
        (b'{"key":"a"}', 'not {"key"'),
        (b'{"key":"a","value":1,"ttl":3}', 'not {"key"'),
        (b'["a",1]', 'not {"key"'),
        (b'{"key":{"a":1},"value":1}', "object"),
        (b'{"key":"a","value":1,"expires":"soon"}', '"expires" must be'),
        (b'{"key":"a","value":1,"expires":true}', '"expires" must be'),
        (b'{"key":"a","value":123456789012345678901}', "64 bits"),
        (b'{"key":123456789012345678901,"value":1}', "64 bits"),
        (b'{"key":"a","value":"\xff"}', "not JSON"),
        (b'{"key":"a","value":' + b"[" * 5000 + b"]" * 5000 + b"}", "not JSON|deep"),
    ],
)
def test_a_bad_line_is_named_by_its_number(d: kvmap.KVMap[Any], line: bytes, reason: str) -> None:
    text = b'{"key":"before","value":1}\n\n' + line + b'\n{"key":"after","value":2}\n'

    with pytest.raises(LoadError, match=f"^line 3.*{reason}"):
        load(d, from_bytes(text, "jsonl"))
    assert dict(d) == {"before": 1}  # what stood before it is there, and it is not half there

    report = load(d, from_bytes(text, "jsonl"), skip=True)
    assert dict(d) == {"before": 1, "after": 2}
    assert report.loaded == 2
    assert [each.entry.startswith("line 3") for each in report.skipped] == [True]


def test_a_bad_line_after_many_batches(
    d: kvmap.KVMap[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 10)
    lines = [b'{"key":%d,"value":%d}\n' % (n, n * n) for n in range(95)]

    with pytest.raises(LoadError, match=r"^line 96:"):
        load(d, from_bytes(b"".join([*lines, b"oops\n", b'{"key":-1,"value":0}\n'])))

    assert dict(d) == {n: n * n for n in range(95)}


def test_one_json_object(d: kvmap.KVMap[Any]) -> None:
    found = {"ada": {"visits": 1}, "bob": [1, 2.5, None, True], "é\n": ""}

    for text in (json.dumps(found), json.dumps(found, indent=2), "\ufeff" + json.dumps(found)):
        d.clear()
        assert load(d, from_bytes(text.encode())) == Report(loaded=3)
        assert list(d.items()) == list(found.items())


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"", 0),
        (b"\n \n", 0),
        (b"{}", 0),
        (b'{"key":"a","value":1}', 1),  # one line as dump writes it
        (b'{"key":"a","value":1,"more":2}', 3),  # an object that happens to have these keys
        (b'{"key":\n"a","value":1,"expires":2}', 3),  # would be no line
        (b'\n\n{"key":"a","value":1}\n{"key":"b","value":1}', 2),
    ],
)
def test_object_or_lines_as_it_looks(d: kvmap.KVMap[Any], text: bytes, count: int) -> None:
    if text.startswith(b'{"key":\n'):
        # It begins as a line does, so it is taken for a broken one, unless its kind is named.
        with pytest.raises(LoadError, match=r"^line 1:"):
            load(d, from_bytes(text))
        assert load(d, from_bytes(text, "json")).loaded == count
    else:
        assert load(d, from_bytes(text)).loaded == count


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[1, 2]", "neither one JSON object nor JSON Lines"),
        (b"17", "neither"),
        (b'{\n"a": 1,\n"b": }', "line 3, column"),
        (b"<html>", "not JSON"),
        (b"\x1f\x8b\x08", "not JSON"),
    ],
)
def test_what_is_no_json_object(text: bytes, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        from_bytes(text)


def test_integers_are_not_rounded(d: kvmap.KVMap[Any]) -> None:
    largest, least = 2**64 - 1, -(2**63)
    load(d, from_bytes(b'{"a": %d, "b": %d, "c": 0.12345678901234567890123}' % (largest, least)))
    assert (d["a"], d["b"], d["c"]) == (largest, least, 0.12345678901234567890123)

    with pytest.raises(LoadError, match=r"key 'a'.*64 bits"):
        load(d, from_bytes(b'{"a": %d}' % (largest + 1)))
    assert d["a"] == largest


# Deadlines, limits, batches


def test_ttl_is_for_entries_without_a_deadline(d: kvmap.KVMap[Any]) -> None:
    own = time.time() + 5000
    load(d, [Item("a", 1), Item("b", 2, own)], ttl=60)

    assert d.ttl("a") == pytest.approx(60, abs=5)
    assert d.ttl("b") == pytest.approx(5000, abs=5)


def test_entries_stay_whatever_the_stores_default(path: Path) -> None:
    with kvmap.open(path, ttl=60) as d:
        load(d, [Item("a", 1)])
        assert d.ttl("a") is None


def test_a_key_that_comes_twice_is_the_last(d: kvmap.KVMap[Any]) -> None:
    assert load(d, [Item("a", 1), Item("b", 2), Item("a", 3)]).loaded == 2
    assert list(d.items()) == [("a", 3), ("b", 2)]
    d.compact()
    assert d.stats().dead_bytes == 0  # no byte of it is counted twice
    assert d["a"] == 3


def test_order_is_the_sources(d: kvmap.KVMap[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH", 7)
    names = [f"k{n * 37 % 101}" for n in range(101)]

    load(d, [Item(name, 0) for name in names])

    assert list(d) == names


def test_limits_hold(path: Path) -> None:
    limits = kvmap.Limits(key_chars=3, value_bytes=10, store_bytes=4000)
    with kvmap.open(path, limits=limits) as d:
        items = [Item("abcd", 1), Item("ok", "x" * 20), Item("ada", 1)]
        report = load(d, items, skip=True)
        assert [each.entry for each in report.skipped] == ["key 'abcd'", "key 'ok'"]
        assert dict(d) == {"ada": 1}

        with pytest.raises(kvmap.LimitError, match="store"):
            load(d, [Item(n, n) for n in range(200)])
        assert dict(d) == {"ada": 1}


def test_what_was_done_is_known_when_the_load_ends_early(
    d: kvmap.KVMap[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 10)
    report = Report()

    def interrupted() -> Iterator[Item]:
        for n in range(25):
            yield Item(n, n)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(d, interrupted(), report=report)

    assert report.loaded == 20
    assert dict(d) == {n: n for n in range(20)}


def test_progress_counts_bytes_of_lines(
    d: kvmap.KVMap[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 10)
    text = b"".join([b'{"key":%d,"value":0}\n' % n for n in range(10, 60)])
    source = from_bytes(text)
    seen: list[tuple[int, int]] = []

    load(d, source, progress=lambda report: seen.append((report.loaded, source.done)))

    assert seen == [(n, n * 21) for n in (10, 20, 30, 40, 50)]
    assert source.unit == "bytes"


# shelve


def test_shelve(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    name = str(tmp_path / "old")
    when = datetime.datetime(2024, 5, 17)
    with shelve.open(name) as shelf:
        shelf["ada"] = {"visits": 1, "tags": ("a", "b")}
        shelf["é"] = None
        shelf["when"] = {"at": [when]}
        shelf["set"] = {1, 2}
        shelf["numbers"] = {1: "one"}
    before = {name: data for name, data in files_of(tmp_path).items() if name.startswith("old")}

    with Shelf(name) as source:
        assert (source.total, source.pickled) == (5, True)
        report = load(d, source, skip=True)

    # A tuple comes back as a list, as from any kvmap.
    assert dict(d) == {"ada": {"visits": 1, "tags": ["a", "b"]}, "é": None}
    skipped = dict(report.skipped)
    assert sorted(skipped) == ["key 'numbers'", "key 'set'", "key 'when'"]
    assert "datetime" in skipped["key 'when'"]
    assert "['at'][0]" in skipped["key 'when'"]  # where in the value it stands
    assert "set" in skipped["key 'set'"]
    assert "int" in skipped["key 'numbers'"]
    after = files_of(tmp_path)
    assert {name: after[name] for name in before} == before


def test_shelve_of_each_dbm_module(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    with shelve.Shelf(dumb.open(str(tmp_path / "dumb"))) as shelf:
        shelf["ada"] = 1
    # As the user sees it: there is no file "dumb", but "dumb.dat".
    for name in ("dumb", "dumb.dat", "dumb.dir"):
        d.clear()
        with Shelf(str(tmp_path / name)) as source:
            assert load(d, source).loaded == 1
        assert dict(d) == {"ada": 1}


def test_shelve_whose_class_is_gone(
    d: kvmap.KVMap[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(tmp_path / "old")
    with shelve.open(name) as shelf:
        shelf["gone"] = Gone()
        shelf["here"] = 1
    monkeypatch.delattr(f"{__name__}.Gone")

    with Shelf(name) as source:
        report = load(d, source, skip=True)
    assert dict(d) == {"here": 1}
    ((entry, reason),) = report.skipped
    assert entry == "key 'gone'"
    assert "AttributeError" in reason

    with Shelf(name) as source, pytest.raises(LoadError, match="key 'gone'"):
        load(d, source)


def test_what_is_no_shelve(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello, this is no database of any kind\n")

    with pytest.raises(SourceError, match="no shelve store"):
        Shelf(str(tmp_path / "text"))
    with pytest.raises(FileNotFoundError):
        Shelf(str(tmp_path / "nothing"))
    assert [each.name for each in tmp_path.iterdir()] == ["text"]


# sqlitedict


def test_sqlitedict(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    sqlitedict = pytest.importorskip("sqlitedict")
    name = str(tmp_path / "old.sqlite")
    with sqlitedict.SqliteDict(name, autocommit=True) as old:
        old["ada"] = {"visits": 1}
        old["bytes"] = b"\x00\x01"
        old["text"] = "é"
        old["nan"] = math.nan
    before = Path(name).read_bytes()

    with SqliteDict(name) as source:
        assert (source.total, source.pickled) == (4, True)
        report = load(d, source, skip=True)

    assert dict(d) == {"ada": {"visits": 1}, "text": "é"}
    assert [each.entry for each in report.skipped] == ["key 'bytes'", "key 'nan'"]
    assert Path(name).read_bytes() == before


def test_sqlitedict_with_json_inside_runs_no_code(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    sqlitedict = pytest.importorskip("sqlitedict")
    name = str(tmp_path / "old.sqlite")
    with sqlitedict.SqliteDict(name, encode=json.dumps, decode=json.loads) as old:
        old["ada"] = {"visits": 1}
        old["number"] = 17
        old.commit()

    with SqliteDict(name) as source:
        assert not source.pickled
        load(d, source)

    assert dict(d) == {"ada": {"visits": 1}, "number": 17}


def test_sqlitedict_tables(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    sqlitedict = pytest.importorskip("sqlitedict")
    name = str(tmp_path / "old.sqlite")
    for table in ("people", 'odd "name'):
        with sqlitedict.SqliteDict(name, tablename=table, autocommit=True) as old:
            old["table"] = table

    with pytest.raises(SourceError, match=r"'unnamed'; it has 'people', 'odd \"name'"):
        SqliteDict(name)
    for table in ("people", 'odd "name'):
        with SqliteDict(name, table) as source:
            load(d, source)
        assert dict(d) == {"table": table}


def test_what_is_no_sqlitedict(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello, this is no database of any kind\n" * 50)
    with sqlite3.connect(tmp_path / "other.sqlite") as file:
        file.execute("CREATE TABLE people (name TEXT, age INT)")
    file.close()

    with pytest.raises(SourceError, match="not a database"):
        SqliteDict(str(tmp_path / "text"))
    with pytest.raises(SourceError, match="it has none"):
        SqliteDict(str(tmp_path / "other.sqlite"))
    with pytest.raises(FileNotFoundError):
        SqliteDict(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


# diskcache


def test_diskcache(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(str(tmp_path / "old")) as old:
        old["ada"] = {"visits": 1}
        old["text"] = "é"
        old[17] = 2.5
        old["pair", 1] = [None, True]
        old["long text"] = "x" * 100_000  # in a file of its own
        old["long list"] = ["y" * 100_000]
        old.set("token", "s3cr3t", expire=1000)
        old["bytes"] = b"\x00"
        old["long bytes"] = b"\x00" * 100_000
        old[b"key"] = 1
        old.set("expired", 0, expire=0.001)  # last, for a write removes what has expired
    time.sleep(0.01)

    with DiskCache(str(tmp_path / "old")) as source:
        assert (source.total, source.pickled) == (11, True)
        report = load(d, source, skip=True)

    assert dict(d) == {
        "ada": {"visits": 1},
        "text": "é",
        17: 2.5,
        ("pair", 1): [None, True],
        "long text": "x" * 100_000,
        "long list": ["y" * 100_000],
        "token": "s3cr3t",
    }
    assert d.ttl("token") == pytest.approx(1000, abs=10)
    assert d.ttl("ada") is None
    assert report.expired == 1
    assert [each.entry for each in report.skipped] == [
        "key 'bytes'",
        "key 'long bytes'",
        "key b'key'",
    ]
    with diskcache.Cache(str(tmp_path / "old")) as old:  # still good for its own library
        assert old["ada"] == {"visits": 1}


def test_diskcache_of_plain_values_runs_no_code(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(str(tmp_path / "old")) as old:
        old["ada"] = "x"
        old[17] = 1

    with DiskCache(str(tmp_path / "old")) as source:
        assert not source.pickled
        load(d, source)

    assert dict(d) == {"ada": "x", 17: 1}


def test_diskcache_with_json_inside_runs_no_code(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(str(tmp_path / "old"), disk=diskcache.JSONDisk) as old:
        old["ada"] = {"visits": 1}
        old["pair", 1] = list(range(100_000))

    with DiskCache(str(tmp_path / "old")) as source:
        assert not source.pickled
        load(d, source)

    assert dict(d) == {"ada": {"visits": 1}, ("pair", 1): list(range(100_000))}


def test_diskcache_in_shards(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.FanoutCache(str(tmp_path / "old"), shards=4) as old:
        for n in range(50):
            old[n] = [n]

    with DiskCache(str(tmp_path / "old")) as source:
        assert source.total == 50
        load(d, source)

    assert {**d} == {n: [n] for n in range(50)}


def test_diskcache_value_outside_its_directory(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    (tmp_path / "secret").write_text("s3cr3t")
    with diskcache.Cache(str(tmp_path / "old")) as old:
        old["page"] = "x" * 100_000
    with sqlite3.connect(tmp_path / "old" / "cache.db") as file:
        file.execute("UPDATE Cache SET filename = '../secret'")
    file.close()

    with DiskCache(str(tmp_path / "old")) as source:
        report = load(d, source, skip=True)

    assert dict(d) == {}
    assert "outside" in report.skipped[0].reason


def test_diskcache_value_whose_file_is_gone(d: kvmap.KVMap[Any], tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(str(tmp_path / "old")) as old:
        old["page"] = "x" * 100_000
        old["ada"] = 1
    for file in (tmp_path / "old").rglob("*.val"):
        file.unlink()

    with DiskCache(str(tmp_path / "old")) as source:
        report = load(d, source, skip=True)

    assert dict(d) == {"ada": 1}
    assert [each.entry for each in report.skipped] == ["key 'page'"]


def test_what_is_no_diskcache(tmp_path: Path) -> None:
    (tmp_path / "cache.db").write_text("no database\n" * 100)

    with pytest.raises(SourceError, match="not a database"):
        DiskCache(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no diskcache"):
        DiskCache(str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError):
        DiskCache(str(tmp_path / "nothing"))


def test_a_hostile_pickle_is_not_read_before_it_is_asked_for(tmp_path: Path) -> None:
    """Opening a source, which is when its user is warned, unpickles nothing."""

    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    with sqlite3.connect(tmp_path / "old.sqlite") as file:
        file.execute("CREATE TABLE unnamed (key TEXT PRIMARY KEY, value BLOB)")
        file.execute("INSERT INTO unnamed VALUES ('a', ?)", (pickle.dumps(Hostile()),))
    file.close()

    with SqliteDict(str(tmp_path / "old.sqlite")) as source:
        assert source.pickled
        assert not (tmp_path / "ran").exists()
        assert [type(each) for each in source] == [Item]
    assert (tmp_path / "ran").exists()


def test_a_key_that_cannot_be_read_is_listed_by_its_number(tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(str(tmp_path / "old"), disk=diskcache.JSONDisk) as old:
        old["ada"] = 1
        old["bob"] = 2
    with sqlite3.connect(tmp_path / "old" / "cache.db") as file:
        file.execute("UPDATE Cache SET key = ? WHERE rowid = 2", (zlib.compress(b"oops"),))
    file.close()

    with DiskCache(str(tmp_path / "old")) as source:
        found = list(source)

    assert found[0] == Item("ada", 1)
    assert isinstance(found[1], Unreadable)
    assert found[1].entry == "entry 2"
