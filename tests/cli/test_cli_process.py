"""The command as a process of its own: streams, signals, a full disk, a terminal."""

import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import COMMAND, ENVIRONMENT, Run, real
from helpers import files_of

import kvmap
from kvmap.cli import progress, screen
from kvmap.moving.loading import BATCH


def test_as_a_module(store: Path) -> None:
    assert real("get", store, "ada") == (0, '{"name":"Ada","visits":1}\n', "")
    assert real("get", store, "eve") == (1, "", f'kvmap: {store} has no key "eve"\n')
    assert real("get").code == 2


def test_timeout_waits_for_the_owner(store: Path) -> None:
    d = kvmap.open(store)
    waiting = subprocess.Popen(
        [*COMMAND, "incr", str(store), "n", "--timeout", "30s"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with waiting:
        time.sleep(0.5)
        assert waiting.poll() is None
        d.close()
        out, err = waiting.communicate(timeout=30)
    assert (out, err, waiting.returncode) == (b"1\n", b"", 0)


def test_result_is_utf8_whatever_the_locale(store: Path) -> None:
    environment = {**ENVIRONMENT, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*COMMAND, "dump", str(store)], env=environment, capture_output=True, check=True
    )
    assert "é".encode() in done.stdout


def test_reader_that_has_seen_enough(tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s") as d:
        d.update({f"k{n}": "x" * 100 for n in range(5000)})
    command = subprocess.Popen(
        [*COMMAND, "dump", str(tmp_path / "s")],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert command.stdout is not None
    assert command.stderr is not None
    with command:
        assert command.stdout.readline().startswith(b'{"key":"k0"')
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_results_that_find_no_room(store: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "dump", str(store)],
            env=ENVIRONMENT,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        2,
        b"kvmap: standard output: No space left on device\n",
    )


def test_full_disk(path_in_memory: Path) -> None:
    store, given = path_in_memory, path_in_memory.with_name("in.jsonl")
    kvmap.open(store, shards=2).close()
    given.write_bytes(
        b"".join([b'{"key":%d,"value":"%b"}\n' % (n, b"x" * 1000) for n in range(6000)])
    )
    # No file may grow beyond 2 MB, so that the disk seems full in the second batch.
    code, out, err = real(
        "load",
        store,
        given,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)),
    )

    assert (code, out) == (2, "")
    assert "File too large" in err
    assert re.search(r"stopped, [0-9,]+ entries loaded so far; run it again to go on\n$", err)
    assert err.count("\n") == 1
    loaded = int(err.split("stopped, ")[1].split(" ")[0].replace(",", ""))
    with kvmap.open(store, "w") as d:
        assert list(d) == list(range(loaded))
        assert loaded >= BATCH
        d[0] = "still works"
    assert real("load", store, given).code == 0
    assert real("count", store).out == "6000\n"


