"""Values of your own type: dataclasses in, dataclasses out, plain JSON on disk.

    pip install '.[types]'
    python examples/dataclass_values.py [STORE]

A value is checked on its way in and on its way out. STORE is a directory, and stays;
without it, a temporary one is used.
"""

import sys
import tempfile
from dataclasses import dataclass, field
from datetime import date

import kvmap


@dataclass
class User:
    name: str
    born: date
    # A field that is added later needs a default: values stored before do not have it.
    tags: list[str] = field(default_factory=list)


def users(path: str) -> kvmap.KVMap[str, User]:
    """Open the store with its type; the program opens it nowhere else."""
    return kvmap.open(path, type=User)


def main(path: str) -> None:
    with users(path) as d:
        d["ada"] = User("Ada Lovelace", date(1815, 12, 10))

        # d["ada"].tags.append(...) would change a copy, and nothing on disk.
        with d.edit("ada") as user:
            user.tags.append("mathematician")

    with users(path) as d:
        print(f"read     {d['ada']}")
        print(f"typed    born in {d['ada'].born.year}")
        try:
            d["bob"] = User("Bob", "in spring")  # type: ignore[arg-type]
        except TypeError as error:
            print(f"refused  {error}")

    with kvmap.open(path) as raw:  # without the type: what is on disk
        print(f"on disk  {raw['ada']}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(f"{directory}/users")
