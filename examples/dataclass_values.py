"""Values of your own type: dataclasses in, dataclasses out, plain JSON on disk.

    python examples/dataclass_values.py [STORE]

`encode` is called with each value on its way in, `decode` on its way out. STORE is a directory; it
stays, so that you can look into it.
"""

import sys
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import kvmap


@dataclass
class User:
    name: str
    born: date
    tags: list[str] = field(default_factory=list)


def encode(user: User) -> dict[str, Any]:
    # asdict goes into dataclasses and containers, and no further: the date is still a date, which
    # JSON can't hold. Without this line the write raises, naming value['born'].
    return {**asdict(user), "born": user.born.isoformat()}


def decode(value: dict[str, Any]) -> User:
    # A field that was added later is not in what was stored before: so give it a default.
    return User(**{**value, "born": date.fromisoformat(value["born"])})


def users(path: str) -> kvmap.KVMap[User]:
    """One function that opens it, so that nobody opens it with other hooks, or without."""
    return kvmap.open(path, encode=encode, decode=decode)


def main(path: str) -> None:
    with users(path) as d:
        d["ada"] = User("Ada Lovelace", date(1815, 12, 10))

        # What a map hands out is a copy: d["ada"].tags.append(...) would change nothing on disk.
        with d.edit("ada") as user:
            user.tags.append("mathematician")

    with users(path) as d:
        print(f"read     {d['ada']}")
        print(f"typed    born in {d['ada'].born.year}")

    with kvmap.open(path) as raw:  # without the hooks: what is on disk
        print(f"on disk  {raw['ada']}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(f"{directory}/users")
