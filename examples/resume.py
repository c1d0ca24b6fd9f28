"""A long job that is killed again and again, and goes on where it was killed.

    python examples/resume.py

The job stores each result as soon as it has it. It needs no checkpoints, and no list of what is done
beside the results. Here it kills itself, with a signal that no program can catch. No result is lost
or computed twice.
"""

import os
import signal
import tempfile
from multiprocessing import get_context

import kvmap

NUMBERS = range(10**9, 10**9 + 100)
PATIENCE = 30  # results, after which a run of the job is killed


def factors(n: int) -> list[int]:
    found = []
    divisor = 2
    while divisor * divisor <= n:
        if n % divisor:
            divisor += 1
        else:
            n //= divisor
            found.append(divisor)
    return [*found, n]


def job(path: str) -> None:
    with kvmap.open(path) as results:
        left = [n for n in NUMBERS if str(n) not in results]
        print(f"found {len(results):>3} results, {len(left):>3} to go", flush=True)
        for count, n in enumerate(left, start=1):
            results[str(n)] = factors(n)  # after this line, kill -9 does not lose it
            if count == PATIENCE:
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/factors"
        runs = 0
        killed = True
        while killed:
            runs += 1
            process = get_context("spawn").Process(target=job, args=(path,))
            process.start()
            process.join()
            killed = process.exitcode == -signal.SIGKILL
            print(f"  run {runs} {'was killed' if killed else 'came to its end'}", flush=True)

        with kvmap.open(path, "r") as results:
            primes = [n for n, found in results.items() if len(found) == 1]
            print(f"{len(results)} results in {runs} runs; the primes are {', '.join(primes)}")


if __name__ == "__main__":
    main()
