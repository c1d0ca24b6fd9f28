"""The `kvmap` command: results, exit codes, and a plain word for each of a user's mistakes."""

import io
import json
import os
import pty
import re
import resource
import select
import shelve
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers import ROOT, files_of

import kvmap
from kvmap import importing
from kvmap.cli import main, screen

COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "kvmap"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process, in the test's own directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: object, stdin: bytes | None = None) -> Result:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            code = main([str(each) for each in arguments])
        except SystemExit as end:
            assert isinstance(end.code, int)
            code = end.code
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store "s" with a few entries."""
    with kvmap.open(tmp_path / "s") as d:
        d["ada"] = {"name": "Ada", "visits": 1}
        d.set("token", "s3cr3t", ttl=7200)
        d["pair", 1] = [1.5, None]
        d["été\n"] = "é"
    return tmp_path / "s"


def real(*arguments: object, **options: Any) -> Result:
    """Run a command as a process of its own."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=60,
        check=False,
        **{"stdin": subprocess.DEVNULL, **options},
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def damage(store: Path, value: bytes) -> Path:
    """Flip a bit of a value; return the shard's file."""
    for file in store.glob("shards/*.jsonl"):
        data = bytearray(file.read_bytes())
        if value in data:
            data[data.index(value)] ^= 1
            file.write_bytes(data)
            return file
    raise AssertionError(f"{value!r} is in no shard")


# get, set, del


def test_get(run: Run, store: Path) -> None:
    assert run("get", "s", "ada") == (0, '{"name":"Ada","visits":1}\n', "")
    assert (
        run("get", "s", "ada", "--indent").out
        == json.dumps({"name": "Ada", "visits": 1}, indent=2) + "\n"
    )
    assert run("get", "s", "token").out == '"s3cr3t"\n'
    assert run("get", "s", "token", "--raw").out == "s3cr3t\n"
    assert run("get", "s", "ada", "--raw").out == '{"name":"Ada","visits":1}\n'
    assert run("get", "s", "été\n").out == '"é"\n'


def test_get_of_a_missing_key(run: Run, store: Path) -> None:
    assert run("get", "s", "eve") == (1, "", 'kvmap: s has no key "eve"\n')


def test_keys_are_str_unless_said_otherwise(run: Run, store: Path) -> None:
    assert run("get", "s", '["pair",1]').code == 1
    assert run("get", "s", '["pair", 1]', "--json-key").out == "[1.5,null]\n"
    assert run("set", "s", "17", "1").code == 0
    assert run("set", "s", "17", "2", "--json-key").code == 0
    with kvmap.open(store) as d:
        assert (d["17"], d[17]) == (1, 2)
    assert run("del", "s", "17", "null", "--json-key") == (1, "", "kvmap: s has no key null\n")
    with kvmap.open(store) as d:
        assert "17" in d
        assert 17 not in d
    for key in ("nope", '{"a":1}', "123456789012345678901234567890"):
        code, out, err = run("set", "s", key, "1", "--json-key")
        assert (code, out) == (2, "")
        assert key in err


def test_set(run: Run, tmp_path: Path) -> None:
    assert run("set", "new", "ada", '{"a": [1, 2.5, null]}') == (0, "", "")
    assert run("set", "new", "bob", "-", stdin=b'{"from": "stdin"}\n').code == 0
    assert run("set", "new", "text", "hello", "--text").code == 0
    assert run("set", "new", "piped", "-", "--text", stdin="é\nb\n".encode()).code == 0
    assert run("set", "new", "empty", "", "--text").code == 0
    with kvmap.open(tmp_path / "new") as d:
        assert dict(d) == {
            "ada": {"a": [1, 2.5, None]},
            "bob": {"from": "stdin"},
            "text": "hello",
            "piped": "é\nb",
            "empty": "",
        }


@pytest.mark.parametrize(
    ("time_", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400), ("2d", 172800)]
)
def test_set_with_ttl(run: Run, tmp_path: Path, time_: str, seconds: int) -> None:
    assert run("set", "s", "a", "1", "--ttl", time_).code == 0
    with kvmap.open(tmp_path / "s") as d:
        assert d.ttl("a") == pytest.approx(seconds, abs=10)


