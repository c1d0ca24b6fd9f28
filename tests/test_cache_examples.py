"""The examples of a cache run as their docstrings say, and show what they are about."""

import doctest
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from helpers import directory_in_memory

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run(tmp_path):
    """Runs a script of examples/ that leaves nothing outside of `tmp_path`; returns its output."""

    def run(script, *arguments, temporary=tmp_path):
        # -W error makes a failure of any warning, files left open included. Development mode is no
        # option: in it, asyncio reports each step that takes long on a busy machine.
        done = subprocess.run(
            [
                sys.executable,
                "-W",
                "error",
                str(ROOT / "examples" / script),
                *arguments,
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.stderr, done.returncode) == ("", 0)
        return done.stdout

    return run


def check_output(shown, expected):
    if not doctest.OutputChecker().check_output(expected, shown, doctest.ELLIPSIS):
        assert shown == expected  # is false, and shows both


def test_llm_cache(run):
    check_output(
        run("llm_cache.py"),
        """\
after the kill      20 questions, the model is asked 0x
10 tasks at once    1 question, the model is asked 1x
refresh             the model is asked 1x
typed               Answer(text='Why? That depends (1).', model='small', tokens=4)
500 questions more  50 answers are kept, ... were evicted
hit ratio           7...%
""",
    )


def test_page_cache(run):
    check_output(
        run("page_cache.py"),
        """\
first run   3 pages, slow; the server was asked 2x
second run  3 pages, fast; the server was asked 2x
2 s later   0 pages kept
fetch       <h1>/</h1>
            the server was asked 3x
30 more     1... pages kept, 1... evicted
            the server was asked 33x
""",
    )


def test_eviction(run, tmp_path):
    with directory_in_memory() as folder:  # for the files of other caches
        shown = run("eviction.py", "--quick", "--svg", "hits.svg", temporary=folder)

    head, line, *rows = [
        [cell.strip().strip("*") for cell in line.split("|")[1:-1]] for line in shown.splitlines()
    ]
    table = {row[0]: dict(zip(head[1:], map(float, row[1:]), strict=True)) for row in rows}
    assert set(line[1:]) == {"---:"}
    assert list(table)[:2] == ["kvmap sieve", "kvmap oldest"]
    sieve, oldest = table["kvmap sieve"], table["kvmap oldest"]
    for requests in ("Zipf 0.8", "Zipf 1.0", "Zipf 1.2", "Zipf 1.0 and scans", "source words"):
        assert oldest[requests] < sieve[requests]
    if "cachetools LRU" in table:
        for requests in ("Zipf 0.8", "Zipf 1.0", "Zipf 1.2", "Zipf 1.0 and scans"):
            assert table["cachetools LRU"][requests] < sieve[requests]
    picture = ET.parse(tmp_path / "hits.svg").getroot()
    bars = [bar for bar in picture.iter(f"{SVG}rect") if bar.get("class") in ("kvmap", "other")]
    assert len(bars) == len(table) * len(sieve)
    assert all(float(bar.get("width", "-1")) >= 0 for bar in bars)
