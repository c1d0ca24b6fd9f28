"""kvmap against a plain dict, C engines and other dicts on disk, in one run.

    python examples/benchmark.py                         200,000 values of 100 B: 5 minutes
    python examples/benchmark.py --check                 100 B, 1 KB and 16 KB: 10 to 25 minutes
    python examples/benchmark.py --check --full          and kvmap alone: 10 to 20 more
    python examples/benchmark.py --keys 1000000 --size 1000 --only kvmap,lmdb
    python examples/benchmark.py --scale --keys 10000000 ten million keys; figures only
    python examples/benchmark.py --check --json all.json
    python examples/benchmark.py --from all.json --size 16000 --plot ratios.svg

`--check` exits with 1 where kvmap misses a figure that it has to reach (`benchmarking/limits.py`).
The others come with `pip install .[bench]`; those that are missing are left out, and named.

How it is measured: each contestant runs in a process of its own, all of them once a round, in an
order that rotates; what is printed is the median of the rounds. All store the same records. An
operation is timed in batches: the keys and values of a batch are made first, then its loop runs by
the wall clock, with garbage collection and everything else as Python sets it. Every key is a new
str, as if it had just come in from outside. Reads come after a reopen, from files that the system
has cached. A contestant that is slow does fewer operations (marked by a star) or holds fewer keys
(said below the table); both flatter it. On a machine that is busy with other things, `--cpu` takes
the processor's time in place of the wall clock; it leaves out waiting, and what an engine does in
threads of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarking import limits, promises, report, scale
from benchmarking.chart import chart
from benchmarking.contestants import CONTESTANTS, named
from benchmarking.measure import Figures, Job, measure

PARTS = scale.PARTS | promises.PARTS
WRITTEN_BYTES = 20_000_000  # of JSON, overwritten ten times


def main() -> int:
    options = parse()
    if options.child:
        return child(Job(**json.loads(options.child)), Path(options.dir))
    say = partial(print, file=sys.stderr if options.json == "-" else sys.stdout, flush=True)
    result = saved(options, say) if options.saved else measured(options, say)
    if options.plot:
        write(options.plot, chart(result, run_to_plot(options, result), options.panels))
    if options.markdown:
        write(options.markdown, report.markdown(result))
    if options.json:
        write(options.json, json.dumps(result, indent=1) + "\n")
    parts = [*result["runs"], *([result["scale"]] if "scale" in result else [])]
    missed = [check for part in parts for check in part["checks"] if not check["passed"]]
    return 1 if options.check and missed else 0


def measured(options: argparse.Namespace, say: Callable[..., None]) -> dict[str, Any]:
    """Measure what the options ask for, and print each part as soon as it is there."""
    asked = ["kvmap"] if options.scale and not options.full else options.only
    contestants = [name for name in asked if not CONTESTANTS[name].missing()]
    if (options.plot or options.check) and "kvmap" not in contestants:
        sys.exit("--plot and --check compare with kvmap, which is not there")
    result = about(options, contestants, asked)
    show_about(result, say)
    for keys, size in sizes(options):
        start = perf_counter()
        run = compare(options, contestants, keys, size)
        found = limits.checks(run["medians"], size) if options.check else []
        run |= {"checks": limits.as_json(found), "seconds": perf_counter() - start}
        result["runs"].append(run)
        show_run(run, say)
    if options.full or options.scale:
        start = perf_counter()
        result["scale"] = at_size(options) | {"seconds": perf_counter() - start}
        show_scale(result["scale"], say)
    return result


def saved(options: argparse.Namespace, say: Callable[..., None]) -> dict[str, Any]:
    """What an earlier run has measured, checked by the limits of today."""
    result: dict[str, Any] = json.loads(Path(options.saved).read_text(encoding="utf-8"))
    show_about(result, say)
    for run in result["runs"]:
        run["checks"] = limits.as_json(limits.checks(run["medians"], run["size"]))
        show_run(run, say)
    if "scale" in result:
        part = result["scale"]
        part["checks"] = limits.as_json(limits.checks_at_size(part["parts"]))
        show_scale(part, say)
    return result


def about(options: argparse.Namespace, contestants: list[str], asked: list[str]) -> dict[str, Any]:
    """Who ran where."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "clock": "processor time" if options.cpu else "wall clock",
        "versions": {name: CONTESTANTS[name].version() for name in contestants},
        "missing": [name for name in asked if name not in contestants],
        "runs": [],
    }


def show_about(result: dict[str, Any], say: Callable[..., None]) -> None:
    say(f"{result['python']}, {result['system']}, {result['clock']}")
    say(", ".join(f"{name} {version}" for name, version in result["versions"].items()))
    if result["missing"]:
        say("left out, since not installed:", ", ".join(result["missing"]))


def show_run(run: dict[str, Any], say: Callable[..., None]) -> None:
    say("", report.show_run(run), f"took {run['seconds']:.0f} s", sep="\n")
    if run["checks"]:
        say("", report.show_checks(run["checks"]), sep="\n")


def show_scale(part: dict[str, Any], say: Callable[..., None]) -> None:
    say("", report.show_parts(part["parts"]), sep="\n")
    if part["written"]:
        say("", report.show_written(part["written"]), sep="\n")
    say(f"took {part['seconds']:.0f} s")
    if part["checks"]:
        say("", report.show_checks(part["checks"]), sep="\n")


