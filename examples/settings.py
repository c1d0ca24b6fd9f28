"""Settings with defaults: only what a user has changed is on disk.

    python examples/settings.py

The standard library's ChainMap puts the user's settings in front of the defaults. A default that a
later version changes then reaches all who never changed it themselves.
"""

import tempfile
from collections import ChainMap
from typing import Any

import kvmap

DEFAULTS: dict[str, Any] = {
    "font": {"family": "serif", "size": 11},
    "language": "en",
    "recent files": [],
}


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/settings"
        with kvmap.open(path) as changed:
            settings = ChainMap[str, Any](changed, DEFAULTS)
            settings["language"] = "fr"  # goes into the first map: the store
            # A map returns copies, DEFAULTS does not: so store a new value, and change none in place.
            settings["font"] = {**settings["font"], "size": 14}
            settings["recent files"] = ["a.txt", *settings["recent files"]]

        with kvmap.open(path) as changed:
            settings = ChainMap[str, Any](changed, DEFAULTS)
            for name in DEFAULTS:
                print(f"{name:<13} {settings[name]}{'' if name in changed else '  (default)'}")

            changed.pop("language", None)  # back to the default
            print(f"{'language':<13} {settings['language']}  (default again)")

            with changed.edit("recent files", DEFAULTS["recent files"]) as files:
                files.insert(0, "b.txt")  # an edit stores what was changed in place
            print(f"{'recent files':<13} {settings['recent files']}")
        print(f"{'the defaults':<13} {DEFAULTS}")


if __name__ == "__main__":
    main()
