"""requests-cache keeps responses in a map: its cache takes any two mappings."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from helpers import AnyMap

requests_cache = pytest.importorskip("requests_cache")


def test_responses_are_kept(d: AnyMap) -> None:
    class Kept(requests_cache.backends.BaseStorage):  # type: ignore[misc,name-defined]
        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            return self.deserialize(key, d[key])

        def __setitem__(self, key, value):  # type: ignore[no-untyped-def]
            d[key] = self.serialize(value)

        def __delitem__(self, key):  # type: ignore[no-untyped-def]
            del d[key]

        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(d)

        def __len__(self):  # type: ignore[no-untyped-def]
            return len(d)

        def clear(self):  # type: ignore[no-untyped-def]
            d.clear()

    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *arguments: object) -> None:
            pass

    cache = requests_cache.backends.BaseCache("kvmap")
    cache.responses = Kept(serializer="json")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with requests_cache.CachedSession(backend=cache) as session:
            url = f"http://127.0.0.1:{server.server_port}/"
            answers = [session.get(url) for _ in range(2)]
        server.shutdown()
    assert [answer.text for answer in answers] == ["hello", "hello"]
    assert [answer.from_cache for answer in answers] == [False, True]
    assert len(asked) == 1
    assert len(d) == 1
