"""kvmap against a plain dict, C engines and other dicts on disk, in one run.

    python examples/benchmark.py                            short: under two minutes
    python examples/benchmark.py --check                    exit with 1 where kvmap misses a floor
    python examples/benchmark.py --keys 1000000 --size 1000 --only kvmap,lmdb
    python examples/benchmark.py --scale                    kvmap alone: a million keys
    python examples/benchmark.py --full --json all.json     every size; takes long
    python examples/benchmark.py --plot ratios.svg          a chart besides the table

The others come with `pip install .[bench]`; those that are missing are left out, and named.

How it is measured: each contestant runs in a process of its own, all of them once a round, in an
order that rotates; what is printed is the median of the rounds. All store the same records. An
operation is timed in batches: the keys and values of a batch are made first, then its loop runs by
the wall clock, with garbage collection and everything else as Python sets it. Every key is a new
str, as if it had just come in from outside. Reads come after a reopen, from files that the system
has cached. A contestant that is slow does fewer operations (marked by a star) or holds fewer keys
(said below the table); both flatter it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from benchmarking import report
from benchmarking.chart import chart
from benchmarking.contestants import CONTESTANTS
from benchmarking.measure import Figures, Job, measure, measure_sync
from benchmarking.scale import PARTS

FULL_KEYS, FULL_SIZES = [10_000, 100_000, 1_000_000], [100, 1_000, 16_000]
FULL_BYTES = 2 << 30  # --full leaves out what needs more disk than this: a million records of 16 KB
CHURN_KEYS = 1_000_000


def main() -> int:
    options = parse()
    if options.child:
        return child(Job(**json.loads(options.child)), Path(options.dir))
    say = partial(print, file=sys.stderr if options.json == "-" else sys.stdout, flush=True)
    asked = ["kvmap"] if options.scale and not options.full else options.only
    contestants = [name for name in asked if not CONTESTANTS[name].missing()]
    if (options.plot or options.check) and "kvmap" not in contestants:
        sys.exit("--plot and --check compare with kvmap, which is not there")
    result = about(contestants, asked)
    say(f"{result['python']}, {result['system']}")
    say(", ".join(f"{name} {version}" for name, version in result["versions"].items()))
    if result["missing"]:
        say("left out, since not installed:", ", ".join(result["missing"]))

    checks: list[report.Check] = []
    for keys, size in sizes(options):
        run = compare(options, contestants, keys, size)
        found = report.floors(run["medians"]) if options.check else []
        run["checks"] = [check.as_json() for check in found]
        result["runs"].append(run)
        checks += found
        say("", report.show_run(run), *(["", report.show_checks(found)] if found else []), sep="\n")
    if options.plot:
        write(options.plot, chart(result, options.panels))
    if options.full or options.scale:
        parts = at_size(options)
        found = report.floors_at_size(parts)
        result["scale"] = {"parts": parts, "checks": [check.as_json() for check in found]}
        checks += found
        say("", report.show_parts(parts), "", report.show_checks(found), sep="\n")
    if options.json:
        write(options.json, json.dumps(result, indent=1) + "\n")
    return 1 if options.check and not all(check.passed for check in checks) else 0


def about(contestants: list[str], asked: list[str]) -> dict[str, Any]:
    """Who ran where."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "versions": {name: CONTESTANTS[name].version() for name in contestants},
        "missing": [name for name in asked if name not in contestants],
        "runs": [],
    }


def parse() -> argparse.Namespace:
    usage = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    usage.add_argument("--keys", type=numbers, help="how many, or several: 10000,100000")
    usage.add_argument(
        "--size", type=numbers, help="bytes of a record's JSON, or several: 100,1000"
    )
    usage.add_argument(
        "--only", type=names, default=list(CONTESTANTS), help="contestants: kvmap,lmdb"
    )
    usage.add_argument("--rounds", type=int, default=3)
    usage.add_argument("--ops", type=int, default=50_000, help="of each operation, at most")
    usage.add_argument(
        "--seconds", type=float, default=0.15, help="for each operation, about at most"
    )
    usage.add_argument("--scatter", action="store_true", help="keys that are not in order")
    usage.add_argument("--full", action="store_true", help="every size, and --scale")
    usage.add_argument("--scale", action="store_true", help="kvmap alone, at size")
    usage.add_argument("--check", action="store_true", help="exit with 1 where a floor is missed")
    usage.add_argument("--json", metavar="FILE", help="all figures, for machines; - for stdout")
    usage.add_argument("--plot", metavar="FILE.svg", help="a chart of the first size")
    usage.add_argument(
        "--panels",
        nargs="+",
        choices=report.OPERATIONS,
        default=report.OPERATIONS,
        metavar="OPERATION",
        help="what the chart shows; all by default",
    )
    usage.add_argument(
        "--dir", help="on the disk that is to hold the stores, for as long as it takes"
    )
    usage.add_argument("--child", help=argparse.SUPPRESS)
    options = usage.parse_args()
    if options.plot and options.scale and not options.full:
        usage.error("--plot draws the comparison, which --scale leaves out")
    return options


