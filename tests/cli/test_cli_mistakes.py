"""A user's mistakes: a plain message, an exit code, and nothing changed."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import CHANGING, MAKING, READING, Run, damage, named, on
from helpers import files_of

import kvmap
from kvmap.cli.words import explain, in_words

EVERY = [*READING, *CHANGING, *MAKING]


@pytest.fixture(autouse=True)
def lines_to_load(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"key":"ada","value":1}\n')


@pytest.mark.parametrize("command", READING + CHANGING, ids=named)
def test_wrong_path_creates_nothing(run: Run, tmp_path: Path, command: list[str]) -> None:
    assert run(*command) == (2, "", "kvmap: there is no store at x\n")
    assert [each.name for each in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize("command", EVERY, ids=named)
def test_file_instead_of_a_directory(run: Run, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "x").write_text("precious")

    code, out, err = run(*command)

    assert (code, out) == (2, "")
    assert "x is not a directory; a store is one" in err
    assert files_of(tmp_path)["x"] == b"precious"


@pytest.mark.parametrize("command", EVERY, ids=named)
def test_somebody_elses_directory(run: Run, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("precious")

    code, out, err = run(*command)

    assert (code, out) == (2, "")
    assert "no kvmap store" in err
    assert "flag" not in err  # is Python's word, not the command line's
    assert files_of(tmp_path / "x") == {"thesis.txt": b"precious"}


@pytest.mark.parametrize("command", READING, ids=named)
def test_reading_changes_no_file(run: Run, store: Path, command: list[str]) -> None:
    before = files_of(store)

    assert run(*on("s", command)).code == 0

    assert files_of(store) == before


@pytest.mark.parametrize("command", READING, ids=named)
def test_reading_works_beside_the_owner(run: Run, store: Path, command: list[str]) -> None:
    with kvmap.open(store) as d:
        d["late"] = "x"
        before = files_of(store)
        code, _, err = run(*on("s", command))
        assert files_of(store) == before
        d["later"] = 1
    assert (code, err) == (0, "")


def test_what_the_owner_wrote_is_seen(run: Run, store: Path) -> None:
    with kvmap.open(store) as d:
        d["late"] = "x"
        assert run("get", "s", "late").out == '"x"\n'
        d["late"] = "y"
        del d["ada"]
        assert run("get", "s", "late").out == '"y"\n'
        assert run("ls", "s").out == 'token\n["pair",1]\n"été\\n"\nlate\n'
        assert run("count", "s").out == "4\n"


@pytest.mark.parametrize("command", [*CHANGING, *MAKING], ids=named)
def test_store_in_use_says_by_whom(run: Run, store: Path, command: list[str]) -> None:
    with kvmap.open(store):
        code, out, err = run(*on("s", command))

    assert (code, out) == (2, "")
    assert "s is open" in err
    assert f"{os.getpid()}" in err or "this process" in err
    if command[0] != "repair":
        assert err.endswith("; --timeout 10s waits for it\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        ([], "kvmap"),
        (["frobnicate"], "kvmap"),
        (["get"], "kvmap get"),
        (["ls", "--x"], "kvmap ls"),
        (["ls", "s", "--x"], "kvmap ls"),
        (["ls", "s", "a", "b"], "kvmap ls"),
        (["ls", "s", "-n", "x"], "kvmap ls"),
        (["set", "s", "a"], "kvmap set"),
        (["set", "s", "a", "1", "2"], "kvmap set"),
        (["load", "s", "x", "--on-error", "panic"], "kvmap load"),
        (["completion", "fish"], "kvmap completion"),
    ],
)
def test_wrong_use(run: Run, arguments: list[str], usage: str) -> None:
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert err.startswith(f"usage: {usage} [-h]")
    assert f"\n{usage}: error: " in err


def test_only_what_is_wrong_is_called_unrecognized(run: Run, store: Path) -> None:
    assert run("get", "s", "--rw", "ada").err.endswith("error: unrecognized arguments: --rw\n")
    assert run("ls", "s", "a", "b").err.endswith("error: unrecognized arguments: b\n")


def test_help_says_whom_a_timeout_and_a_time_to_live_are_for(run: Run) -> None:
    def shown(command: str) -> str:
        return " ".join(run(command, "--help").out.split())

    assert "time to live for entries that bring no deadline: 90, 15m" in shown("load")
    assert "time to live: 90, 15m" in shown("set")
    assert "whoever has the store open" in shown("set")
    assert "whoever has the store open" not in shown("get")


def test_newer_format(run: Run, store: Path) -> None:
    manifest = store / "kvmap.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"format":1', b'"format":99'))

    code, _, err = run("get", "s", "ada")

    assert code == 2
    assert err.count("\n") == 1


def test_every_command_has_help_with_an_example(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    names = [
        line.split()[0]
        for line in out.split("COMMAND\n")[1].split("\n\n")[0].splitlines()
        if line.startswith("    ") and not line.startswith("     ")
    ]
    assert " ".join(names) == (
        "get exists count ls ttl stats set incr expire del dump load "
        "config verify repair compact backup completion"
    )
    for name in names:
        code, out, err = run(name, "--help")
        assert (code, err) == (0, "")
        assert f"\nexample:\n  kvmap {name} " in out
        assert all(len(line) <= 100 for line in out.splitlines())


def test_version(run: Run) -> None:
    assert run("--version") == run("-V") == (0, f"kvmap {kvmap.__version__}\n", "")


@contextmanager
def without_privileges() -> Iterator[None]:
    """Nothing is forbidden to root, so be nobody for a while."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


