"""Moving entries in: what each source's own library wrote, and nothing lost unnoticed."""

import csv
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
from helpers import AnyMap, files_of

import kvmap
from kvmap.moving import (
    CSV,
    ConflictingEntryError,
    DiskCache,
    Item,
    LoadError,
    Map,
    Report,
    Shelf,
    Source,
    SourceError,
    SqliteDict,
    TinyDB,
    Unreadable,
    line,
    load,
    open_json,
)


@pytest.fixture
def d() -> Iterator[AnyMap]:
    with kvmap.open(":memory:") as d:
        yield d


def from_bytes(text: bytes, kind: str = "auto") -> Source:
    return open_json(io.BytesIO(text), kind)


class Gone:
    """Of a class that JSON can't hold."""


# JSON and JSON Lines


def test_json_lines(d: AnyMap) -> None:
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
        (b'{"k":"a","value":1}', 'not {"key"'),
        (b'{"key":"a","value":1,"expirs":3}', "unknown field 'expirs'"),
        (b'{"key":"a","value":1,"ttl":3,"expires":3}', "exclude each other"),
        (b'{"key":"a","value":1,"ttl":0}', '"ttl" must be'),
        (b'{"key":"a","value":1,"ttl":"soon"}', "is no time"),
        (b'{"key":"a","value":1,"ttl":[]}', '"ttl" must be'),
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
def test_a_bad_line_is_named_by_its_number(d: AnyMap, line: bytes, reason: str) -> None:
    text = b'{"key":"before","value":1}\n\n' + line + b'\n{"key":"after","value":2}\n'

    with pytest.raises(LoadError, match=f"^line 3.*{reason}"):
        load(d, from_bytes(text, "jsonl"))
    assert dict(d) == {"before": 1}  # what stood before it is there, and it is not half there

    report = load(d, from_bytes(text, "jsonl"), skip=True)
    assert dict(d) == {"before": 1, "after": 2}
    assert report.loaded == 2
    assert [each.entry.startswith("line 3") for each in report.skipped] == [True]


def test_a_bad_line_after_many_batches(d: AnyMap) -> None:
    lines = [b'{"key":%d,"value":%d}\n' % (n, n * n) for n in range(95)]

    with pytest.raises(LoadError, match=r"^line 96:"):
        text = b"".join([*lines, b"oops\n", b'{"key":-1,"value":0}\n'])
        load(d, from_bytes(text), batch=10)

    assert dict(d) == {n: n * n for n in range(95)}


def test_one_json_object(d: AnyMap) -> None:
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
        (b'{"a":1,"b":2}', 2),
        (b'{"key":\n"a","value":1,"expires":2}', 3),  # would be no line
        (b'\n\n{"key":"a","value":1}\n{"key":"b","value":1}', 2),
    ],
)
def test_object_or_lines_as_it_looks(d: AnyMap, text: bytes, count: int) -> None:
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


@pytest.mark.parametrize(
    "text",
    [b'{"k":1,"value":2}', b'{"key":1,"val":2}', b'\n{"key":"a","value":1,"more":2}\n'],
)
def test_a_misspelt_field_makes_no_two_keys(d: AnyMap, text: bytes) -> None:
    with pytest.raises(LoadError, match=r"^line [12]: .*\{\"key\": …, \"value\": …\}"):
        load(d, from_bytes(text))
    assert len(d) == 0
    assert load(d, from_bytes(text, "json")).loaded == len(json.loads(text))


def test_json_lines_with_a_ttl(d: AnyMap) -> None:
    d.configure(ttl=500)
    text = b"""\
{"key":"seconds","value":1,"ttl":60}
{"key":"words","value":1,"ttl":"1h30m"}
{"key":"stays","value":1,"ttl":null}
"""
    load(d, from_bytes(text))

    assert d.ttl("seconds") == pytest.approx(60, abs=5)
    assert d.ttl("words") == pytest.approx(5400, abs=5)
    assert d.ttl("stays") is None


