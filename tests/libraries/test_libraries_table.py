"""The table "Works with" has a line for each library, and a test tries what each line says."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT

PAGE = (ROOT / "examples" / "README.md").read_text("utf-8")
SECTION = PAGE.split("\n## Works with\n")[1].split("\n## ")[0]
LINES = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", SECTION, re.M)[1:])
FILES = {
    path.stem.removeprefix("test_libraries_"): path.read_text("utf-8")
    for path in (ROOT / "tests" / "libraries").glob("test_*.py")
    if path.name != "test_libraries_table.py"
}
TRIED_IN = {
    "cachelib": "cachelib",
    "cachetools": "cachetools",
    "dogpile.cache": "dogpile",
    "FastAPI": "fastapi",
    "Flask-Session": "cachelib",
    "pandas": "pandas",
    "py-key-value-aio, FastMCP": "key_value",
    "pydantic": "pydantic",
    "requests-cache": "requests_cache",
    "tinydb": "tinydb",
    "zict": "zict",
}


def without_spaces(text: str) -> str:
    return re.sub(r"\s+|recipes\.", "", text)


def test_each_line_has_a_file_of_tests_and_each_file_a_line() -> None:
    assert LINES.keys() == TRIED_IN.keys()
    assert set(FILES) == set(TRIED_IN.values())
    readme = (ROOT / "README.md").read_text("utf-8").split("\n## Works with\n")[1]
    for name in LINES:
        assert name.partition(",")[0] in readme.split("\n## ")[0]


@pytest.mark.parametrize("library", LINES)
def test_the_code_of_each_line_is_what_its_test_runs(library: str) -> None:
    codes = [code for code in re.findall(r"`([^`]+)`", LINES[library]) if len(code) > 7]
    assert codes
    tests = without_spaces(FILES[TRIED_IN[library]])
    for code in codes:
        assert without_spaces(code) in tests, code


def test_the_example_runs() -> None:
    for name in ("cachelib", "tinydb", "key_value.aio.stores.base", "requests_cache"):
        pytest.importorskip(name)
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "with_libraries.py")],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == (
        "cachelib          <html>, for 60 s\n"
        'tinydb            {"_default": {"1": {"name": "Ada"}}}\n'
        "py-key-value-aio  {'visits': 1}\n"
        "requests-cache    a session over kvmap\n"
    )