@pytest.mark.parametrize("command", EVERY, ids=named)
def test_no_permission(run: Run, store: Path, tmp_path: Path, command: list[str]) -> None:
    here = on(str(store), command)
    there = on(str(tmp_path / "no" / "s"), command)
    run(*here)  # so that all modules are imported
    (tmp_path / "no").mkdir()
    os.chmod(tmp_path / "no", 0)
    os.chmod(store, 0)
    os.chmod(tmp_path, 0o755)
    try:
        with without_privileges():
            results = run(*here), run(*there)
    finally:
        os.chmod(tmp_path / "no", 0o700)
        os.chmod(store, 0o700)

    for code, out, err in results:
        assert (code, out) == (2, "")
        assert "Permission denied" in err
        assert err.count("\n") == 1


# The library's messages, in the words of the command line

PYTHON = re.compile(r"\w=|\w\(|kvmap\.[a-z]|\bd\[|None\b")


def errors() -> Iterator[BaseException]:
    """What the library raises for what may come from a command line or another store."""
    with kvmap.open(":memory:", limits=kvmap.Limits(key_chars=3, value_bytes=9, entries=1)) as d:
        d["a"] = 1
        for action in (
            lambda: d.set("abcd", 1),
            lambda: d.set("a", "x" * 20),
            lambda: d.set("b", 1),
            lambda: d.set("a", {1, 2}),
            lambda: d.set("a", [object()]),
            lambda: d.set("a", b"x"),
            lambda: d.set("a", 2**70),
            lambda: d.set("a", float("nan")),
            lambda: d.set("a", {1: 2}),
            lambda: d.set(2**70, 1),
            lambda: d.set("a", 1, ttl=-1),
            lambda: d.set("a", "\ud800"),
            lambda: d.set("\ud800", 1),
            lambda: d.configure(limits=kvmap.Limits(), evict="sieve"),
            lambda: d.configure(evict="lru"),
            lambda: kvmap.Limits(store_bytes=0),
            lambda: kvmap.open(":memory:", codec="yaml"),
        ):
            try:
                action()
            except (TypeError, ValueError) as error:
                yield error
            else:
                raise AssertionError("nothing was raised")


@pytest.mark.parametrize("error", list(errors()), ids=lambda error: str(error)[:40])
def test_messages_have_no_advice_for_python(error: BaseException) -> None:
    words = re.sub(r"'[^']*'", "", explain(error))  # a key, or a value's place, may be anything
    assert not PYTHON.search(words.replace("value[", "")), words


def test_words() -> None:
    assert in_words('set is not JSON; codec="extended" keeps it') == (
        "set is not JSON; a store made with --codec extended keeps it"
    )


def test_damage_names_file_and_command(run: Run, store: Path) -> None:
    file = damage(store, b"s3cr3t")
    code, out, err = run("get", "s", "token")
    assert (code, out) == (1, "")
    assert re.fullmatch(
        rf"kvmap: {re.escape(str(file))}, byte 0: .*\nkvmap: `kvmap verify s` lists all damage\n",
        err,
    )