def run_to_plot(options: argparse.Namespace, result: dict[str, Any]) -> dict[str, Any]:
    """The first run, or the first of the size that is asked for."""
    for run in result["runs"]:
        if not options.size or run["size"] in options.size:
            found: dict[str, Any] = run
            return found
    sys.exit("--plot: there is no run of that size")


def parse() -> argparse.Namespace:
    usage = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    add = usage.add_argument
    add("--keys", type=numbers, help="how many, or several: 10000,100000")
    add("--size", type=numbers, help="bytes of a record's JSON, or several: 100,1000")
    add("--only", type=names, default=list(CONTESTANTS), help="contestants: kvmap,lmdb")
    add("--rounds", type=int, default=3)
    add("--ops", type=int, default=50_000, help="of each operation, at most")
    add("--seconds", type=float, default=0.15, help="for each operation, about at most")
    add("--scatter", action="store_true", help="keys that are not in order")
    add("--cpu", action="store_true", help="processor time in place of the wall clock")
    add("--full", action="store_true", help="100 B, 1 KB and 16 KB, and --scale")
    add("--scale", action="store_true", help="kvmap alone, at size")
    add("--check", action="store_true", help="exit with 1 where a limit is missed")
    add("--json", metavar="FILE", help="all figures, for machines; - for stdout")
    add("--from", metavar="FILE", dest="saved", help="figures of an earlier --json, not measured")
    add("--markdown", metavar="FILE.md", help="the tables as Markdown")
    add("--plot", metavar="FILE.svg", help="a chart of the first run, or of the one of --size")
    add(
        "--panels",
        nargs="+",
        choices=report.OPERATIONS,
        default=report.OPERATIONS,
        metavar="OPERATION",
        help="what the chart shows; all by default",
    )
    add("--dir", help="on the disk that is to hold the stores, for as long as it takes")
    add("--child", help=argparse.SUPPRESS)
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


def sizes(options: argparse.Namespace) -> list[tuple[int, int]]:
    """The numbers of keys and sizes of records that are to be compared."""
    if options.scale and not options.full:
        return []
    table = limits.TABLE if options.full or options.check else limits.TABLE[:1]
    if options.keys:
        return list(product(options.keys, options.size or [100]))
    if options.size:
        # As many keys as the table has for a size like that.
        return [(limits.TABLE[limits.column(size)][0], size) for size in options.size]
    return list(table)


def job_of(options: argparse.Namespace, keys: int, size: int) -> Job:
    return Job(
        "", keys, size, options.ops, options.seconds, 0, scatter=options.scatter, cpu=options.cpu
    )


def compare(
    options: argparse.Namespace, contestants: list[str], keys: int, size: int
) -> dict[str, Any]:
    """All contestants, round by round, in turns. One that fails is left out from then on."""
    job = job_of(options, keys, size)
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
        for part in ("synced", "fresh"):
            found["figures"] |= run_child(replace(job, part=part), directory)["figures"]
    return found


def at_size(options: argparse.Namespace) -> dict[str, Any]:
    """The parts of `--scale`, each the median of the rounds; those that take long, once."""
    keys, size = (options.keys or [1_000_000])[0], (options.size or [100])[0]
    job = job_of(options, keys, size)
    few = replace(job, keys=min(keys, 10_000), ops=5_000)
    jobs = {
        "at 10 thousand": replace(few, part="at_size"),
        "dict at 10 thousand": replace(few, part="at_size_of_dict"),
        "at size": replace(few, part="at_size", keys=keys),
        "dict at size": replace(few, part="at_size_of_dict", keys=keys),
        "churn": replace(job, part="churn"),
        **{
            part: replace(job, part=part)
            for part in ("small", "readers", "imports", "batch_syncs", "sync_threads")
        },
    }
    once, rounds = {"churn"}, options.rounds
    if keys > limits.MOST_CHECKED:
        jobs, rounds = {"at size": jobs["at size"]}, 1
    found: dict[str, list[Figures]] = {part: [] for part in jobs}
    for turn in range(rounds):
        for part, todo in jobs.items():
            if turn == 0 or part not in once:
                progress(f"{keys:,} x {size:,} B, round {turn + 1} of {rounds}: {part}")
                found[part].append(run_child(replace(todo, seed=turn), options.dir)["figures"])
    parts = {part: report.medians(figures) for part, figures in found.items()}
    checks = limits.as_json(limits.checks_at_size(parts))
    table = {} if keys > limits.MOST_CHECKED else written(options, job)
    progress("")
    return {"parts": parts, "written": table, "checks": checks}


def written(options: argparse.Namespace, job: Job) -> dict[str, Figures]:
    """Write amplification of kvmap and the engines, for each size of records."""
    table: dict[str, Figures] = {}
    room = min(WRITTEN_BYTES, 20 * job.keys)
    for name in ("kvmap", *named("engine"), *named("extra")):
        if name in options.only and not CONTESTANTS[name].missing():
            table[name] = {}
            for _, size in limits.TABLE:
                progress(f"bytes written to the device, {size:,} B: {name}")
                keys = max(1, room // size)
                todo = replace(job, part="written", keys=keys, size=size, store=name)
                found = run_child(todo, options.dir)["figures"]
                table[name] |= {f"{size:,} B": found["written"]} if found else {}
    return table


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
    if part := PARTS.get(job.part):
        print(json.dumps({"figures": part(job, path)}))
    else:
        print(json.dumps(measure(job, path)))
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
