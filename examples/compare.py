"""What kvmap and other dicts on disk do, found by trying it, as a Markdown table.

    python examples/compare.py                      beside the peers that are installed
    python examples/compare.py --only kvmap,shelve
    python examples/compare.py --json               the same, for machines

Each cell is the outcome of a few lines below, run on the library itself in a temporary directory of
its own. All are opened as their documentation opens them first; sqlitedict with autocommit, for
without it nothing is kept. TinyDB is no mapping: it gets documents `{"key": ..., "value": ...}`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import logging
import os
import shelve
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, closing
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import kvmap


class Documents(MutableMapping[Any, Any]):
    """TinyDB as a mapping, in the words of its documentation."""

    def __init__(self, path: Path) -> None:
        tinydb = import_module("tinydb")
        self.db, self.where = tinydb.TinyDB(f"{path}.json"), tinydb.where("key")

    def __getitem__(self, key: Any) -> Any:
        if (found := self.db.get(self.where == key)) is None:
            raise KeyError(key)
        return found["value"]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.db.upsert({"key": key, "value": value}, self.where == key)

    def __delitem__(self, key: Any) -> None:
        if not self.db.remove(self.where == key):
            raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return (each["key"] for each in self.db)

    def __len__(self) -> int:
        return len(self.db)

    def close(self) -> None:
        self.db.close()


class DiskCache(AbstractContextManager[Any]):
    """diskcache's mapping has no way to close it but its cache's."""

    def __init__(self, path: Path) -> None:
        self.d = import_module("diskcache").Index(str(path))

    def __enter__(self) -> Any:
        return self.d

    def __exit__(self, *_: object) -> None:
        self.d.cache.close()


OPEN: dict[str, Callable[[Path], AbstractContextManager[Any]]] = {
    "kvmap": kvmap.open,
    "shelve": lambda path: shelve.open(str(path)),  # noqa: SIM115
    "diskcache": DiskCache,
    "sqlitedict": lambda path: import_module("sqlitedict").SqliteDict(str(path), autocommit=True),
    "tinydb": lambda path: closing(Documents(path)),
}


class Peer:
    """A library under test, and where its store is."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory

    def open(self) -> AbstractContextManager[Any]:
        return OPEN[self.name](self.directory / "store")

    def files(self) -> list[Path]:
        return [path for path in self.directory.rglob("*") if path.is_file()]

    def child(self, what: str) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--child", what, self.name, str(self.directory)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def str_keys(peer: Peer) -> str:
    return key_comes_back(peer, "ada")


def int_keys(peer: Peer) -> str:
    return key_comes_back(peer, 1)


def tuple_keys(peer: Peer) -> str:
    return key_comes_back(peer, ("ada", 1))


def key_comes_back(peer: Peer, key: Any) -> str:
    with peer.open() as d:
        d[key] = "value"
    with peer.open() as d:
        (found,) = d
    return "yes" if found == key else f"no: as {type(found).__name__}"


def insertion_order(peer: Peer) -> str:
    with peer.open() as d:
        for key in ("c", "a", "b", "c"):
            d[key] = 1
    with peer.open() as d:
        return "yes" if list(d) == ["c", "a", "b"] else "no"


def the_rest_of_a_dict(peer: Peer) -> str:
    uses: dict[str, Callable[[Any], bool]] = {
        "len": lambda d: len(d) == 3,
        "reversed": lambda d: list(reversed(d)) == ["b", "a", "c"],
        "union": lambda d: (d | {"c": 2}) == {"c": 2, "a": 1, "b": 1},
        "setdefault": lambda d: d.setdefault("c", 2) == 1,
        "popitem": lambda d: d.popitem() == ("b", 1),
    }
    missing = []
    with peer.open() as d:
        for key in "cab":
            d[key] = 1
        for name, use in uses.items():
            try:
                works = use(d)
            except (TypeError, AttributeError, KeyError):
                works = False
            if not works:
                missing.append(name)
    return f"no: {', '.join(missing)}" if missing else "yes"


