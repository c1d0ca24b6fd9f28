"""Commands on single entries: get, exists, ttl, set, incr, expire, del."""

import json
import re
import time
from pathlib import Path

import pytest
from commands import Run
from helpers import files_of

import kvmap

NOT_THERE = 'kvmap: s has no key "eve"\n'


def test_get(run: Run, store: Path) -> None:
    assert run("get", "s", "ada") == (0, '{"name":"Ada","visits":1}\n', "")
    found = json.dumps({"name": "Ada", "visits": 1}, indent=2)
    assert run("get", "s", "ada", "-i").out == found + "\n"
    assert run("get", "s", "token").out == '"s3cr3t"\n'
    assert run("get", "s", "token", "-r").out == "s3cr3t\n"
    assert run("get", "s", "ada", "--raw").out == '{"name":"Ada","visits":1}\n'
    assert run("get", "s", "été\n").out == '"é"\n'


def test_get_of_several_keys(run: Run, store: Path) -> None:
    assert run("get", "s", "token", "eve", "ada") == (
        1,
        '"s3cr3t"\n{"name":"Ada","visits":1}\n',
        NOT_THERE,
    )
    assert run("get", "s", "-g", "*o*", "-j").out == '{"key":"token","value":"s3cr3t"}\n'
    assert run("get", "s", "-r0", "-", stdin=b"token\0ada\0").out == (
        's3cr3t\0{"name":"Ada","visits":1}\0'
    )
    assert run("get", "s", "-r", "-", stdin=b"token\r\nada\n").out.startswith("s3cr3t\n{")
    assert run("get", "s", "-", stdin=b"") == (0, "", "")


def test_get_of_a_missing_key(run: Run, store: Path) -> None:
    assert run("get", "s", "eve") == (1, "", NOT_THERE)


def test_a_missing_key_names_the_one_that_may_be_meant(run: Run, store: Path) -> None:
    with kvmap.open(store) as d:
        d[17], d["18"] = 1, 2

    assert run("get", "s", "17").err == (
        'kvmap: s has no key "17"; 17, which is no str, is there: add -k\n'
    )
    assert run("del", "s", '["pair",1]').err.endswith("is there: add -k\n")
    assert run("ttl", "s", "18", "-k").err == (
        'kvmap: s has no key 18; the str "18" is there: leave out -k\n'
    )
    assert run("get", "s", "19").err == 'kvmap: s has no key "19"\n'


def test_keys_are_str_unless_said_otherwise(run: Run, store: Path) -> None:
    assert run("get", "s", '["pair",1]').code == 1
    assert run("get", "s", '["pair", 1]', "--json-key").out == "[1.5,null]\n"
    assert run("set", "s", "17", "1").code == 0
    assert run("set", "s", "17", "2", "-k").code == 0
    with kvmap.open(store) as d:
        assert (d["17"], d[17]) == (1, 2)
    assert run("del", "s", "17", "null", "-k") == (1, "", "kvmap: s has no key null\n")
    with kvmap.open(store) as d:
        assert "17" in d
        assert 17 not in d
    for key in ("nope", '{"a":1}', "123456789012345678901234567890"):
        code, out, err = run("set", "s", key, "1", "-k")
        assert (code, out) == (2, "")
        assert key in err
    assert "with -k a str is written '\"nope\"'" in run("get", "s", "nope", "-k").err
    err = run("get", "s", '("a", 1)', "-k").err
    assert "with -k a tuple is an array, such as '[\"ada\", 2]'" in err
    assert r"""with -k a str is written '"a\"b"'""" in run("get", "s", 'a"b', "-k").err


def test_options_may_stand_anywhere(run: Run, store: Path) -> None:
    for words in (["-k", "s", "17"], ["s", "-k", "17"], ["s", "17", "-k"]):
        assert run("set", *words, "1").code == 0
        assert run("get", *words).out == "1\n"
    assert run("del", "s", '"ada"', "-k", "17") == (0, "", "")
    assert run("expire", "s", "token", "-k", "1h").code == 2
    assert run("expire", "-k", "s", '"token"', "1h").code == 0
    assert run("set", "s", "--", "-x", "-1").code == 0
    assert run("get", "s", "--", "-x").out == "-1\n"


