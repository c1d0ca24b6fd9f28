"""What kvmap and other dicts on disk do, also in failures, found by trying it. Prints Markdown.

    pip install '.[test]'
    python examples/compare.py                      beside the peers that are installed
    python examples/compare.py --only kvmap,shelve
    python examples/compare.py --json               the same, as JSON
    python examples/compare.py --kills 1000         instead of 20

Each cell is the outcome of a few lines below, run on the library itself in a temporary directory of
its own. Each is opened as the first example of its documentation does; sqlitedict with autocommit,
because it keeps nothing without. TinyDB is no mapping: it gets documents
`{"key": ..., "value": ...}`.

"writes lost": some acknowledged writes are missing; the assignment or `del` had returned. For "the disk
is full", a limit (RLIMIT_FSIZE) keeps every file from growing: a library sees a failing write too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import logging
import os
import random
import resource
import shelve
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, closing
from datetime import datetime
from importlib import import_module
from itertools import count, islice
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

    def __init__(self, name: str, directory: Path, kills: int = 20) -> None:
        self.name, self.directory, self.kills = name, directory, kills

    def open(self) -> AbstractContextManager[Any]:
        return OPEN[self.name](self.directory / "store")

    def files(self) -> list[Path]:
        return [path for path in self.directory.rglob("*") if path.is_file()]

    def child(self, work: Callable[[Peer], str]) -> subprocess.Popen[str]:
        """Another process, that does one of ELSEWHERE and prints what it returns."""
        arguments = ["--child", work.__name__, self.name, str(self.directory)]
        command = [sys.executable, "-W", "ignore", __file__, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def in_child(self, work: Callable[[Peer], str]) -> str:
        with self.child(work) as child:
            try:
                told, _ = child.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                child.kill()
                return "hangs"
        if child.returncode:
            raise ChildProcessError
        return told.strip()


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


CALLS: list[int] = []


def square(n: int) -> int:
    CALLS.append(n)
    return n * n


def memoize(peer: Peer) -> str:
    CALLS.clear()
    with peer.open() as d:
        if not hasattr(d, "memoize"):
            return "no"
        kept = d.memoize()(square)
        return "yes" if kept(3) == kept(3) == 9 and CALLS == [3] else "no"


def readable_files(peer: Peer) -> str:
    with peer.open() as d:
        d["ada"] = {"name": "Ada"}
    try:
        return "yes" if any('"Ada"' in path.read_text("utf-8") for path in peer.files()) else "no"
    except UnicodeDecodeError:
        return "no"


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


BESIDE: dict[str, Callable[[Peer], str]] = {
    "`str` keys": str_keys,
    "`int` keys": int_keys,
    "tuple keys": tuple_keys,
    "insertion order, after a reopen": insertion_order,
    "`len`, `reversed`, union, `setdefault`, `popitem` as in a dict": the_rest_of_a_dict,
    "inserting while iterating raises": change_while_iterating,
    '`d["ada"]["visits"] = 1`': change_inside_a_value,
    "what JSON can't hold": comes_back_equal,
    "a planted pickle runs when it is read": planted_pickle_runs,
    "only its owner can read it": private,
    "time to live for each entry": time_to_live,
    "a transaction that raises is undone": roll_back,
    "memoizing decorator": memoize,
    "its files are text": readable_files,
    "typed": typed,
}


Write = tuple[str, str | None]  # a key, and its new value or None where it is deleted


def mixed_writes() -> Iterator[Write]:
    """Without end, and the same in each process: new entries, overwrites, deletes."""
    choose = random.Random(0)
    for n in count():
        deletes = choose.random() < 0.2
        yield f"key {choose.randrange(50)}", None if deletes else f"{n} " * choose.randrange(1, 500)


def new_entries(name: str) -> Iterator[Write]:
    return ((f"{name} {n}", f"{n} " * 100) for n in count())


def take(d: Any, write: Write) -> None:
    key, value = write
    if value is not None:
        d[key] = value
    elif key in d:
        del d[key]


def judge(d: Any, writes: list[Write], cut_off: Write | None = None) -> str:
    """What became of the acknowledged writes, where one more may or may not have been done."""
    history: dict[str, list[str | None]] = {}
    for key, value in writes:
        history.setdefault(key, [None]).append(value)
    try:
        found = {key: d[key] for key in d}
    except Exception as error:
        return f"can't be read: `{type(error).__name__}`"
    lost = False
    for key in history.keys() | found.keys():
        value, past = found.get(key), history.get(key, [None])
        if value != past[-1] and (key, value) != cut_off:
            lost = True
            if value not in past:
                return "wrong values"
    return "writes lost" if lost else "nothing lost"


def after_reopen(peer: Peer, writes: list[Write], cut_off: Write | None = None) -> str:
    try:
        with peer.open() as d:
            return judge(d, writes, cut_off)
    except Exception as error:
        return f"can't be opened: `{type(error).__name__}`"


def killed(peer: Peer) -> str:
    outcomes: Counter[str] = Counter()
    for n in range(peer.kills):
        victim = Peer(peer.name, peer.directory / str(n))
        victim.directory.mkdir()
        with victim.child(write_on) as child:
            assert child.stdout is not None
            acknowledged = len(child.stdout.read(1))
            time.sleep(random.random() / 10)
            child.kill()
            acknowledged += len(child.stdout.read())
        assert child.returncode == -signal.SIGKILL, "it ended of its own"
        *writes, cut_off = islice(mixed_writes(), acknowledged + 1)
        outcomes[after_reopen(victim, writes, cut_off)] += 1
    if len(outcomes) == 1:
        return next(iter(outcomes))
    return ", ".join([f"{times}x {outcome}" for outcome, times in outcomes.most_common()])


def write_on(peer: Peer) -> str:
    with peer.open() as d:
        for write in mixed_writes():
            take(d, write)
            os.write(sys.stdout.fileno(), b".")
    return ""


def disk_full(peer: Peer) -> str:
    return peer.in_child(fill)


def fill(peer: Peer) -> str:
    """Write until it fails, see what is there, make room, write again, see what is there."""
    entries = new_entries("key")
    writes = list(islice(entries, 100))
    answers = ["does not raise"]
    try:
        with peer.open() as d:
            for write in writes:
                take(d, write)
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            largest = max([path.stat().st_size for path in peer.files()])
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
            try:
                for write in islice(entries, 10_000):
                    take(d, write)
                    writes.append(write)
            except Exception as error:
                answers = [f"raises `{type(error).__name__}`"]
            meanwhile = judge(d, writes, write)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            take(d, again := ("again", "there is room"))
            writes.append(again)
    except Exception as error:
        answers.append(f"no more writes: `{type(error).__name__}`")
    else:
        answers.append("goes on when there is room")
    if (reopened := after_reopen(peer, writes, write)) != meanwhile:
        answers.insert(1, f"meanwhile {meanwhile}")
    return "; ".join([*answers, reopened])


def changed_byte(peer: Peer) -> str:
    with peer.open() as d:
        d["x"] = "needle"
    changed = [path for path in peer.files() if b"needle" in path.read_bytes()]
    for path in changed:
        path.write_bytes(path.read_bytes().replace(b"needle", b"noodle"))
    try:
        with peer.open() as d:
            return "served as data" if d["x"] == "noodle" else "not noticed"
    except Exception as error:
        names_file = any(str(path) in str(error) for path in changed)
        return f"raises `{type(error).__name__}`{', naming the file' if names_file else ''}"


def second_process(peer: Peer) -> str:
    with peer.open() as d:
        d["x"] = 1
        return peer.in_child(open_too)


def open_too(peer: Peer) -> str:
    try:
        with peer.open() as d:
            d["y"] = 2
            return "let in" if d["y"] == 2 else "not seen"
    except Exception as error:
        names_owner = " names the owner" if str(os.getppid()) in str(error) else ""
        return f"refused: `{type(error).__name__}`{names_owner}"


def forked(peer: Peer) -> str:
    return peer.in_child(fork)


def fork(peer: Peer) -> str:
    """Parent and child each write 1,000 entries and close what they have."""
    receive, acknowledge = os.pipe()
    process, child, done, raised = "parent", 0, 0, ""
    try:
        with peer.open() as d:
            if not (child := os.fork()):
                process = "child"
                signal.alarm(5)  # seconds until it counts as hanging
            for write in islice(new_entries(process), 1000):
                take(d, write)
                done += 1
                if not child:
                    os.write(acknowledge, b".")
    except Exception as error:
        raised = f"the {process} raises `{type(error).__name__}`; "
    print(raised, end="", flush=True)
    if not child:
        os._exit(0)
    _, status = os.waitpid(child, 0)
    os.close(acknowledge)
    writes = list(islice(new_entries("parent"), done))
    writes += islice(new_entries("child"), len(os.read(receive, 1000)))
    hangs = "the child hangs; " if os.WIFSIGNALED(status) else ""
    return hangs + after_reopen(peer, writes)


WHEN: dict[str, Callable[[Peer], str]] = {
    "the process is killed": killed,
    "the disk is full": disk_full,
    "a byte on disk is changed": changed_byte,
    "a second process opens it": second_process,
    "the process forks": forked,
}
ELSEWHERE = {work.__name__: work for work in (write_on, fill, open_too, fork)}
TABLES = {"What happens when": WHEN, "Beside others": BESIDE}


def cell(name: str, row: Callable[[Peer], str], kills: int) -> str:
    with tempfile.TemporaryDirectory(prefix="kvmap-compare-") as directory:
        try:
            return row(Peer(name, Path(directory), kills))
        except Exception as error:
            return f"no: `{type(error).__name__}`"


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
    usage.add_argument("--json", action="store_true", help="print JSON")
    usage.add_argument("--kills", type=int, default=20, help="how many, of each")
    usage.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = usage.parse_args()
    logging.disable()  # sqlitedict logs what it also raises
    if options.child:
        work, name, directory = options.child
        return print(ELSEWHERE[work](Peer(name, Path(directory))))
    found = [name for name in options.only if importlib.util.find_spec(name)]
    tables = {
        title: {
            name: {row: cell(name, how, options.kills) for row, how in rows.items()}
            for name in found
        }
        for title, rows in TABLES.items()
    }
    if options.json:
        return print(json.dumps(tables, indent=1))
    for title, rows in TABLES.items():
        print(f"## {title}\n\n| |", " | ".join(map(version, found)), "|")
        print("|---" * (len(found) + 1) + "|")
        for row in rows:
            print("|", row, "|", " | ".join([tables[title][name][row] for name in found]), "|")
        print()
    if missing := [name for name in options.only if name not in found]:
        print(f"Left out, since not installed: {', '.join(missing)}.")


if __name__ == "__main__":
    main()
