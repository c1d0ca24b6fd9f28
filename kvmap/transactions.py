"""Transactions and edits: a block's writes are buffered, and leaving the block is one commit."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from kvmap.buffer import Buffer
from kvmap.engine import Engine, State
from kvmap.errors import StoreClosedError

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


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
        self.thread = threading.current_thread()
        self.task = _current_task()

    def __str__(self) -> str:
        where = f"thread {self.thread.name!r}"
        return where if self.task is None else f"task {self.task.get_name()!r} of {where}"

    def is_mine(self) -> bool:
        """Whether the caller, who has the block in its context, is in it."""
        task = _current_task()
        return not self.buffer.ended and (task is None or task is self.task)


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
        block = self.mine()
        return self._engine if block is None else block.buffer

    def writer(self) -> State:
        """What the caller writes to. Raises RuntimeError where it would wait for its own thread."""
        block = self.mine()
        if block is not None:
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
        self._engine.hold(block)
        return self._begin(block)

    async def enter_async(self) -> Block:
        """Begin a block; lets other tasks run while another block lasts."""
        block = Block(self._engine)
        try:
            while not self._engine.hold(block, wait=False):
                await self._released()
            return self._begin(block)
        except BaseException:
            self.leave(block)
            raise

    def _begin(self, block: Block) -> Block:
        self.open.append(block)
        _entered.set((*[each for each in _entered.get() if not each.buffer.ended], block))
        return block

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

    def leave(self, block: Block) -> None:
        """End a block, in whatever thread or task; what it has not committed is undone."""
        block.buffer.ended = True
        if block in self.open:
            self.open.remove(block)
        self._engine.release(block)
        wakers, self._wakers = self._wakers, []
        for waker in wakers:
            try:
                waker()
            except RuntimeError:  # that task's loop is closed, so nobody waits
                continue

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


class Transaction:
    """What `KVMap.transaction()` returns: a context manager, for `with` and for `async with`."""

    def __init__(
        self,
        engine: Engine,
        blocks: Blocks,
        write_back: Callable[[State], None],
        undone: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._blocks = blocks
        self._write_back = write_back
        """Called before the block and before its commit, with what to write to."""
        self._undone = undone
        """Called where the block is not committed."""
        self._block: Block | None = None
        """None inside another block, of which this one is a part."""
        self._entered = False
        self.state: State
        """What the block sees and writes, in whatever thread or task it ends."""

    def __enter__(self) -> Self:
        self._once()
        outer = self._blocks.mine()
        if outer is None:
            self._write_back(self._blocks.writer())  # what was changed before is no part of it
            outer = Block(self._engine)
            try:
                self._block = self._blocks.enter(outer)
                self.state = outer.buffer
                return self
            except BaseException:  # an interrupt, for one, and __exit__ will not be called
                self._blocks.leave(outer)
                raise
        self.state = outer.buffer
        return self

    async def __aenter__(self) -> Self:
        self._once()
        outer = self._blocks.mine()
        if outer is None:
            outer = self._block = await self._blocks.enter_async()
            try:
                self._write_back_before()
            except BaseException:
                self._blocks.leave(outer)
                raise
        self.state = outer.buffer
        return self

    def _write_back_before(self) -> None:
        """Write what was changed before the block, which has begun, and is no part of it."""
        before = Buffer(self._engine)
        try:
            self._write_back(before)
        finally:
            if before.changes:
                self._engine.commit(before.changes, before.seen)

    def _once(self) -> None:
        if self._entered:
            raise RuntimeError("a transaction can be entered only once: make a new one")
        self._entered = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        block = self._block
        if block is None:
            return
        committed = False
        try:
            if kind is None:
                self._write_back(block.buffer)
                if block.buffer.ended:
                    raise StoreClosedError("the map was closed inside the block, which is undone")
                if block.buffer.changes:
                    self._engine.commit(block.buffer.changes, block.buffer.seen)
                committed = True
        finally:
            self._blocks.leave(block)
            if not committed:
                self._undone()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)


class Edit(Generic[T]):
    """What `KVMap.edit()` returns: a transaction whose block gets one value."""

    def __init__(
        self,
        transaction: Transaction,
        begin: Callable[[State], T],
        finish: Callable[[State, T], None],
    ) -> None:
        self._transaction = transaction
        self._begin = begin
        """Reads the value that the block gets."""
        self._finish = finish
        """Writes it, if it has changed."""
        self._value: T

    def __enter__(self) -> T:
        self._transaction.__enter__()
        return self._read()

    async def __aenter__(self) -> T:
        await self._transaction.__aenter__()
        return self._read()

    def _read(self) -> T:
        try:
            self._value = self._begin(self._transaction.state)
        except BaseException:
            self._transaction.__exit__(*sys.exc_info())
            raise
        return self._value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish(self._transaction.state, self._value)
        except BaseException:
            self._transaction.__exit__(*sys.exc_info())
            raise
        self._transaction.__exit__(kind, error, traceback)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)