def test_set_takes_the_stores_default_ttl(run: Run, tmp_path: Path) -> None:
    kvmap.open(tmp_path / "s", ttl=60).close()
    run("set", "s", "default", "1")
    run("set", "s", "forever", "1", "--ttl", "forever")
    with kvmap.open(tmp_path / "s") as d:
        assert d.ttl("default") == pytest.approx(60, abs=10)
        assert d.ttl("forever") is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hello"], "not JSON.*--text"),
        (["NaN"], "not JSON"),
        (["123456789012345678901234567890"], "64 bits"),
        (["[1e999]"], "not JSON|not a number|inf"),
        (["1", "--ttl", "0"], "above 0"),
        (["1", "--ttl", "-5"], "ttl"),
        (["1", "--ttl", "soon"], "is no time"),
    ],
)
def test_set_refuses(run: Run, store: Path, arguments: list[str], said: str) -> None:
    before = files_of(store)

    code, out, err = run("set", "s", "ada", *arguments)

    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert re.search(said, err)
    assert files_of(store) == before


def test_del(run: Run, store: Path) -> None:
    assert run("del", "s", "ada", "eve", "token") == (1, "", 'kvmap: s has no key "eve"\n')
    assert run("del", "s", "-", stdin="été\\n\n".encode()).code == 1  # is no JSON here
    assert run("del", "s", "-", "--json-key", stdin='"été\\n"\n["pair",1]\n'.encode()).code == 0
    assert run("ls", "s").out == ""


# ls


def test_ls(run: Run, store: Path) -> None:
    # What would break the line, or is no str, is JSON.
    assert run("ls", "s") == (0, 'ada\ntoken\n["pair",1]\n"été\\n"\n', "")
    assert run("ls", "s", "--json-key").out == '"ada"\n"token"\n["pair",1]\n"été\\n"\n'
    assert run("ls", "s", "--prefix", "t").out == "token\n"
    assert run("ls", "s", "--prefix", "x") == (0, "", "")


def test_ls_long(run: Run, store: Path) -> None:
    lines = [line.split(maxsplit=2) for line in run("ls", "s", "--long").out.splitlines()]

    assert [(size, key) for size, _, key in lines] == [
        ("25", "ada"),
        ("8", "token"),
        ("10", '["pair",1]'),
        ("4", '"été\\n"'),
    ]
    assert [left for _, left, _ in lines] == ["-", "1h59m", "-", "-"]


def test_ls_json(run: Run, store: Path) -> None:
    found = [json.loads(line) for line in run("ls", "s", "--json").out.splitlines()]

    assert [each["key"] for each in found] == ["ada", "token", ["pair", 1], "été\n"]
    assert [each["bytes"] for each in found] == [25, 8, 10, 4]
    assert found[0]["expires"] is None
    assert found[1]["expires"] == pytest.approx(time.time() + 7200, abs=60)


