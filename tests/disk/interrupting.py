"""A signal at any bytecode of the package."""

from __future__ import annotations

import dis
import functools
import gc
import os
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from helpers import ROOT

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
        frame.f_trace_opcodes = True  # its lines stay traced: without them 3.13 leaves opcodes out
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
def _guards(code: CodeType) -> list[tuple[int, int, int]]:
    """First byte, end and handler of each stretch of bytecode that a `try` guards."""
    entries: Any = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    return [(entry.start, entry.end, entry.target) for entry in entries]
