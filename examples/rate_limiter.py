"""Let each caller in so many times in so many seconds, across threads and restarts.

    python examples/rate_limiter.py

A caller's entry appears at the first call and expires when the time is over. No code has to clean up,
and a restart of the service resets no count.
"""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import kvmap

MOST = 5  # calls
PER = 2  # seconds


def allow(limits: kvmap.KVMap[str, dict[str, int]], caller: str) -> bool:
    # An edit is atomic for threads. It keeps the entry's deadline; a new entry gets the store's. So the
    # time counts from the first call, not from the last.
    with limits.edit(caller, {"calls": 0}) as window:
        if window["calls"] == MOST:
            return False
        window["calls"] += 1
        return True


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = f"{directory}/limits"
        with kvmap.open(store, ttl=PER) as limits, ThreadPoolExecutor(8) as threads:
            let_in = sum(threads.map(lambda _: allow(limits, "ada"), range(100)))
            print(f"ada calls 100x from 8 threads: let in {let_in}x")
            print(f"bob calls once: let in {allow(limits, 'bob'):d}x")

        with kvmap.open(store, ttl=PER) as limits:
            print(f"after a restart, ada calls once: let in {allow(limits, 'ada'):d}x")
            print(f"try again in {limits.ttl('ada'):.1f} s")
            time.sleep(PER)
            print(f"after {PER} s, ada calls once: let in {allow(limits, 'ada'):d}x")


if __name__ == "__main__":
    main()
