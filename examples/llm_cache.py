"""Keep the answers of a language model, so that each question is paid for once.

    pip install '.[types]'
    python examples/llm_cache.py

The answers are typed, expire after a week, and make room for each other at a bound. Tasks that ask
the same question at the same time share one request. An answer that was received survives a
`kill -9`. `ask.refresh(...)` asks the model anew.

The model is a server that is started here. It takes its time, and counts how often it is asked.
"""

import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kvmap

WEEK = 7 * 24 * 3600
BOUND = kvmap.Limits(entries=50)  # of a real cache rather store_bytes=10**9


@dataclass
class Answer:
    text: str
    model: str
    tokens: int


# What a program needs


class Assistant:
    """Asks a model, and keeps its answers in a map."""

    def __init__(self, url: str, answers: kvmap.KVMap[str, Any]) -> None:
        self.url = url

        # The key has no address: the same model gives the same answers elsewhere.
        def key(question: str, model: str = "small") -> str:
            return f"{model}: {question}"

        self.ask = answers.memoize(ttl=WEEK, type=Answer, key=key)(self._ask)

    async def _ask(self, question: str, model: str = "small") -> Answer:
        return await asyncio.to_thread(self._post, {"model": model, "question": question})

    def _post(self, question: dict[str, str]) -> Answer:
        request = urllib.request.Request(self.url, json.dumps(question).encode())
        with urllib.request.urlopen(request, timeout=60) as reply:
            return Answer(**json.load(reply))


def open_answers(path: str) -> kvmap.KVMap[str, Any]:
    return kvmap.open(path, limits=BOUND, evict="sieve")


# The stand-in for a model


class Model(ThreadingHTTPServer):
    daemon_threads = True  # a client that was killed does not wait for its answer
    asked = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that was killed while it asked."""
        if not isinstance(sys.exception(), (ConnectionError, json.JSONDecodeError)):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/answers"


class Handler(BaseHTTPRequestHandler):
    server: Model

    def do_POST(self) -> None:
        self.server.asked += 1
        time.sleep(0.01)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = f"{asked['question']} That depends ({self.server.asked})."
        answer = {"text": text, "model": asked["model"], "tokens": len(text.split())}
        with suppress(ConnectionError):  # the program that has asked may have been killed
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Write no log."""


# The demonstration


async def ask_until_killed(path: str, url: str) -> None:
    """What the child process does: one question after the other."""
    with open_answers(path) as answers:
        ask = Assistant(url, answers).ask
        for number in range(1000):
            await ask(f"What is {number}?")
            print(number, flush=True)


def run_and_kill(path: str, url: str, questions: int) -> None:
    command = [sys.executable, __file__, path, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(questions):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)


async def show(path: str, model: Model) -> None:
    with open_answers(path) as answers:
        ask = Assistant(model.url, answers).ask

        model.asked = 0
        for number in range(20):
            await ask(f"What is {number}?")
        print(f"after the kill      20 questions, the model is asked {model.asked}x")

        model.asked = 0
        await asyncio.gather(*[ask("Why?") for _ in range(10)])
        print(f"10 tasks at once    1 question, the model is asked {model.asked}x")

        model.asked = 0
        await ask.refresh("Why?")
        print(f"refresh             the model is asked {model.asked}x")
        print(f"typed               {await ask('Why?')}")

        model.asked, rng = 0, random.Random(1)
        for _ in range(500):
            await ask(f"What is {int(rng.paretovariate(0.5))}?")
        evicted = answers.stats().counts.evictions
        print(f"500 questions more  {len(answers)} answers are kept, {evicted} were evicted")
        print(f"hit ratio           {1 - model.asked / 500:.0%}")


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.run(ask_until_killed(sys.argv[1], sys.argv[2]))
        return
    with (
        Model(("127.0.0.1", 0), Handler) as model,
        tempfile.TemporaryDirectory() as directory,
    ):
        threading.Thread(target=model.serve_forever).start()
        try:
            run_and_kill(f"{directory}/answers", model.url, questions=20)
            asyncio.run(show(f"{directory}/answers", model))
        finally:
            model.shutdown()


if __name__ == "__main__":
    main()
