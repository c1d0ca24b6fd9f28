"""Signals between any two bytecodes: the map in memory and its files agree, now and after reopening."""

from __future__ import annotations

import contextlib
import dis
import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from disk import Unsynced
from helpers import ROOT, compacting_often
from invariants import check
from model import SOAK, Contents, contents

import kvmap
from kvmap.keys import bucket

TRIES = 100_000 if SOAK else 70
"""At how many bytecodes of each piece of work there is an interrupt, at most."""
CANNOT_RAISE = ("LOAD_CONST", "LOAD_FAST", "NOP", "JUMP_FORWARD")
"""How the names of instructions begin behind which no signal is handled."""
PACKAGE = os.path.join(str(ROOT), "kvmap") + os.sep


def ctrl_c() -> None:
    raise KeyboardInterrupt


class Interrupt:
    """A signal ahead of the package's bytecode number `at`, and what its handler does.

    CPython handles a signal at the end of a call or of a loop's body, as if what has just run had
    raised it. So an instruction counts only if the same `except` guards it as the one that ran
    before it (from 3.12 on, those that begin and end a `try` are often guarded by none), and if that
    one can raise at all.
    """

    def __init__(self, at: int, handle: Callable[[], None] = ctrl_c) -> None:
        self.left = at
        self.handle = handle
        self.where = ""
        self.before: dict[int, tuple[int | None, str]] = {}
        """By frame: what guards the instruction that ran last, and its name."""

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "return":
            self.before.pop(id(frame), None)
        elif event == "opcode" and self.counts(frame):
            self.left -= 1
            if self.left < 0:
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno} {frame.f_lasti}"
                sys.settrace(None)
                self.handle()
        return self

    def counts(self, frame: Any) -> bool:
        code, at = frame.f_code, frame.f_lasti
        guard = next((target for start, end, target in _guards(code) if start <= at < end), None)
        name = dis.opname[code.co_code[at]]
        # By its id, for a frame that is kept keeps what its variables hold.
        before, last = self.before.get(id(frame), (guard, ""))
        self.before[id(frame)] = guard, name
        if name == "JUMP_BACKWARD":
            return True
        return guard == before and not last.startswith(CANNOT_RAISE)

    def during(self, work: Callable[[], None]) -> None:
        before = sys.gettrace()
        # From 3.12 on, no frame tells of its bytecodes until one was asked to.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self)
        try:
            work()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)


@functools.cache
def _guards(code: CodeType) -> list[tuple[int, int, int]]:
    """First byte, end and handler of each stretch of bytecode that a `try` guards."""
    entries: Any = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    return [(entry.start, entry.end, entry.target) for entry in entries]


def overwrite(d: kvmap.KVMap[Any]) -> None:
    d["key 3"] = "over"


def insert(d: kvmap.KVMap[Any]) -> None:
    d["new"] = "x" * 10_000


def with_deadline(d: kvmap.KVMap[Any]) -> None:
    d.set("key 3", 1, ttl=60)


def delete(d: kvmap.KVMap[Any]) -> None:
    del d["key 3"]


def update(d: kvmap.KVMap[Any]) -> None:
    d.update({"key 1": 10, "new": 11, "key 3": "over"})


def compact(d: kvmap.KVMap[Any]) -> None:
    d.compact()


def finish_compaction(d: kvmap.KVMap[Any]) -> None:
    d["key 3"] = "over"


def clear(d: kvmap.KVMap[Any]) -> None:
    d.clear()


def transaction(d: kvmap.KVMap[Any]) -> None:
    with d.transaction():
        d["key 1"] = 10
        del d["key 2"]
        d["new"] = 11
        d["key 2"] = "again"
        d.set("key 3", 1, ttl=60)


WORKS = [
    overwrite,
    insert,
    with_deadline,
    delete,
    update,
    compact,
    finish_compaction,
    clear,
    transaction,
]


@pytest.fixture
def small_steps(work: Callable[[kvmap.KVMap[Any]], None]) -> Iterator[None]:
    with compacting_often(stretch=300) if work is finish_compaction else contextlib.nullcontext():
        yield


def begin_compaction(d: kvmap.KVMap[Any]) -> None:
    """Overwrite "key 3" with what it is, until a compaction is under way.

    To be traced as the work is: on 3.13 code that has just run untraced tells of few bytecodes.
    """
    shard = d._shards[bucket("key 3", d._mask)]
    for _ in range(100):
        if shard.compaction is None:
            d["key 3"] = 3
    assert shard.compaction is not None


