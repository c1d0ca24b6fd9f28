"""Coming from key-value-ds: each call of kvmap, below the call that it replaces.

    python examples/from_key_value_ds.py

That library rewrites its whole file of 1 GB at each change; kvmap appends one record.
"""

import shutil
import time

import kvmap


def say(call: str, result: object) -> None:
    print(f"{call:<24} {result}")


def main() -> None:
    # Its caps, the same for every store. In kvmap there are none unless you give some; the store
    # keeps them, so that a later open() need not give them again.
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

    # ds.get("ada"), which raises ValueError for a missing key; here it is a KeyError, as in any dict
    say("get", d["ada"])
    try:
        d["eve"]
    except KeyError as error:
        say("get, missing", f"KeyError: {error}")

    # ds.create("token", {"for": "ada"}, ttl=1), in whole seconds there
    d.create("token", {"for": "ada"}, ttl=0.5)
    say("create with ttl", d["token"])
    time.sleep(0.5)
    say("get, after the ttl", d.get("token"))

    # ds.delete("ada"), which ignores a missing key, as d.pop("ada", None) does
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

    # The file's fixed size of 1 GB. Here a store grows with what is in it, up to its limit. Limits
    # that are given again replace the kept ones.
    with kvmap.open(d.path, limits=kvmap.Limits(store_bytes=100_000)) as d:
        try:
            d.update((str(n), {"value": n}) for n in range(10_000))
        except ValueError as error:
            say("create, store full", f"ValueError: {error}")

    shutil.rmtree(d.path)  # kvmap never removes a store


if __name__ == "__main__":
    main()