def test_ls_of_many(run: Run, tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s") as d:
        d.update({f"k{n}": n for n in range(2500)})

    assert run("ls", "s").out.split() == [f"k{n}" for n in range(2500)]
    assert len(run("dump", "s").out.splitlines()) == 2500


# stats


def test_stats(run: Run, store: Path) -> None:
    with kvmap.open(store) as d:
        d["ada"] = d["ada"]
        for n in range(30):
            d.set(f"soon{n}", n, ttl=1000)
    code, out, err = run("stats", "s")

    assert (code, err) == (0, "")
    assert out.isascii()
    words = " ".join(out.split())
    assert "entries 34 31 with a deadline" in words
    assert "live and dead bytes by shard" in words
    assert "entries by size of value" in words
    assert "0 to 1 h ################" in words
    assert all(len(line) <= 80 for line in out.splitlines())


def test_stats_bars_are_in_proportion(run: Run, tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s", shards=1) as d:
        d.update({f"a{n}": 1 for n in range(100)})
        d.update({f"b{n}": "x" * 98 for n in range(50)})
        d["c"] = "y" * 1000
    rows = run("stats", "s").out.split("entries by size of value\n")[1].splitlines()

    bars = {row.split("  #")[0].strip(): row.count("#") for row in rows if "#" in row}
    assert list(bars) == ["1 B", "64 B to 127 B", "512 B to 1.0 kB"]
    assert bars["1 B"] == pytest.approx(2 * bars["64 B to 127 B"], abs=1)
    assert bars["512 B to 1.0 kB"] == 1  # what is there is seen


def test_stats_json(run: Run, store: Path) -> None:
    found = json.loads(run("stats", "s", "--json").out)

    assert found["entries"] == 4
    assert found["live_bytes"] == sum(shard["live"] for shard in found["shards"])
    assert found["deadlines"]["hours"][1] == 1


def test_stats_of_an_empty_store(run: Run, tmp_path: Path) -> None:
    kvmap.open(tmp_path / "s").close()
    code, out, _ = run("stats", "s")

    assert code == 0
    assert "entries             0" in out


# dump and load


def test_dump_and_load_give_the_same_store(run: Run, store: Path, tmp_path: Path) -> None:
    dumped = run("dump", "s")
    assert dumped.out.splitlines()[0] == '{"key":"ada","value":{"name":"Ada","visits":1}}'
    assert dumped.err == ""
    assert run("load", "copy", "-", stdin=dumped.out.encode()) == (0, "", "")

    with kvmap.open(store) as d, kvmap.open(tmp_path / "copy") as copy:
        assert list(copy.items()) == list(d.items())
        assert copy.ttl("token") == pytest.approx(d.ttl("token"), abs=1)
        assert copy.ttl("ada") is None
    assert run("dump", "copy").out == dumped.out
    assert run("dump", "s", "--prefix", "to").out.count("\n") == 1


LINES = b"""\
{"key":"a","value":1}
{"key":"b","value":2,"expires":1.5}
{"key":"c","value":3}

{"key":"d","value":4}

{"key":"e","value":tru}
{"key":"f","value":6}
"""


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

    assert (code, out) == (0, "")
    assert "skipped line 7: not JSON" in err
    assert "loaded 4 entries, 1 skipped, 1 expired already" in err
    assert run("ls", "s").out == "a\nc\nd\nf\n"


def test_load_reports_as_json(run: Run, tmp_path: Path) -> None:
    code, out, err = run("load", "s", "-", "--on-error", "skip", "--json", stdin=LINES)

    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["loaded"], found["expired"]) == (4, 1)
    assert found["skipped"][0]["entry"] == "line 7"


def test_load_one_object_with_ttl(run: Run, tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text('{\n  "ada": 1,\n  "bob": {"key": 1, "value": 2}\n}\n')

    assert run("load", "s", "o.json", "--ttl", "1h") == (0, "", "")

    with kvmap.open(tmp_path / "s") as d:
        assert dict(d) == {"ada": 1, "bob": {"key": 1, "value": 2}}
        assert d.ttl("ada") == pytest.approx(3600, abs=10)


def test_load_from_shelve_warns(run: Run, tmp_path: Path) -> None:
    with shelve.open(str(tmp_path / "old")) as shelf:
        shelf["ada"] = 1
        shelf["bytes"] = b"x"

    code, out, err = run("load", "s", "old", "--from", "shelve")
    assert (code, out) == (2, "")
    assert "old holds pickles, and reading a pickle runs whatever code is in it" in err
    assert "key 'bytes'" in err

    code, out, err = run("load", "s", "old", "--from", "shelve", "--on-error", "skip")
    assert (code, out) == (0, "")
    assert "skipped key 'bytes': " in err
    assert run("get", "s", "ada").out == "1\n"


@pytest.mark.parametrize("kind", ["sqlitedict", "diskcache"])
def test_load_from_other_libraries(run: Run, tmp_path: Path, kind: str) -> None:
    module = pytest.importorskip(kind)
    name = str(tmp_path / "old")
    old = module.SqliteDict(name, autocommit=True) if kind == "sqlitedict" else module.Cache(name)
    with old:
        old["ada"] = {"visits": 1}

    code, _, err = run("load", "s", "old", "--from", kind)

    assert code == 0
    assert "pickle" in err
    assert run("get", "s", "ada").out == '{"visits":1}\n'


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.json"], "nothing.json: No such file"),
        (["."], "Is a directory"),
        (["text"], "text: not JSON"),
        (["text", "--from", "jsonl"], "text, line 1: not JSON"),
        (["text", "--from", "shelve"], "text is no shelve store"),
        (["text", "--from", "sqlitedict"], "text: file is not a database"),
        (["text", "--from", "diskcache"], "text is no diskcache directory"),
        (["nothing", "--from", "shelve"], "nothing: No such file"),
        (["nothing", "--from", "sqlitedict"], "nothing: No such file"),
        (["nothing", "--from", "diskcache"], "nothing: No such file"),
        (["text", "--from", "csv"], "invalid choice"),
    ],
)
def test_load_from_what_it_is_not(
    run: Run, tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "text").write_text("once upon a time\n" * 100)

    code, out, err = run("load", "s", *arguments)

    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
    if "jsonl" not in arguments:
        assert not (tmp_path / "s").exists()


