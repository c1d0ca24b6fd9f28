"""The blocks of a map's transactions that are running, and whose they are."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from kvmap.buffer import Buffer
from kvmap.engine import Engine, State

if TYPE_CHECKING:
    import asyncio


def _current_task() -> asyncio.Task[Any] | None:
    """The asyncio task that is running here. A program that never imported asyncio has none."""
    events: Any = sys.modules.get("asyncio.events")
    if events is None or events._get_running_loop() is None:
        return None
    found: asyncio.Task[Any] | None = sys.modules["asyncio"].current_task()
    return found


class Block:
    """One transaction's block while it runs, and whose it is.

    It belongs to the task that entered it, or to the thread where there is no task. The context
    variable below takes it along into a thread that works for its owner, as `asyncio.to_thread`
    starts one; a new task inherits the variable too, but is another task.
    """

    def __init__(self, engine: Engine) -> None:
        self.buffer = Buffer(engine)
        self.takes_writes = False
        """Whether it is entered and not yet left. What a signal handler writes into it before that, or
        after that, would be lost."""
        self.guard: object = None
        """Ends the block if it is not left; see `Transaction`."""
        self.thread = threading.current_thread()
        self.task = _current_task()

    @property
    def ended(self) -> bool:
        """Whether nothing comes of it any more."""
        return self.buffer.ended

    def __str__(self) -> str:
        where = f"thread {self.thread.name!r}"
        return where if self.task is None else f"task {self.task.get_name()!r} of {where}"

    def is_mine(self) -> bool:
        """Whether the caller, who has the block in its context, is in it."""
        task = _current_task()
        return not self.ended and (task is None or task is self.task)

    def check_takes_writes(self) -> None:
        """Raise RuntimeError in a signal handler, or the like, that came as it is entered or left."""
        if not self.takes_writes:
            raise RuntimeError(
                "a transaction of this very thread is just being entered or left; a signal handler or a "
                "finalizer can't write to the map now: set a flag there"
            )


_entered: ContextVar[tuple[Block, ...]] = ContextVar("kvmap_blocks", default=())


class Blocks:
    """The blocks of one map that are open: at most one on a local engine, any number on a server."""

    def __init__(self, engine: Engine) -> None:
        self.open: list[Block] = []
        """Whether it is empty is all that a read or a write asks outside of transactions."""
        self._engine = engine
        self._wakers: list[Callable[[], object]] = []
        """Each lets a task that waits for its turn try again."""

    def mine(self) -> Block | None:
        """The block that the caller is in."""
        for block in reversed(_entered.get()):
            if block in self.open and block.is_mine():
                return block
        return None

    def view(self) -> State:
        """What the caller reads."""
        block = self.mine() if self.open else None
        return self._engine if block is None else block.buffer

    def writer(self) -> State:
        """What the caller writes to. Raises RuntimeError where it would wait for its own thread."""
        if not self.open:
            return self._engine
        block = self.mine()
        if block is not None:
            block.check_takes_writes()
            return block.buffer
        self._check_thread("write")
        return self._engine

    def _check_thread(self, what: str) -> None:
        if not self._engine.held:
            return
        task = _current_task()
        for block in self.open:
            # Without tasks this is a pool's thread, in another call: another thread may end the block.
            if block.thread is threading.current_thread() and (task or block.task):
                me = "this code" if task is None else f"task {task.get_name()!r}"
                raise RuntimeError(
                    f"{me} can't {what} while {block} is inside a transaction or an edit: it would "
                    "wait for its own thread; use 'async with d.transaction()' or 'async with "
                    "d.edit(key)', which let other tasks run meanwhile"
                )

    def enter(self, block: Block) -> Block:
        """Begin a block; waits for the block of another thread to end.

        The caller ends it with `leave` where an exception comes out of this, or behind it.
        """
        self._check_thread("begin a transaction")
        self._begin(block)  # first, so that a signal handler does not wait for it
        self._engine.hold(block)
        block.takes_writes = True
        return block

    async def enter_async(self) -> Block:
        """Begin a block; lets other tasks run while another block lasts."""
        block = Block(self._engine)
        try:
            while not self._engine.hold(block, wait=False):
                await self._released()
            self._begin(block)
            block.takes_writes = True
            return block
        except BaseException:
            self.leave(block)
            raise

    def _begin(self, block: Block) -> None:
        self.open.append(block)
        _entered.set((*[each for each in _entered.get() if not each.ended], block))

    async def _released(self) -> None:
        """Return when a block may have ended."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        waker = partial(loop.call_soon_threadsafe, wake)
        self._wakers.append(waker)
        try:
            if self._engine.held:  # asked again: it may have been released meanwhile
                await future
        finally:
            if waker in self._wakers:
                self._wakers.remove(waker)

    def leave(self, block: Block, *, wait: bool = True) -> None:
        """End a block, in whatever thread or task; what it has not committed is undone.

        May be called again where it was interrupted. A finalizer must not `wait` for a lock: whoever
        waits for the block finds out within half a second.
        """
        if wait:
            self._engine.release(block)  # first: see `Block.takes_writes`
        block.buffer.ended = True
        with suppress(ValueError):
            self.open.remove(block)
        while self._wakers:
            waker = self._wakers[-1]
            with suppress(RuntimeError):  # that task's loop is closed, so nobody waits
                waker()
            with suppress(ValueError):
                self._wakers.remove(waker)
        block.guard = None

    def abandon(self) -> None:
        """End all blocks; what they have not committed is undone."""
        for block in list(self.open):
            self.leave(block)

    def abandon_after_fork(self) -> None:
        """Forget the parent's blocks: a child has none of its threads or tasks."""
        for block in self.open:
            block.buffer.ended = True
        self.open.clear()
        self._wakers = []