def test_json_of_a_store_with_the_extended_codec() -> None:
    with (
        kvmap.open(":memory:", codec="extended") as d,
        kvmap.open(":memory:", codec="extended") as copy,
    ):
        d["tags"] = {"a", "b"}
        d["money"] = {"$gt": (1, 2)}
        text = b"".join([line(d, item) for item in Map(d) if isinstance(item, Item)])
        assert b'"value":{"$set":["a","b"]}' in text

        load(copy, from_bytes(text))

        assert dict(copy) == dict(d)


def test_integers_are_not_rounded(d: AnyMap) -> None:
    largest, least = 2**64 - 1, -(2**63)
    load(d, from_bytes(b'{"a": %d, "b": %d, "c": 0.12345678901234567890123}' % (largest, least)))
    assert (d["a"], d["b"], d["c"]) == (largest, least, 0.12345678901234567890123)

    with pytest.raises(LoadError, match=r"key 'a'.*64 bits"):
        load(d, from_bytes(b'{"a": %d}' % (largest + 1)))
    assert d["a"] == largest


# Deadlines, limits, batches


def test_ttl_is_for_entries_without_a_deadline(d: AnyMap) -> None:
    own = time.time() + 5000
    load(d, [Item("a", 1), Item("b", 2, own)], ttl=60)

    assert d.ttl("a") == pytest.approx(60, abs=5)
    assert d.ttl("b") == pytest.approx(5000, abs=5)


def test_the_maps_default_is_for_entries_of_which_the_source_says_nothing(d: AnyMap) -> None:
    d.configure(ttl=60)
    items = [Item("default", 1), Item("stays", 1, math.inf)]
    load(d, items)
    assert d.ttl("default") == pytest.approx(60, abs=5)
    assert d.ttl("stays") is None

    load(d, items, ttl=7000)
    assert d.ttl("default") == pytest.approx(7000, abs=5)
    assert d.ttl("stays") == pytest.approx(7000, abs=5)

    load(d, items, ttl=math.inf)
    assert d.ttl("default") is None


def test_a_key_that_comes_twice_is_the_last(d: AnyMap) -> None:
    assert load(d, [Item("a", 1), Item("b", 2), Item("a", 3)]).loaded == 2
    assert list(d.items()) == [("a", 3), ("b", 2)]


def test_order_is_the_sources(d: AnyMap) -> None:
    names = [f"k{n * 37 % 101}" for n in range(101)]

    load(d, [Item(name, 0) for name in names], batch=7)

    assert list(d) == names


def test_limits_hold() -> None:
    limits = kvmap.Limits(key_chars=3, value_bytes=10, entries=20)
    with kvmap.open(":memory:", limits=limits) as d:
        items = [Item("abcd", 1), Item("ok", "x" * 20), Item("ada", 1)]
        report = load(d, items, skip=True)
        assert [each.entry for each in report.skipped] == ["key 'abcd'", "key 'ok'"]
        assert dict(d) == {"ada": 1}

        with pytest.raises(LoadError, match=r"^key 19: .*20"):
            load(d, [Item(n, n) for n in range(200)])
        assert list(d) == ["ada", *range(19)]


def test_what_was_done_is_known_when_the_load_ends_early(d: AnyMap) -> None:
    report = Report()

    def interrupted() -> Iterator[Item]:
        for n in range(25):
            yield Item(n, n)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(d, interrupted(), report=report, batch=10)

    assert report.loaded == 20
    assert dict(d) == {n: n for n in range(20)}


def test_progress_counts_bytes_of_lines(d: AnyMap) -> None:
    text = b"".join([b'{"key":%d,"value":0}\n' % n for n in range(10, 60)])
    source = from_bytes(text)
    seen: list[tuple[int, int]] = []

    load(d, source, batch=10, progress=lambda report: seen.append((report.loaded, source.done)))

    assert seen == [(n, n * 21) for n in (10, 20, 30, 40, 50)]
    assert source.unit == "bytes"


# Keys that are there


