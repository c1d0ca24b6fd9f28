"""A plain model of what a map must hold, and random steps to put map and model through."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Protocol

Step = tuple[Any, ...]
Contents = list[tuple[Any, Any, float | None]]


class Timed(Protocol):
    """What knows the time."""

    def now(self) -> float: ...


class Model:
    """A dict in memory whose entries expire."""

    def __init__(self, clock: Timed) -> None:
        self.clock = clock
        self.entries: dict[Any, tuple[Any, float]] = {}
        """Value and deadline by key."""

    def copy(self) -> Model:
        same = Model(self.clock)
        same.entries = dict(self.entries)
        return same

    def alive(self) -> dict[Any, tuple[Any, float]]:
        now = self.clock.now()
        self.entries = {key: each for key, each in self.entries.items() if each[1] > now}
        return self.entries

    def __contains__(self, key: Any) -> bool:
        return key in self.alive()

    def __len__(self) -> int:
        return len(self.alive())

    def __setitem__(self, key: Any, value: Any) -> None:
        self.set(key, value, ttl=None)

    def set(self, key: Any, value: Any, *, ttl: float | None) -> None:
        self.alive()[key] = value, math.inf if ttl is None else self.clock.now() + ttl

    def expire(self, key: Any, ttl: float | None) -> None:
        self.set(key, self.entries[key][0], ttl=ttl)

    def pop(self, key: Any, default: Any) -> Any:
        return self.alive().pop(key, default)

    def popitem(self) -> None:
        self.alive().popitem()

    def update(self, pairs: dict[Any, Any]) -> None:
        for key, value in pairs.items():
            self[key] = value

    def clear(self) -> None:
        self.entries = {}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        before = dict(self.alive())
        try:
            yield
        except BaseException:
            self.entries = before
            raise

    def compact(self) -> None:
        pass

    purge = sync = compact


def contents(d: Any) -> Contents:
    """Key, value and remaining seconds of all entries, in their order."""
    if isinstance(d, Model):
        now = d.clock.now()
        return [
            (key, value, None if expires == math.inf else expires - now)
            for key, (value, expires) in d.alive().items()
        ]
    return [(key, value, d.ttl(key)) for key, value in d.items()]


class Undo(Exception):
    """What a transaction raises that is to be undone."""


def take(target: Any, step: Step) -> None:
    """Take a step with a map or with its model."""
    match step:
        case "set", key, value:
            target[key] = value
        case "ttl", key, value, seconds:
            target.set(key, value, ttl=seconds)
        case "delete", key:
            target.pop(key, None)
        case "expire", key, seconds:
            if key in target:
                target.expire(key, seconds)
        case "update", pairs:
            target.update(pairs)
        case "transaction", steps, fails:
            try:
                with target.transaction():
                    for each in steps:
                        take(target, each)
                    if fails:
                        raise Undo
            except Undo:
                pass
        case ("popitem",):
            if len(target):
                target.popitem()
        case (name,):
            getattr(target, name)()
        case _:
            raise AssertionError(step)


def steps(seed: int, *, keys: int = 40, largest: int = 3000) -> Iterator[Step]:
    """Random steps without end; every value tells who wrote it, so that no two are the same."""
    choose = random.Random(seed)
    numbers = count()
    names = [f"key {i}" for i in range(keys - 2)] + [("tuple", 1), 17]

    def value() -> Any:
        size = choose.choice((0, 1, 10, 100, largest)) if choose.random() < 0.9 else 2 * largest
        return [seed, next(numbers), "x" * choose.randint(0, size)]

    def small() -> Step:
        key = choose.choice(names)
        match choose.choices("sdtep", (8, 3, 2, 1, 1))[0]:
            case "s":
                return "set", key, value()
            case "d":
                return "delete", key
            case "t":
                return "ttl", key, value(), choose.randint(1, 60)
            case "e":
                return "expire", key, choose.choice((None, 1, 30))
            case _:
                return ("popitem",)

    def several() -> dict[Any, Any]:
        return {key: value() for key in choose.sample(names, choose.randint(1, keys // 3))}

    while True:
        match choose.choices("sutcCPS", (40, 3, 6, 1, 0.3, 1, 1))[0]:
            case "s":
                yield small()
            case "u":
                yield "update", several()
            case "t":
                inner = [small() for _ in range(choose.randint(1, 8))]
                if choose.random() < 0.3:
                    inner.insert(choose.randrange(len(inner) + 1), ("update", several()))
                if choose.random() < 0.1:
                    inner.insert(choose.randrange(len(inner) + 1), ("clear",))
                yield "transaction", inner, choose.random() < 0.2
            case "c":
                yield ("compact",)
            case "C":
                yield ("clear",)
            case "P":
                yield ("purge",)
            case _:
                yield ("sync",)


def outcome(found: Contents, before: Model, step: Step) -> Model:
    """What a map goes on with that was cut off in this step: all of it is done, or nothing.

    AssertionError for anything else.
    """
    if found == contents(before):
        return before
    after = before.copy()
    take(after, step)
    assert found == contents(after), difference(found, contents(before), contents(after), step)
    return after


def difference(found: Contents, before: Contents, after: Contents, step: Step) -> str:
    def brief(some: Contents) -> dict[Any, Any]:
        return {key: (value[:2], left) for key, value, left in some}

    lines = [f"in {str(step)[:300]}:"]
    for name, expected in (("before", before), ("after", after)):
        one, other = brief(found), brief(expected)
        lines.append(
            f"against {name}: lost {[k for k in other if k not in one]}, "
            f"new {[k for k in one if k not in other]}, "
            f"other {[(k, one[k], other[k]) for k in one if k in other and one[k] != other[k]]}, "
            f"order {'same' if list(one) == list(other) else (list(one), list(other))}"
        )
    return "\n".join(lines)
