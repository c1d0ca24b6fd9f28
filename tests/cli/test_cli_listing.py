"""Commands on all entries: ls, count, dump, stats."""

import json
import time
from pathlib import Path

import pytest
from commands import Run, damage

import kvmap


def test_ls(run: Run, store: Path) -> None:
    # What would break the line, or is no str, is JSON.
    assert run("ls", "s") == (0, 'ada\ntoken\n["pair",1]\n"été\\n"\n', "")
    assert run("ls", "s", "-k").out == '"ada"\n"token"\n["pair",1]\n"été\\n"\n'
    assert run("ls", "s", "-p", "t").out == "token\n"
    assert run("ls", "s", "-p", "x") == (0, "", "")
    assert run("ls", "s", "-n", "2").out == "ada\ntoken\n"
    assert run("ls", "s", "-n", "0") == (0, "", "")
    assert run("ls", "s", "-r", "-n", "3").out == '"été\\n"\n["pair",1]\ntoken\n'


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["a", "ab", "b", "17", "[1,2]"]),
        ("a*", ["a", "ab"]),
        ("?", ["a", "b"]),
        ("[ab]", ["a", "b"]),
        ("[!a]", ["b"]),
        ("A", []),
        ("1*", ["17"]),
        ("[[]*", ["[1,2]"]),
    ],
)
def test_patterns(run: Run, tmp_path: Path, pattern: str, found: list[str]) -> None:
    with kvmap.open(tmp_path / "s") as d:
        d.update({"a": 1, "ab": 2, "b": 3, 17: 4, (1, 2): 5})

    assert run("ls", "s", pattern).out.splitlines() == found
    assert run("count", "s", pattern).out == f"{len(found)}\n"
    assert len(run("dump", "s", pattern).out.splitlines()) == len(found)
    assert len(run("get", "s", "-g", pattern).out.splitlines()) == len(found)


def test_ls_long(run: Run, store: Path) -> None:
    lines = [line.split(maxsplit=2) for line in run("ls", "s", "-l").out.splitlines()]

    assert [(size, key) for size, _, key in lines] == [
        ("25", "ada"),
        ("8", "token"),
        ("10", '["pair",1]'),
        ("4", '"été\\n"'),
    ]
    assert [left for _, left, _ in lines] == ["-", "1h59m", "-", "-"]


def test_ls_json(run: Run, store: Path) -> None:
    found = [json.loads(line) for line in run("ls", "s", "-j").out.splitlines()]

    assert [each["key"] for each in found] == ["ada", "token", ["pair", 1], "été\n"]
    assert [each["bytes"] for each in found] == [25, 8, 10, 4]
    assert found[0]["expires"] is None
    assert found[1]["expires"] == pytest.approx(time.time() + 7200, abs=60)


def test_ls_long_goes_on_after_damage(run: Run, hinted: Path) -> None:
    damage(hinted, b"s3cr3t")

    code, out, err = run("ls", "s", "-l")

    assert code == 1
    assert [line.split(maxsplit=2)[2] for line in out.splitlines()] == [
        "ada",
        '["pair",1]',
        '"été\\n"',
        "filler",
    ]
    assert "key 'token'" in err