def test_on_conflict(d: AnyMap) -> None:
    items = [Item("a", "new"), Item("b", "new", time.time() + 1000), Item("c", "new")]
    d.set("a", "old", ttl=60)
    d["c"] = "old"

    assert load(d, items, on_conflict="skip") == Report(loaded=1, kept=2)
    assert list(d.items()) == [("a", "old"), ("c", "old"), ("b", "new")]
    assert d.ttl("a") == pytest.approx(60, abs=5)
    assert d.ttl("b") == pytest.approx(1000, abs=5)

    with pytest.raises(ConflictingEntryError, match=r"^key 'a': it is there already$"):
        load(d, items, on_conflict="fail")
    assert d["a"] == "old"

    assert load(d, items, on_conflict="overwrite") == Report(loaded=3)
    assert dict(d) == {"a": "new", "c": "new", "b": "new"}
    assert d.ttl("a") is None
    with pytest.raises(ValueError, match="on_conflict must be one of 'overwrite', 'skip', 'fail'"):
        load(d, items, on_conflict="merge")


def test_fail_keeps_what_stood_before(d: AnyMap) -> None:
    d["b"] = "old"

    with pytest.raises(ConflictingEntryError):
        load(d, [Item("a", 1), Item("b", 2), Item("c", 3)], on_conflict="fail")

    assert dict(d) == {"b": "old", "a": 1}


@pytest.mark.parametrize("on_conflict", ["overwrite", "skip"])
def test_a_load_that_was_interrupted_may_be_run_again(d: AnyMap, on_conflict: str) -> None:
    moment = time.time() + 1000
    items = [Item(n, n, moment if n % 3 else math.inf) for n in range(100)]

    def interrupted() -> Iterator[Item]:
        yield from items[:55]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(d, interrupted(), batch=10, on_conflict=on_conflict)
    assert len(d) == 50
    load(d, items, batch=10, on_conflict=on_conflict)

    assert list(d.items()) == [(n, n) for n in range(100)]
    assert d.ttl(0) is None
    assert d.ttl(1) == pytest.approx(1000, abs=5)


def test_an_error_of_the_map_is_not_one_of_an_entry(d: AnyMap) -> None:
    d.close()

    with pytest.raises(kvmap.StoreClosedError):
        load(d, [Item("a", 1), Item("b", 2)], skip=True)


# Another map


def test_map_to_map() -> None:
    with kvmap.open(":memory:") as d, kvmap.open(":memory:", ttl=60) as copy:
        for n in range(1500):
            d.set(("k", n), [n], ttl=None if n % 5 else 1000 + n)

        with Map(d) as source:
            assert source.total == 1500
            assert load(copy, source).loaded == 1500

        assert list(copy.items()) == list(d.items())
        for key in d:
            assert copy.ttl(key) == pytest.approx(d.ttl(key), abs=0.1)


def test_deadlines_are_the_same_after_each_move() -> None:
    moment = round(time.time()) + 1000.125
    with kvmap.open(":memory:") as first, kvmap.open(":memory:") as second:
        load(first, [Item("a", 1, moment)])
        load(second, Map(first))
        ((item,),) = [list(Map(second))]

        assert isinstance(item, Item)
        assert line(second, item) == b'{"key":"a","value":1,"expires":%r}\n' % moment


def test_sets_of_an_extended_map_do_not_fit_into_json(d: AnyMap) -> None:
    with kvmap.open(":memory:", codec="extended") as extended:
        extended.update(a={1}, b=[2])

        report = load(d, Map(extended), skip=True)

    assert dict(d) == {"b": [2]}
    assert report.skipped[0].entry == "key 'a'"


# CSV and TSV


def from_csv(text: str, separator: str = ",", **options: Any) -> Source:
    return CSV(io.BytesIO(text.encode()), separator, **options)


def test_csv(d: AnyMap) -> None:
    text = '\ufeffname,visits,motto\r\nada,1,"a ""b"",\nc"\r\n\r\nbob,,é\r\n'

    assert load(d, from_csv(text)) == Report(loaded=2)

    assert dict(d) == {
        "ada": {"visits": "1", "motto": 'a "b",\nc'},
        "bob": {"visits": "", "motto": "é"},
    }


