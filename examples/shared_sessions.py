"""The service of web_service.py in two processes, or on two machines, with one map of sessions.

    pip install '.[redis]'
    python examples/shared_sessions.py [URL [PORT ...]]

    curl -c jar -d name=ada http://127.0.0.1:8000/login
    curl -b jar http://127.0.0.1:8001/
    curl -b jar http://127.0.0.1:8000/

URL is redis://localhost:6379/0/sessions by default, the ports are 8000 and 8001. It needs a server of
Redis or Valkey. Two things differ from the service of one process. The map's
path is a URL. A transaction does not wait for one of another process: where two change the same
session, the later raises ConflictError, and this service runs it again. Stop it with Ctrl-C or
SIGTERM.
"""

import signal
import subprocess
import sys
import threading

from web_service import IDLE, Handler, Service

import kvmap


class SharedHandler(Handler):
    def do_GET(self) -> None:
        while True:
            try:
                # It answers after its transaction, so a conflict comes before any answer.
                return super().do_GET()
            except kvmap.ConflictError:
                continue


def serve(url: str, port: str) -> None:
    """One process: opens the map, and answers until it is stopped."""
    with kvmap.open(url, ttl=IDLE) as sessions, Service(int(port), sessions) as service:
        service.RequestHandlerClass = SharedHandler

        def stop(*_: object) -> None:
            threading.Thread(target=service.shutdown).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        sys.stdout.write(f"http://127.0.0.1:{service.server_port}\n")  # in one piece
        sys.stdout.flush()
        service.serve_forever(poll_interval=0.1)


def main(url: str = "redis://localhost:6379/0/sessions", *ports: str) -> None:
    if len(ports) == 1:
        serve(url, *ports)
        return
    workers = [
        subprocess.Popen([sys.executable, __file__, url, port])
        for port in ports or ("8000", "8001")
    ]

    def stop(*_: object) -> None:
        for worker in workers:
            worker.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for worker in workers:
        worker.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
