"""A signal at any bytecode of the package."""

from __future__ import annotations

import dis
import functools
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from helpers import ROOT
from watched import Watched

from kvmap.disk.fs import FileSystem

CANNOT_RAISE = ("LOAD_CONST", "LOAD_FAST", "NOP", "JUMP_FORWARD")
"""How the names of instructions begin behind which no signal is handled."""
PACKAGE = os.path.join(str(ROOT), "kvmap") + os.sep


ANY = -1
"""The `except` of an instruction that has none before it: that of any."""


def ctrl_c() -> None:
    raise KeyboardInterrupt


class Interrupted(Watched):
    """Ctrl-C ahead of calls of these names, in this order."""

    def __init__(self, real: FileSystem) -> None:
        super().__init__(real)
        self.left: list[str] = []
        self.before = self._call

    def interrupt(self, *names: str) -> None:
        self.left = list(names)

    def _call(self, name: str) -> None:
        if self.left[:1] == [name]:
            del self.left[0]
            ctrl_c()


@dataclass(slots=True)
class Seen:
    """What is known of a frame."""

    instructions: dict[int, tuple[int | None, bool, bool]]
    guard: int | None = ANY
    """Of the instruction that ran last."""
    can_raise: bool = True
    """Whether that one can."""


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
        self.seen: dict[int, Seen] = {}
        """By frame: its instructions, and the one that ran last."""

    def __call__(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "opcode":
            if self.counts(frame):
                self.left -= 1
                if self.left < 0:
                    self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno} {frame.f_lasti}"
                    sys.settrace(None)
                    self.handle()
            return self
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True  # its lines stay traced: without them 3.13 leaves opcodes out
        if event == "return":
            self.seen.pop(id(frame), None)
        return self

    def counts(self, frame: Any) -> bool:
        # By its id, for a frame that is kept keeps what its variables hold.
        seen = self.seen.get(id(frame))
        if seen is None:
            seen = self.seen[id(frame)] = Seen(_instructions(frame.f_code))
        guard, can_raise, is_jump_back = seen.instructions[frame.f_lasti]
        counts = is_jump_back or (seen.can_raise and seen.guard in (guard, ANY))
        seen.guard, seen.can_raise = guard, can_raise
        return counts

    def during(self, work: Callable[[], None]) -> None:
        before = sys.gettrace()
        # From 3.12 on, no frame tells of its bytecodes until one was asked to.
        sys._getframe().f_trace_opcodes = True
        gc.disable()  # Python ignores an interrupt in the finalizer of an earlier map
        sys.settrace(self)
        try:
            work()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
            gc.enable()


@functools.cache
def _instructions(code: CodeType) -> dict[int, tuple[int | None, bool, bool]]:
    """By their places: the `except` that guards each, if any; whether it can raise; a jump back."""
    entries: Any = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    found = {}
    for at in range(0, len(code.co_code), 2):
        name = dis.opname[code.co_code[at]]
        guard = next((each.target for each in entries if each.start <= at < each.end), None)
        found[at] = guard, not name.startswith(CANNOT_RAISE), name == "JUMP_BACKWARD"
    return found
