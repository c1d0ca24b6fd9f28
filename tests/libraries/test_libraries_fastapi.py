"""A generator dependency enters a block in one thread of a pool and leaves it in another."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from helpers import AnyMap

fastapi = pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")


def posted(app: object, times: int) -> list[int]:
    """The statuses of so many requests at once."""

    async def post() -> list[int]:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answers = await asyncio.gather(*(client.post("/") for _ in range(times)))
            return [answer.status_code for answer in answers]

    return asyncio.run(asyncio.wait_for(post(), 20))


def test_an_async_dependency(d: AnyMap) -> None:
    app = fastapi.FastAPI()

    async def block() -> AsyncIterator[None]:
        async with d.transaction():
            yield

    @app.post("/", dependencies=[fastapi.Depends(block)])
    async def count() -> None:
        n = d.get("n", 0)
        await asyncio.sleep(0)
        d["n"] = n + 1

    assert posted(app, 10) == [200] * 10
    assert d == {"n": 10}


def test_a_sync_dependency_never_leaves_the_map_locked(d: AnyMap) -> None:
    app = fastapi.FastAPI()

    def block() -> Iterator[None]:
        with d.transaction():
            yield

    @app.post("/", dependencies=[fastapi.Depends(block)])
    def nothing() -> None:
        pass

    posted(app, 1)
    posted(app, 1)
    assert not d.in_block
    d["a"] = 1
    assert d == {"a": 1}
