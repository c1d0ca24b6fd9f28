"""Keep the pages of a slow server for a while, so that each is asked for once.

    python examples/page_cache.py

The server stands in for somebody else's: it is started here, takes its time, and counts how often
it is asked. The cache is on disk, so a second run of a program finds what the first one fetched. It
has a bound: where it is full, a page that nobody asked for lately makes room for a new one.
"""

import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import kvmap

KEEP = 2  # seconds; for real pages, an hour is 3600
BOUND = kvmap.Limits(store_bytes=2000)  # bytes on disk; for real pages, a gigabyte is 10**9


def open_cache(path: str) -> kvmap.KVMap[str, str]:
    # Without evict, a page that has no room would raise kvmap.LimitError.
    return kvmap.open(path, limits=BOUND, evict="sieve")


def fetch(cache: kvmap.KVMap[str, str], url: str) -> str:
    try:
        # Tried, not asked for first with `in`: a page can expire between two lines.
        return cache[url]
    except KeyError:
        pass
    with urllib.request.urlopen(url, timeout=10) as answer:
        # Values are JSON, which has no bytes: text is decoded here, base64 would do for images.
        page: str = answer.read().decode()
    cache.set(url, page, ttl=KEEP)
    return page


class SlowServer(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        SlowServer.asked += 1
        time.sleep(0.05)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"<h1>{self.path}</h1>".encode())

    def log_message(self, *_: object) -> None:
        """Write no log."""


def main() -> None:
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), SlowServer) as server,
        tempfile.TemporaryDirectory() as directory,
    ):
        threading.Thread(target=server.serve_forever).start()
        site = f"http://127.0.0.1:{server.server_port}"
        try:
            for when in ("first run", "second run"):
                with open_cache(f"{directory}/pages") as cache:
                    began = time.perf_counter()
                    for page in ("/", "/news", "/"):
                        fetch(cache, site + page)
                    took = time.perf_counter() - began
                    pace = "slow" if took > 0.1 else "fast"
                    print(f"{when:<11} 3 pages, {pace}; the server was asked {SlowServer.asked}x")
            time.sleep(KEEP)
            with open_cache(f"{directory}/pages") as cache:
                print(f"{KEEP} s later   {len(cache)} pages kept")
                print(f"fetch       {fetch(cache, site + '/')}")
                print(f"            the server was asked {SlowServer.asked}x")
                for number in range(30):
                    fetch(cache, f"{site}/archive/{number}")
                    fetch(cache, site + "/")
                evicted = cache.stats().counts.evictions
                print(f"30 more     {len(cache)} pages kept, {evicted} evicted")
                print(f"            the server was asked {SlowServer.asked}x")
        finally:
            server.shutdown()


if __name__ == "__main__":
    main()
