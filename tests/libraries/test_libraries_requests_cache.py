"""requests-cache keeps responses and redirects in a map, through a storage of a few lines."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType

import pytest
from helpers import AnyMap, Library

requests_cache = Library("requests_cache")


class Site:
    """A web server: what it was asked for, and where it is."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            if self.path == "/old":
                self.send_response(301)
                self.send_header("Location", "/new")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = b"\xff\x00hello" if self.path == "/bytes" else b"hello"
            self.send_response(404 if self.path == "/missing" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}"
        yield site
        server.shutdown()
        thread.join()


def test_responses_are_kept(d: AnyMap, site: Site, recipes: ModuleType) -> None:
    for is_first in (True, False):
        with recipes.requests_cache_session(d, allowable_codes=[200, 404]) as session:
            answers = [session.get(f"{site.url}/{path}") for path in ("page", "bytes", "missing")]
        assert [answer.from_cache for answer in answers] == [not is_first] * 3
        assert [answer.content for answer in answers] == [b"hello", b"\xff\x00hello", b"hello"]
        assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert site.asked == ["/page", "/bytes", "/missing"]
    assert {part for part, _ in d} == {"responses"}


def test_redirects_are_kept(d: AnyMap, site: Site, recipes: ModuleType) -> None:
    for _ in range(2):
        with recipes.requests_cache_session(d) as session:
            assert session.get(f"{site.url}/old").text == "hello"
    assert site.asked == ["/old", "/new"]
    assert {part for part, _ in d} == {"responses", "redirects"}


def test_the_librarys_own_look_at_its_cache(d: AnyMap, site: Site, recipes: ModuleType) -> None:
    d["mine"] = 1
    with recipes.requests_cache_session(d) as session:
        session.get(f"{site.url}/a")
        session.get(f"{site.url}/b")
        cache = session.cache
        assert cache.contains(url=f"{site.url}/a")
        assert sorted(cache.urls()) == [f"{site.url}/a", f"{site.url}/b"]
        cache.delete(urls=[f"{site.url}/a"])
        assert not cache.contains(url=f"{site.url}/a")
        assert len(cache.responses) == 1
        session.get(f"{site.url}/a")
        cache.clear()
    assert d == {"mine": 1}
    assert site.asked == ["/a", "/b", "/a"]
