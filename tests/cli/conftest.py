"""Fixtures of the command line's tests."""

import io
import sys
from pathlib import Path

import pytest
from commands import Result, Run

import kvmap
from kvmap.cli import main


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


@pytest.fixture
def hinted(store: Path) -> Path:
    """The store "s" with a hint file, so that damage is met when a value is read."""
    with kvmap.open(store) as d:
        d.load()
        d["filler"] = "x" * 600_000
    assert (store / "index.jsonl").exists()
    return store
