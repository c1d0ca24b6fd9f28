"""cachelib and Flask-Session keep values in a map through a cache of a few lines."""

import pytest
from helpers import AnyMap

cachelib = pytest.importorskip("cachelib")


def cache_over(d: AnyMap):  # type: ignore[no-untyped-def]
    class MapCache(cachelib.BaseCache):  # type: ignore[misc,name-defined]
        def get(self, key):  # type: ignore[no-untyped-def]
            return d.get(key)

        def set(self, key, value, timeout=None):  # type: ignore[no-untyped-def]
            seconds = self._normalize_timeout(timeout)
            d.set(key, value, ttl=seconds or None)
            return True

        def delete(self, key):  # type: ignore[no-untyped-def]
            return d.delete_many([key]) == 1

        def has(self, key):  # type: ignore[no-untyped-def]
            return key in d

    return MapCache()


def test_cachelib(d: AnyMap) -> None:
    cache = cache_over(d)
    assert cache.set("a", [1], timeout=60)
    assert cache.get("a") == [1]
    assert d.ttl("a") == pytest.approx(60, abs=5)
    assert cache.get_many("a", "b") == [[1], None]
    assert cache.delete("a")
    assert not cache.has("a")


def test_flask_session(d: AnyMap) -> None:
    flask = pytest.importorskip("flask")
    flask_session = pytest.importorskip("flask_session")
    app = flask.Flask("app")
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=cache_over(d))
    flask_session.Session(app)

    @app.route("/")
    def visit() -> str:
        flask.session["n"] = flask.session.get("n", 0) + 1
        return str(flask.session["n"])

    client = app.test_client()
    assert [client.get("/").text, client.get("/").text] == ["1", "2"]
    assert len(d) == 1
