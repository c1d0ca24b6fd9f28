"""Every code block of the README runs, in order, as its reader would run it."""

from __future__ import annotations

import inspect
import os
import pty
import pydoc
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import kvmap
from kvmap.cli import parser

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text()


def blocks(kind: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == kind]


def test_the_python_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks("python")))
    ran = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    # The first block's output is printed below it.
    assert ran.stdout.startswith(blocks("")[0])


SESSION, *OTHERS = sorted(blocks("console"), key=lambda block: "$ kvmap" not in block)


@pytest.mark.parametrize("command", re.findall(r"^\$ (.*)$", "\n".join(OTHERS), re.M))
def test_the_shell_lines_work_on_a_store(tmp_path: Path, command: str) -> None:
    tool = command.split(maxsplit=1)[0]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on this machine")
    first = tmp_path / "first.py"
    first.write_text(blocks("python")[0])
    subprocess.run([sys.executable, first.name], cwd=tmp_path, check=True, capture_output=True)
    ran = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout


def on_terminal(command: str, folder: Path) -> str:
    """What a person sees who runs a command there."""
    terminal, end = pty.openpty()
    shown = b""
    with subprocess.Popen(
        ["bash", "-c", f'kvmap() {{ {shlex.quote(sys.executable)} -m kvmap "$@"; }}; {command}'],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(README.parent),
            "COLUMNS": "80",
            "TERM": "xterm",
        },
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
    ):
        os.close(end)
        try:
            while data := os.read(terminal, 65536):
                shown += data
        except OSError:  # the other end was closed
            pass
        finally:
            os.close(terminal)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    return re.sub(r" *\r?\n", "\n", text)


def test_the_session_on_the_command_line_goes_as_shown(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    ran = ""
    for command in re.findall(r"^\$ (.*)$", SESSION, re.M):
        ran += f"$ {command}\n" + on_terminal(command, tmp_path)
    assert shape(ran) == shape(SESSION)


def shape(text: str) -> str:
    """The text without what differs from run to run: a deadline has more digits or fewer."""
    return re.sub(r" +", " ", re.sub(r"[█░]+", "█", re.sub(r"\d+\.\d kB", "N kB", text)))


COMING_FROM = TEXT.split("\n## Coming from\n")[1].split("\n## ")[0].split("\n### ")[1:]


@pytest.mark.parametrize("section", COMING_FROM, ids=[each.split()[0] for each in COMING_FROM])
def test_each_call_that_takes_anothers_place_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        **{name: getattr(kvmap, name) for name in kvmap.__all__ if name.endswith("Error")},
        **{"kvmap": kvmap, "shutil": shutil, "asdict": asdict},
        **{"key": "ada", "value": {"visits": 1}, "default": None, "items": {"bob": 1}},
    }
    cells = re.findall(r"^\| .* \| (.*) \|$", section, re.M)
    assert len(cells) > 5
    try:
        for code in re.findall(r"`(.*?)`", "\n".join(cells)):
            if code.startswith("d = ") and "d" in names:
                names["d"].close()
            exec(code + "\ndef called(): return 1" * code.startswith("@"), names)
    finally:
        names["d"].close()


def test_help_is_a_manual_of_every_public_name() -> None:
    manual = pydoc.plain(pydoc.render_doc(kvmap))
    for name in kvmap.__all__:
        assert f"class {name}(" in manual or f"    {name}(" in manual, name
    methods = {name: each for name, each in vars(kvmap.KVMap).items() if name[0] != "_"}
    for name, each in methods.items():
        shown = inspect.getdoc(each) or ""
        assert ">>>" in shown or isinstance(each, property), name


def test_the_commands_that_move_entries_in_are_right() -> None:
    found = re.findall(r"`.*?(kvmap load .*?)`", "".join(COMING_FROM))
    assert len(found) == 4
    for command in found:
        parser().parse_args(shlex.split(command)[1:])