def test_csv_is_read_as_the_csv_module_writes_it(d: AnyMap) -> None:
    rows = [["id", "text"], ["1", 'a,b\n"c"'], ["2", "x" * 200_000], ["3", " "]]
    for dialect, separator in ((csv.excel, ","), (csv.excel_tab, "\t"), (csv.unix_dialect, ",")):
        file = io.StringIO(newline="")
        csv.writer(file, dialect).writerows(rows)
        load(d, from_csv(file.getvalue(), separator))
        assert dict(d) == {key: {"text": text} for key, text in rows[1:]}
        d.clear()


def test_a_byte_order_mark_is_no_part_of_a_name(d: AnyMap) -> None:
    load(d, from_csv("\ufeffname,id\nAda,7\n", key="name"))
    assert dict(d) == {"Ada": {"id": "7"}}


def test_csv_with_json_in_its_cells(d: AnyMap) -> None:
    text = 'key,a,b,c,d\n7,1,true,"[1,{""x"":null}]",Ada\n'

    load(d, from_csv(text, json_cells=True))

    assert dict(d) == {"7": {"a": 1, "b": True, "c": [1, {"x": None}], "d": "Ada"}}


def test_csv_of_entries(d: AnyMap) -> None:
    d.configure(ttl=500)
    expires = round(time.time()) + 1000
    load(d, from_csv(f"expires,name,value\n{expires},ada,1\n,bob,2\n", key="name"))
    load(d, from_csv("key\tttl\tvalue\ntoken\t1h30m\tx\n", "\t"))
    load(d, from_csv("k,value\neve,3\n"))

    assert dict(d) == {"ada": "1", "bob": "2", "token": "x", "eve": "3"}
    assert d.ttl("ada") == pytest.approx(1000, abs=5)
    assert d.ttl("bob") is None
    assert d.ttl("token") == pytest.approx(5400, abs=5)
    assert d.ttl("eve") == pytest.approx(500, abs=5)


@pytest.mark.parametrize(
    ("text", "entry", "reason"),
    [
        ("k,a\nx,1\ny\nz,3\n", "line 3", "1 cells, but 2 columns"),
        ("k,a\nx,1\n\ny,1,2\nz,3\n", "line 4", "3 cells, but 2 columns"),
        ("k,value,ttl\nx,1,60\ny,1,soon\nz,3,60\n", "line 3", "no time"),
    ],
)
def test_a_bad_row_is_named_by_its_line(d: AnyMap, text: str, entry: str, reason: str) -> None:
    report = load(d, from_csv(text), skip=True)

    assert list(d) == ["x", "z"]
    ((found, why),) = report.skipped
    assert found == entry
    assert reason in why


def test_what_follows_an_open_quote_is_not_read(d: AnyMap) -> None:
    report = load(d, from_csv('k,a\nx,1\ny,"2\nz,3\n'), skip=True)

    assert list(d) == ["x"]
    assert report.skipped[0].entry == "line 3"
    assert report.skipped[0].reason.endswith("the rest was not read")


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("", {}, "no names of columns"),
        ("a,,c\n1,2,3\n", {}, "column ''"),
        ("a,a\n1,2\n", {}, "column 'a'"),
        ("a,b\n1,2\n", {"key": "id"}, "no column 'id'; there are 'a', 'b'"),
    ],
)
def test_what_is_no_table(text: str, options: dict[str, str], reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        from_csv(text, **options)


def test_a_table_that_is_not_utf8(d: AnyMap) -> None:
    with pytest.raises(SourceError, match="line 1: not UTF-8"):
        CSV(io.BytesIO(b"\xff\xfe,a\n1,2\n"))
    with pytest.raises(LoadError, match="line 2: not UTF-8"):
        load(d, CSV(io.BytesIO(b"k,a\n\xe9,2\n")))


# tinydb


def test_tinydb(d: AnyMap, tmp_path: Path) -> None:
    tinydb = pytest.importorskip("tinydb")
    name = str(tmp_path / "db.json")
    with tinydb.TinyDB(name) as db:
        db.insert_multiple([{"name": "Ada", "visits": 1}, {"name": "Bob"}])

    with TinyDB(name) as source:
        assert (source.total, source.pickled) == (2, False)
        load(d, source)

    assert dict(d) == {1: {"name": "Ada", "visits": 1}, 2: {"name": "Bob"}}


def test_tinydb_tables(d: AnyMap, tmp_path: Path) -> None:
    tinydb = pytest.importorskip("tinydb")
    name = str(tmp_path / "db.json")
    with tinydb.TinyDB(name) as db:
        db.table("people").insert({"name": "Ada"})
        db.table("jobs").insert({"job": 1})

    with pytest.raises(SourceError, match="no tinydb table '_default'; it has 'people', 'jobs'"):
        TinyDB(name)
    load(d, TinyDB(name, "jobs"))
    assert dict(d) == {1: {"job": 1}}


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '{"a": {"x": {}}}', '{"a": {"1": 2}}', "oops"])
def test_what_is_no_tinydb(tmp_path: Path, text: str) -> None:
    (tmp_path / "db.json").write_text(text)

    with pytest.raises(SourceError, match=r"db\.json"):
        TinyDB(str(tmp_path / "db.json"))
    with pytest.raises(FileNotFoundError):
        TinyDB(str(tmp_path / "nothing"))