def change_inside_a_value(peer: Peer) -> str:
    with peer.open() as d:
        d["ada"] = {"visits": 0}
        d["ada"]["visits"] = 1
    with peer.open() as d:
        plain = "kept" if d["ada"]["visits"] == 1 else "lost"
        answers = []
        if hasattr(d, "edit"):
            with d.edit("ada") as user:
                user["visits"] = 2
            if d["ada"]["visits"] == 2:
                answers.append("`edit()`")
    path = peer.directory / "store"
    writeback: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "kvmap": lambda: kvmap.open(path, writeback=True),
        "shelve": lambda: shelve.open(str(path), writeback=True),  # noqa: SIM115
    }
    if peer.name in writeback:
        with writeback[peer.name]() as d:
            d["ada"]["visits"] = 3
        with peer.open() as d:
            if d["ada"]["visits"] == 3:
                answers.append("`writeback=True`")
    return f"{plain}; {' or '.join(answers)}" if answers else plain


def comes_back_equal(peer: Peer) -> str:
    values = {"datetime": datetime(2020, 1, 2), "{1: 2}": {1: 2}, "NaN": float("nan")}
    outcomes: dict[str, list[str]] = {}
    with peer.open() as d:
        for name, value in values.items():
            try:
                d["x"] = value
                outcome = "comes back" if repr(d["x"]) == repr(value) else "changed"
            except (TypeError, ValueError):
                outcome = "refused"
            outcomes.setdefault(outcome, []).append(f"`{name}`")
    return "; ".join([f"{', '.join(names)} {outcome}" for outcome, names in outcomes.items()])


