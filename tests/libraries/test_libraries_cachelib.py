"""cachelib, and Flask-Session through it, keep their entries in a map."""

from types import ModuleType

import pytest
from helpers import AnyMap, Clock, Library

cachelib = Library("cachelib")


def test_it_does_what_cachelibs_own_cache_does(d: AnyMap, recipes: ModuleType) -> None:
    for cache in (cachelib.SimpleCache(), recipes.cachelib_cache(d)):
        assert cache.set("a", [1], timeout=60)
        assert cache.get("a") == [1]
        assert cache.get("b") is None
        assert cache.has("a")
        assert not cache.has("b")
        assert cache.set_many({"b": 2, "c": {"x": None}}) == ["b", "c"]
        assert cache.get_many("a", "b", "x") == [[1], 2, None]
        assert cache.get_dict("b", "c") == {"b": 2, "c": {"x": None}}
        assert not cache.add("a", 5)
        assert cache.add("d", 5)
        assert (cache.inc("d"), cache.dec("d", 3)) == (6, 3)
        assert cache.delete("a")
        assert not cache.delete("a")
        assert "b" in cache.delete_many("b")
        assert cache.clear()
        assert not cache.has("c")


def test_timeouts(d: AnyMap, clock: Clock, recipes: ModuleType) -> None:
    cache = recipes.cachelib_cache(d, default_timeout=300)
    cache.set("short", 1, timeout=60)
    cache.set("default", 1)
    cache.set("stays", 1, timeout=0)
    assert [d.ttl(key) for key in d] == [60, 300, None]
    clock.wait(60)
    assert cache.get("short") is None
    assert cache.add("short", 2, timeout=5)
    clock.wait(240)
    assert list(d) == ["stays"]


def test_flask_session(d: AnyMap, recipes: ModuleType) -> None:
    flask = pytest.importorskip("flask")
    flask_session = pytest.importorskip("flask_session")
    app = flask.Flask("app")
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=recipes.cachelib_cache(d))
    flask_session.Session(app)

    @app.route("/")
    def visit() -> str:
        flask.session["visits"] = flask.session.get("visits", 0) + 1
        return str(flask.session["visits"])

    client, other = app.test_client(), app.test_client()
    assert [client.get("/").text, client.get("/").text, other.get("/").text] == ["1", "2", "1"]
    assert sorted(session["visits"] for session in d.values()) == [1, 2]
    d.clear()
    assert client.get("/").text == "1"
