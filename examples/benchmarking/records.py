"""The records that are stored, made on demand, so that ten million of them cost no memory."""

from __future__ import annotations

import random
import string
from collections.abc import Iterable
from typing import Any

import orjson

NAMES = ("Ada", "Alan", "Barbara", "Donald", "Edsger", "Frances", "Grace", "Ken", "Leslie", "Radia")
TAGS = ("admin", "beta", "de", "en", "fr", "new", "paid", "trial")
ODD = 0x9E3779B1  # multiplying by an odd number modulo 2**32 is a bijection that scatters its input


class Records:
    """Record i, for any i: a key of its own, and one of a pool of values, all of `size` JSON bytes.

    Keys are numbered upwards, as ids and dates are. That is the best case of an engine that keeps
    its keys sorted; `scatter` makes it the hard one, as with session tokens.
    """

    def __init__(self, size: int, *, scatter: bool = False) -> None:
        rng = random.Random(size)
        self.size = size
        self.scatter = scatter
        # Few enough to stay out of the figures for memory, and no two neighbours are alike.
        self.pool = [_value(rng, size) for _ in range(max(64, min(1024, (4 << 20) // size)))]

    def key(self, number: int) -> str:
        """A new `str`: one hashed before, or the one that a dict holds, would be found faster."""
        return f"user:{number * ODD & 0xFFFFFFFF:08x}" if self.scatter else f"user:{number:08d}"

    def keys(self, numbers: Iterable[int]) -> list[str]:
        key = self.key
        return [key(number) for number in numbers]

    def missing(self, numbers: Iterable[int]) -> list[str]:
        """Keys that no record has, and that sort between those that are there."""
        key = self.key
        return [key(number) + "." for number in numbers]

    def pairs(self, numbers: Iterable[int]) -> list[tuple[str, Any]]:
        key, pool, count = self.key, self.pool, len(self.pool)
        return [(key(number), pool[number % count]) for number in numbers]

    def value(self, number: int) -> Any:
        return self.pool[number % len(self.pool)]

    def json_bytes(self, count: int) -> int:
        """Bytes of one JSON object that holds `count` records."""
        mean = sum(len(orjson.dumps(value)) for value in self.pool) / len(self.pool)
        return round(count * (mean + len(orjson.dumps(self.key(0))) + 2))


def _value(rng: random.Random, size: int) -> dict[str, Any]:
    """A flat object, or a list of them as an API answers it; `size` bytes of JSON, if not less."""
    value = _person(rng)
    if size >= 300:
        value = {"page": 1, "items": [_person(rng) for _ in range(size // 100)]}
    value["note"] = ""
    letters = max(0, size - len(orjson.dumps(value)))
    value["note"] = "".join(rng.choices(string.ascii_lowercase + " ", k=letters))
    return value


def _person(rng: random.Random) -> dict[str, Any]:
    return {
        "id": rng.randrange(10**5, 10**6),
        "name": rng.choice(NAMES),
        "score": round(rng.random(), 3),
        "active": rng.random() < 0.5,
        "tags": [rng.choice(TAGS)],
    }
