"""A web service that keeps its sessions in a kvmap: standard library only.

    python examples/web_service.py [STORE [PORT]]

    curl -c jar -d name=ada http://127.0.0.1:8000/login
    curl -b jar http://127.0.0.1:8000/
    curl -b jar -d '' http://127.0.0.1:8000/logout

STORE is a directory, `sessions` by default; PORT is 8000. Each request has a thread of its own, and
all threads share one map. One process owns a store on disk; shared_sessions.py has several processes.
Stop it with Ctrl-C or SIGTERM: it answers the requests under way and closes the map. The sessions are
there when it starts again.
"""

import secrets
import signal
import sys
import threading
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import kvmap

IDLE = 30 * 60  # seconds without a request, after which a session ends
LONGEST = 10_000  # bytes that a form may have


class Service(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for requests under way

    def __init__(self, port: int, sessions: kvmap.KVMap[str, dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.sessions = sessions


class Handler(BaseHTTPRequestHandler):
    server: Service
    timeout = 5  # seconds that a silent client may keep its thread

    def do_GET(self) -> None:
        sessions, token = self.server.sessions, self.token()
        try:
            # Without the transaction, two requests at once could count as one.
            with sessions.transaction():
                session = sessions[token]
                session["visits"] += 1
                sessions[token] = session  # a write also sets a new deadline
        except KeyError:
            self.answer(401, "please log in")
        else:
            self.answer(200, f"hello {session['name']}, visit {session['visits']}")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        form = parse_qs(self.rfile.read(min(length, LONGEST)).decode(errors="replace"))
        if self.path == "/login" and "name" in form:
            token = secrets.token_urlsafe(24)
            self.server.sessions[token] = {"name": form["name"][0], "visits": 0}
            # A real service asks for a password first, and adds "Secure" behind HTTPS.
            self.answer(200, "welcome", f"token={token}; HttpOnly; SameSite=Lax; Max-Age={IDLE}")
        elif self.path == "/logout":
            self.server.sessions.pop(self.token(), None)
            self.answer(200, "bye", "token=; Max-Age=0")
        else:
            self.answer(404, "no such page")

    def token(self) -> str:
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("token")
        return cookie.value if cookie else ""

    def answer(self, code: int, text: str, cookie: str | None = None) -> None:
        self.send_response(code)
        if cookie:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(text.encode() + b"\n")

    def log_message(self, *_: object) -> None:
        """Log nothing: a log must not hold tokens."""


def main(path: str = "sessions", port: str = "8000") -> None:
    # A token is as good as a password: only the owner may read the store's directory.
    with kvmap.open(path, ttl=IDLE) as sessions, Service(int(port), sessions) as service:

        def stop(*_: object) -> None:
            # shutdown() waits for serve_forever(), which runs in this very thread.
            threading.Thread(target=service.shutdown).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        print(f"{len(sessions)} sessions, http://127.0.0.1:{service.server_port}", flush=True)
        service.serve_forever(poll_interval=0.1)
    print("stopped", flush=True)  # after both were closed


if __name__ == "__main__":
    main(*sys.argv[1:])