def killed(path: Path, copy: Path, time: float) -> Contents:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy)
    with kvmap.open(copy, files=Unsynced(time)) as d:
        found = contents(d)
        d.compact()
        check(d)
    return found


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "just opened"])
@pytest.mark.parametrize("sync", [False, True], ids=["no sync", "sync"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_an_interrupt_at_each_bytecode(
    tmp_path: Path, work: Callable[[kvmap.KVMap[Any]], None], sync: bool, loaded: bool
) -> None:
    if not SOAK and sync == loaded:
        pytest.skip("two of the four will do; KVMAP_SOAK=1 takes all")
    made = tmp_path / "made"
    with kvmap.open(made, shards=2, files=Unsynced()) as d:
        d.update({f"key {i}": "older" for i in range(5)})
        d.update({f"key {i}": i for i in range(5)})
        before = contents(d)
    shutil.copytree(made, tmp_path / "model")
    with kvmap.open(tmp_path / "model", files=Unsynced()) as d:
        work(d)
        after = contents(d)
    tried = step = 0
    at = sys.maxsize  # the first time it is only counted
    while True:
        path, files = tmp_path / f"store {at}", Unsynced()
        shutil.copytree(made, path)
        d = kvmap.open(path, sync=sync, files=files)
        if loaded:
            assert len(d) == 5
            d["key 0"] = 0
        if work is finish_compaction:
            Interrupt(sys.maxsize).during(lambda: begin_compaction(d))  # noqa: B023
        interrupt = Interrupt(at)
        interrupt.during(lambda: work(d))  # noqa: B023
        where = f"{at} {interrupt.where}"
        finished = all(shard.compaction is None for shard in d._shards)
        found = contents(d)
        assert found in (before, after), where
        try:
            check(d)
        except AssertionError as error:
            raise AssertionError(where) from error
        assert killed(path, tmp_path / "copy", files.time) == found, where
        # No interrupted write comes back over a newer one.
        d["key 3"] = "newer"
        d.pop("key 1", None)
        newer = contents(d)
        assert dict(d)["key 3"] == "newer", where
        assert "key 1" not in d, where
        assert killed(path, tmp_path / "copy", files.time) == newer, where
        with d.transaction():
            d["key 4"] = "in a transaction"
        d.compact()
        check(d)
        newer = contents(d)
        d.close()
        with kvmap.open(path, files=Unsynced()) as d:
            assert contents(d) == newer, where
        shutil.rmtree(path)
        if not step:
            if work is finish_compaction:
                assert finished
            bytecodes = sys.maxsize - interrupt.left
            step, at = max(1, bytecodes // TRIES), 0
        elif interrupt.where:
            tried, at = tried + 1, at + step
        else:
            break
    print(f"{tried} interrupts of {work.__name__}")
    assert tried > 5


def both(d: kvmap.KVMap[Any]) -> None:
    with d.transaction():
        d["one"] = 1
        d["two"] = 2


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("loaded", [True, False], ids=["loaded", "just opened"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_a_signal_handler_that_writes_at_each_bytecode(
    tmp_path: Path, work: Callable[[kvmap.KVMap[Any]], None], loaded: bool
) -> None:
    made = tmp_path / "made"
    with kvmap.open(made, shards=2, files=Unsynced()) as d:
        d.update({f"key {i}": "older" for i in range(5)})
        d.update({f"key {i}": i for i in range(5)})
        d.set("passing", 0, ttl=1)
    shutil.copytree(made, tmp_path / "model")
    with kvmap.open(tmp_path / "model", files=Unsynced()) as d:
        work(d)
        after = contents(d)
    took: list[bool] = []

    def handle() -> None:
        with contextlib.suppress(RuntimeError, *([KeyError] if work is clear else [])):
            assert d["key 4"] == 4
        try:
            d["meddled"] = "x" * 30
            took.append(True)
        except RuntimeError:
            took.append(False)
        for use in (
            lambda: d.__setitem__("key 4", 4),  # no other value, but another record
            lambda: d.set("passing", 0, ttl=1),
            lambda: files.wait(2),
            lambda: d.pop("passing", None),
            lambda: both(d),
            lambda: d.__delitem__("one"),
            lambda: d.sync(),
            lambda: d.purge(),
        ):
            with contextlib.suppress(RuntimeError, KeyError):
                use()
        with contextlib.suppress(RuntimeError):
            assert len(d) in range(10)
        if work is not clear:
            with contextlib.suppress(RuntimeError):
                assert ("meddled" in d) == took[-1]

    step, at = 1, sys.maxsize  # the first time it is only counted
    while True:
        path, files = tmp_path / "store", Unsynced()
        shutil.copytree(made, path)
        d = kvmap.open(path, files=files)
        if loaded:
            assert len(d) == 6
        if work is finish_compaction:
            Interrupt(sys.maxsize).during(lambda: begin_compaction(d))  # noqa: B023
        interrupt = Interrupt(at, handle)
        interrupt.during(lambda: work(d))  # noqa: B023
        where = f"{at} {interrupt.where}"
        if interrupt.where and took[-1] and work is not clear:
            assert "meddled" in d, where
        files.wait(2)
        found = contents(d)
        assert "passing" not in d, where
        assert "one" not in d or "two" in d, where
        others = {"meddled", "one", "two", "key 4", "passing"}
        assert {each[:2] for each in found if each[0] not in others} == {
            each[:2] for each in after if each[0] not in others
        }, where
        assert d.get("key 4", 4) == 4, where
        check(d)
        assert killed(path, tmp_path / "copy", files.time) == found, where
        d.compact()
        d.close()
        with kvmap.open(path, files=Unsynced(files.time)) as d:
            assert contents(d) == found, where
        shutil.rmtree(path)
        if at == sys.maxsize:
            step, at = max(1, 2 * (at - interrupt.left) // TRIES), 0
        elif interrupt.where:
            at += step
        else:
            break
    print(f"{sum(took)} of {len(took)} writes taken in {work.__name__}")
    assert any(took)
    assert not all(took)
