"""An index of the source of Python's standard library: each identifier, and where it is used.

    python examples/stdlib_index.py                          build one, then look up a few names
    python examples/stdlib_index.py --files 50               the same, with 50 files only
    python examples/stdlib_index.py --store index            the same, in a directory of your choice
    python examples/stdlib_index.py --store index --ask fsync getpid        look up names in it

A key is an identifier, its value is {file: [line, ...]}. The files are read in batches, so that
memory never holds more than one batch of the index. The names are looked up by a new process.
"""

import argparse
import keyword
import subprocess
import sys
import sysconfig
import time
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kvmap

Places = dict[str, list[int]]

BATCH = 200  # files

took: dict[str, float] = {}


@contextmanager
def step(name: str) -> Iterator[None]:
    """Add the time that the block takes to the step's total."""
    began = time.perf_counter()
    yield
    took[name] = took.get(name, 0) + time.perf_counter() - began


def report() -> None:
    for name, seconds in took.items():
        print(f"  {name:<26} {seconds * 1000:>10,.2f} ms")


def progress(done: int, of: int, began: float) -> None:
    """Draw a progress bar over the line drawn before, if standard error is a terminal."""
    if not sys.stderr.isatty():
        return
    seconds = time.perf_counter() - began
    left = seconds * (of - done) / done if done else 0
    bar = "#" * (30 * done // of)
    line = f"[{bar:<30}] {done:,} of {of:,} files, {left:.0f} s left"
    print(f"\r{line:<70}", end="\n" if done == of else "", file=sys.stderr, flush=True)


def identifiers(file: Path) -> dict[str, list[int]]:
    """Return every identifier in the file, and the lines it is on."""
    lines: dict[str, list[int]] = {}
    with file.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                found = lines.setdefault(token.string, [])
                if token.start[0] not in found[-1:]:  # twice on one line is one place
                    found.append(token.start[0])
    return lines


def build(store: str | None, source: Path, count: int | None) -> Path:
    """Index the first `count` files under `source`. Return the index's directory."""
    with step("find the files"):
        files = [f for f in sorted(source.rglob("*.py")) if "site-packages" not in f.parts][:count]

    began = time.perf_counter()
    skipped = 0
    index: kvmap.KVMap[str, Places]
    with kvmap.open(store, "n") as index:
        for start in range(0, len(files), BATCH):
            batch: dict[str, Places] = {}
            with step("read the source"):
                for number, file in enumerate(files[start : start + BATCH], start):
                    progress(number, len(files), began)
                    name = file.relative_to(source).as_posix()
                    try:
                        for identifier, lines in identifiers(file).items():
                            batch.setdefault(identifier, {})[name] = lines
                    except (SyntaxError, tokenize.TokenError):
                        skipped += 1  # some files of the library's tests are broken on purpose
            with step("store the index"):
                for identifier, places in batch.items():
                    batch[identifier] = index.get(identifier, {}) | places
                index.update(batch)  # a few large writes instead of many small ones
        progress(len(files), len(files), began)
        print(f"{len(files):,} files ({skipped} skipped), {len(index):,} identifiers")
        with step("close"):
            index.close()

    shards = list(index.path.glob("shards/*"))
    print(f"{sum(f.stat().st_size for f in shards):,} bytes in {len(shards)} files in {index.path}")
    return index.path


def ask(store: str, identifiers: list[str]) -> None:
    index: kvmap.KVMap[str, Places]
    with step("open"):
        index = kvmap.open(store, "r")
    with index:
        for identifier in identifiers:
            with step(f"look up {identifier}"):
                places = index.get(identifier, {})
            total = sum(map(len, places.values()))
            print(f"{identifier}: {total:,} lines in {len(places):,} files")
            for file, lines in sorted(places.items(), key=lambda place: -len(place[1]))[:3]:
                more = ", …" if len(lines) > 8 else ""
                print(f"  {file}: {', '.join(map(str, lines[:8]))}{more}")

        with step("read every entry"):
            used = sorted((-len(places), identifier) for identifier, places in index.items())
        print("in most files:", ", ".join(f"{name} ({-files:,})" for files, name in used[:5]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, metavar="N", help="index the first N files only")
    parser.add_argument("--source", type=Path, metavar="DIR", help="index this directory instead")
    parser.add_argument("--store", metavar="DIR", help="where the index is")
    parser.add_argument("--ask", nargs="+", metavar="NAME", help="build nothing, look these up")
    options = parser.parse_args()

    if options.ask:
        if not options.store:
            parser.error("--ask needs --store")
        ask(options.store, options.ask)
        report()
        return

    source = options.source or Path(sysconfig.get_path("stdlib"))
    store = build(options.store, source, options.files)
    report()
    print("\nin a new process:", flush=True)
    names = ["namedtuple", "fsync", "heappush", "not_a_python_name"]
    subprocess.run([sys.executable, __file__, "--store", store, "--ask", *names], check=True)
    print(f"\nto ask more: python {sys.argv[0]} --store {store} --ask NAME ...")


if __name__ == "__main__":
    main()
