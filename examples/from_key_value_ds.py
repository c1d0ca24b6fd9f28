"""Coming from key-value-ds: above each call of kvmap, the call that it takes the place of.

    python examples/from_key_value_ds.py

That library wrote its whole file of 1 GB anew at each change; kvmap appends the one entry.
"""

import shutil
import time

import kvmap


def say(call: str, result: object) -> None:
    print(f"{call:<24} {result}")


def main() -> None:
    # Its caps, the same for every store. Here each is off unless asked for, and the store keeps
    # those that it was given: a later open() need not name them.
    caps = kvmap.Limits(key_chars=32, value_bytes=16 * 1024, store_bytes=1024**3)

    # ds = key_value_ds.get_instance()
    d = kvmap.open(limits=caps)
    say("get_instance", f"{len(d)} entries in a new directory")

    # key_value_ds.get_instance(the same file), here or in another process
    try:
        kvmap.open(d.path)
    except BlockingIOError as error:
        say("get_instance, twice", f"BlockingIOError: {error}")

    # ds.create("ada", {"visits": 1})
    d.create("ada", {"visits": 1})
    say("create", list(d))

    # ds.create("ada", {"visits": 2})
    try:
        d.create("ada", {"visits": 2})
    except ValueError as error:
        say("create, twice", f"ValueError: {error}")

    # ds.get("ada"), which raised ValueError for a missing key: now a KeyError, as in any dict
    say("get", d["ada"])
    try:
        d["eve"]
    except KeyError as error:
        say("get, missing", f"KeyError: {error}")

    # ds.create("token", {"for": "ada"}, ttl=1), in seconds there too, whole ones
    d.create("token", {"for": "ada"}, ttl=0.5)
    say("create with ttl", d["token"])
    time.sleep(0.5)
    say("get, after the ttl", d.get("token"))

    # ds.delete("ada"), which ignored a missing key: that is d.pop("ada", None)
    del d["ada"]
    say("delete", list(d))
    say("delete, missing", d.pop("ada", None))

    # ds.delete_all()
    d["one"], d["two"] = 1, [2, "any JSON, not only objects"]
    d.clear()
    say("delete_all", list(d))

    # A key or a value over its cap
    for key, value in ("k" * 33, {}), ("k", {"long": "v" * 16 * 1024}):
        try:
            d.create(key, value)
        except ValueError as error:
            say("create, over a cap", f"ValueError: {error}")
    d.close()

    # The file's fixed size of 1 GB. Here a store is as large as what is in it, up to its cap,
    # and limits that are given again take the place of the old ones.
    with kvmap.open(d.path, limits=kvmap.Limits(store_bytes=100_000)) as d:
        try:
            d.update((str(n), {"value": n}) for n in range(10_000))
        except ValueError as error:
            say("create, store full", f"ValueError: {error}")

    shutil.rmtree(d.path)  # kvmap never does: even in the temporary directory, data is data


if __name__ == "__main__":
    main()
