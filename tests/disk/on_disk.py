"""Maps on a file system of the test's choice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import kvmap
from kvmap import disk
from kvmap.disk.fs import FileSystem
from kvmap.opening import before
from kvmap.settings import changing

SETTINGS = ("limits", "ttl", "codec", "evict")


def open_on(
    fs: FileSystem, path: str | Path = "/store", flag: str = "c", **options: Any
) -> kvmap.KVMap[Any, Any]:
    """`kvmap.open`, on another file system; `tuning` may be among the options too."""
    settings = {each: options.pop(each) for each in SETTINGS if each in options}
    options = {"shards": None, "sync": False, "timeout": 0, "mode": 0o700, **options}
    engine = disk.open_engine(str(path), flag, change=changing(**settings), fs=fs, **options)
    return before(engine)


def lower_most_bytes(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let a shard be full at so many bytes, wherever the limit is known."""
    for name, module in list(sys.modules.items()):
        if name.startswith("kvmap.disk") and hasattr(module, "MOST_BYTES"):
            monkeypatch.setattr(module, "MOST_BYTES", size)


def snapshot_on(fs: FileSystem, path: str | Path = "/store") -> kvmap.KVMap[Any, Any]:
    """`kvmap.snapshot`, on another file system."""
    return before(disk.open_snapshot(str(path), fs=fs))