# The whole store


def test_verify_and_repair(run: Run, store: Path) -> None:
    assert run("verify", "s") == (0, "", "")
    assert json.loads(run("verify", "s", "--json").out)["ok"] is True

    file = damage(store, b"s3cr3t")
    code, out, err = run("verify", "s")
    assert code == 1
    assert out.startswith(f"shards/{file.name}, byte 0, ")
    assert "checksum" in out
    assert "damaged in 1 place; `kvmap repair s`" in err
    found = run("verify", "s", "--json")
    assert found.code == 1
    assert json.loads(found.out)["ok"] is False

    code, out, err = run("get", "s", "token")
    assert (code, out) == (1, "")
    assert str(file) in err
    assert "`kvmap verify s`" in err

    code, out, err = run("repair", "s")
    assert (code, err) == (0, "")
    assert f"shards/{file.name}" in out
    assert "damaged/" in out
    assert run("verify", "s").code == 0
    assert run("get", "s", "token").code == 1
    assert run("get", "s", "ada").code == 0
    assert json.loads(run("repair", "s", "--json").out)["aside"] == []


def test_repair_tells_what_is_gone_altogether(run: Run, store: Path) -> None:
    file = damage(store, b"s3cr3t")
    file.unlink()

    code, out, err = run("repair", "s")

    assert (code, err) == (0, "")
    assert out.startswith(f"shards/{file.name}, byte 0, ")
    assert out.endswith(" when it was closed; nothing to keep aside\n")


def test_a_broken_manifest_says_what_to_do(run: Run, store: Path) -> None:
    (store / "kvmap.json").write_text("{\n")

    code, out, err = run("get", "s", "ada")
    assert (code, out) == (2, "")
    assert err.endswith("kvmap.json, byte 2: not a manifest; `kvmap repair s` makes a new one\n")
    code, out, err = run("verify", "s")
    assert code == 1
    assert out.startswith("kvmap.json, byte 0, 2 bytes: byte 2: not a manifest; ")


def test_backup_of_a_damaged_store(run: Run, store: Path, tmp_path: Path) -> None:
    file = damage(store, b"s3cr3t")

    code, out, err = run("backup", "s", "copy")

    assert (code, out) == (1, "")
    assert f"{file}, byte 0: the checksum is wrong\n" in err
    assert "`kvmap verify s`" in err
    assert not (tmp_path / "copy").exists()


def test_repair_of_a_store_without_its_manifest(run: Run, store: Path) -> None:
    (store / "kvmap.json").unlink()
    assert run("get", "s", "ada").code == 2
    assert run("verify", "s").code == 1
    assert run("repair", "s").code == 0
    assert run("get", "s", "ada").code == 0


