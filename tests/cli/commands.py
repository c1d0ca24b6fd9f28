"""What tests of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from helpers import ROOT

COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "kvmap"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]

READING = [
    ["get", "x", "ada"],
    ["exists", "x", "ada"],
    ["count", "x"],
    ["ls", "x"],
    ["ttl", "x", "ada"],
    ["stats", "x"],
    ["config", "x"],
    ["verify", "x"],
    ["dump", "x"],
    ["backup", "x", "copy"],
]
CHANGING = [
    ["del", "x", "ada"],
    ["expire", "x", "ada", "1h"],
    ["compact", "x"],
    ["repair", "x"],
]
MAKING = [
    ["set", "x", "a", "1"],
    ["incr", "x", "n"],
    ["load", "x", "in.jsonl"],
    ["config", "x", "--ttl", "1h"],
]
"""Commands on a store `x`: those that make it where there is none, and the others."""


def named(command: list[str]) -> str:
    return "-".join(command[:1] + command[2:][:1] * (command[0] == "config"))


def on(store: str, command: list[str]) -> list[str]:
    return [store if each == "x" else each for each in command]


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
