"""One computation for each key, however many threads and tasks ask for it at the same time.

The first caller computes; those that come meanwhile wait for its result. A caller that would wait
for itself, through whatever chain of other callers, computes for itself instead; `kvmap.wait_graph`
finds that out.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from kvmap.keys import Key
from kvmap.wait_graph import GUARD, Node, inside_of

if TYPE_CHECKING:
    import asyncio  # where nothing is async, it need not be loaded

R = TypeVar("R")

MISSING: Final[Any] = object()
"""Where a result would be, and there is none."""

_POLL = 0.2
"""Seconds after which a task looks whether another thread's event loop still runs."""


class Computation(Generic[R]):
    """A result in the making, and who waits for it."""

    __slots__ = (
        *("_loop", "_process", "_thread", "_wakers"),
        *("error", "finished", "node", "task", "value"),
    )

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.node = Node()
        self.finished = False
        self.value: R = MISSING
        self.error: Exception | None = None
        """Once finished without a value and without an error, the computation was given up."""
        self.task: asyncio.Task[None] | None = None
        self._loop = loop
        self._process, self._thread = os.getpid(), threading.get_ident()
        self._wakers: set[Callable[[], object]] = set()

    def can_finish(self) -> bool:
        """Whether what computes it is there: the process, and the event loop, which must run."""
        if self._process != os.getpid():
            return False  # the thread that computes was not copied by the fork
        return self._loop is None or self._loop.is_running()

    def would_wait_for(self, inside: Node | None) -> bool:
        """Whether a caller from `inside` must not wait for it. GUARD is held."""
        if self._loop is None and self._thread == threading.get_ident():
            return True
        return inside is not None and self.node.needs(inside)

    def finish(self, value: R, error: Exception | None) -> None:
        """Set the outcome, once, and wake those that wait for it."""
        with GUARD:
            if self.finished:
                return
            self.value, self.error = value, error
            self.finished = True
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def wait(self) -> None:
        """Block the thread until the computation is finished."""
        woken = threading.Event()
        if self._wake_by(woken.set):
            try:
                woken.wait()
            finally:
                self._wakers.discard(woken.set)

    async def wait_async(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return when the computation is finished, or the event loop it is in has stopped."""
        from asyncio import wait

        woken: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed, so nothing in it waits any more
                loop.call_soon_threadsafe(_set, woken)

        if not self._wake_by(wake):
            return
        try:
            if self._loop is loop:
                await woken
            while not woken.done() and self.can_finish():
                await wait([woken], timeout=_POLL)
        finally:
            self._wakers.discard(wake)

    def _wake_by(self, wake: Callable[[], object]) -> bool:
        """Have `wake` called at the end; False where that is over already."""
        with GUARD:
            if not self.finished:
                self._wakers.add(wake)
            return not self.finished


class SingleFlight(Generic[R]):
    """The computations of one function that are under way, by key."""

    def __init__(self) -> None:
        self._current: dict[Key, Computation[R]] = {}

    def turn(self, key: Key, *, anew: bool = False, alone: bool = False) -> Turn[R]:
        """`with flights.turn(key) as turn:` enters to compute, or with what another computed.

        With `anew`, it computes even if another does already, whose result is then not kept. With
        `alone`, it computes without letting others wait for it.

        >>> flights = SingleFlight[int]()
        >>> with flights.turn("answer") as turn:
        ...     if turn.leads:
        ...         turn.value = 42
        >>> turn.value
        42
        """
        return Turn(self, key, anew=anew, alone=alone)

    async def run(
        self,
        key: Key,
        compute: Callable[[Node], Awaitable[R]],
        *,
        anew: bool = False,
        alone: bool = False,
    ) -> tuple[R, bool]:
        """As `turn`, for tasks: the result, and whether this call computed it.

        The computation is a task of its own. It goes on when those that wait for it are cancelled.
        """
        from asyncio import CancelledError, get_running_loop

        loop = get_running_loop()
        inside = inside_of.get()
        while True:
            mine: Computation[R] = Computation(loop)
            joined = mine
            try:
                joined, shared = self.join(key, mine, inside, anew=anew, alone=alone)
                if joined is mine and not shared:
                    return await _run_inside(mine.node, compute), True
                if joined is mine:
                    mine.task = loop.create_task(self._run_in_task(key, mine, compute))
                    mine.task.add_done_callback(_retrieve)
                await joined.wait_async(loop)
                if joined.error is not None:
                    raise joined.error
                if joined.value is not MISSING:
                    return joined.value, joined is mine
                if joined is mine:
                    raise CancelledError
            finally:
                if mine.task is None:
                    self.end(key, mine)
                self.leave(joined, inside)
                del mine, joined  # or an exception's traceback would hold the exception

    async def _run_in_task(
        self,
        key: Key,
        computation: Computation[R],
        compute: Callable[[Node], Awaitable[R]],
    ) -> None:
        inside_of.set(computation.node)  # in the task's own context
        try:
            self.end(key, computation, await compute(computation.node))
        except Exception as error:
            self.end(key, computation, error=error)  # raised in those that wait
        finally:
            self.end(key, computation)
            del computation

    def join(
        self, key: Key, mine: Computation[R], inside: Node | None, *, anew: bool, alone: bool
    ) -> tuple[Computation[R], bool]:
        """The computation to wait for, or `mine` to begin; and whether others may wait for it."""
        with GUARD:
            joined, shared = mine, not alone
            current = None if alone else self._current.get(key)
            if current is not None and not anew and current.can_finish():
                if current.would_wait_for(inside):
                    shared = False
                else:
                    joined = current
            elif shared:
                if current is not None:
                    current.node.disown()
                self._current[key] = mine
            if inside is not None:
                inside.begin_wait(joined.node)
            return joined, shared

    def leave(self, joined: Computation[R], inside: Node | None) -> None:
        """Take back that `inside` waits for `joined`, as `join` has noted."""
        if inside is not None:
            with GUARD:
                inside.end_wait(joined.node)

    def end(
        self,
        key: Key,
        computation: Computation[R],
        value: R = MISSING,
        error: Exception | None = None,
    ) -> None:
        """Finish a computation, unless it is; with no outcome, those that wait begin anew."""
        with GUARD:
            if self._current.get(key) is computation:
                del self._current[key]
        computation.finish(value, error)

    def disown(self, key: Key) -> None:
        """Let no caller join the computation that is under way, and its result not be kept."""
        with GUARD:
            current = self._current.pop(key, None)
            if current is not None:
                current.node.disown()

    def disown_all(self) -> None:
        """As `disown`, for all keys."""
        with GUARD:
            for current in self._current.values():
                current.node.disown()
            self._current.clear()


class Turn(Generic[R]):
    """What `SingleFlight.turn` returns. A `with` block adds no frame to a recursion."""

    __slots__ = (
        *("_alone", "_anew", "_computation", "_flights", "_inside", "_key", "_token"),
        *("leads", "value"),
    )

    def __init__(self, flights: SingleFlight[R], key: Key, *, anew: bool, alone: bool) -> None:
        self._flights, self._key, self._anew, self._alone = flights, key, anew, alone
        self._inside = inside_of.get()
        self._token: Token[Node | None] | None = None
        self._computation: Computation[R] = Computation()
        self.leads = False
        """Whether the block is to compute, and to set `value`."""
        self.value: R = MISSING

    @property
    def node(self) -> Node:
        """The computation's place in the graph, inside of the block."""
        return self._computation.node

    def __enter__(self) -> Self:
        while not self.leads and self.value is MISSING:
            mine = joined = self._computation
            try:
                joined, _ = self._flights.join(
                    self._key, mine, self._inside, anew=self._anew, alone=self._alone
                )
                if joined is mine:
                    self._token = inside_of.set(mine.node)
                    self.leads = True
                    break
                joined.wait()
                if joined.error is not None:
                    raise joined.error
                self.value = joined.value
            finally:
                if not self.leads:
                    self._flights.end(self._key, mine)
                    self._flights.leave(joined, self._inside)
                    self._computation = Computation()
                del mine, joined  # or an exception's traceback would hold the exception
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is None:
            return
        inside_of.reset(self._token)
        self._flights.end(
            self._key,
            self._computation,
            self.value,
            error if isinstance(error, Exception) else None,
        )
        self._flights.leave(self._computation, self._inside)
        del self._computation  # or an exception's traceback would hold the exception


async def _run_inside(node: Node, compute: Callable[[Node], Awaitable[R]]) -> R:
    """Compute in the caller's own task."""
    token = inside_of.set(node)
    try:
        return await compute(node)
    finally:
        inside_of.reset(token)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Keep asyncio from reporting SystemExit and the like, which end the loop anyway, once more."""
    if not task.cancelled():
        task.exception()


def _set(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
