"""Tasks, and blocks that outlive their thread: each block has one owner, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from helpers import PATIENCE, AnyMap, Work, in_thread, python, run_together
from stores import Store

import kvmap
from kvmap.turn import Turn


def run(main: Callable[[], Awaitable[object]]) -> Any:
    """Run a coroutine in a loop of its own; one that hangs fails."""

    async def limited() -> object:
        async with asyncio.timeout(PATIENCE):
            return await main()

    return asyncio.run(limited())


# One task inside of a block, and others


def test_another_tasks_write_raises_and_names_both(d: AnyMap) -> None:
    d["a"] = 1

    async def main() -> None:
        inside, go_on = asyncio.Event(), asyncio.Event()

        async def owner() -> None:
            with d.transaction():
                d["a"] = 2
                inside.set()
                await go_on.wait()
                assert d["a"] == 2
                d["a"] = 3

        task = asyncio.create_task(owner(), name="the owner")
        asyncio.current_task().set_name("the other")  # type: ignore[union-attr]
        await inside.wait()
        for write in (
            lambda: d.__setitem__("a", 9),
            lambda: d.update(a=9),
            lambda: d.pop("a"),
            lambda: d.incr("a"),
            lambda: d.clear(),
            lambda: d.transaction().__enter__(),
            lambda: d.edit("list", []).__enter__(),
        ):
            with pytest.raises(RuntimeError) as caught:
                write()
            message = str(caught.value)
            assert "'the other'" in message
            assert "'the owner'" in message
            assert "async with" in message
        go_on.set()
        await task
        assert d["a"] == 3
        d["a"] = 4

    run(main)
    assert d["a"] == 4
    d["b"] = 1


def test_another_task_reads_the_state_outside(d: AnyMap) -> None:
    d.update(a=1, b=2)

    async def main() -> None:
        inside, go_on = asyncio.Event(), asyncio.Event()

        async def owner() -> None:
            with pytest.raises(ZeroDivisionError), d.transaction():
                d["a"] = "uncommitted"
                del d["b"]
                d["c"] = 3
                inside.set()
                await go_on.wait()
                assert dict(d) == {"a": "uncommitted", "c": 3}
                1 / 0

        task = asyncio.create_task(owner())
        await inside.wait()
        assert not d.in_block
        assert (d["a"], d.get("b"), "c" in d, len(d)) == (1, 2, False, 2)
        assert dict(d) == {"a": 1, "b": 2}
        assert d.get_many(["a", "c"]) == {"a": 1}
        assert list(d.items()) == [("a", 1), ("b", 2)]
        go_on.set()
        await task

    run(main)
    assert dict(d) == {"a": 1, "b": 2}


def test_a_task_that_a_block_starts_is_another_task(d: AnyMap) -> None:
    d["a"] = 1

    async def child() -> tuple[Any, bool]:
        with pytest.raises(RuntimeError, match="inside a transaction"):
            d["a"] = "lost"
        return d["a"], d.in_block

    async def main() -> None:
        with d.transaction():
            d["a"] = 2
            assert await asyncio.create_task(child()) == (1, False)
            assert await asyncio.gather(child(), child()) == [(1, False)] * 2
            assert d["a"] == 2
            assert d.in_block
        assert not d.in_block

    run(main)
    assert d["a"] == 2


def test_what_a_task_does_after_its_block_is_no_part_of_it(d: AnyMap) -> None:
    async def child(started: asyncio.Event, ended: asyncio.Event) -> None:
        started.set()
        await ended.wait()
        d["child"] = 1  # the block that it began in is over

    async def main() -> None:
        started, ended = asyncio.Event(), asyncio.Event()
        with pytest.raises(ZeroDivisionError), d.transaction():
            task = asyncio.create_task(child(started, ended))
            await started.wait()
            1 / 0
        ended.set()
        await task

    run(main)
    assert dict(d) == {"child": 1}


# Taking turns


def test_ten_tasks_in_an_edit_lose_nothing(d: AnyMap) -> None:
    async def increment() -> None:
        for _ in range(10):
            async with d.edit("count", [0]) as count:
                before = count[0]
                await asyncio.sleep(0)
                count[0] = before + 1

    async def main() -> None:
        await asyncio.gather(*[increment() for _ in range(10)])

    run(main)
    assert d["count"] == [100]


def test_ten_tasks_in_a_transaction_lose_nothing(d: AnyMap) -> None:
    d.update(left=0, right=0)

    async def move(number: int) -> None:
        for step in range(10):
            with contextlib.suppress(ZeroDivisionError):
                async with d.transaction():
                    d["left"] += 1
                    await asyncio.sleep(0)
                    d["right"] -= 1
                    if (number + step) % 3 == 0:
                        1 / 0

    async def main() -> None:
        tasks = [asyncio.create_task(move(number)) for number in range(10)]
        while not all(task.done() for task in tasks):
            left, right = d.get_many(["left", "right"]).values()
            assert left == -right
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    run(main)
    assert (d["left"], d["right"]) == (66, -66)


def test_a_plain_block_that_awaits_makes_others_raise_rather_than_lose(d: AnyMap) -> None:
    d["count"] = [0]

    async def increment() -> None:
        with d.edit("count") as count:
            before = count[0]
            await asyncio.sleep(0)
            count[0] = before + 1

    async def main() -> list[Any]:
        return await asyncio.gather(*[increment() for _ in range(10)], return_exceptions=True)

    outcomes = run(main)
    assert [type(each) for each in outcomes].count(RuntimeError) == 10 - d["count"][0]
    assert d["count"][0] >= 1


def test_blocks_of_one_task_nest(d: AnyMap) -> None:
    async def main() -> None:
        async with d.transaction():
            d["a"] = [1]
            async with d.edit("a") as some, d.transaction():
                some.append(2)
                await asyncio.sleep(0)
            with d.edit("a") as some:
                some.append(3)
            assert d["a"] == [1, 2, 3]

    run(main)
    assert d["a"] == [1, 2, 3]


def test_a_block_is_entered_only_once(d: AnyMap) -> None:
    async def main() -> None:
        for block in (d.transaction(), d.edit("list", [])):
            async with block:
                pass
            with pytest.raises(RuntimeError, match="entered only once"):
                async with block:
                    pytest.fail("the block does not run")
        d["a"] = 1

    run(main)
    assert d["a"] == 1


def test_blocks_of_two_maps_are_two_blocks(store: Store) -> None:
    async def move(one: AnyMap, other: AnyMap) -> None:
        async with one.transaction():
            one["n"] = one.get("n", 0) - 1
            await asyncio.sleep(0)
            async with other.transaction():
                other["n"] = other.get("n", 0) + 1
                await asyncio.sleep(0)
                assert one.in_block
                assert other.in_block

    async def main() -> None:
        await asyncio.gather(*[move(one, other) for _ in range(5)])

    with store.open("one") as one, store.open("other") as other:
        run(main)
        assert (one["n"], other["n"]) == (-5, 5)


def test_a_task_that_is_cancelled_while_it_waits_holds_nobody_up(d: AnyMap) -> None:
    d["a"] = 0

    async def increment() -> None:
        async with d.transaction():
            d["a"] += 1
            await asyncio.sleep(0)

    async def main() -> None:
        async with d.transaction():
            tasks = [asyncio.create_task(increment()) for _ in range(6)]
            await asyncio.sleep(0.01)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.sleep(0)
            d["a"] = 10
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(each, asyncio.CancelledError) for each in found) == 3

    run(main)
    assert d["a"] == 13


def test_a_task_that_is_cancelled_inside_is_undone(d: AnyMap) -> None:
    d["a"] = 0

    async def stuck(inside: asyncio.Event) -> None:
        async with d.transaction():
            d["a"] = "undone"
            inside.set()
            await asyncio.sleep(PATIENCE)

    async def main() -> None:
        inside = asyncio.Event()
        task = asyncio.create_task(stuck(inside))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with d.transaction():
            assert d["a"] == 0
            d["a"] = 1
        asyncio.create_task(stuck(inside))  # noqa: RUF006 - the loop ends, and cancels it
        await asyncio.sleep(0.01)

    run(main)
    assert d["a"] == 1
    d["a"] = 2


def test_two_loops_take_turns(d: AnyMap) -> None:
    async def increment() -> None:
        for _ in range(10):
            async with d.edit("count", [0]) as count:
                before = count[0]
                await asyncio.sleep(0)
                count[0] = before + 1

    async def main() -> None:
        await asyncio.gather(*[increment() for _ in range(5)])

    run_together(lambda: run(main), lambda: run(main), lambda: run(main))
    assert d["count"] == [150]


def test_tasks_and_threads_take_turns(d: AnyMap) -> None:
    def thread() -> None:
        for _ in range(50):
            with d.edit("count", [0]) as count:
                count[0] += 1
            d.incr("sum")

    async def increment() -> None:
        for _ in range(10):
            async with d.edit("count", [0]) as count:
                count[0] += 1
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*[increment() for _ in range(5)])

    run_together(thread, lambda: run(main), thread)
    assert (d["count"], d["sum"]) == ([150], 100)


def test_a_loop_goes_on_while_a_task_waits_for_a_threads_block(d: AnyMap) -> None:
    order: list[str] = []

    def thread(inside: Callable[[], object]) -> None:
        with d.transaction():
            inside()
            while "the loop goes on" not in order:
                time.sleep(0.001)
            order.append("thread leaves")

    async def waiting() -> None:
        async with d.transaction():
            order.append("task enters")

    async def main() -> None:
        inside, loop = asyncio.Event(), asyncio.get_running_loop()
        work = Work(lambda: thread(lambda: loop.call_soon_threadsafe(inside.set)))
        await inside.wait()
        task = asyncio.create_task(waiting())
        await asyncio.sleep(0.02)
        order.append("the loop goes on")
        await task
        work.result()

    run(main)
    assert order == ["the loop goes on", "thread leaves", "task enters"]


# Threads that work for a task


def test_to_thread_inside_a_block_works_for_its_owner(d: AnyMap) -> None:
    d["a"] = 1

    def work() -> tuple[Any, bool]:
        before = d["a"]
        d["a"] = before + 1
        d["from the thread"] = 1
        return before, d.in_block

    async def main() -> None:
        async with d.transaction():
            d["a"] = 10
            assert await asyncio.to_thread(work) == (10, True)
            assert dict(d) == {"a": 11, "from the thread": 1}
            assert in_thread(lambda: (dict(d), d.in_block)) == ({"a": 1}, False)
        with pytest.raises(ZeroDivisionError):
            async with d.transaction():
                await asyncio.to_thread(d.__setitem__, "a", "undone")
                1 / 0

    run(main)
    assert dict(d) == {"a": 11, "from the thread": 1}


def test_incr_from_tasks_and_threads(d: AnyMap) -> None:
    async def main() -> None:
        await asyncio.gather(*[asyncio.to_thread(d.incr, "n") for _ in range(50)])
        for _ in range(50):
            d.incr("n")

    run(main)
    run_together(*[lambda: [d.incr("n") for _ in range(100)]] * 8)
    assert d["n"] == 900


# A block that is entered in one thread and left in another


@pytest.mark.parametrize("error", [None, ZeroDivisionError()], ids=["commit", "undo"])
def test_a_block_may_end_in_another_thread(d: AnyMap, error: Exception | None) -> None:
    d["a"] = 1
    block = d.transaction()
    kind = type(error) if error else None

    def enter() -> None:
        block.__enter__()
        d["a"] = 2

    in_thread(enter)
    assert d["a"] == 1
    block.__exit__(kind, error, None)
    assert d["a"] == (1 if error else 2)
    d["a"] = 3
    in_thread(lambda: d.__setitem__("a", 4))
    assert d["a"] == 4


def test_an_edit_may_end_in_another_thread(d: AnyMap) -> None:
    d["a"] = [1]
    edit = d.edit("a")
    in_thread(edit.__enter__).append(2)
    in_thread(lambda: edit.__exit__(None, None, None))
    assert d["a"] == [1, 2]
    d["a"] = 3


def test_a_generator_that_a_pool_runs(d: AnyMap) -> None:
    """As a web framework runs a dependency: each step in whatever thread is free."""

    def dependency() -> Iterator[AnyMap]:
        with d.transaction():
            d["begun"] = d.get("begun", 0) + 1
            yield d

    with ThreadPoolExecutor(3) as pool:
        for number in range(1, 30):
            generator = dependency()
            pool.submit(next, generator).result(PATIENCE)
            pool.submit(lambda: None).result(PATIENCE)
            with pytest.raises(StopIteration):
                pool.submit(next, generator).result(PATIENCE)
            assert d["begun"] == number
    d["after"] = 1


def test_a_pools_thread_waits_for_a_block_that_another_will_end(d: AnyMap) -> None:
    with ThreadPoolExecutor(1) as pool:
        block = d.transaction()
        pool.submit(copy_context().run, block.__enter__).result(PATIENCE)
        write = pool.submit(copy_context().run, d.__setitem__, "a", 1)  # in the same thread
        time.sleep(0.02)
        assert not write.done()
        assert "a" not in d
        block.__exit__(None, None, None)
        write.result(PATIENCE)
    assert d["a"] == 1


def test_a_loop_inside_a_threads_block_is_told_so(d: AnyMap) -> None:
    async def main() -> None:
        assert d["a"] == 1
        with pytest.raises(RuntimeError, match="wait for its own thread"):
            d["a"] = 3

    d["a"] = 1
    with d.transaction():
        d["a"] = 2
        run(main)
    assert d["a"] == 2


def test_a_block_that_nobody_leaves_makes_others_raise_in_the_end(
    d: AnyMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Turn, "PATIENCE", 0.05)
    d["a"] = 1
    block = d.transaction()
    in_thread(block.__enter__)
    with pytest.raises(kvmap.HeldError, match="another thread has been inside"):
        d["a"] = 2
    with pytest.raises(kvmap.HeldError):
        in_thread(lambda: d.transaction().__enter__())
    assert d["a"] == 1
    block.__exit__(None, None, None)
    d["a"] = 3


def test_a_map_closed_meanwhile_ends_the_block(store: Store) -> None:
    d = store.open()
    d["a"] = 1
    with ExitStack() as stack, pytest.raises(kvmap.StoreClosedError):
        stack.enter_context(d.transaction())
        d["a"] = 2
        d.close()
        stack.close()
    assert d.closed


# The end of the process

AT_EXIT = """
import sys, threading, time
import kvmap