def test_compact(run: Run, store: Path) -> None:
    with kvmap.open(store) as d:
        for n in range(100):
            d["ada"] = n
    size = sum(map(len, files_of(store).values()))

    found = json.loads(run("compact", "s", "--json").out)

    assert found["freed_bytes"] > 0
    assert size - sum(map(len, files_of(store).values())) > found["freed_bytes"] // 2
    assert run("compact", "s") == (0, "", "")
    assert run("get", "s", "ada").out == "99\n"


def test_backup(run: Run, store: Path, tmp_path: Path) -> None:
    before = files_of(store)
    assert run("backup", "s", "copy") == (0, "", "")
    assert run("dump", "copy").out == run("dump", "s").out
    assert files_of(store) == before

    code, _, err = run("backup", "s", "copy")
    assert code == 2
    assert "copy: a backup needs a new or an empty directory" in err
    assert run("backup", "s", "s/inside").code == 2
    assert not (store / "inside").exists()


# A user's mistakes

READING = [
    ["get", "x", "ada"],
    ["ls", "x"],
    ["stats", "x"],
    ["verify", "x"],
    ["dump", "x"],
    ["backup", "x", "copy"],
]
CHANGING = [["del", "x", "ada"], ["compact", "x"], ["repair", "x"]]


def named(command: list[str]) -> str:
    return command[0]


