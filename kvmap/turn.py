"""Who may write to a local engine: everyone in turn, or the one block that holds it."""

from __future__ import annotations

import threading
from time import monotonic

from kvmap.errors import HeldError


class Turn:
    """A lock for single steps, and a hold that outlives them.

    A writer takes `lock`, and waits where there is a `holder`:

        with turn.lock:
            if turn.holder is not None:
                turn.wait()

    The hold belongs to no thread: a block may be entered in one thread and left in another, and a
    process that exits releases the hold of a thread that will never do so. A holder may have an
    attribute `ended`; where that is true, it holds nothing any more. So a finalizer need not wait for
    the lock to end a block.
    """

    __slots__ = ("_free", "holder", "lock")

    PATIENCE = 60.0
    """Seconds that a writer waits for a hold to be released."""
    _PAUSE = 0.5
    """Seconds after which it looks whether the holder has ended by itself."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.holder: object = None
        self._free = threading.Condition(self.lock)

    @property
    def held(self) -> bool:
        """Whether somebody holds it."""
        return self.holder is not None and not getattr(self.holder, "ended", False)

    def is_mine(self) -> bool:
        """Whether this thread has the lock."""
        try:
            self._free.notify(0)  # wakes nobody, but raises where it has not
        except RuntimeError:
            return False
        return True

    def wait(self) -> None:
        """Return when there is no hold. The caller has the lock. Raises HeldError in the end."""
        end = monotonic() + self.PATIENCE
        while self.held:
            left = end - monotonic()
            if left <= 0:
                raise HeldError(
                    f"another thread has been inside a transaction or an edit for {self.PATIENCE:g} "
                    "seconds; nothing was written"
                )
            self._free.wait(min(left, self._PAUSE))
        self.holder = None

    def hold(self, holder: object, *, wait: bool) -> bool:
        """Take the hold. Raises HeldError where it waits in vain."""
        with self.lock:
            if self.held:
                if not wait:
                    return False
                self.wait()
            self.holder = holder
            return True

    def renew(self) -> None:
        """In a forked child: a thread of the parent may have had the lock."""
        self.__init__()  # type: ignore[misc]

    def release(self, holder: object) -> None:
        """Give the hold up; harmless where this holder does not have it."""
        with self.lock:
            if self.holder is holder:
                self.holder = None
                self._free.notify_all()
