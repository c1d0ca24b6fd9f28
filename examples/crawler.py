"""A crawler that is killed again and again, and asks for no page twice.

    python examples/crawler.py

Two kinds of keys share one store: ("page", path) is what was found, ("todo", path) what is left. A
page's result and the links to follow from it are written in one transaction, so that whenever the
crawler dies, each page is either done, with all its links noted, or still to do.
"""

import os
import re
import signal
import tempfile
import threading
import urllib.request
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context

import kvmap

PAGES = 60
PATIENCE = 25  # pages, after which a run of the crawler is killed


def crawl(store: str, site: str) -> None:
    with kvmap.open(store) as d:
        if not d:
            d["todo", "/0"] = None  # a key may be a tuple
        # Once, not at every step: it goes over all keys.
        todo = deque([path for kind, path in d if kind == "todo"])
        count = 0
        while todo:
            path = todo.popleft()
            with urllib.request.urlopen(site + path, timeout=10) as answer:
                links = re.findall(r'href="([^"]+)"', answer.read().decode())
            new = [
                link
                for link in dict.fromkeys(links)  # each once
                if ("page", link) not in d and ("todo", link) not in d
            ]
            with d.transaction():
                d["page", path] = links
                del d["todo", path]
                d.update({("todo", link): None for link in new})
            todo.extend(new)
            count += 1
            if count == PATIENCE:
                os.kill(os.getpid(), signal.SIGKILL)


class Site(BaseHTTPRequestHandler):
    """Page n links to pages 2n and 2n + 1, and back to the first."""

    asked = 0

    def do_GET(self) -> None:
        Site.asked += 1
        number = int(self.path[1:])
        links = [n for n in (0, 2 * number, 2 * number + 1) if n < PAGES]
        self.send_response(200)
        self.end_headers()
        self.wfile.write("".join([f'<a href="/{n}">{n}</a>' for n in links]).encode())

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def main() -> None:
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Site) as server,
        tempfile.TemporaryDirectory() as directory,
    ):
        threading.Thread(target=server.serve_forever).start()
        try:
            store, site = f"{directory}/crawl", f"http://127.0.0.1:{server.server_port}"
            killed = True
            while killed:
                # "spawn": a fork would share the server's threads.
                process = get_context("spawn").Process(target=crawl, args=(store, site))
                process.start()
                process.join()
                killed = process.exitcode == -signal.SIGKILL
                with kvmap.open(store, "r") as d:
                    kinds = [kind for kind, _ in d]
                end = "killed" if killed else "done"
                print(f"{end:<6}  {kinds.count('page'):>2} pages, {kinds.count('todo'):>2} to do")
            print(f"the server was asked {Site.asked}x for {PAGES} pages")
        finally:
            server.shutdown()


if __name__ == "__main__":
    main()