@pytest.mark.parametrize("command", READING + CHANGING, ids=named)
def test_wrong_path_creates_nothing(run: Run, tmp_path: Path, command: list[str]) -> None:
    assert run(*command) == (2, "", "kvmap: there is no store at x\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*READING, *CHANGING, ["set", "x", "a", "1"]], ids=named)
def test_file_instead_of_a_directory(run: Run, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "x").write_text("precious")

    code, out, err = run(*command)

    assert (code, out) == (2, "")
    assert "x is not a directory; a store is one" in err
    assert files_of(tmp_path) == {"x": b"precious"}


@pytest.mark.parametrize("command", [*READING, *CHANGING, ["set", "x", "a", "1"]], ids=named)
def test_somebody_elses_directory(run: Run, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("precious")

    code, out, err = run(*command)

    assert (code, out) == (2, "")
    assert "no kvmap store" in err
    assert "flag" not in err  # is Python's word, not the command line's
    assert files_of(tmp_path) == {"x/thesis.txt": b"precious"}


@pytest.mark.parametrize("command", READING, ids=named)
def test_reading_changes_no_file(run: Run, store: Path, command: list[str]) -> None:
    before = files_of(store)

    assert run(*["s" if each == "x" else each for each in command]).code == 0

    assert files_of(store) == before


@pytest.mark.parametrize("command", [*READING, *CHANGING, ["set", "s", "a", "1"]], ids=named)
def test_store_in_use_says_by_whom(run: Run, store: Path, command: list[str]) -> None:
    with kvmap.open(store):
        code, out, err = run(*["s" if each == "x" else each for each in command])

    assert (code, out) == (2, "")
    assert f"s is open elsewhere: by process {os.getpid()} on " in err
    assert ", since 20" in err
    assert err.count("\n") == 1


def test_timeout_waits_for_the_owner(store: Path) -> None:
    d = kvmap.open(store)
    waiting = subprocess.Popen(
        [*COMMAND, "get", str(store), "ada", "--timeout", "30s"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with waiting:
        time.sleep(0.5)
        assert waiting.poll() is None
        d.close()
        out, err = waiting.communicate(timeout=30)
    assert (out, err, waiting.returncode) == (b'{"name":"Ada","visits":1}\n', b"", 0)


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["get"], ["get", "s"], ["ls", "--x"]])
def test_wrong_use(run: Run, arguments: list[str]) -> None:
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert "usage: kvmap" in err


def test_newer_format(run: Run, store: Path) -> None:
    manifest = store / "kvmap.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"format":1', b'"format":99'))

    code, _, err = run("get", "s", "ada")

    assert code == 2
    assert "format 99" in err


def test_every_command_has_help_with_an_example(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    names = [
        line.split()[0]
        for line in out.split("COMMAND\n")[1].split("\n\n")[0].splitlines()
        if line.startswith("    ") and not line.startswith("     ")
    ]
    assert " ".join(names) == "get set del ls stats verify repair compact dump load backup"
    for name in names:
        code, out, err = run(name, "--help")
        assert (code, err) == (0, "")
        assert f"\nexample:\n  kvmap {name} " in out
        assert all(len(line) <= 100 for line in out.splitlines())


def test_version(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("kvmap ")


# As a process of its own


def test_as_a_module(store: Path) -> None:
    assert real("get", store, "ada") == (0, '{"name":"Ada","visits":1}\n', "")
    assert real("get", store, "eve") == (1, "", f'kvmap: {store} has no key "eve"\n')
    assert real("get").code == 2


def test_result_is_utf8_whatever_the_locale(store: Path) -> None:
    environment = {**ENVIRONMENT, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*COMMAND, "dump", str(store)], env=environment, capture_output=True, check=True
    )
    assert "é".encode() in done.stdout


def test_reader_that_has_seen_enough(tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s") as d:
        d.update({f"k{n}": "x" * 100 for n in range(20_000)})
    command = subprocess.Popen(
        [*COMMAND, "dump", str(tmp_path / "s")],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert command.stdout is not None
    assert command.stderr is not None
    with command:
        assert command.stdout.readline().startswith(b'{"key":"k0"')
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_results_that_find_no_room(store: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "dump", str(store)],
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        2,
        b"kvmap: standard output: No space left on device\n",
    )


def test_full_disk(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(
        b"".join([b'{"key":%d,"value":"%b"}\n' % (n, b"x" * 1000) for n in range(20_000)])
    )
    # No file may grow beyond 200 kB: what a disk does that is full, one store earlier.
    code, out, err = real(
        "load",
        tmp_path / "s",
        tmp_path / "in.jsonl",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )

    assert (code, out) == (2, "")
    assert re.search(r"/s/shards/[0-9a-f]+\.jsonl: File too large", err)
    assert "entries loaded so far" in err
    assert err.count("\n") == 1
    loaded = int(err.split("stopped, ")[1].split(" ")[0].replace(",", ""))
    with kvmap.open(tmp_path / "s", "w") as d:
        assert list(d) == list(range(loaded))
        assert loaded > 1000
        d[0] = "still works"


@contextmanager
def without_privileges() -> Iterator[None]:
    """For root nothing is forbidden, so be nobody for a while."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


@pytest.mark.parametrize("command", [*READING, *CHANGING, ["set", "x", "a", "1"]], ids=named)
def test_no_permission(run: Run, store: Path, tmp_path: Path, command: list[str]) -> None:
    here = [str(store) if each == "x" else each for each in command]
    there = [str(tmp_path / "no" / "s") if each == "x" else each for each in command]
    run(*here)  # so that all modules are imported
    (tmp_path / "no").mkdir()
    os.chmod(tmp_path / "no", 0)
    os.chmod(store, 0)
    try:
        with without_privileges():
            results = run(*here), run(*there)
    finally:
        os.chmod(tmp_path / "no", 0o700)
        os.chmod(store, 0o700)

    for code, out, err in results:
        assert (code, out) == (2, "")
        assert "Permission denied" in err
        assert err.count("\n") == 1


def test_ctrl_c_leaves_the_store_whole(tmp_path: Path) -> None:
    # A shell that runs the tests in the background has them, and what they start, ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = subprocess.Popen(
        [*COMMAND, "load", str(tmp_path / "s"), "-"],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    signal.signal(signal.SIGINT, before)
    assert command.stdin is not None
    with command:
        # More than a batch, and no end: it waits for more when the signal comes.
        for n in range(importing.BATCH + 500):
            command.stdin.write(b'{"key":%d,"value":%d}\n' % (n, n * n))
        command.stdin.flush()
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("s/shards/*.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=30)

    assert (command.returncode, out) == (130, b"")
    assert b"2,000 entries loaded so far" in err
    assert err.endswith(b"kvmap: interrupted; the store is whole\n")
    assert b"Traceback" not in err
    with kvmap.open(tmp_path / "s", "w") as d:
        assert dict(d) == {n: n * n for n in range(importing.BATCH)}
    assert kvmap.verify(tmp_path / "s").ok


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("verify", "interrupted"),
        ("compact", "interrupted; the store is whole"),
        ("repair", "interrupted; nothing is lost, run it again"),
        ("backup", "interrupted; there is no copy"),
    ],
)
def test_ctrl_c_says_how_things_stand(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch, command: str, said: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with kvmap.open(store) as d:
        d["ada"] = 1
    before = files_of(store)
    monkeypatch.setattr(screen.Progress, "__call__", interrupt)

    result = run(command, "s", *["copy"] * (command == "backup"))

    assert result == (130, "", f"kvmap: {said}\n")
    assert kvmap.verify(store).ok
    assert command == "compact" or files_of(store) == before
    assert not (store.parent / "copy").exists()


def test_closed_standard_streams(store: Path) -> None:
    for redirect, code in ((">&-", 2), ("2>&-", 0), ("<&-", 0)):
        line = f'exec "$@" {redirect}'
        done = subprocess.run(
            ["bash", "-c", line, "bash", *COMMAND, "get", str(store), "ada"],
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
        )
        assert done.returncode == code
        assert b"Traceback" not in done.stderr


# On a terminal


def on_terminal(*arguments: object, without_rich: bool = False) -> tuple[int, str]:
    """What a person sees who runs a command: both streams, as they come."""
    code = "import sys; sys.modules['rich'] = None\n" if without_rich else ""
    code += "from kvmap.cli import main, screen; screen.Progress.PATIENCE = 0; "
    code += "screen.Progress.EVERY = 0; raise SystemExit(main())"
    terminal, end = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**ENVIRONMENT, "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
    ) as command:
        os.close(end)
        while select.select([terminal], [], [], 60)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # the other end was closed
                break
    os.close(terminal)
    return command.returncode, shown.decode()


@pytest.mark.parametrize("without_rich", [False, True], ids=["rich", "plain"])
def test_progress_on_a_terminal(tmp_path: Path, without_rich: bool) -> None:
    if not without_rich:
        pytest.importorskip("rich")
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"".join([b'{"key":%d,"value":0}\n' % n for n in range(20_000)]))

    code, shown = on_terminal("load", tmp_path / "s", file, without_rich=without_rich)

    assert code == 0
    assert "kB/s" in shown or "MB/s" in shown
    assert "left" in shown
    assert "%" in shown
    assert ("[#" in shown) == without_rich
    assert "kvmap: loaded 20,000 entries" in shown
    with kvmap.open(tmp_path / "s") as d:
        d[0] = 1
    for arguments in (["verify"], ["compact"], ["repair"], ["backup", tmp_path / "copy"]):
        command, *more = arguments
        shown = on_terminal(command, tmp_path / "s", *more, without_rich=without_rich)[1]
        assert "/s  " in shown, command


def test_no_bar_among_results(tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s") as d:
        d.update({n: n for n in range(2500)})

    _, shown = on_terminal("dump", tmp_path / "s", without_rich=True)

    assert [json.loads(line)["key"] for line in shown.splitlines()] == list(range(2500))


@pytest.mark.parametrize("without_rich", [False, True], ids=["rich", "plain"])
def test_bars_on_a_terminal(store: Path, without_rich: bool) -> None:
    if not without_rich:
        pytest.importorskip("rich")

    code, shown = on_terminal("stats", store, without_rich=without_rich)

    assert code == 0
    assert ("█" in shown) != without_rich
    assert ("###" in shown) == without_rich
    assert ("\x1b[32m" in shown) != without_rich


def test_a_key_commands_no_terminal(tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s") as d:
        d["\x1b[2Jgone\x9b"] = 1

    for arguments in (["ls"], ["ls", "--long"], ["ls", "--json-key"]):
        _, shown = on_terminal(*arguments, tmp_path / "s")
        assert "\x1b" not in shown
        assert "\x9b" not in shown
        assert "gone" in shown


def test_silent_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.Progress("load") as progress:
        progress.PATIENCE = progress.EVERY = 0  # type: ignore[misc]
        for n in range(1000):
            progress(n, 1000)

    assert capsys.readouterr() == ("", "")