class Planted:
    """What it pickles to makes a file when it is unpickled. It could do anything else."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def planted_pickle_runs(peer: Peer) -> str:
    marker = peer.directory / "it ran"
    with peer.open() as d:
        try:
            d["x"] = Planted(marker)
        except TypeError:
            return "no: it can't be planted"
    with peer.open() as d:
        _ = d["x"]
    return "**yes**" if marker.exists() else "no"


def time_to_live(peer: Peer) -> str:
    with peer.open() as d:
        if peer.name == "kvmap":
            d.set("x", 1, ttl=0.05)
        elif peer.name == "diskcache":
            d.cache.set("x", 1, expire=0.05)
        else:
            return "no"
        time.sleep(0.1)
        if d.get("x") is not None:
            return "no"
        return "yes" if len(d) == 0 else "yes, but `len` counts it"


def roll_back(peer: Peer) -> str:
    with peer.open() as d:
        d["x"] = 1
        begin = getattr(d, "transaction", None) or getattr(d, "transact", None)
        if begin is None:
            return "no"
        try:
            with begin():
                d["x"] = 2
                raise ZeroDivisionError
        except ZeroDivisionError:
            return "yes" if d["x"] == 1 else "no"


def memoize(peer: Peer) -> str:
    calls = []

    def square(n: int) -> int:
        calls.append(n)
        return n * n

    with peer.open() as d:
        if not hasattr(d, "memoize"):
            return "no"
        kept = d.memoize()(square)
        return "yes" if kept(3) == kept(3) == 9 and calls == [3] else "no"


def readable_files(peer: Peer) -> str:
    with peer.open() as d:
        d["ada"] = {"name": "Ada"}
    try:
        return "yes" if any('"Ada"' in path.read_text("utf-8") for path in peer.files()) else "no"
    except UnicodeDecodeError:
        return "no"


def flipped_bit(peer: Peer) -> str:
    with peer.open() as d:
        d["x"] = "needle"
    for path in peer.files():
        path.write_bytes(path.read_bytes().replace(b"needle", b"noodle"))
    try:
        with peer.open() as d:
            return "no: served as data" if d["x"] == "noodle" else "no"
    except kvmap.CorruptStoreError:
        return "yes: it raises"


WRITES, NEWER = 100, "newer, and longer " * 50


def survives_kill(peer: Peer) -> str:
    with peer.child("write and die") as child:
        assert child.wait() == -signal.SIGKILL
    with peer.open() as d:
        kept = len([key for key in d if d[key] == NEWER])
    return "yes" if kept == WRITES else f"no: {WRITES - kept} of {WRITES} lost"


def second_process(peer: Peer) -> str:
    with peer.open() as d:
        d["x"] = 1
        with peer.child("open") as child:
            told, _ = child.communicate()
    return told.strip()


def private(peer: Peer) -> str:
    before = os.umask(0o022)  # as most systems set it: all may read what is not made private
    try:
        with peer.open() as d:
            d["x"] = 1
    finally:
        os.umask(before)
    made = [path.stat().st_mode & 0o077 for path in peer.directory.iterdir()]
    return "no: all can read it" if any(made) else "yes"


def change_while_iterating(peer: Peer) -> str:
    with peer.open() as d:
        d.update({str(n): n for n in range(3)})
        try:
            for n, _ in enumerate(d):
                d[f"new {n}"] = n
                if n > 20:
                    break
        except RuntimeError:
            return "yes"
    return "no"


def typed(peer: Peer) -> str:
    if peer.name in sys.stdlib_module_names:
        return "yes, in typeshed"
    spec = importlib.util.find_spec(peer.name)
    folders = spec.submodule_search_locations if spec else None
    return "yes" if any(Path(each, "py.typed").exists() for each in folders or ()) else "no"


ROWS: dict[str, Callable[[Peer], str]] = {
    "`str` keys": str_keys,
    "`int` keys": int_keys,
    "tuple keys": tuple_keys,
    "insertion order, after a reopen": insertion_order,
    "`len`, `reversed`, union, `setdefault`, `popitem` as in a dict": the_rest_of_a_dict,
    "inserting while iterating raises": change_while_iterating,
    '`d["ada"]["visits"] = 1`': change_inside_a_value,
    "what JSON can't hold": comes_back_equal,
    "a planted pickle runs when it is read": planted_pickle_runs,
    "a changed byte on disk is noticed": flipped_bit,
    "what was written is kept after `kill -9`": survives_kill,
    "a second process that opens it": second_process,
    "only its owner can read it": private,
    "time to live for each entry": time_to_live,
    "a transaction that raises is undone": roll_back,
    "memoizing decorator": memoize,
    "its files are text": readable_files,
    "typed": typed,
}


def cell(name: str, row: str) -> str:
    with tempfile.TemporaryDirectory(prefix="kvmap-compare-") as directory:
        try:
            return ROWS[row](Peer(name, Path(directory)))
        except Exception as error:  # what a library can't do, it tells in its own way
            return f"no: `{type(error).__name__}`"


def child(what: str, name: str, directory: str) -> None:
    """What the other process of a row does."""
    peer = Peer(name, Path(directory))
    try:
        with peer.open() as d:
            if what == "open":
                d["y"] = 2
                print("let in" if d["y"] == 2 else "not seen")
            else:
                for n in range(WRITES):
                    d[f"key {n}"] = "older"
                    d[f"key {n}"] = NEWER
                os.kill(os.getpid(), signal.SIGKILL)  # all is written, nothing is closed
    except Exception as error:
        names_owner = " names the owner" if str(os.getppid()) in str(error) else ""
        print(f"refused: `{type(error).__name__}`{names_owner}")


def version(name: str) -> str:
    if name != "kvmap" and name not in sys.stdlib_module_names:
        return f"{name} {importlib.metadata.version(name)}"
    if name == "shelve":  # which dbm module is behind it decides much
        with tempfile.TemporaryDirectory() as directory:
            shelve.open(f"{directory}/store").close()
            return f"shelve over {import_module('dbm').whichdb(f'{directory}/store')}"
    return name


def names(text: str) -> list[str]:
    asked = text.split(",")
    if unknown := [name for name in asked if name not in OPEN]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(OPEN)}")
    return asked


def main() -> None:
    usage = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    usage.add_argument("--only", type=names, default=list(OPEN), help="kvmap,shelve")
    usage.add_argument("--json", action="store_true", help="for machines")
    usage.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = usage.parse_args()
    if options.child:
        return child(*options.child)
    logging.disable()  # sqlitedict logs what it also raises
    found = [name for name in options.only if importlib.util.find_spec(name)]
    table = {name: {row: cell(name, row) for row in ROWS} for name in found}
    if options.json:
        return print(json.dumps(table, indent=1))
    print("| |", " | ".join(map(version, found)), "|")
    print("|---" * (len(found) + 1) + "|")
    for row in ROWS:
        print("|", row, "|", " | ".join([table[name][row] for name in found]), "|")
    if missing := [name for name in options.only if name not in found]:
        print(f"\nLeft out, since not installed: {', '.join(missing)}.")


if __name__ == "__main__":
    main()