def test_exists(run: Run, store: Path) -> None:
    assert run("exists", "s", "ada") == (0, "", "")
    assert run("exists", "s", "ada", "token").code == 0
    assert run("exists", "s", "ada", "eve") == (1, "", "")
    assert run("exists", "s", "-k", '["pair",1]').code == 0
    assert run("exists", "s", "-g", "a*").code == 0
    assert run("exists", "s", "-g", "x*") == (1, "", "")
    assert run("exists", "s", "ada", "eve", "--json").out == (
        '{"key":"ada","exists":true}\n{"key":"eve","exists":false}\n'
    )


def test_ttl(run: Run, store: Path) -> None:
    with kvmap.open(store) as d:
        d.set("long", 1, ttl=90_061.5)
    assert run("ttl", "s", "ada") == (0, "forever\n", "")
    assert run("ttl", "s", "long").out in ("1d1h1m1s\n", "1d1h1m2s\n")
    assert run("ttl", "s", "eve") == (1, "", NOT_THERE)

    code, out, _ = run("ttl", "s", "token", "ada", "-j")

    assert code == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert found[0]["ttl"] == pytest.approx(7200, abs=60)
    assert found[0]["expires"] == pytest.approx(time.time() + 7200, abs=60)
    assert found[1] == {"key": "ada", "ttl": None, "expires": None}


def test_set(run: Run, tmp_path: Path) -> None:
    assert run("set", "new", "ada", '{"a": [1, 2.5, null]}') == (0, "", "")
    assert run("set", "new", "bob", "-", stdin=b'{"from": "stdin"}\n').code == 0
    assert run("set", "new", "text", "hello", "-s").code == 0
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


def test_set_of_a_new_key_only(run: Run, store: Path) -> None:
    assert run("set", "s", "ada", "2", "--new") == (1, "", 'kvmap: s has key "ada" already\n')
    assert run("set", "s", "eve", "2", "--new") == (0, "", "")
    assert run("get", "s", "ada", "eve").out == '{"name":"Ada","visits":1}\n2\n'


@pytest.mark.parametrize(
    ("time_", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1w1d1h1m1s", 694_861),
    ],
)
def test_durations(run: Run, tmp_path: Path, time_: str, seconds: int) -> None:
    assert run("set", "s", "a", "1", "-t", time_).code == 0
    assert run("incr", "s", "n", "--ttl", time_).code == 0
    assert run("set", "s", "b", "1").code == 0
    assert run("expire", "s", "b", time_).code == 0
    assert run("config", "s", "--ttl", time_).code == 0
    with kvmap.open(tmp_path / "s") as d:
        for key in ("a", "n", "b"):
            assert d.ttl(key) == pytest.approx(seconds, abs=10)
        assert d.settings.ttl == seconds


def test_set_takes_the_stores_default_ttl(run: Run, tmp_path: Path) -> None:
    kvmap.open(tmp_path / "s", ttl=60).close()
    run("set", "s", "default", "1")
    run("set", "s", "forever", "1", "-t", "forever")
    run("set", "s", "kept", "1", "-t", "1h")
    run("set", "s", "kept", "2", "--keep-ttl")
    with kvmap.open(tmp_path / "s") as d:
        assert d.ttl("default") == pytest.approx(60, abs=10)
        assert d.ttl("forever") is None
        assert d.ttl("kept") == pytest.approx(3600, abs=10)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["hello"], "not JSON.*--text"),
        (["NaN"], "not JSON"),
        (["123456789012345678901234567890"], "64 bits"),
        (["[1e999]"], "not JSON|not a number|inf"),
        (["1", "--ttl", "0"], "above 0"),
        (["1", "--ttl", "-5"], "ttl"),
        (["1", "--ttl", "soon"], "is no time; write 90, 90s, 15m, 1h30m or 7d"),
        (["1", "--ttl", "30m1h"], "is no time"),
        (["1", "--ttl", ""], "is no time"),
    ],
)
def test_set_refuses(run: Run, store: Path, arguments: list[str], reason: str) -> None:
    before = files_of(store)

    code, out, err = run("set", "s", "ada", *arguments)

    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert re.search(reason, err)
    assert {**files_of(store), "lock": b"", "kvmap.json": b""} == {
        **before,
        "lock": b"",
        "kvmap.json": b"",
    }


