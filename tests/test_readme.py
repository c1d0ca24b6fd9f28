"""Every code block of the README runs, in order, as its reader would run it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("command", re.findall(r"^\$ (.*)$", "\n".join(blocks("console")), re.M))
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
