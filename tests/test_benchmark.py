"""The benchmark: it runs, tells machines and people the same, and its checks can fail."""

import doctest
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from helpers import directory_in_memory

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SHORT = ("--rounds", "1", "--ops", "200", "--seconds", "0.02")


def benchmark(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "benchmark.py"), *SHORT, "--dir", directory, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a benchmark keeps its stores: what a disk costs is not what is tested."""
    with directory_in_memory() as folder:
        yield folder


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    from benchmarking import report

    return report


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    from benchmarking import limits

    return limits


def test_every_operation_of_every_contestant_is_in_the_json_the_table_and_the_chart(
    folder: Path, report: ModuleType
) -> None:
    chart = folder / "chart.svg"
    result = folder / "result.json"
    asked = ("--keys", "500", "--size", "100", "--only", "kvmap,dict,shelve")

    done = benchmark(folder, *asked, "--json", str(result), "--plot", str(chart))

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress where nobody is looking
    (run,) = json.loads(result.read_text())["runs"]
    assert (run["keys"], run["size"], run["rounds"]) == (500, 100, 1)
    assert run["held"]["kvmap"] == 500
    assert set(run["medians"]) == {"kvmap", "dict", "shelve"}
    assert set(run["medians"]["kvmap"]) >= {*report.OPERATIONS, *report.WEIGHTS, *report.PROMISES}
    assert all(figure > 0 for row, figure in run["medians"]["kvmap"].items() if row != "memory, MB")
    assert set(run["ratios"]["kvmap"].values()) == {1.0}
    assert set(run["medians"]["dict"]) >= set(report.EACH_KEY)
    for row in (*report.OPERATIONS, *report.WEIGHTS):
        assert row in done.stdout
    written = "".join(ElementTree.fromstring(chart.read_text(encoding="utf-8")).itertext())
    for word in (*report.OPERATIONS, "kvmap", "dict", "shelve", "prefers-color-scheme: dark"):
        assert word in written
    assert sorted(path.name for path in folder.iterdir()) == ["chart.svg", "result.json"]


def test_a_chart_of_some_operations(folder: Path) -> None:
    chart = folder / "chart.svg"
    asked = ("--keys", "200", "--only", "kvmap,dict", "--plot", str(chart))
    done = benchmark(folder, *asked, "--panels", "set", "in, hit")
    assert done.returncode == 0, done.stderr
    assert re.findall(r'class="panel"[^>]*>([^<]*)', chart.read_text()) == ["set", "in, hit"]


def test_the_charts_figures_read_as_its_examples_say(report: ModuleType) -> None:
    from benchmarking import chart

    assert doctest.testmod(chart) == (0, 2)


def test_json_to_stdout_is_nothing_but_json(folder: Path) -> None:
    done = benchmark(folder, "--keys", "50", "--only", "dict", "--json", "-")

    assert json.loads(done.stdout)["runs"][0]["medians"]["dict"]["get"] > 0
    assert "microseconds" in done.stderr


def test_a_saved_run_is_shown_checked_and_drawn_without_measuring(folder: Path) -> None:
    asked = ("--keys", "100", "--only", "kvmap,dict")
    first = benchmark(folder, *asked, "--json", str(folder / "all.json"))
    result = json.loads((folder / "all.json").read_text())
    (run,) = result["runs"]
    result["runs"].append({**run, "size": 16_000, "keys": 12_345})
    run["medians"]["kvmap"]["len"] = 11.0  # and the limit is 10
    (folder / "all.json").write_text(json.dumps(result))

    chart = folder / "chart.svg"
    page = folder / "tables.md"
    saved = ("--from", str(folder / "all.json"), "--size", "16000", "--plot", str(chart))
    saved += ("--markdown", str(page))
    done = benchmark(folder, *saved, "--check")

    assert first.stderr == ""
    assert done.returncode == 1, done.stderr
    assert "100 records of 100 B" in done.stdout
    assert re.search(r"^len +11.0 us +10  MISS$", done.stdout, re.MULTILINE)
    assert re.search(r"^reopen \+ len .* 15  (pass|MISS)$", done.stdout, re.MULTILINE)
    assert "12,345 records of 16,000 B" in chart.read_text(encoding="utf-8")
    assert "| µs; 12,345 of 16,000 B | kvmap | dict |" in page.read_text(encoding="utf-8")
    assert "| len | 11.0 | 0." in page.read_text(encoding="utf-8")


def test_at_size_every_part_is_measured_and_checked(folder: Path, limits: ModuleType) -> None:
    result = folder / "result.json"
    asked = ("--scale", "--keys", "2000", "--only", "kvmap,shelve", "--rounds", "1")

    done = benchmark(folder, *asked, "--json", str(result))

    assert done.returncode == 0, done.stderr
    scale = json.loads(result.read_text())["scale"]
    assert len(scale["parts"]) == 10
    assert set(scale["written"]) == {"kvmap"}
    assert len(scale["checks"]) == len(limits.checks_at_size(scale["parts"]))
    for check in scale["checks"]:
        assert check["what"] in done.stdout
    syncs = scale["parts"]["batch_syncs"]
    for batch in ("transaction", "set_many"):
        assert syncs[f"{batch}: their syncs"] == syncs[f"{batch}: shards touched"] > 1


def test_an_unknown_contestant_is_refused(folder: Path) -> None:
    done = benchmark(folder, "--only", "kvmap,oracle")

    assert done.returncode == 2
    assert "oracle is none of kvmap, dict, lmdb" in done.stderr


def test_a_missed_limit_is_shown(limits: ModuleType, report: ModuleType) -> None:
    others = {"lmdb": 1.0, "rocksdict": 2.0, "dict": 1.0, "shelve": 30.0, "diskcache": 90.0}
    table: dict[str, dict[str, float]] = {
        name: dict.fromkeys(report.OPERATIONS, time) for name, time in others.items()
    }
    table["kvmap"] = dict.fromkeys(report.OPERATIONS, 0.2)
    passed = limits.checks(table, 100)

    table["kvmap"] |= {"get": 0.9, "set, sync=True": 140.0, "one fdatasync": 100.0}
    missed = [check for check in limits.checks(table, 100) if not check.passed]

    assert all(check.passed for check in passed)
    assert [check.what for check in missed] == ["get / engine", "set, sync=True / one fdatasync"]
    shown = report.show_checks(limits.as_json(missed))
    assert "get / engine" in shown
    assert "0 of 2 passed" in shown


def test_a_check_compares_with_the_fastest_engine_and_the_fastest_rival(
    limits: ModuleType, report: ModuleType
) -> None:
    times = {"kvmap": 1.0, "lmdb": 2.0, "plyvel": 4.0, "writemap": 1.0, "shelve": 5.0, "tinydb": 9}
    table = {name: dict.fromkeys(report.OPERATIONS, time) for name, time in times.items()}

    measured = {check.what: check.measured for check in limits.checks(table, 100)}

    assert measured["set / engine"] == 1 / 2
    assert measured["set / fastest rival"] == 1 / 5


def test_the_limits_depend_on_the_size(limits: ModuleType, report: ModuleType) -> None:
    table = {name: dict.fromkeys(report.OPERATIONS, 1.0) for name in ("kvmap", "lmdb", "shelve")}

    def limit(size: int, what: str) -> float:
        (found,) = [check for check in limits.checks(table, size) if check.what == what]
        return float(found.limit)

    assert [limit(size, "set / engine") for _, size in limits.TABLE] == [1.7, 1.1, 1.2]
    assert [limit(size, "set / fastest rival") for _, size in limits.TABLE] == [0.2, 1.0, 1.0]
    assert limit(1_000, "in, hit / fastest rival") == limits.LEVEL


def test_ten_million_keys_are_figures_without_limits(limits: ModuleType) -> None:
    assert limits.checks_at_size({"at size": {"get": 1.0}}) == []
