"""The service of web_service.py in two processes, or on two machines, with one map of sessions.

    python examples/shared_sessions.py redis://localhost:6379/0/sessions 8000 8001

    curl -c jar -d name=ada http://127.0.0.1:8000/login
    curl -b jar http://127.0.0.1:8001/
    curl -b jar http://127.0.0.1:8000/

Two things differ from the service of one process: the map's name is a URL, and nobody waits for
another process's transaction. Where two requests of one session meet, the later of the two raises
ConflictError, and is run again. It needs a server of Redis or Valkey, and kvmap[redis]. Stop it with
Ctrl-C or SIGTERM.
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
                # It answers when its transaction is done, so what conflicts has answered nothing.
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
        print(f"http://127.0.0.1:{service.server_port}", flush=True)
        service.serve_forever(poll_interval=0.1)


def main(url: str, *ports: str) -> None:
    if len(ports) == 1:
        serve(url, *ports)
        return
    # Each is a program of its own, as a service's workers are, or its containers.
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