def test_ls_of_many(run: Run, tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s") as d:
        d.update({f"k{n}": n for n in range(2500)})

    assert run("ls", "s").out.split() == [f"k{n}" for n in range(2500)]
    assert len(run("dump", "s").out.splitlines()) == 2500
    assert run("count", "s").out == "2500\n"
    assert run("count", "s", "-p", "k24").out == "111\n"


# dump


def test_dump(run: Run, store: Path) -> None:
    code, out, err = run("dump", "s")

    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == '{"key":"ada","value":{"name":"Ada","visits":1},"expires":null}'
    assert json.loads(lines[1])["expires"] == pytest.approx(time.time() + 7200, abs=60)
    assert run("dump", "s", "-p", "to").out.count("\n") == 1


def test_dump_leaves_out_what_is_damaged_and_says_so(run: Run, hinted: Path) -> None:
    damage(hinted, b"s3cr3t")

    code, out, err = run("dump", "s")

    assert code == 1
    assert [json.loads(line)["key"] for line in out.splitlines()] == [
        "ada",
        ["pair", 1],
        "été\n",
        "filler",
    ]
    assert "key 'token': " in err
    assert "`kvmap verify s`" in err


def test_dump_as_json(run: Run, store: Path) -> None:
    found = json.loads(run("dump", "s", "--as", "json", "-p", "").out)
    assert found == {"ada": {"name": "Ada", "visits": 1}, "token": "s3cr3t", "été\n": "é"}
    assert run("dump", "s", "--as", "json", "x*").out == "{\n}\n"
    code, _, err = run("dump", "s", "--as", "json")
    assert code == 2
    assert 'key ["pair",1] is no str' in err


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl"])
def test_what_dump_writes_load_reads(run: Run, store: Path, tmp_path: Path, form: str) -> None:
    values = ["", "17", '"x"', 'a,b\t"c"\r\nd', "hello", 17, 1.5, None, True, [1, {"a": "b"}], "[1"]
    with kvmap.open(store) as d:
        del d["pair", 1]
        d.update({f'k,{n}\t"': value for n, value in enumerate(values)})
    dumped = run("dump", "s", "--as", form).out.encode()

    assert run("load", "copy", "-", "--from", form, "--json-cells", stdin=dumped) == (0, "", "")

    with kvmap.open(store) as d, kvmap.open(tmp_path / "copy") as copy:
        assert list(copy.items()) == list(d.items())
        assert copy.ttl("token") == pytest.approx(d.ttl("token"), abs=0.1)
        assert copy.ttl("ada") is None


# stats


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A store "s" with keys of several kinds."""
    with kvmap.open(tmp_path / "s") as d:
        d.update({f"user:{n}": {"visits": n} for n in range(30)})
        d.update({f"https://example.org/{n}": "x" * 100 for n in range(10)})
        d.update({("job", n): n for n in range(5)})
        d.update({17: "int", "plain": None, "big:one": "y" * 3000})
        for n in range(20):
            d.set(f"tmp:{n}", n, ttl=30 + 400 * n)
        d.set("tmp:year", 1, ttl=90 * 86_400)
        d["user:0"] = {"visits": -1}
    return tmp_path / "s"


def test_stats(run: Run, several: Path) -> None:
    code, out, err = run("stats", "s")

    assert (code, err) == (0, "")
    assert out.isascii()
    assert all(len(line) <= 80 for line in out.splitlines())
    words = " ".join(out.split())
    assert "entries 69 21 with a deadline" in words
    title, *rows = out.split("\n\n")[2].splitlines()
    assert title == "largest entries, key and value"
    assert rows[0].split()[0] == "big:one"
    assert rows[0].endswith("3.0 kB")
    title, *rows = out.split("\n\n")[3].splitlines()
    assert title == "bytes by prefix of the key"
    assert [row.rsplit(" in ")[1] for row in rows[:3]] == ["1", "10", "30"]
    assert [row.split()[0] for row in rows[:3]] == ["big:", "https://example.org/", "user:"]
    title, *rows = out.split("\n\n")[4].splitlines()
    assert title == "entries that expire, by time from now"
    assert [row.split()[-1] for row in rows] == ["1", "1", "7", "11", "0", "0", "0", "1"]
    assert "shard" not in out


def test_stats_bars_are_in_proportion(run: Run, tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s", shards=1) as d:
        d.update({f"a{n}": 1 for n in range(100)})
        d.update({f"b{n}": "x" * 98 for n in range(50)})
        d["c"] = "y" * 1000
    chart = run("stats", "s", "-q").out.split("entries by size of value\n")[1].split("\n\n")[0]

    bars = {row.split("  #")[0].strip(): row.count("#") for row in chart.splitlines() if "#" in row}
    assert list(bars) == ["1 B", "64 B to 127 B", "512 B to 1.0 kB"]
    assert bars["1 B"] == pytest.approx(2 * bars["64 B to 127 B"], abs=1)
    assert bars["512 B to 1.0 kB"] == 1  # what is there is seen


def test_stats_json(run: Run, several: Path) -> None:
    found = json.loads(run("stats", "s", "-j", "-n", "3").out)

    assert found["entries"] == 69
    assert found["live_bytes"] == sum(part["live"] for part in found["parts"])
    assert found["largest"][0] == {"key": "big:one", "bytes": 3011}
    assert len(found["largest"]) == len(found["prefixes"]) == 3
    assert found["prefixes"][1]["prefix"] == "https://example.org/"
    assert sum(each["entries"] for each in found["expiring"]) == 21
    assert found["settings"]["codec"] == "json"


def test_stats_without_reading_values(run: Run, several: Path) -> None:
    with kvmap.open(several) as d:
        d.load()
        d["filler"] = "z" * 600_000  # from here on there is a hint file
    damage(several, b"y" * 100)

    code, out, err = run("stats", "s", "-q")

    assert (code, err) == (0, "")
    assert "largest" not in out
    assert "0h to 1h ###" in " ".join(out.split())
    assert "after 24h" in out
    assert "largest" not in json.loads(run("stats", "s", "-q", "-j").out)
    code, out, err = run("stats", "s")
    assert code == 1
    assert "key 'big:one'" in err


def test_stats_of_an_empty_store(run: Run, tmp_path: Path) -> None:
    kvmap.open(tmp_path / "s").close()
    code, out, _ = run("stats", "s")

    assert code == 0
    assert "entries             0" in out
