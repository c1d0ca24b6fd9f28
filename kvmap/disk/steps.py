"""The one place that every step passes through which must be done as a whole or not at all.

A step notes in `Steps.current` what it is about, works, and takes the note back. An exception, a
KeyboardInterrupt for one, may end it at any bytecode. Whoever finds a note that was left behind
settles it before anything else is written: `settle` completes a step that others may have seen, and
undoes any other. It may be interrupted itself, and is called again then.
"""

from __future__ import annotations

from typing import Protocol

from kvmap.turn import Turn


class Step(Protocol):
    """What must be known to complete a step or to undo it."""

    def settle(self) -> None:
        """Complete the step or undo it; harmless where that was done before."""
        ...


class Begun:
    """A step that has changed nothing yet."""

    def settle(self) -> None:
        """Nothing is to be undone."""


class Steps:
    """The step that is under way, or that was left behind."""

    __slots__ = ("_turn", "current")

    def __init__(self, turn: Turn) -> None:
        self.current: Step | None = None
        self._turn = turn

    def check_reentry(self) -> None:
        """Raise RuntimeError in a signal handler, or the like, that came into the middle of a step.

        The lock does not keep it out, for it runs in the thread that has the lock. Asked before the
        lock is taken, where `current` is not None.
        """
        if self.current is not None and self._turn.is_mine():
            raise RuntimeError(
                "the map is in the middle of a write of this very thread; a signal handler, a finalizer "
                "or a key's own comparison can't use it now: set a flag there"
            )

    def settle(self) -> None:
        """Complete or undo what was left behind. The caller has the lock."""
        step = self.current
        if step is not None:
            step.settle()
            self.current = None


BEGUN = Begun()