def test_incr(run: Run, store: Path) -> None:
    assert run("incr", "s", "visits") == (0, "1\n", "")
    assert run("incr", "s", "visits", "41").out == "42\n"
    assert run("incr", "s", "visits", "-2").out == "40\n"
    assert run("incr", "s", "visits", "0.5").out == "40.5\n"
    assert run("incr", "s", "token", "1").code == 2
    code, out, err = run("incr", "s", "ada")
    assert (code, out) == (2, "")
    assert err.startswith("kvmap: the value of key 'ada' is a dict")
    for by in ("x", "nan", "inf", "1e999"):
        assert run("incr", "s", "visits", by).code == 2
    assert run("get", "s", "visits").out == "40.5\n"


def test_expire(run: Run, store: Path) -> None:
    assert run("expire", "s", "ada", "eve", "1h30m") == (1, "", NOT_THERE)
    assert run("expire", "s", "token", "forever") == (0, "", "")
    assert run("expire", "s", "-k", '["pair",1]', "10m") == (0, "", "")
    with kvmap.open(store) as d:
        assert d.ttl("ada") == pytest.approx(5400, abs=10)
        assert d.ttl("token") is None
        assert d.ttl(("pair", 1)) == pytest.approx(600, abs=10)
        assert list(d) == ["ada", "token", ("pair", 1), "été\n"]
    assert run("expire", "s", "-g", "*a*", "1m") == (0, "", "")
    with kvmap.open(store) as d:
        assert d.ttl("ada") == pytest.approx(60, abs=10)
        assert d.ttl(("pair", 1)) == pytest.approx(60, abs=10)
        assert d.ttl("token") is None
    assert run("expire", "s", "ada", "0").code == 2


def test_del(run: Run, store: Path) -> None:
    assert run("del", "s", "ada", "eve", "token") == (1, "", NOT_THERE)
    assert run("del", "s", "-", stdin="été\\n\n".encode()).code == 1  # is no JSON here
    assert run("del", "s", "-", "-k", stdin='"été\\n"\n["pair",1]\n'.encode()).code == 0
    assert run("ls", "s").out == ""


def test_del_by_pattern(run: Run, store: Path) -> None:
    assert run("del", "s", "-g", "t*") == (0, "", "")
    assert run("ls", "s", "-0").out.split("\0") == ["ada", '["pair",1]', "été\n", ""]
    assert run("del", "s", "ada", "-g", "t*").code == 2
    assert run("del", "s").code == 2
    assert run("count", "s").out == "3\n"


def test_keys_between_zero_bytes(run: Run, store: Path) -> None:
    listed = run("ls", "s", "-0", "-p", "été").out
    assert listed == "été\n\0"
    assert run("del", "s", "-0", "-", stdin=listed.encode()) == (0, "", "")
    assert run("count", "s").out == "3\n"


def test_a_store_with_the_extended_codec(run: Run, tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s", codec="extended") as d:
        d["tags"] = {"a", "b"}
        d["raw"] = b"\x00\x01"

    assert run("get", "s", "tags").out == '{"$set":["a","b"]}\n'
    assert run("get", "s", "raw", "-r").out == "\x00\x01\n"
    assert run("set", "s", "pair", '{"$tuple": [1, 2]}').code == 0
    assert run("set", "s", "wrong", '{"$gt": 1}').code == 2
    dumped = run("dump", "s").out
    assert run("load", "copy", "-", "--codec", "extended", stdin=dumped.encode()).code == 0
    assert run("load", "third", "copy").code == 0
    for name in ("s", "copy", "third"):
        with kvmap.open(tmp_path / name) as d:
            assert dict(d) == {"tags": {"a", "b"}, "raw": b"\x00\x01", "pair": (1, 2)}
    assert run("load", "copy", "-", "--codec", "json", stdin=b"").code == 2
