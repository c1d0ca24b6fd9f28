"""Ownership: one map at a time has a store, and says who it is to all others."""

import copy
import gc
import json
import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from helpers import files_of, killed, python
from invariants import check
from on_disk import open_on
from watched import Watched

import kvmap
from kvmap.disk.fs import FileSystem

OWNER = """
import sys, kvmap
d = kvmap.open(sys.argv[1])
d["written"] = "by the other process"
print("open", flush=True)
sys.stdin.read()
"""


def owner(path: Path) -> subprocess.Popen[str]:
    """Another process that has the store open until its stdin is closed."""
    process = python(OWNER, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n", process.communicate()
    return process


def finished(process: subprocess.Popen[str]) -> str:
    """What a process printed; it must have ended well and said nothing on stderr."""
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert process.returncode == 0
    return out


@pytest.mark.parametrize("timeout", [0, 60])
def test_a_second_open_in_this_process_fails_at_once_and_says_so(path: Path, timeout: int) -> None:
    with kvmap.open(path) as d:
        before = files_of(path)
        begin = time.monotonic()
        with pytest.raises(kvmap.StoreLockedError, match="open in this process since") as caught:
            kvmap.open(path, timeout=timeout)
        assert time.monotonic() - begin < 20
        assert isinstance(caught.value, BlockingIOError)
        message = str(caught.value)
        assert str(path) in message
        since = datetime.fromisoformat(message.split("since ")[1].split(";", maxsplit=1)[0])
        assert abs(datetime.now(UTC) - since) < timedelta(minutes=1)
        assert files_of(path) == before
        d["still"] = "works"
        check(d)
    with kvmap.open(path) as d:
        assert dict(d) == {"still": "works"}


@pytest.mark.parametrize("flag", ["c", "w", "r", "n"])
def test_another_process_is_named_whatever_the_flag(path: Path, flag: str) -> None:
    other = owner(path)
    with pytest.raises(kvmap.StoreLockedError, match=f"process {other.pid} on .*, since 20"):
        kvmap.open(path, flag)
    finished(other)
    with kvmap.open(path) as d:
        assert dict(d) == {"written": "by the other process"}


def test_the_lock_file_names_the_owner_while_the_store_is_open(path: Path) -> None:
    with kvmap.open(path):
        found = json.loads((path / "lock").read_text())
        assert found.keys() == {"pid", "host", "since"}
        assert found["pid"] == os.getpid()
        assert found["host"] == socket.gethostname()
    assert (path / "lock").read_text() == ""


def test_an_owner_without_a_name_is_still_an_owner(path: Path) -> None:
    other = owner(path)
    for text in ("", "{", "[]", '{"pid": 1}'):
        (path / "lock").write_text(text)
        with pytest.raises(kvmap.StoreLockedError, match="has not said its name"):
            kvmap.open(path)
    finished(other)


def test_waiting_ends_after_the_timeout(path: Path) -> None:
    other = owner(path)
    begin = time.monotonic()
    with pytest.raises(kvmap.StoreLockedError, match=f"process {other.pid}"):
        kvmap.open(path, timeout=0.2)
    assert 0.2 <= time.monotonic() - begin < 5
    finished(other)


def test_waiting_ends_when_the_owner_lets_go(path: Path) -> None:
    other = owner(path)
    assert other.stdin is not None
    closing = threading.Timer(0.2, other.stdin.close)
    closing.start()
    with kvmap.open(path, timeout=60) as d:
        assert dict(d) == {"written": "by the other process"}
    closing.join()
    other.wait()
    for stream in (other.stdout, other.stderr):
        assert stream is not None
        stream.close()


def test_a_killed_owners_store_is_free_at_once(path: Path) -> None:
    other = owner(path)
    other.kill()
    other.communicate()
    assert json.loads((path / "lock").read_text())["pid"] == other.pid, "not closed cleanly"
    with kvmap.open(path) as d:
        assert dict(d) == {"written": "by the other process"}
        check(d)


def test_closing_does_not_touch_what_the_next_owner_wrote(path: Path) -> None:
    fs = Watched(FileSystem())
    d = open_on(fs, path)
    second: list[kvmap.KVMap[Any, Any]] = []

    def opened(call: str) -> None:
        if call == "close" and not second:
            with suppress(kvmap.StoreLockedError):
                second.append(kvmap.open(path))

    fs.after = opened
    d.close()
    assert json.loads((path / "lock").read_text())["pid"] == os.getpid()
    with pytest.raises(kvmap.StoreLockedError, match="this process"):
        kvmap.open(path)
    second[0].close()


class Overtaken(Watched):
    """The operating system, where another opens, uses and closes the store just before call `number`."""

    def __init__(self, store: Path, number: int) -> None:
        super().__init__(FileSystem())
        self.store, self.left, self.overtaken = store, number, False
        self.before = self.overtake

    def overtake(self, name: str) -> None:
        self.left -= 1
        if self.left == 0:
            with suppress(kvmap.StoreLockedError), kvmap.open(self.store) as other:
                other["other"] = "wrote"
                self.overtaken = True


@pytest.mark.parametrize("made", ["nothing", "folder", "folders", "store"])
def test_another_may_be_quicker_at_any_step_of_opening(tmp_path: Path, made: str) -> None:
    for number in count(1):
        path = tmp_path / str(number)
        if made == "store":
            kvmap.open(path).close()
        elif made != "nothing":
            (path / "shards" if made == "folders" else path).mkdir(parents=True)
        fs = Overtaken(path, number)
        with open_on(fs, path) as d:
            assert dict(d) == ({"other": "wrote"} if fs.overtaken else {})
            d["this"] = "writes"
            check(d)
        if not fs.overtaken:  # the lock is taken by then
            break
    assert number > 4


def test_processes_that_create_one_store_at_the_same_time(path: Path) -> None:
    code = """
import sys, kvmap
sys.stdin.readline()
with kvmap.open(sys.argv[1], timeout=60, shards=2) as d:
    d[sys.argv[2]] = 1
"""
    processes = [python(code, path, number) for number in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        finished(process)
    with kvmap.open(path) as d:
        assert sorted(d) == ["0", "1", "2", "3"]


# Fork. The child runs `work` and tells by its exit status whether it returned.


def forked(work: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: a fork beside threads
        pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        finally:
            os._exit(status)
    return pid


def test_a_forked_child_can_use_its_copy_for_nothing(path: Path) -> None:
    d = kvmap.open(path)
    d["a"] = 1
    iterator = iter(d.items())

    def child() -> None:
        assert d.closed
        for use in (lambda: d["a"], lambda: d.__setitem__("b", 1), lambda: next(iterator)):
            with pytest.raises(kvmap.StoreClosedError, match="forked from"):
                use()
        d.close()
        with pytest.raises(kvmap.StoreLockedError):
            kvmap.open(path)

    assert os.waitpid(forked(child), 0)[1] == 0
    with pytest.raises(kvmap.StoreLockedError):
        kvmap.open(path)
    d["b"] = 2
    check(d)
    d.close()
    with kvmap.open(path) as d:
        assert dict(d) == {"a": 1, "b": 2}


def test_a_forked_child_that_ends_does_not_release_the_lock(path: Path) -> None:
    code = """
import os, sys, kvmap
d = kvmap.open(sys.argv[1])
d["a"] = 1
if not os.fork():
    del d
    sys.exit()  # with all that runs at the interpreter's exit
os.wait()
try:
    kvmap.open(sys.argv[1])
except kvmap.StoreLockedError:
    print("still locked")
d["b"] = 2
d.close()
"""
    assert finished(python(code, path)) == "still locked\n"
    with kvmap.open(path) as d:
        assert dict(d) == {"a": 1, "b": 2}


def test_a_child_that_outlives_a_killed_parent_does_not_keep_the_lock(path: Path) -> None:
    code = """
import os, signal, sys, time, kvmap
d = kvmap.open(sys.argv[1])
if not os.fork():
    print(os.getpid(), flush=True)
    time.sleep(60)
os.wait()
"""
    parent = python(code, path)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        parent.kill()
        parent.wait()
        kvmap.open(path).close()
    finally:
        os.kill(child, signal.SIGKILL)
        parent.communicate()


def test_fork_while_another_thread_holds_the_maps_lock(path: Path) -> None:
    with kvmap.open(path) as d:
        inside, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with d.transaction():
                inside.set()
                leave.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        inside.wait()

        def child() -> None:
            signal.alarm(20)  # not to hang, should it wait for the lock
            with pytest.raises(kvmap.StoreClosedError):
                len(d)
            d.close()

        try:
            assert os.waitpid(forked(child), 0)[1] == 0
        finally:
            leave.set()
            holder.join()


# The flags


def test_flag_c_creates_and_keeps(path: Path) -> None:
    with kvmap.open(path / "with" / "parents") as d:
        d["a"] = 1
    with kvmap.open(path / "with" / "parents", "c") as d:
        assert dict(d) == {"a": 1}


@pytest.mark.parametrize("flag", ["w", "r"])
def test_flags_w_and_r_need_a_store(path: Path, flag: str) -> None:
    with pytest.raises(FileNotFoundError, match='flag "c" creates one'):
        kvmap.open(path, flag)
    assert not path.exists()
    path.mkdir()
    with pytest.raises(kvmap.NotAStoreError, match="no kvmap store"):
        kvmap.open(path, flag)
    assert list(path.iterdir()) == []
    with kvmap.open(path) as d:
        d["a"] = 1
    with kvmap.open(path, flag) as d:
        assert dict(d) == {"a": 1}


@pytest.mark.parametrize("end", ["close", "kill"])
def test_flag_r_refuses_every_write_and_changes_no_data_file(path: Path, end: str) -> None:
    with kvmap.open(path, shards=2, ttl=1000) as d:
        d.update(a=[1], b=2)
        with d.transaction():
            d["c"] = 3
        store = killed(d, path.with_name("killed"))
    if end == "close":
        store = path
    before = {name: data for name, data in files_of(store).items() if name != "lock"}
    with kvmap.open(store, "r") as d:
        for write in (
            lambda: d.__setitem__("a", 1),
            lambda: d.set("a", 1, ttl=5),
            lambda: d.create("new", 1),
            lambda: d.expire("a", 5),
            lambda: d.__delitem__("a"),
            lambda: d.pop("a"),
            lambda: d.pop("absent", None),
            lambda: d.popitem(),
            lambda: d.setdefault("new", 1),
            lambda: d.update(a=1),
            lambda: d.clear(),
            lambda: d.purge(),
            lambda: d.compact(),
            lambda: d.transaction().__enter__(),
            lambda: d.edit("a").__enter__(),
        ):
            with pytest.raises(kvmap.ReadOnlyError, match='was opened with flag "r"'):
                write()
        d.sync()
        assert dict(d) == {"a": [1], "b": 2, "c": 3}
        with pytest.raises(kvmap.StoreLockedError):
            kvmap.open(store, "r")
        check(d)
    after = {name: data for name, data in files_of(store).items() if name != "lock"}
    assert after == before


@pytest.mark.parametrize("end", ["close", "kill"])
def test_flag_n_starts_empty_and_leaves_foreign_files_alone(path: Path, end: str) -> None:
    with kvmap.open(path, shards=16, ttl=5, limits=kvmap.Limits(key_chars=1)) as d:
        d.update(a=1, b=2)
        store = killed(d, path.with_name("killed"))
    if end == "close":
        store = path
    (store / "notes.txt").write_text("mine")
    (store / "shards" / "notes.jsonl").write_text("mine too")
    with kvmap.open(store, "n", shards=2) as d:
        assert dict(d) == {}
        d["longer"] = 1
        assert d.ttl("longer") is None
        check(d)
    with kvmap.open(store) as d:
        assert dict(d) == {"longer": 1}
    assert (store / "notes.txt").read_text() == "mine"
    assert (store / "shards" / "notes.jsonl").read_text() == "mine too"


def test_a_new_stores_directory_lets_in_only_its_owner(path: Path) -> None:
    old = os.umask(0)
    try:
        kvmap.open(path).close()
        kvmap.open(path.with_name("shared"), mode=0o750).close()
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.with_name("shared").stat().st_mode) == 0o750
    path.chmod(0o755)
    kvmap.open(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o755, "what exists is left as it is"
    for each in path.iterdir():
        if each.is_file():
            assert stat.S_IMODE(each.stat().st_mode) & 0o077 == 0


def test_without_a_path_the_store_is_new_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with kvmap.open() as one, kvmap.open() as two:
        assert isinstance(one.path, Path)
        assert one.path != two.path
        assert one.path.parent == tmp_path
        one["a"] = 1
    with kvmap.open(one.path, "w") as d:
        assert dict(d) == {"a": 1}


def test_the_store_is_where_it_was_opened_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with kvmap.open("store") as d:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        d.update({str(number): number for number in range(100)})
        assert d.path == tmp_path / "store"
    with kvmap.open(tmp_path / "store") as d:
        assert len(d) == 100


# The end


def test_close_twice_is_harmless(path: Path) -> None:
    d = kvmap.open(path)
    d["a"] = 1
    assert not d.closed
    d.close()
    assert d.closed
    with kvmap.open(path) as second:
        before = files_of(path)
        d.close()
        assert files_of(path) == before, "the lock file names the new owner still"
        assert dict(second) == {"a": 1}


@pytest.mark.parametrize(
    "use",
    [
        *(lambda d: d["a"], lambda d: d.get("a"), lambda d: "a" in d, lambda d: d.get("absent")),
        *(len, bool, list, dict, reversed, lambda d: next(iter(d)), lambda d: d == {}),
        *(lambda d: list(d.keys()), lambda d: list(d.values()), lambda d: list(d.items())),
        *(lambda d: d.copy(), lambda d: d | {}, lambda d: {} | d, lambda d: d.__ior__({})),
        *(lambda d: d.__setitem__("a", 1), lambda d: d.__delitem__("a"), lambda d: d.pop("a")),
        *(lambda d: d.pop("a", 1), lambda d: d.popitem(), lambda d: d.setdefault("a")),
        *(lambda d: d.update(a=1), lambda d: d.update(), lambda d: d.clear()),
        *(lambda d: d.set("a", 1), lambda d: d.create("a", 1), lambda d: d.ttl("a")),
        *(lambda d: d.expire("a", 1), lambda d: d.purge(), lambda d: d.sync()),
        *(lambda d: d.compact(), lambda d: d.edit("a").__enter__(), lambda d: d.__enter__()),
        lambda d: d.transaction().__enter__(),
    ],
)
def test_every_use_after_close_is_refused(path: Path, use: Callable[[Any], object]) -> None:
    with kvmap.open(path) as d:
        d["a"] = 1
        len(d)
    with pytest.raises(kvmap.StoreClosedError, match=f"the map is closed.*{path}") as caught:
        use(d)
    assert isinstance(caught.value, ValueError)


def test_a_closed_map_shows_that_it_is(path: Path) -> None:
    d = kvmap.open(path)
    assert repr(d).startswith(f"<KVMap {str(path)!r}")
    assert not repr(d).endswith("closed>")
    d.close()
    assert repr(d) == f"<KVMap {str(path)!r}, closed>"
    assert d.path == path


def test_an_iterator_ends_with_the_map(path: Path) -> None:
    d = kvmap.open(path)
    d.update(a=1, b=2)
    walk = iter(d.items())
    next(walk)
    d.close()
    with pytest.raises(kvmap.StoreClosedError):
        next(walk)


def test_the_block_closes_the_map_even_when_it_fails(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), kvmap.open(path) as d:
        d["a"] = 1
        raise ZeroDivisionError
    assert d.closed
    with kvmap.open(path) as d:
        assert dict(d) == {"a": 1}


def test_closing_inside_a_transaction_undoes_it(path: Path) -> None:
    d = kvmap.open(path)
    d["a"] = 1
    with pytest.raises(kvmap.StoreClosedError, match="undone"), d.transaction():
        d["a"] = 2
        d.close()
    with kvmap.open(path) as d:
        assert dict(d) == {"a": 1}


def test_a_forgotten_map_is_closed_with_a_warning(path: Path) -> None:
    d = kvmap.open(path)
    d["a"] = 1
    with pytest.warns(ResourceWarning, match=f"{path}.* was never closed"):
        del d
        gc.collect()
    with kvmap.open(path) as d:
        assert dict(d) == {"a": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del d
        gc.collect()


def test_maps_are_closed_at_the_interpreters_exit(path: Path) -> None:
    # One that cannot be closed does not keep the others open.
    code = """
import shutil, sys, kvmap
maps = [kvmap.open(f"{sys.argv[1]}/{name}") for name in "abc"]
for d in maps:
    d["a"] = 1
shutil.rmtree(maps[1].path)
"""
    process = python(code, path)
    _, err = process.communicate(timeout=60)
    assert "StoreLockedError" in err
    assert "never closed" not in err
    for name in "ac":
        assert (path / name / "lock").read_text() == ""
        with kvmap.open(path / name) as d:
            assert dict(d) == {"a": 1}


def test_pickling_and_copying_are_refused_with_the_reason(path: Path) -> None:
    with kvmap.open(path) as d:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match=r"can't be pickled; send d\.path"):
                pickle.dumps(d, protocol)
        for wrong in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r"can't be copied; d\.copy\(\) makes a plain dict"):
                wrong(d)
        assert d.copy() == {}
