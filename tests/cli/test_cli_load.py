"""`kvmap load`: every kind of source, deadlines, conflicts, and entries that can't be loaded."""

import json
import shelve
import sqlite3
import time
from pathlib import Path

import pytest
from commands import Run, damage

import kvmap

LINES = b"""\
{"key":"a","value":1}
{"key":"b","value":2,"expires":1.5}
{"key":"c","value":3}

{"key":"d","value":4}

{"key":"e","value":tru}
{"key":"f","value":6}
"""


def test_dump_and_load_give_the_same_store(run: Run, store: Path, tmp_path: Path) -> None:
    dumped = run("dump", "s")
    assert run("load", "copy", "-", stdin=dumped.out.encode()) == (0, "", "")

    with kvmap.open(store) as d, kvmap.open(tmp_path / "copy") as copy:
        assert list(copy.items()) == list(d.items())
        assert copy.ttl("token") == pytest.approx(d.ttl("token"), abs=1)
        assert copy.ttl("ada") is None
    assert run("dump", "copy").out == dumped.out


def test_a_store_into_another(run: Run, store: Path, tmp_path: Path) -> None:
    kvmap.open(tmp_path / "copy", ttl=60).close()

    assert run("load", "copy", "s") == (0, "", "")

    with kvmap.open(store) as d, kvmap.open(tmp_path / "copy") as copy:
        assert list(copy.items()) == list(d.items())
        assert copy.ttl("token") == pytest.approx(d.ttl("token"), abs=1)
        assert copy.ttl("ada") is None
    assert run("dump", "copy").out == run("dump", "s").out
    code, _, err = run("load", "s", "./s")
    assert (code, err) == (2, "kvmap: s can't be loaded into itself\n")


def test_a_store_that_is_in_use(run: Run, store: Path, tmp_path: Path) -> None:
    with kvmap.open(store) as d:
        d["late"] = 1
        assert run("load", "copy", "s") == (0, "", "")
    assert run("count", "copy").out == "5\n"


def test_load_stops_at_malformed_line_7(run: Run, tmp_path: Path) -> None:
    (tmp_path / "people.jsonl").write_bytes(LINES)

    code, out, err = run("load", "s", "people.jsonl")

    assert (code, out) == (2, "")
    assert err.startswith("kvmap: people.jsonl, line 7: not JSON: ")
    assert "3 entries loaded so far" in err
    assert "--on-error skip" in err
    assert run("ls", "s").out == "a\nc\nd\n"


def test_load_skips_malformed_line_7(run: Run, tmp_path: Path) -> None:
    (tmp_path / "people.jsonl").write_bytes(LINES)

    code, out, err = run("load", "s", "people.jsonl", "--on-error", "skip")

    assert (code, out) == (1, "")
    assert "skipped line 7: not JSON" in err
    assert "loaded 4 entries, 1 skipped, 1 expired already" in err
    assert run("ls", "s").out == "a\nc\nd\nf\n"


def test_load_lists_the_first_of_many_skipped(run: Run) -> None:
    text = b"".join([b'{"key":%d}\n' % n for n in range(50)])

    code, _, err = run("load", "s", "-", "--from", "jsonl", "--on-error", "skip", stdin=text)

    assert code == 1
    assert err.count("\n") == 22
    assert "skipped 30 entries more; --json lists all" in err


def test_load_reports_as_json(run: Run) -> None:
    code, out, err = run("load", "s", "-", "--on-error", "skip", "--json", stdin=LINES)

    assert (code, err) == (1, "")
    found = json.loads(out)
    assert (found["loaded"], found["expired"], found["kept"]) == (4, 1, 0)
    assert found["skipped"][0]["entry"] == "line 7"


def test_a_misspelt_field_makes_no_two_keys(run: Run, tmp_path: Path) -> None:
    code, _, err = run("load", "s", "-", stdin=b'{"k":1,"value":2}\n')

    assert code == 2
    assert 'standard input, line 1: not {"key": …, "value": …}' in err
    assert run("count", "s").out == "0\n"