def test_an_empty_tinydb(d: AnyMap, tmp_path: Path) -> None:
    (tmp_path / "db.json").write_text("")
    assert load(d, TinyDB(str(tmp_path / "db.json"))) == Report()


# shelve


def test_shelve(d: AnyMap, tmp_path: Path) -> None:
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


def test_shelve_of_each_dbm_module(d: AnyMap, tmp_path: Path) -> None:
    with shelve.Shelf(dumb.open(str(tmp_path / "dumb"))) as shelf:
        shelf["ada"] = 1
    # As the user sees it: there is no file "dumb", but "dumb.dat".
    for name in ("dumb", "dumb.dat", "dumb.dir"):
        d.clear()
        with Shelf(str(tmp_path / name)) as source:
            assert load(d, source).loaded == 1
        assert dict(d) == {"ada": 1}


def test_shelve_whose_class_is_gone(
    d: AnyMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_sqlitedict(d: AnyMap, tmp_path: Path) -> None:
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


def test_sqlitedict_with_json_inside_runs_no_code(d: AnyMap, tmp_path: Path) -> None:
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


def test_sqlitedict_tables(d: AnyMap, tmp_path: Path) -> None:
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


def test_diskcache(d: AnyMap, tmp_path: Path) -> None:
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


def test_diskcache_of_plain_values_runs_no_code(d: AnyMap, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(str(tmp_path / "old")) as old:
        old["ada"] = "x"
        old[17] = 1

    with DiskCache(str(tmp_path / "old")) as source:
        assert not source.pickled
        load(d, source)

    assert dict(d) == {"ada": "x", 17: 1}


def test_diskcache_with_json_inside_runs_no_code(d: AnyMap, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(str(tmp_path / "old"), disk=diskcache.JSONDisk) as old:
        old["ada"] = {"visits": 1}
        old["pair", 1] = list(range(100_000))

    with DiskCache(str(tmp_path / "old")) as source:
        assert not source.pickled
        load(d, source)

    assert dict(d) == {"ada": {"visits": 1}, ("pair", 1): list(range(100_000))}


def test_diskcache_in_shards(d: AnyMap, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.FanoutCache(str(tmp_path / "old"), shards=4) as old:
        for n in range(50):
            old[n] = [n]

    with DiskCache(str(tmp_path / "old")) as source:
        assert source.total == 50
        load(d, source)

    assert {**d} == {n: [n] for n in range(50)}


def test_diskcache_value_outside_its_directory(d: AnyMap, tmp_path: Path) -> None:
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


def test_diskcache_value_whose_file_is_gone(d: AnyMap, tmp_path: Path) -> None:
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

    assert found[0] == Item("ada", 1, math.inf)
    assert isinstance(found[1], Unreadable)
    assert found[1].entry == "entry 2"
