"""`@d.memoize` on `async def`: one computation for all tasks and threads that ask for a result."""

import asyncio
import dataclasses
import gc
import inspect
import sys
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import pytest
from helpers import PATIENCE, AnyMap, Work

import kvmap

T = TypeVar("T")


@pytest.fixture
def d() -> Iterator[AnyMap]:
    with kvmap.open(":memory:") as d:
        yield d


problems: list[Any] = []
"""What the event loops of the running test have reported."""


@pytest.fixture(autouse=True)
def _no_problems() -> Iterator[None]:
    problems.clear()
    yield
    gc.collect()
    assert not problems, "such as 'Task exception was never retrieved'"


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in an event loop of its own."""

    async def watched() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        async with asyncio.timeout(PATIENCE):
            return await main()

    return asyncio.run(watched())


def in_thread(main: Callable[[], Coroutine[Any, Any, Any]]) -> Work:
    """Run a coroutine in a thread with an event loop of its own."""
    return Work(partial(run, main))


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks and threads run until the condition holds."""
    while not condition():
        await asyncio.sleep(0.001)


async def let_run() -> None:
    """Let all other tasks of the loop run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


class Source:
    """A slow function that the test lets return; `arrivals` counts the calls that want a result."""

    def __init__(self, d: AnyMap, **options: Any) -> None:
        self.calls = self.arrivals = 0
        self.open = False
        self.kept = d.memoize(key=self._key, **options)(self.fetch)

    def _key(self, n: int = 0) -> Any:
        self.arrivals += 1
        return f"get {n}"

    async def fetch(self, n: int = 0) -> list[int]:
        self.calls += 1
        await until(lambda: self.open)
        return [n, self.calls]


def test_a_result_is_computed_once_and_kept(d: AnyMap) -> None:
    calls: list[int] = []

    @d.memoize(version=1, ttl=60)
    async def square(n: int) -> tuple[int, int]:
        """n twice."""
        calls.append(n)
        await asyncio.sleep(0)
        return n, n * n

    async def main() -> list[Any]:
        return [await square(3), await square(n=3), await square(4)]

    assert run(main) == [[3, 9], [3, 9], [4, 16]]
    assert calls == [3, 4]
    assert d[square.key(3)] == [3, 9]
    assert 59 < (d.ttl(square.key(3)) or 0) <= 60
    assert square.cache_info() == (1, 2, 0)
    assert square.__doc__ == "n twice."
    assert run(lambda: square(3)) == [3, 9], "it outlives the event loop"
    assert calls == [3, 4]


def test_frameworks_see_a_coroutine_function(d: AnyMap) -> None:
    class Shop:
        @d.memoize(ignore=["self"])
        async def price(self, item: str) -> int:
            return len(item)

    for function in (d.memoize(key=lambda: "x")(Source(d).fetch), Shop().price, Shop.price):
        assert inspect.iscoroutinefunction(function.__call__)
        if sys.version_info >= (3, 12):
            assert inspect.iscoroutinefunction(function)


def test_tasks_share_one_computation(d: AnyMap) -> None:
    source = Source(d)

    async def main() -> list[list[int]]:
        tasks = [asyncio.create_task(source.kept(7)) for _ in range(10)]
        await let_run()
        source.open = True
        return await asyncio.gather(*tasks)

    results = run(main)
    assert results == [[7, 1]] * 10
    assert len(set(map(id, results))) == 10, "a result is the caller's own"
    assert source.kept.cache_info() == (9, 1, 0)


def test_different_keys_are_computed_at_the_same_time(d: AnyMap) -> None:
    source = Source(d)

    async def main() -> list[list[int]]:
        tasks = [asyncio.create_task(source.kept(n)) for n in range(3)]
        await until(lambda: source.calls == 3)
        source.open = True
        return await asyncio.gather(*tasks)

    assert [n for n, _ in run(main)] == [0, 1, 2]


@pytest.mark.parametrize("cancelled", [0, 1], ids=["the first", "another"])
def test_a_cancelled_task_does_not_cancel_it_for_the_others(d: AnyMap, cancelled: int) -> None:
    source = Source(d)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(source.kept()) for _ in range(3)]
        await let_run()
        tasks[cancelled].cancel()
        await let_run()
        assert tasks[cancelled].cancelled()
        source.open = True
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = run(main)
    assert isinstance(results.pop(cancelled), asyncio.CancelledError)
    assert results == [[0, 1]] * 2


def test_a_computation_goes_on_when_all_are_cancelled(d: AnyMap) -> None:
    source = Source(d)

    async def main() -> list[int]:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(source.kept(), 0.01)
        source.open = True
        await until(lambda: "get 0" in d)
        return await source.kept()

    assert run(main) == [0, 1]
    assert source.calls == 1


def test_an_exception_reaches_all_and_is_not_kept(d: AnyMap) -> None:
    calls: list[int] = []

    @d.memoize(version=1)
    async def f() -> int:
        calls.append(1)
        await let_run()
        return 1 // (len(calls) - 1)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(f()) for _ in range(3)]
        failed = await asyncio.gather(*tasks, return_exceptions=True)
        return [*map(type, failed), await f()]

    assert run(main) == [ZeroDivisionError] * 3 + [1]
    assert len(calls) == 2


def test_an_exception_that_nobody_waits_for_any_more_is_dropped(d: AnyMap) -> None:
    raised: list[int] = []

    @d.memoize(version=1)
    async def f() -> int:
        await asyncio.sleep(0.02)
        raised.append(1)
        raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(f(), 0.001)
        await until(lambda: raised)
        await let_run()

    run(main)  # and asyncio reports nothing


def test_a_function_that_is_cancelled_from_inside_raises_so(d: AnyMap) -> None:
    calls: list[int] = []

    @d.memoize(version=1)
    async def f() -> int:
        calls.append(1)
        await let_run()
        if len(calls) == 1:
            raise asyncio.CancelledError
        return len(calls)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(f()) for _ in range(3)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = run(main)
    assert isinstance(first, asyncio.CancelledError)
    assert others == [2, 2], "those that wait begin anew"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_function_that_ends_the_program_does(d: AnyMap, error: type[BaseException]) -> None:
    calls: list[int] = []

    @d.memoize(version=1)
    async def f() -> None:
        calls.append(1)
        await let_run()
        raise error

    async def main() -> None:
        await asyncio.gather(f(), f())

    with pytest.raises(error):
        run(main)
    assert len(calls) == 1
    assert not d


def test_threads_with_event_loops_of_their_own_share_one_computation(
    d: AnyMap,
) -> None:
    source = Source(d)

    async def main() -> list[list[int]]:
        return await asyncio.gather(source.kept(), source.kept())

    async def let_pass() -> None:
        await until(lambda: source.arrivals == 6)
        await asyncio.sleep(0.02)
        source.open = True

    threads = [in_thread(main) for _ in range(3)]
    run(let_pass)
    assert [each.result() for each in threads] == [[[0, 1]] * 2] * 3


def test_an_exception_reaches_other_threads(d: AnyMap) -> None:
    source = Source(d)

    async def failing() -> int:
        await source.kept()
        raise ZeroDivisionError

    kept = d.memoize(key=lambda: "failing")(failing)
    threads = [in_thread(kept) for _ in range(2)]

    async def let_pass() -> None:
        await until(lambda: source.arrivals)
        await asyncio.sleep(0.05)
        source.open = True

    run(let_pass)
    for each in threads:
        with pytest.raises(ZeroDivisionError):
            each.result()


@pytest.mark.parametrize("way", ["run", "close", "stop"])
def test_when_its_event_loop_ends_others_compute(d: AnyMap, way: str) -> None:
    source = Source(d)
    abandoned = asyncio.new_event_loop()
    waits = threading.Event()

    async def first() -> None:
        task = asyncio.create_task(source.kept())
        await until(lambda: source.calls)
        await asyncio.to_thread(waits.wait, PATIENCE)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def begin() -> None:
        if way == "run":
            asyncio.run(first())  # which cancels what still runs in the end
            return
        abandoned.run_until_complete(first())
        if way == "close":
            abandoned.close()

    beginner = threading.Thread(target=begin, daemon=True)
    beginner.start()

    async def other() -> list[int]:
        await until(lambda: source.calls)
        mine = asyncio.create_task(source.kept())
        await until(lambda: source.arrivals == 2)
        await asyncio.sleep(0.01)
        assert source.calls == 1, "it waits for the other loop"
        waits.set()
        await until(lambda: source.calls == 2)
        source.open = True
        return await mine

    assert in_thread(other).result() == [0, 2]
    beginner.join(PATIENCE)
    assert not beginner.is_alive()
    if way == "stop":
        abandoned.run_until_complete(let_run())  # the first one ends too, and is not kept
        assert d["get 0"] == [0, 2]
    abandoned.close()


def test_a_call_of_itself_with_the_same_key_is_no_deadlock(d: AnyMap) -> None:
    @d.memoize(ignore=["attempt"])
    async def fetch(url: str, attempt: int = 0) -> int:
        await asyncio.sleep(0)
        return await fetch(url, attempt + 1) if attempt < 2 else attempt

    assert run(lambda: fetch("/")) == 2


def test_it_may_call_itself_in_tasks(d: AnyMap) -> None:
    @d.memoize
    async def fibonacci(n: int) -> int:
        if n < 2:
            return n
        return sum(await asyncio.gather(fibonacci(n - 1), fibonacci(n - 2)))

    assert run(lambda: fibonacci(30)) == 832040
    assert fibonacci.cache_info().misses == 31


def circle(d: AnyMap, length: int, enter: Callable[[], Awaitable[object]]) -> list[Any]:
    """Functions that call each other in a circle, each kept under one key."""
    kept: list[Any] = []

    def make(i: int) -> Callable[[int], Coroutine[Any, Any, int]]:
        async def function(depth: int) -> int:
            if depth == length:
                await enter()
            if depth == 0:
                return 0
            found = await asyncio.gather(kept[(i + 1) % length](depth - 1))
            return 1 + int(found[0])

        return function

    kept += [d.memoize(key=lambda _, i=i: f"function {i}")(make(i)) for i in range(length)]
    return kept


@pytest.mark.parametrize("length", [2, 3])
@pytest.mark.parametrize("threads", [False, True], ids=["tasks", "threads"])
def test_mutual_recursion_is_no_deadlock(d: AnyMap, length: int, threads: bool) -> None:
    entered: list[int] = []

    async def enter() -> None:
        entered.append(1)
        await until(lambda: len(entered) == length)

    kept = circle(d, length, enter)

    async def gather() -> list[int]:
        return await asyncio.gather(*[function(length) for function in kept])

    if threads:
        calls = [in_thread(lambda f=function: f(length)) for function in kept]  # type: ignore[misc]
        found = [each.result() for each in calls]
    else:
        found = run(gather)
    assert all(depth in range(2 * length) for depth in found)
    assert len(d) == length


def test_a_block_computes_for_itself(d: AnyMap) -> None:
    """A task in a block must not wait for one that waits for the block, nor write in another."""
    source = Source(d)

    async def main() -> list[Any]:
        other = asyncio.create_task(source.kept())
        await until(lambda: source.calls)
        with pytest.raises(ZeroDivisionError):
            async with d.transaction():
                source.open = True
                inside = await source.kept()
                there = "get 0" in d
                1 / 0
        return [inside, there, await other, d["get 0"]]

    assert run(main) == [[0, 2], True, [0, 2], [0, 2]]


@pytest.mark.parametrize("write", ["call", "refresh"])
def test_a_result_waits_for_another_tasks_block(d: AnyMap, write: str) -> None:
    source = Source(d)

    async def main() -> list[Any]:
        method = source.kept if write == "call" else source.kept.refresh
        asking = asyncio.create_task(method())
        await until(lambda: source.calls)
        with d.transaction():  # a plain `with`: a write of another task raises RuntimeError
            source.open = True
            await asyncio.sleep(0.01)
            assert not asking.done()
            d["mine"] = 1
        return await asking

    assert run(main) == [0, 1]
    assert dict(d) == {"mine": 1, "get 0": [0, 1]}


def test_a_result_without_room_after_another_tasks_block() -> None:
    with kvmap.open(":memory:", limits=kvmap.Limits(entries=1)) as d:
        source = Source(d)

        async def main() -> list[Any]:
            asking = asyncio.create_task(source.kept())
            await until(lambda: source.calls)
            with d.transaction():
                source.open = True
                await asyncio.sleep(0.01)
                d["mine"] = 1
            return await asking

        assert run(main) == [0, 1]
        assert dict(d) == {"mine": 1}
        assert source.kept.cache_info() == (0, 1, 1)


def test_a_refresh_without_room_after_another_tasks_block_forgets(
    d: AnyMap,
) -> None:
    source = Source(d)

    async def main() -> list[Any]:
        source.open = True
        first = await source.kept()
        source.open, source.calls = False, 1000
        asking = asyncio.create_task(source.kept.refresh())
        await until(lambda: source.calls > 1000)
        d.configure(limits=kvmap.Limits(store_bytes=1))
        with d.transaction():
            source.open = True
            await asyncio.sleep(0.01)
        return [first, await asking]

    assert run(main) == [[0, 1], [0, 1001]]
    assert not d, "or the next call would return an older result than this one"
    assert source.kept.cache_info() == (0, 2, 1)


def test_refresh_and_forget(d: AnyMap) -> None:
    data = ["old"]

    @d.memoize(version=1)
    async def f() -> str:
        found = data[0]
        await until(lambda: found == "new" or is_open)
        return found

    is_open = True

    async def main() -> list[Any]:
        nonlocal is_open
        found = [await f()]
        data[0] = "new"
        found += [await f(), await f.refresh(), await f()]
        found += [f.forget(), f.forget(), f.forget_all(), len(d)]
        data[0], is_open = "old", False
        older = asyncio.create_task(f())
        await let_run()
        data[0] = "new"
        found.append(await f.refresh())
        is_open = True
        found += [await older, await f()]
        f.forget()
        data[0], is_open = "old", False
        older = asyncio.create_task(f())
        await let_run()
        f.forget()
        is_open = True
        return [*found, await older, len(d)]

    assert run(main) == [
        *("old", "old", "new", "new"),
        *(True, False, 0, 0),
        *("new", "old", "new"),
        *("old", 0),
    ]


def test_methods(d: AnyMap) -> None:
    class Shop:
        @d.memoize(ignore=["self"])
        async def price(self, item: str) -> int:
            return len(item)

        @staticmethod
        @d.memoize
        async def tax(n: int) -> int:
            return n // 5

    async def main() -> list[Any]:
        one, other = Shop(), Shop()
        return [
            *(await one.price("tea"), await other.price("tea"), await one.price.refresh("tea")),
            *(one.price.forget("tea"), one.price.cache_info(), await Shop.tax(10)),
        ]

    assert run(main) == [3, 3, 3, True, (1, 2, 0), 2]


class AsyncObject:
    async def __call__(self, n: int) -> int:
        return n * n


def test_an_object_with_an_async_call(d: AnyMap) -> None:
    kept = d.memoize(key=lambda n: n)(AsyncObject())
    assert run(lambda: kept(3)) == 9
    assert dict(d) == {3: 9}


@dataclasses.dataclass
class User:
    name: str
    tags: tuple[str, ...] = ()


def test_results_come_back_as_what_they_were(d: AnyMap) -> None:
    pytest.importorskip("msgspec")

    @d.memoize(type=User)
    async def user(name: str) -> User:
        await asyncio.sleep(0)
        return User(name, ("a",))

    async def main() -> list[User]:
        return [*await asyncio.gather(user("Ada"), user("Ada")), await user("Ada")]

    assert run(main) == [User("Ada", ("a",))] * 3
    assert user.cache_info() == (2, 1, 0)


def test_a_result_that_the_map_cannot_hold_reaches_all(d: AnyMap) -> None:
    @d.memoize
    async def f() -> Any:
        await asyncio.sleep(0)
        return {1}

    @d.memoize
    async def numbers() -> Any:
        return iter([1, 2])

    async def main() -> list[Any]:
        return await asyncio.gather(f(), f(), numbers(), return_exceptions=True)

    one, two, three = run(main)
    assert one is two
    assert type(one) is TypeError
    assert any("f()" in note for note in one.__notes__)
    assert "which can be read only once" in str(three)
    assert not d


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
def test_nothing_keeps_arguments_results_or_errors_alive(
    d: AnyMap, error: type[BaseException]
) -> None:
    class Thing:
        """Something that a weak reference can watch."""

    @d.memoize(ignore=["thing", "error"])
    async def f(thing: Thing, n: int, error: type[BaseException] | None = None) -> int:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return n

    async def main() -> None:
        thing = Thing()
        alive = weakref.ref(thing)
        gc.disable()
        try:
            assert await asyncio.gather(f(thing, 1), f(thing, 1)) == [1, 1]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await f(thing, 2)
            await let_run()
            with suppress(error):
                await f(thing, 3, error)
            await let_run()
            del thing
            assert alive() is None
        finally:
            gc.enable()

    gc.collect()
    run(main)


def test_a_waiting_thread_does_not_miss_the_end(d: AnyMap) -> None:
    """Many short computations in two event loops: none is waited for after its end."""

    @d.memoize
    async def f(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def main() -> int:
        return sum([await f(n) for n in range(300)])

    begin = time.monotonic()
    threads = [in_thread(main) for _ in range(3)]
    assert [each.result() for each in threads] == [sum(range(300))] * 3
    assert f.cache_info().misses == 300
    assert time.monotonic() - begin < PATIENCE / 2
