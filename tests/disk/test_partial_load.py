"""Stores of which a part is read: kill, close, reopen, sync and power cut in every order.

Sessions that leave shards unread once lost what was synced, gave sequence numbers twice and mixed
up the order: in 18 of 664 runs like these.
"""

from __future__ import annotations

from typing import Any

from helpers import LONG
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from invariants import check
from model import Model, contents
from on_disk import open_on, snapshot_on
from simulated import Choice, Disk

from kvmap import disk as disk_engine
from kvmap.disk.tuning import Tuning

keys = st.sampled_from([f"key {i}" for i in range(6)] + [1, True, None, (1, "a")])
values = st.integers(0, 9) | st.sampled_from(["x" * 300, "y" * 2000])
ttls = st.sampled_from([None, None, 3, 1000])
choices = st.builds(
    Choice,
    st.sampled_from(["lost", "kept", "pages", "sectors", "mostly lost", "mostly kept"]),
    st.randoms(use_true_random=False),
)


class PartlyLoaded(RuleBasedStateMachine):
    """`self.d` is a map, or None between two sessions; `self.model` what it must hold."""

    @initialize(
        shards=st.sampled_from([2, 4, 8]),
        sync=st.booleans(),
        slack=st.sampled_from([200, 2000, 1 << 17]),
        hint=st.sampled_from([50, 500, 1 << 19]),
        content=st.dictionaries(keys, values, max_size=9),
    )
    def begin(self, shards: int, sync: bool, slack: int, hint: int, content: Any) -> None:
        self.disk = Disk()
        self.sync_writes = sync
        self.tuning = Tuning(slack_bytes=slack, step_bytes=400, hint_bytes=hint, map_slack_bytes=99)
        self.model = Model(self.disk)
        self.d: Any = open_on(self.disk, shards=shards, tuning=self.tuning, sync=sync)
        self.durable = True
        """Whether all that was written must survive a power cut."""
        self.d.update(content)
        self.model.update(content)
        self.wrote()

    def wrote(self) -> None:
        self.durable = self.durable and self.sync_writes

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            if self.d is None and not self.durable:
                self.d = open_on(self.disk, tuning=self.tuning)
            if self.d is not None:
                self.close()
            self.look_at(self.disk.copy(Choice("lost")))

    def look_at(self, disk: Disk) -> None:
        self.model.clock = disk
        with open_on(disk, tuning=self.tuning) as d:
            assert contents(d) == contents(self.model)
            check(d, disk)
        assert disk_engine.verify("/store", fs=disk).ok

    open_now = precondition(lambda self: self.d is not None)
    closed_now = precondition(lambda self: self.d is None)

    # Sessions

    @closed_now
    @rule(flag=st.sampled_from("cw"), sync=st.booleans())
    def open(self, flag: str, sync: bool) -> None:
        self.sync_writes = sync
        self.d = open_on(self.disk, "/store", flag, tuning=self.tuning, sync=sync)

    @open_now
    @rule()
    def close(self) -> None:
        self.d.close()
        self.d = None
        self.durable = True
        assert not self.disk.descriptors

    @open_now
    @rule()
    def kill(self) -> None:
        self.power(None)

    @open_now
    @precondition(lambda self: self.durable)
    @rule(choice=choices)
    def cut_the_power(self, choice: Choice) -> None:
        self.power(choice)

    def power(self, choice: Choice | None) -> None:
        left = self.disk.copy(choice)
        self.d.close()
        self.d, self.disk, self.model.clock = None, left, left

    @closed_now
    @precondition(lambda self: self.durable)
    @rule(choice=choices)
    def cut_the_power_while_closed(self, choice: Choice) -> None:
        self.disk = self.model.clock = self.disk.copy(choice)

    @closed_now
    @rule()
    def repair(self) -> None:
        assert not disk_engine.repair("/store", fs=self.disk).quarantined
        self.durable = True

    @closed_now
    @rule()
    def read_only(self) -> None:
        with open_on(self.disk, "/store", "r", tuning=self.tuning) as d:
            assert contents(d) == contents(self.model)

    @rule()
    def snapshot(self) -> None:
        with snapshot_on(self.disk) as then:
            assert contents(then) == contents(self.model)

    @rule(seconds=st.sampled_from([1, 5]))
    def wait(self, seconds: int) -> None:
        self.disk.wait(seconds)

    # Within a session

    @open_now
    @rule(key=keys)
    def get(self, key: Any) -> None:
        assert self.d.get(key) == self.model.alive().get(key, (None,))[0]

    @open_now
    @rule(key=keys, value=values, ttl=ttls)
    def set(self, key: Any, value: Any, ttl: float | None) -> None:
        self.d.set(key, value, ttl=ttl)
        self.model.set(key, value, ttl=ttl)
        self.wrote()

    @open_now
    @rule(key=keys)
    def pop(self, key: Any) -> None:
        there = key in self.model
        assert self.d.pop(key, None) == (self.model.pop(key, (None,)) or (None,))[0]
        if there:
            self.wrote()

    @open_now
    @rule(pairs=st.dictionaries(keys, values, min_size=1, max_size=4), block=st.booleans())
    def update(self, pairs: dict[Any, Any], block: bool) -> None:
        if block:
            with self.d.transaction():
                for key, value in pairs.items():
                    self.d[key] = value
        else:
            self.d.update(pairs)
        self.model.update(pairs)
        self.wrote()

    @open_now
    @rule(last=st.booleans())
    def popitem(self, last: bool) -> None:
        alive = self.model.alive()
        if alive:
            key = list(alive)[-1 if last else 0]
            value, _ = alive.pop(key)
            assert self.d.popitem(last=last) == (key, value)
            self.wrote()

    @open_now
    @rule()
    def clear(self) -> None:
        self.d.clear()
        self.model.clear()
        self.wrote()

    @open_now
    @rule()
    def compact(self) -> None:
        self.d.compact()

    @open_now
    @rule()
    def sync(self) -> None:
        self.d.sync()
        self.durable = True

    @open_now
    @rule()
    def look(self) -> None:
        assert contents(self.d) == contents(self.model)
        check(self.d, self.disk)


PartlyLoaded.TestCase.settings = settings(
    max_examples=2000 if LONG else 60,
    stateful_step_count=40 if LONG else 20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestPartlyLoaded = PartlyLoaded.TestCase
