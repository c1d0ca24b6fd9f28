"""FastAPI enters a dependency's block in one thread of its pool and leaves it in another."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from helpers import AnyMap, Library

import kvmap

fastapi = Library("fastapi")
httpx = Library("httpx")
anyio_threads = Library("anyio.to_thread")

PATIENCE = 20.0


def answers(app: object, *paths: str) -> list[tuple[int, str]]:
    """The status and the text of each request; all are sent at once."""

    async def send() -> list[tuple[int, str]]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            found = await asyncio.gather(*(client.post(path) for path in paths))
            return [(answer.status_code, answer.text) for answer in found]

    return asyncio.run(asyncio.wait_for(send(), PATIENCE))


def test_an_async_dependency_makes_requests_take_turns(d: AnyMap) -> None:
    app = fastapi.FastAPI()

    async def block() -> AsyncIterator[None]:
        async with d.transaction():
            yield

    @app.post("/async", dependencies=[fastapi.Depends(block)])
    async def count() -> None:
        n = d.get("n", 0)
        await asyncio.sleep(0)
        d["n"] = n + 1

    @app.post("/sync", dependencies=[fastapi.Depends(block)])
    def count_in_the_pool() -> None:
        d["n"] = d.get("n", 0) + 1

    @app.post("/fails", dependencies=[fastapi.Depends(block)])
    async def fail() -> None:
        d["n"] = -1
        await asyncio.sleep(0)
        raise fastapi.HTTPException(409)

    found = answers(app, *["/async", "/sync", "/fails"] * 10)
    assert [status for status, _ in found] == [200, 200, 409] * 10
    assert d == {"n": 20}


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "fails"])
def test_a_sync_dependency_is_left_in_another_thread_while_others_write(
    d: AnyMap, fails: bool
) -> None:
    """The pool's thread that has entered the block is kept busy, so that another leaves it."""
    app = fastapi.FastAPI()
    entered, left, is_left = [], [], threading.Event()
    begun = asyncio.Event()

    def block() -> Iterator[None]:
        try:
            with d.transaction():
                entered.append(threading.current_thread())
                d["block"] = len(d)
                yield
        finally:
            left.append(threading.current_thread())
            is_left.set()

    def occupy() -> threading.Thread:
        assert is_left.wait(PATIENCE)
        return threading.current_thread()

    @app.post("/block", dependencies=[fastapi.Depends(block)])
    async def busy() -> None:
        tasks.append(asyncio.create_task(anyio_threads.run_sync(occupy)))
        begun.set()
        await asyncio.sleep(0.05)  # the others have begun to write, and wait
        if fails:
            raise fastapi.HTTPException(409)

    @app.post("/write")
    async def write() -> int:
        await begun.wait()
        return int(await anyio_threads.run_sync(d.incr, "n"))

    tasks: list[asyncio.Task[threading.Thread]] = []
    found = answers(app, "/block", *["/write"] * 10)
    assert found[0][0] == (409 if fails else 200)
    assert sorted(int(text) for _, text in found[1:]) == list(range(1, 11))
    assert len(entered) == len(left) == 1
    assert tasks[0].result() is entered[0] is not left[0]
    assert not d.in_block
    assert d == ({"n": 10} if fails else {"n": 10, "block": 0})
    d["after"] = 1
    assert answers(app, "/write") == [(200, "11")]


def test_many_sync_dependencies_at_once_lose_nothing(d: AnyMap) -> None:
    app = fastapi.FastAPI()

    def visits() -> Iterator[dict[str, int]]:
        with d.edit("visits", {"n": 0}) as value:
            yield value

    @app.post("/")
    def visit(value: dict[str, int] = fastapi.Depends(visits)) -> None:  # noqa: B008
        value["n"] += 1

    assert [status for status, _ in answers(app, *["/"] * 20)] == [200] * 20
    assert d == {"visits": {"n": 20}}


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_an_endpoint_that_writes_beside_a_sync_dependency_raises_in_the_end(
    d: AnyMap, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("kvmap.turn.Turn.PATIENCE", 0.1)
    app = fastapi.FastAPI()
    errors = []

    def block() -> Iterator[None]:
        with d.transaction():
            d["block"] = 1
            yield

    def write() -> None:
        try:
            d["endpoint"] = 1
        except Exception as error:
            errors.append(error)
            raise

    async def write_in_the_loop() -> None:
        write()

    endpoint = write if kind == "def" else write_in_the_loop
    app.post("/", dependencies=[fastapi.Depends(block)])(endpoint)
    assert [status for status, _ in answers(app, "/", "/")] == [500, 500]
    assert {type(error) for error in errors} == {kvmap.HeldError}
    assert d == {}
    d["after"] = 1
    assert not d.in_block