def test_load_one_object_with_ttl(run: Run, tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text('{\n  "ada": 1,\n  "bob": {"key": 1, "value": 2}\n}\n')

    assert run("load", "s", "o.json", "-t", "1h30m") == (0, "", "")

    with kvmap.open(tmp_path / "s") as d:
        assert dict(d) == {"ada": 1, "bob": {"key": 1, "value": 2}}
        assert d.ttl("ada") == pytest.approx(5400, abs=10)


def test_set_and_load_have_the_same_default_ttl(run: Run, tmp_path: Path) -> None:
    run("config", "s", "--ttl", "1h")
    run("set", "s", "a", "1")
    run("load", "s", "-", stdin=b'{"b": 1}')
    run("load", "s", "-", stdin=b'{"key":"c","value":1}\n{"key":"d","value":1,"expires":null}\n')
    with kvmap.open(tmp_path / "s") as d:
        assert [d.ttl(key) for key in "abc"] == pytest.approx([3600] * 3, abs=10)
        assert d.ttl("d") is None


def test_on_conflict(run: Run, store: Path) -> None:
    text = b'{"key":"eve","value":1}\n{"key":"token","value":2}\n{"key":"joe","value":3}\n'

    code, _, err = run("load", "s", "-", "--on-conflict", "fail", stdin=text)
    assert code == 2
    assert "line 2, key 'token': it is there already; stopped, 1 entry loaded so far" in err
    assert "--on-error" not in err
    assert run("get", "s", "token").out == '"s3cr3t"\n'

    code, out, _ = run("load", "s", "-", "--on-conflict", "skip", "--json", stdin=text)
    assert (code, json.loads(out)["loaded"], json.loads(out)["kept"]) == (0, 1, 2)
    assert run("get", "s", "token", "joe").out == '"s3cr3t"\n3\n'

    assert run("load", "s", "-", stdin=text).code == 0
    assert run("get", "s", "token").out == "2\n"


# Tables


def test_csv_and_tsv_by_their_names(run: Run, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("name,visits\nada,1\nbob,2\n")
    (tmp_path / "people.TSV").write_text("name\tvisits\nada\t3\n")

    assert run("load", "s", "people.csv") == (0, "", "")
    assert run("get", "s", "ada", "bob").out == '{"visits":"1"}\n{"visits":"2"}\n'
    assert run("load", "s", "people.TSV", "--json-cells") == (0, "", "")
    assert run("get", "s", "ada").out == '{"visits":3}\n'
    rows = b"visits,name\n4,ada\n"
    assert run("load", "s", "-", "--from", "csv", "--key", "name", stdin=rows).code == 0
    assert run("get", "s", "ada").out == '{"visits":"4"}\n'
    code, _, err = run("load", "s", "people.csv", "--key", "id")
    assert (code, err) == (
        2,
        "kvmap: people.csv: there is no column 'id'; there are 'name', 'visits'\n",
    )


# Stores of other libraries


def test_load_from_shelve_warns(run: Run, tmp_path: Path) -> None:
    with shelve.open(str(tmp_path / "old")) as shelf:
        shelf["ada"] = 1
        shelf["bytes"] = b"x"

    code, out, err = run("load", "s", "old", "--from", "shelve")
    assert (code, out) == (2, "")
    assert "old holds pickles, and reading a pickle runs whatever code is in it" in err
    assert "key 'bytes'" in err
    assert "encode=" not in err

    code, out, err = run("load", "s", "old", "--from", "shelve", "--on-error", "skip")
    assert (code, out) == (1, "")
    assert "skipped key 'bytes': " in err
    assert run("get", "s", "ada").out == "1\n"


@pytest.mark.parametrize("kind", ["sqlitedict", "diskcache"])
def test_load_from_other_libraries(run: Run, tmp_path: Path, kind: str) -> None:
    module = pytest.importorskip(kind)
    name = str(tmp_path / ("old.db" if kind == "sqlitedict" else "old"))
    old = module.SqliteDict(name, autocommit=True) if kind == "sqlitedict" else module.Cache(name)
    with old:
        old["ada"] = {"visits": 1}

    code, _, err = run("load", "s", name)  # what may hold pickles must be named
    assert code == 2
    assert f"--from {kind}" in err
    assert not (tmp_path / "s").exists()

    code, _, err = run("load", "s", name, "--from", kind)
    assert code == 0
    assert "pickle" in err
    assert run("get", "s", "ada").out == '{"visits":1}\n'


def test_what_may_hold_pickles_is_recognized_in_its_other_shapes(run: Run, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.FanoutCache(str(tmp_path / "fan"), shards=2) as fan:
        fan["ada"] = 1
    with shelve.open(str(tmp_path / "shelf")) as shelf:  # files with endings, or one of SQLite
        shelf["ada"] = 1
    for name, kind in (("fan", "diskcache"), ("shelf", "shelve")):
        code, _, err = run("load", "s", name)
        assert (code, not (tmp_path / "s").exists()) == (2, True)
        assert "--from" in err
        assert kind in err
    assert run("load", "s", "fan", "--from", "diskcache").code == 0
    assert run("get", "s", "ada").out == "1\n"


def test_another_codec_than_the_stores_says_what_to_do(run: Run, tmp_path: Path) -> None:
    with shelve.open(str(tmp_path / "shelf")) as shelf:
        shelf["ada"] = b"1"
    err = run("load", "s", "shelf", "--from", "shelve").err
    assert "a store made with --codec extended keeps it" in err
    code, _, err = run("load", "s", "shelf", "--from", "shelve", "--codec", "extended")
    assert code == 2
    assert (
        "s was made with --codec json, and keeps it; name a new store, or leave --codec out" in err
    )
    assert run("load", "new", "shelf", "--from", "shelve", "--codec", "extended").code == 0


def test_load_from_tinydb(run: Run, tmp_path: Path) -> None:
    (tmp_path / "db.json").write_text('{"_default": {"1": {"name": "Ada"}}, "jobs": {"7": {}}}')

    assert run("load", "s", "db.json", "--from", "tinydb") == (0, "", "")
    assert run("load", "s", "db.json", "--from", "tinydb", "--table", "jobs") == (0, "", "")

    assert run("dump", "s").out.splitlines()[0] == '{"key":1,"value":{"name":"Ada"},"expires":null}'
    assert run("get", "s", "-k", "7").out == "{}\n"


def test_deadlines_of_a_diskcache(run: Run, tmp_path: Path) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(str(tmp_path / "old")) as old:
        old.set("token", "s3cr3t", expire=1000)
    before = time.time()

    assert run("load", "s", "old", "--from", "diskcache") == (0, "", "")

    found = json.loads(run("dump", "s").out)
    assert found["expires"] == pytest.approx(before + 1000, abs=30)


def test_both_advisories_are_in_the_help(run: Run) -> None:
    out = run("load", "--help").out
    assert "CVE-2024-35515" in out
    assert "CVE-2025-69872" in out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nothing.json"], "nothing.json: No such file"),
        (["."], ". is a directory, but no store that is known"),
        (["text"], "text: not JSON"),
        (["text", "--from", "jsonl"], "text, line 1: not JSON"),
        (["text", "--from", "shelve"], "text is no shelve store"),
        (["text", "--from", "sqlitedict"], "text: file is not a database"),
        (["text", "--from", "diskcache"], "text is no diskcache directory"),
        (["text", "--from", "tinydb"], "text: not JSON"),
        (["text", "--from", "kvmap"], "text is not a directory; a store is one"),
        (["nothing", "--from", "shelve"], "nothing: No such file"),
        (["nothing", "--from", "sqlitedict"], "nothing: No such file"),
        (["nothing", "--from", "diskcache"], "nothing: No such file"),
        (["nothing", "--from", "tinydb"], "nothing: No such file"),
        (["nothing", "--from", "kvmap"], "there is no store at nothing"),
        (["text", "--from", "xml"], "invalid choice"),
    ],
)
def test_load_from_what_it_is_not(
    run: Run, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    (tmp_path / "text").write_text("once upon a time\n" * 100)

    code, out, err = run("load", "s", *arguments)

    assert (code, out) == (2, "")
    assert reason in err
    assert "Traceback" not in err
    if "jsonl" not in arguments:
        assert not (tmp_path / "s").exists()


def test_a_sqlite_file_of_something_else(run: Run, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.sqlite") as file:
        file.execute("CREATE TABLE people (name TEXT, age INT)")
    file.close()

    code, _, err = run("load", "s", "other.sqlite", "--from", "sqlitedict")

    assert code == 2
    assert "other.sqlite has no sqlitedict table 'unnamed'; it has none" in err


def test_a_damaged_store_as_a_source(run: Run, hinted: Path) -> None:
    damage(hinted, b"s3cr3t")

    code, _, err = run("load", "copy", "s")
    assert code == 2
    assert "key 'token': " in err

    code, _, err = run("load", "copy", "s", "--on-error", "skip")
    assert code == 1
    assert "skipped key 'token': " in err
    assert run("ls", "copy").out == 'ada\n["pair",1]\n"été\\n"\nfiller\n'
