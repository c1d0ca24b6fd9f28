"""kvmap in one minute: write, reopen, wait until an entry expires, look at the files.

    python examples/quickstart.py [directory]

Without a directory, the store is in a new one under the system's temporary directory. Give one, run
this twice, and Ada's visits are counted on.
"""

import sys
import time

import kvmap

WIDTH = 100  # of the lines shown; only the manifest's is longer


def main(path: str | None = None) -> None:
    print("Write, as into any dict:")
    with kvmap.open(path) as d:
        ada = d.get("ada", {"name": "Ada", "visits": 0})
        ada["visits"] += 1
        d["ada"] = ada  # a map returns copies: store what was changed
        d["bob"] = {"name": "Bob", "tags": ["new", "from Paris"]}
        d.set("token", "s3cr3t", ttl=2)  # for two seconds
        store = d.path
        print(f"  {dict(d)}")

    print("\nReopen; everything is there:")
    with kvmap.open(store) as d:
        for key, value in d.items():
            print(f"  {key:<6} {value}")

        print("\nWait for the token to expire:")
        print(f"  len(d) is {len(d)}, d.ttl('token') is {d.ttl('token'):.1f}")
        while "token" in d:
            time.sleep(0.01)
        print(f"  len(d) is {len(d)}, d.get('token') is {d.get('token')}")

    print(f"\nLook at the files in {store}:")
    for file in sorted(store.rglob("*.json*")):
        print(f"  {file.relative_to(store)}")
        for line in file.read_text("utf-8").splitlines():
            print("    " + (line if len(line) <= WIDTH else line[: WIDTH - 2] + " …"))


if __name__ == "__main__":
    main(*sys.argv[1:2])
