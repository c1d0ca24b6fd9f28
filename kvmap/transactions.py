"""Transactions and edits: a block's writes are buffered, and leaving the block is one commit."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from kvmap.blocks import Block, Blocks
from kvmap.buffer import Buffer
from kvmap.engine import Engine, State
from kvmap.errors import StoreClosedError

T = TypeVar("T")


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
        self._committed = False
        self._entered = False
        self.state: State
        """What the block sees and writes, in whatever thread or task it ends."""

    def __enter__(self) -> Self:
        self._once()
        outer = self._blocks.mine()
        if outer is None:
            self._write_back(self._blocks.writer())  # what was changed before is no part of it
            block = self._block = Block(self._engine)
            try:
                self._end_when_dropped(block)
                self._blocks.enter(block)
                self.state = block.buffer
                return self
            except BaseException:  # an interrupt, for one, and __exit__ will not be called
                self._blocks.leave(block)
                raise
        outer.check_takes_writes()
        self.state = outer.buffer
        return self

    async def __aenter__(self) -> Self:
        self._once()
        outer = self._blocks.mine()
        if outer is None:
            outer = self._block = await self._blocks.enter_async()
            try:
                self._end_when_dropped(outer)
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
        block.takes_writes = False
        try:
            if kind is None:
                self._write_back(block.buffer)
                if block.buffer.ended:
                    raise StoreClosedError("the map was closed inside the block, which is undone")
                if block.buffer.changes:
                    self._engine.commit(block.buffer.changes, block.buffer.seen)
                self._committed = True
        finally:
            self._blocks.leave(block)
            if not self._committed:
                self._undone()

    def _end_when_dropped(self, block: Block) -> None:
        """End a block that an interrupt ahead of `__exit__`, or in it, has kept from being left."""
        blocks, undone = self._blocks, self._undone

        def end(_: object) -> None:
            blocks.leave(block, wait=False)
            undone()

        # Not __del__: that would run at the end of each transaction, and swallow a Ctrl-C there.
        block.guard = weakref.ref(self, end)

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