def test_ctrl_c_leaves_the_store_whole(tmp_path: Path) -> None:
    # A shell that runs the tests in the background has them, and what they start, ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = subprocess.Popen(
        [*COMMAND, "load", str(tmp_path / "s"), "-"],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    signal.signal(signal.SIGINT, before)
    assert command.stdin is not None
    with command:
        # More than a batch, and no end: it waits for more when the signal comes.
        for n in range(BATCH + 500):
            command.stdin.write(b'{"key":%d,"value":%d}\n' % (n, n * n))
        command.stdin.flush()
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob("s/shards/*.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=30)

    assert (command.returncode, out) == (130, b"")
    assert b"2,000 entries loaded so far; run it again to go on\n" in err
    assert err.endswith(b"kvmap: interrupted; the store is whole\n")
    assert b"Traceback" not in err
    with kvmap.open(tmp_path / "s", "w") as d:
        assert dict(d) == {n: n * n for n in range(BATCH)}
    assert kvmap.verify(tmp_path / "s").ok


@pytest.mark.parametrize(
    ("command", "state"),
    [
        ("verify", "interrupted"),
        ("compact", "interrupted; the store is whole"),
        ("repair", "interrupted; nothing is lost, run it again"),
        ("backup", "interrupted; there is no copy"),
    ],
)
def test_ctrl_c_says_how_things_stand(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch, command: str, state: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with kvmap.open(store) as d:
        d["ada"] = 1
    before = files_of(store)
    monkeypatch.setattr(progress.Progress, "__call__", interrupt)

    result = run(command, "s", *["copy"] * (command == "backup"))

    assert result == (130, "", f"kvmap: {state}\n")
    assert kvmap.verify(store).ok
    assert command == "compact" or {**files_of(store), "lock": b""} == {**before, "lock": b""}
    assert not (store.parent / "copy").exists()


def test_closed_standard_streams(store: Path) -> None:
    for redirect, code in ((">&-", 2), ("2>&-", 0), ("<&-", 0)):
        line = f'exec "$@" {redirect}'
        done = subprocess.run(
            ["bash", "-c", line, "bash", *COMMAND, "get", str(store), "ada"],
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
        )
        assert done.returncode == code
        assert b"Traceback" not in done.stderr


# On a terminal


def on_terminal(*arguments: object, without_rich: bool = False) -> tuple[int, str]:
    """What a person sees who runs a command: both streams, as they come."""
    code = "import sys; sys.modules['rich'] = None\n" if without_rich else ""
    code += "from kvmap.cli import main, progress; progress.Progress.PATIENCE = 0; "
    code += "progress.Progress.EVERY = 0; raise SystemExit(main())"
    terminal, end = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**ENVIRONMENT, "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
    ) as command:
        os.close(end)
        while select.select([terminal], [], [], 60)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # the other end was closed
                break
    os.close(terminal)
    return command.returncode, shown.decode()


@pytest.mark.parametrize("without_rich", [False, True], ids=["rich", "plain"])
def test_progress_on_a_terminal(tmp_path: Path, without_rich: bool) -> None:
    if not without_rich:
        pytest.importorskip("rich")
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"".join([b'{"key":%d,"value":0}\n' % n for n in range(6000)]))

    code, shown = on_terminal("load", tmp_path / "s", file, without_rich=without_rich)

    assert code == 0
    assert "kB/s" in shown or "MB/s" in shown
    assert "left" in shown
    assert "%" in shown
    assert ("[#" in shown) == without_rich
    assert "kvmap: loaded 6,000 entries" in shown
    with kvmap.open(tmp_path / "s") as d:
        d[0] = 1
    for arguments in (["verify"], ["compact"], ["repair"], ["backup", tmp_path / "copy"]):
        command, *more = arguments
        shown = on_terminal(command, tmp_path / "s", *more, without_rich=without_rich)[1]
        assert "/s  " in shown, command


def test_a_bar_while_the_index_is_read(tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s") as d:
        d.update({n: n for n in range(2500)})

    shown = on_terminal("count", tmp_path / "s", without_rich=True)[1]

    assert "read index  [#" in shown
    assert " shards/s" in shown
    assert "B/s" not in shown  # shards are what it counts
    assert "2500" in shown


def test_no_bar_among_results(tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s") as d:
        d.update({n: n for n in range(2500)})

    _, shown = on_terminal("dump", tmp_path / "s", without_rich=True)

    shown = shown[shown.rindex("\x1b[K") + 3 :] if "\x1b[K" in shown else shown
    assert [json.loads(line)["key"] for line in shown.splitlines()] == list(range(2500))


@pytest.mark.parametrize("without_rich", [False, True], ids=["rich", "plain"])
def test_bars_on_a_terminal(store: Path, without_rich: bool) -> None:
    if not without_rich:
        pytest.importorskip("rich")

    code, shown = on_terminal("stats", store, without_rich=without_rich)

    assert code == 0
    assert ("█" in shown) != without_rich
    assert ("###" in shown) == without_rich
    assert ("\x1b[32m" in shown) != without_rich


def test_a_key_commands_no_terminal(tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "s") as d:
        d["\x1b[2Jgone\x9b"] = 1

    for arguments in (
        ["ls"],
        ["ls", "--long"],
        ["ls", "--json-key"],
        ["stats"],
        ["get", "-j", "-g*"],
    ):
        _, shown = on_terminal(*arguments, tmp_path / "s")
        assert "\x1b[2J" not in shown
        assert "\x9b" not in shown
        assert "gone" in shown


def test_silent_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.Progress, "PATIENCE", 0)
    monkeypatch.setattr(progress.Progress, "EVERY", 0)
    with progress.Progress("load") as bar:
        for n in range(1000):
            bar(n, 1000)
    screen.note("well done")

    assert capsys.readouterr() == ("", "")
