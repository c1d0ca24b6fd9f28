"""A map and a dict side by side, through every method, in an order that Hypothesis thinks up.

Between the steps the clock moves, and on disk the map is reopened, killed and recovered, compacted.
With `--long` there are thirty times as many runs, and longer ones.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import json_values
import pytest
from helpers import LONG, AnyMap, Clock
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from stores import DiskStore, MemoryStore, Store

import kvmap

# Few enough to meet again and again; some of them are one key.
FAMILIAR: list[Any] = [
    "a",
    "b",
    ',"value":',
    "",
    0,
    False,
    0.0,
    1,
    1.0,
    True,
    None,
    (1,),
    (True, "a"),
]
keys = st.sampled_from(FAMILIAR) | st.sampled_from(FAMILIAR) | json_values.keys
values = json_values.values | json_values.deep
ttls = st.none() | st.sampled_from([0.5, 3, 10, 1e9])


class Undo(Exception):
    """What a transaction or an edit raises that is to be undone."""


def outcome(call: Callable[[], Any]) -> tuple[Any, ...]:
    """What a call returns, exactly, or the type and the arguments of what it raises."""
    try:
        return "returned", repr(call())
    except Exception as error:
        return "raised", type(error), repr(error.args)


def levels(value: Any) -> int:
    """How deep lists and objects are nested in a value."""
    match value:
        case list():
            return 1 + max(map(levels, value), default=0)
        case dict():
            return 1 + max(map(levels, value.values()), default=0)
    return 0


class BesideADict(RuleBasedStateMachine):
    """`self.d` is the map, `self.model` the dict; `self.deadlines` holds when its keys expire."""

    kind: type[Store]

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = self.kind(Path(tempfile.mkdtemp()), self.clock)
        self.names = count()
        self.model: dict[Any, Any] = {}
        self.deadlines: dict[Any, float] = {}
        self.saved: tuple[dict[Any, Any], dict[Any, float]] | None = None
        self.transaction: Any = None
        self.lapsed: set[Any] = set()
        """Keys whose place in the order is not known."""

    @initialize(
        shards=st.sampled_from([1, 2, 8]),
        ttl=st.sampled_from([None, None, 20]),
        content=st.dictionaries(keys, values, max_size=6),
    )
    def open(self, shards: int, ttl: float | None, content: dict[Any, Any]) -> None:
        self.ttl = ttl
        self.d: AnyMap = self.store.open(str(next(self.names)), shards=shards, ttl=ttl)
        for key, value in content.items():
            self.assign(key, value)

    def teardown(self) -> None:
        if hasattr(self, "d"):
            self.d.close()
        shutil.rmtree(self.store.folder)

    # The model

    def expire_model(self) -> None:
        now = self.clock.now()
        if self.saved is not None:
            # What a block has given another deadline may expire below it, and loses its place then.
            outside = self.saved[1]
            self.lapsed.update(key for key in outside if outside[key] <= now and key in self.model)
        for key in [key for key, deadline in self.deadlines.items() if deadline <= now]:
            del self.deadlines[key], self.model[key]

    def write(self, key: Any, value: Any, ttl: float | None) -> None:
        self.model[key] = value
        self.deadlines.pop(key, None)
        if ttl is not None:
            self.deadlines[key] = self.clock.now() + ttl

    def same(self, call: Callable[[Any], Any]) -> None:
        """Do the same to both, and compare."""
        expected = outcome(lambda: call(self.model))
        assert outcome(lambda: call(self.d)) == expected
        self.deadlines = {k: when for k, when in self.deadlines.items() if k in self.model}

    # Reading

    @rule(key=keys, default=values)
    def read(self, key: Any, default: Any) -> None:
        self.same(lambda d: d[key])
        self.same(lambda d: d.get(key))
        self.same(lambda d: d.get(key, default))
        self.same(lambda d: key in d)
        deadline = self.deadlines.get(key)
        if key in self.model:
            expected = None if deadline is None else deadline - self.clock.now()
            assert self.d.ttl(key) == expected

    @rule(value=values, other=st.dictionaries(keys, values, max_size=3))
    def read_all(self, value: Any, other: dict[Any, Any]) -> None:
        self.same(lambda d: list(d.values()))
        self.same(lambda d: list(reversed(d.items())))
        self.same(lambda d: value in d.values())
        self.same(lambda d: [item in d.items() for item in other.items()])
        self.same(lambda d: d | other)
        self.same(lambda d: other | d)
        self.same(lambda d: d == other)
        self.same(lambda d: d.keys() >= other.keys())
        self.same(lambda d: d.keys().isdisjoint(other))
        assert self.d.keys() & other.keys() == self.model.keys() & other.keys()
        assert self.d.keys() ^ other.keys() == self.model.keys() ^ other.keys()
        assert self.d == self.model
        assert dict(**{"all": self.d}) == {"all": self.model}
        assert self.d.copy() == self.model

    @rule(key=keys)
    def change_while_iterating(self, key: Any) -> None:
        def iterate(d: Any) -> list[Any]:
            found = []
            for each in d:
                found.append(each)
                d[key] = "while iterating"
            return found

        inserted = [] if key in self.model or not self.model else [key]
        if self.model:
            self.deadlines.pop(key, None)
        self.same(iterate)
        if self.ttl is not None and key in self.model and (inserted or self.model):
            self.write(key, self.model[key], self.ttl)

    @rule(data=st.data())
    def expire_while_iterating(self, data: st.DataObject) -> None:
        before, found = list(self.model), []
        stop = data.draw(st.integers(0, max(len(before) - 1, 0)), label="clock moves after")
        iterator = iter(self.d)
        for number, key in enumerate(iterator):
            found.append(key)
            if number == stop:
                self.clock.wait(4)
                self.expire_model()
                len(self.d)  # takes what has expired out of the index
        expected = before[: stop + 1] + [key for key in before[stop + 1 :] if key in self.model]
        assert repr(found) == repr(expected)

    # Writing

    @rule(key=keys, value=values)
    def assign(self, key: Any, value: Any) -> None:
        self.d[key] = value
        self.write(key, value, self.ttl)

    @rule(key=keys, value=values, ttl=ttls)
    def set(self, key: Any, value: Any, ttl: float | None) -> None:
        self.d.set(key, value, ttl=ttl)
        self.write(key, value, ttl)

    @rule(key=keys, value=values, ttl=ttls)
    def create(self, key: Any, value: Any, ttl: float | None) -> None:
        if key in self.model:
            assert outcome(lambda: self.d.create(key, value, ttl=ttl))[1] is kvmap.KeyExistsError
        else:
            self.d.create(key, value, ttl=ttl)
            self.write(key, value, ttl)

    @rule(key=keys, ttl=ttls)
    def expire(self, key: Any, ttl: float | None) -> None:
        if key in self.model:
            self.d.expire(key, ttl)
            self.write(key, self.model[key], ttl)
        else:
            assert outcome(lambda: self.d.expire(key, ttl))[1] is KeyError

    @rule(key=keys, default=values)
    def setdefault(self, key: Any, default: Any) -> None:
        is_new = key not in self.model
        self.same(lambda d: d.setdefault(key, default))
        if is_new:
            self.write(key, default, self.ttl)

    @rule(pairs=st.lists(st.tuples(keys, values), max_size=6), form=st.integers(0, 3))
    def update(self, pairs: list[tuple[Any, Any]], form: int) -> None:
        match form:
            case 0:
                self.same(lambda d: d.update(pairs))
            case 1:
                self.same(lambda d: d.update(dict(pairs)))
            case 2:
                self.same(lambda d: d.update({}, self=1, other=2))
                pairs = [("self", 1), ("other", 2)]
            case _:
                self.d |= pairs
                self.model |= pairs
        for key, _ in pairs:
            self.write(key, self.model[key], self.ttl)

    @rule(key=keys, default=values)
    def pop(self, key: Any, default: Any) -> None:
        self.same(lambda d: d.pop(key))
        self.same(lambda d: d.pop(key, default))

    @rule(key=keys)
    def delete(self, key: Any) -> None:
        self.same(lambda d: d.__delitem__(key))

    @rule()
    def popitem(self) -> None:
        self.same(lambda d: d.popitem())

    @rule()
    def popitem_from_the_front(self) -> None:
        if self.model:
            first = next(iter(self.model))
            expected = first, self.model.pop(first)
            self.deadlines.pop(first, None)
            assert repr(self.d.popitem(last=False)) == repr(expected)
        else:
            assert outcome(lambda: self.d.popitem(last=False))[1] is KeyError

    @rule(pairs=st.dictionaries(keys, values, max_size=5), ttl=ttls)
    def set_many(self, pairs: dict[Any, Any], ttl: float | None) -> None:
        self.d.set_many(pairs, ttl=ttl)
        for key, value in pairs.items():
            self.write(key, value, ttl)

    @rule(some=st.lists(keys, max_size=5))
    def get_and_delete_many(self, some: list[Any]) -> None:
        expected = {key: self.model[key] for key in dict.fromkeys(some) if key in self.model}
        assert repr(self.d.get_many(some)) == repr(expected)
        assert self.d.delete_many(some) == len(expected)
        for key in expected:
            del self.model[key]
            self.deadlines.pop(key, None)

    @rule(key=keys, by=st.sampled_from([1, -3, 0.5]), default=st.sampled_from([0, 7, None]))
    def incr(self, key: Any, by: float, default: int | None) -> None:
        before = self.model.get(key, default)
        raised = outcome(lambda: self.d.incr(key, by, default=default))
        if key not in self.model and default is None:
            assert raised[1] is KeyError
        elif isinstance(before, bool) or not isinstance(before, (int, float)):
            assert raised[1] is TypeError
        elif (isinstance(before + by, int) and not -(2**63) <= before + by < 2**64) or not (
            math.isfinite(before + by)
        ):
            assert raised[1] is ValueError
        else:
            assert raised == ("returned", repr(before + by))
            if key in self.model:
                self.model[key] = before + by
            else:
                self.write(key, before + by, self.ttl)

    @rule(key=keys, value=values)
    def keep(self, key: Any, value: Any) -> None:
        self.d.set(key, value, ttl=kvmap.KEEP)
        if key in self.model:
            self.model[key] = value
        else:
            self.write(key, value, self.ttl)

    @rule()
    def clear(self) -> None:
        self.same(lambda d: d.clear())

    @rule(key=keys, value=values, default=st.booleans(), fails=st.booleans())
    def edit(self, key: Any, value: Any, default: bool, fails: bool) -> None:
        before = self.model.get(key) if key in self.model or not default else [1]
        if not isinstance(before, list):
            return
        after = [*before, value]
        too_deep = levels(after) > json_values.DEEPEST

        def edit() -> None:
            with self.d.edit(key, *([[1]] if default else [])) as found:
                assert repr(found) == repr(before)
                found.append(value)
                if fails:
                    raise Undo

        if fails or too_deep:
            assert outcome(edit)[1] is (Undo if fails else ValueError)
            return
        edit()
        if key in self.model:
            self.model[key] = after  # its deadline stays
        else:
            self.write(key, after, self.ttl)

    @rule(key=keys, value=json_values.unfit_values, way=st.integers(0, 4))
    def refuse_value(self, key: Any, value: Any, way: int) -> None:
        writes: list[Callable[[], Any]] = [
            lambda: self.d.__setitem__(key, value),
            lambda: self.d.set(key, value, ttl=1),
            lambda: self.d.create(("new", key), value),
            lambda: self.d.setdefault(("new", key), value),
            lambda: self.d.update({("new", 1): 1, key: value}),
        ]
        raised = outcome(writes[way])
        assert raised[1] in (TypeError, ValueError)
        assert "value" in raised[2]

    @rule(key=json_values.unfit_keys, way=st.integers(0, 4))
    def refuse_key(self, key: Any, way: int) -> None:
        writes: list[Callable[[], Any]] = [
            lambda: self.d.__setitem__(key, 1),
            lambda: self.d.set(key, 1, ttl=1),
            lambda: self.d.create(key, 1),
            lambda: self.d.setdefault(key, 1),
            lambda: self.d.update({("new", 1): 1, key: 1}),
        ]
        raised = outcome(writes[way])
        assert raised[1] in (TypeError, ValueError)
        assert "key" in raised[2]
        self.same(lambda d: (key in d, d.get(key, 1), d.pop(key, 2)))
        self.same(lambda d: d[key])
        self.same(lambda d: d.__delitem__(key))

    # Transactions

    @precondition(lambda self: self.transaction is None)
    @rule()
    def begin(self) -> None:
        self.transaction = self.d.transaction()
        self.transaction.__enter__()
        self.saved = dict(self.model), dict(self.deadlines)

    @precondition(lambda self: self.transaction is not None)
    @rule()
    def commit(self) -> None:
        self.transaction.__exit__(None, None, None)
        self.transaction = self.saved = None

    @precondition(lambda self: self.transaction is not None)
    @rule()
    def roll_back(self) -> None:
        error = Undo()
        assert not self.transaction.__exit__(Undo, error, None)
        self.undone()

    def undone(self) -> None:
        if self.saved is not None:
            self.model, self.deadlines = self.saved
            self.expire_model()
        self.transaction = self.saved = None

    # The world

    @rule(seconds=st.sampled_from([0.25, 1, 5, 50]))
    def wait(self, seconds: float) -> None:
        self.clock.wait(seconds)
        self.expire_model()

    @rule()
    def purge(self) -> None:
        self.d.purge()
        if self.transaction is None:
            assert self.d.purge() == 0

    @rule()
    def sync(self) -> None:
        self.d.sync()

    @rule()
    def compact(self) -> None:
        if self.transaction is None:
            self.d.compact()

    @precondition(lambda self: self.store.is_kept)
    @rule(flag=st.sampled_from("cwr"), whole=st.booleans())
    def reopen(self, flag: str, whole: bool) -> None:
        name = self.d.path.name
        self.d.close()
        self.undone()
        with self.store.open(name, flag) as found:
            if whole:
                self.compare(found)
        self.d = self.store.open(name)

    @precondition(lambda self: self.store.is_kept)
    @rule()
    def kill(self) -> None:
        self.d = self.store.life()["killed"](self.d)
        self.undone()

    # What holds after each step

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "d"):
            self.settle()
            self.compare(self.d)
            if self.transaction is None:
                self.store.check(self.d)

    def settle(self) -> None:
        """Take over the map's order for the keys whose place is not known."""
        if self.lapsed:
            order = [key for key in self.d if key in self.lapsed]
            assert all(key in self.d for key in self.model)
            rest = [key for key in self.model if key not in self.lapsed]
            assert [key for key in self.d if key not in self.lapsed] == rest
            assert set(order) == self.lapsed & self.model.keys()
            self.model = {key: self.model[key] for key in self.d}
        if self.transaction is None:
            self.lapsed = set()

    def compare(self, d: AnyMap) -> None:
        assert len(d) == len(self.model)
        assert [key in d for key in FAMILIAR] == [key in self.model for key in FAMILIAR]
        assert repr(list(d.items())) == repr(list(self.model.items()))
        assert repr(list(reversed(d))) == repr(list(reversed(self.model)))
        for key in self.model:
            left = self.deadlines.get(key, math.inf) - self.clock.now()
            assert d.ttl(key) == (None if left == math.inf else left)


class BesideADictInMemory(BesideADict):
    kind = MemoryStore


class BesideADictOnDisk(BesideADict):
    kind = DiskStore


_checks = list(HealthCheck)
TestInMemory = BesideADictInMemory.TestCase
TestInMemory.settings = settings(
    max_examples=3000 if LONG else 60,
    stateful_step_count=60 if LONG else 30,
    deadline=None,
    suppress_health_check=_checks,
)
TestOnDisk = pytest.mark.disk(BesideADictOnDisk.TestCase)
TestOnDisk.settings = settings(
    max_examples=1000 if LONG else 30,
    stateful_step_count=60 if LONG else 30,
    deadline=None,
    suppress_health_check=_checks,
)
