"""A write whose answer is lost is done once, and the caller gets the answer of that one time."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from proxy import Proxy
from servers import ServerProcess

import kvmap
from kvmap.engine import INF, Changes, Engine, If, Seen
from kvmap.redis.opening import open_engine
from kvmap.settings import keep


@pytest.fixture
def proxy(server: ServerProcess) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


def behind(proxy: Proxy, timeout: float = 0) -> Engine:
    """An engine behind the proxy."""
    return open_engine(
        f"redis://127.0.0.1:{proxy.port}/0/d", "c",
        name=None, timeout=timeout, sync=False, shards=None, change=keep,
    )  # fmt: skip


@pytest.fixture
def engine(proxy: Proxy) -> Iterator[Engine]:
    """An engine behind the proxy, with three entries."""
    engine = behind(proxy)
    engine.put_many({"a": b"1", "b": b"2", "c": b"[3]"}, INF)
    yield engine
    engine.close()


def commit(engine: Engine) -> None:
    changes, seen = Changes(), Seen()
    changes.written["d"] = b"4", INF
    changes.deleted.add("a")
    seen.texts["a"] = b"1"
    engine.commit(changes, seen)


def content(engine: Engine) -> dict[Any, bytes]:
    return {
        key: text for keys, texts in engine.items() for key, text in zip(keys, texts, strict=True)
    }


WRITES: list[tuple[str, Callable[[Engine], Any], Any, dict[str, bytes | None]]] = [
    ("put", lambda e: e.put("a", b"9", INF), True, {"a": b"9"}),
    ("put absent", lambda e: e.put("d", b"9", INF, If.ABSENT), True, {"d": b"9"}),
    ("put unchanged", lambda e: e.put("a", b"9", INF, b"1"), True, {"a": b"9"}),
    ("put in vain", lambda e: e.put("a", b"9", INF, b"2"), False, {}),
    ("put_many", lambda e: e.put_many({"a": b"9", "d": b"4"}, INF), None, {"a": b"9", "d": b"4"}),
    ("setdefault", lambda e: e.setdefault("d", b"4", INF), b"4", {"d": b"4"}),
    ("setdefault in vain", lambda e: e.setdefault("a", b"4", INF), b"1", {}),
    ("incr", lambda e: e.incr("a", 5, None, -1.0), 6, {"a": b"6"}),
    ("incr a new one", lambda e: e.incr("d", 5, 2, -1.0), 7, {"d": b"7"}),
    ("incr by a fraction", lambda e: e.incr("a", 0.5, None, -1.0), 1.5, {"a": b"1.5"}),
    ("expire", lambda e: e.expire("a", INF), True, {}),
    ("pop", lambda e: e.pop("c"), b"[3]", {"c": None}),
    ("pop in vain", lambda e: e.pop("d"), None, {}),
    ("popitem", lambda e: e.popitem(), ("c", b"[3]"), {"c": None}),
    ("popitem first", lambda e: e.popitem(last=False), ("a", b"1"), {"a": None}),
    ("delete", lambda e: e.delete("a"), True, {"a": None}),
    ("delete_many", lambda e: e.delete_many(["a", "b", "x"]), 2, {"a": None, "b": None}),
    ("clear", lambda e: e.clear(), None, {"a": None, "b": None, "c": None}),
    ("commit", commit, None, {"a": None, "d": b"4"}),
]


@pytest.mark.parametrize("lost", ["answer", "request", "both"])
@pytest.mark.parametrize(
    ("write", "answer", "changed"), [each[1:] for each in WRITES], ids=[each[0] for each in WRITES]
)
def test_a_lost_answer(
    engine: Engine,
    proxy: Proxy,
    write: Callable[[Engine], Any],
    answer: Any,
    changed: dict[str, bytes | None],
    lost: str,
) -> None:
    before = content(engine)
    proxy.answers_to_lose = lost != "request"
    proxy.requests_to_lose = lost != "answer"
    assert write(engine) == answer
    assert proxy.answers_to_lose == proxy.requests_to_lose == 0
    after = {**before, **changed}
    assert content(engine) == {key: text for key, text in after.items() if text is not None}


def test_the_next_write_is_another_one(engine: Engine, proxy: Proxy) -> None:
    for expected in range(2, 30):
        proxy.answers_to_lose = expected % 3
        assert engine.incr("a", 1, None, -1.0) == expected
        proxy.answers_to_lose = expected % 2
        assert engine.get("a") == b"%d" % expected


def test_a_long_answer_is_not_kept(engine: Engine, proxy: Proxy) -> None:
    text = b'"%b"' % (b"x" * 100_000)
    for remove in (lambda: engine.pop("long"), engine.popitem):
        engine.put("long", text, INF)
        proxy.answers_to_lose = 1
        with pytest.raises(kvmap.OutcomeUnknownError, match="too long"):
            remove()
        assert "long" not in engine
    engine.put("short", b"1", INF)
    proxy.answers_to_lose = 1
    assert engine.pop("short") == b"1"


def test_all_answers_are_lost(proxy: Proxy) -> None:
    engine = behind(proxy, timeout=0.2)
    engine.put("a", b"1", INF)
    proxy.answers_to_lose = 1000
    with pytest.raises(kvmap.OutcomeUnknownError, match="once or not at all") as caught:
        engine.incr("a", 1, None, -1.0)
    assert isinstance(caught.value, ConnectionError)
    with pytest.raises(kvmap.StoreUnavailableError):
        engine.get("a")
    proxy.answers_to_lose = 0
    assert engine.get("a") == b"2"
    engine.close()


def test_a_write_that_arrives_late_is_not_done(server: ServerProcess, client: Any) -> None:
    """A request that waited somewhere is refused after the same caller's next write."""
    from kvmap.redis.layout import Layout
    from kvmap.redis.scripts import writing

    script, keys = writing("put"), Layout("d", 1).keys(0)

    def put(number: int, text: str) -> Any:
        arguments = ["caller:x", number, '"a"', text, "inf", "inf", "", "", "", ""]
        return client.eval(script.source, len(keys), *keys, *arguments)

    assert put(1_000_000_000_000_002, "2") == 1
    put(1_000_000_000_000_001, "1")
    assert client.hget("kvmap:{d:00}:values", '"a"') == "2"


def test_callers_are_forgotten(server: ServerProcess, client: Any) -> None:
    with kvmap.open(server.url, name="d") as d:
        d["a"] = 1
        assert d.pop("a") == 1
        fields = client.hkeys("kvmap:{d:00}:state")
        assert sum(field.startswith("caller:") for field in fields) == 2
    fields = client.hkeys("kvmap:{d:00}:state")
    assert not any(field.startswith("caller:") for field in fields)
    old, new = {"caller:old": "1000000000000000"}, {"caller:new": "9000000000000000"}
    client.hset("kvmap:{d:00}:state", mapping={**old, "caller:old:answer": "x", **new})
    kvmap.open(server.url, name="d").close()
    fields = client.hkeys("kvmap:{d:00}:state")
    assert [field for field in fields if field.startswith("caller:")] == ["caller:new"]