d = kvmap.open(sys.argv[1])
d["a"] = "before"
inside = threading.Event()

def work():
    with {block}:
        d["a"] = "undone"
        inside.set()
        time.sleep(600)

threading.Thread(target=work, daemon=True).start()
assert inside.wait(60)
{more}
print("the end", flush=True)
"""


@pytest.mark.disk
@pytest.mark.parametrize("block", ["d.transaction()", "d.edit('list', []) as some"])
@pytest.mark.parametrize(
    "more",
    ["", "threading.Thread(target=d.__setitem__, args=('b', 1), daemon=True).start()"],
    ids=["alone", "another waits"],
)
def test_a_daemon_thread_inside_a_block_does_not_keep_the_process(
    path: Path, block: str, more: str
) -> None:
    process = python(AT_EXIT.format(block=block, more=more), path)
    out, error = process.communicate(timeout=PATIENCE)
    assert (out, process.returncode) == ("the end\n", 0), error
    assert not error
    with kvmap.open(path) as d:
        assert dict(d) == {"a": "before"}


def test_a_daemon_thread_inside_a_block_in_memory_does_not_keep_the_process() -> None:
    process = python(AT_EXIT.format(block="d.transaction()", more=""), ":memory:")
    out, error = process.communicate(timeout=PATIENCE)
    assert (out, process.returncode) == ("the end\n", 0), error
    assert not error