def numbers(text: str) -> list[int]:
    found = [int(word) for word in text.replace("_", "").split(",")]
    if min(found) < 1:
        raise ValueError(text)
    return found


def names(text: str) -> list[str]:
    found = text.split(",")
    if unknown := [name for name in found if name not in CONTESTANTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(CONTESTANTS)}")
    return found


def sizes(options: argparse.Namespace) -> Iterator[tuple[int, int]]:
    """The numbers of keys and sizes of records that are to be compared."""
    if options.scale and not options.full:
        return
    keys = options.keys or (FULL_KEYS if options.full else [200_000])
    size = options.size or (FULL_SIZES if options.full else [100])
    for pair in product(keys, size):
        if options.keys or pair[0] * pair[1] <= FULL_BYTES:
            yield pair


def compare(
    options: argparse.Namespace, contestants: list[str], keys: int, size: int
) -> dict[str, Any]:
    """All contestants, round by round, in turns. One that fails is left out from then on."""
    job = Job("", keys, size, options.ops, options.seconds, 0, options.scatter)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for turn in range(options.rounds):
        shift = turn % len(contestants)
        for name in contestants[shift:] + contestants[:shift]:
            if name in results:
                progress(f"{keys:,} x {size:,} B, round {turn + 1} of {options.rounds}: {name}")
                try:
                    found = run_contestant(replace(job, part=name, seed=turn), options.dir)
                    results[name].append(found)
                except ChildProcessError as error:
                    if name == "kvmap":
                        raise
                    print(error, file=sys.stderr)
                    del results[name]
    progress("")
    each = {name: [result["figures"] for result in found] for name, found in results.items()}
    table = {name: report.medians(figures) for name, figures in each.items()}
    return {
        "keys": keys,
        "size": size,
        "rounds": options.rounds,
        "medians": table,
        "ratios": report.ratios(table),
        "held": {name: min(result["held"] for result in found) for name, found in results.items()},
        "sampled": {name: found[0]["sampled"] for name, found in results.items()},
        "each": each,
    }


def run_contestant(job: Job, directory: str | None) -> dict[str, Any]:
    found = run_child(job, directory)
    if job.part == "kvmap":
        found["figures"] |= run_child(replace(job, part="sync"), directory)["figures"]
    return found


def at_size(options: argparse.Namespace) -> dict[str, Figures]:
    """The parts of `--scale`, each the median of the rounds; those that take long, once."""
    keys, size = (options.keys or [1_000_000])[0], (options.size or [100])[0]
    job = Job("", keys, size, options.ops, options.seconds, 0, options.scatter)
    jobs = {
        "at 10 thousand": replace(job, part="at_size", keys=min(keys, 10_000), ops=5_000),
        "at size": replace(job, part="at_size", ops=5_000),
        "churn": replace(job, part="churn", keys=min(keys, CHURN_KEYS)),
        **{part: replace(job, part=part) for part in ("small", "readers", "imports")},
    }
    found: dict[str, list[Figures]] = {part: [] for part in jobs}
    for turn in range(options.rounds):
        for part, todo in jobs.items():
            if turn == 0 or part != "churn":
                progress(f"{keys:,} x {size:,} B, round {turn + 1} of {options.rounds}: {part}")
                found[part].append(run_child(replace(todo, seed=turn), options.dir)["figures"])
    progress("")
    return {part: report.medians(figures) for part, figures in found.items()}


def run_child(job: Job, directory: str | None) -> dict[str, Any]:
    """Do the job in a process and a directory of its own."""
    with tempfile.TemporaryDirectory(dir=directory, prefix="kvmap-benchmark-") as path:
        command = [sys.executable, __file__, "--child", json.dumps(asdict(job)), "--dir", path]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise ChildProcessError(f"{job.part} failed, with exit code {done.returncode}")
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def child(job: Job, path: Path) -> int:
    if job.part in CONTESTANTS:
        result = measure(job, path)
    elif job.part == "sync":
        result = measure_sync(job, path)
    else:
        result = {"figures": PARTS[job.part](job, path)}
    print(json.dumps(result))
    return 0


def write(file: str, text: str) -> None:
    if file == "-":
        sys.stdout.write(text)
    else:
        Path(file).write_text(text, encoding="utf-8")


def progress(what: str) -> None:
    """What is going on, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{what:<70}", end="\n" if not what else "", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ChildProcessError as error:  # its traceback stands above
        sys.exit(str(error))
