"""Deadlines of many entries in one step, and entries that expire while they are looked at."""

import time
from typing import Any

import pytest
from servers import ServerProcess

import kvmap
from kvmap.moving import Item, Map, load


@pytest.mark.parametrize("partitions", [1, 4])
def test_many_entries_with_deadlines_of_their_own(server: ServerProcess, partitions: int) -> None:
    now = time.time()
    with kvmap.open(server.url, name="d", shards=partitions, ttl=600) as d:
        d.update(a=0, b=0)
        moments: dict[Any, float | None] = {
            number: now + 100 + number / 7 for number in range(3000)
        }
        moments |= {"b": None, "past": now - 1, (1.0, 2): now + 1 / 3 + 50}
        d.set_many(dict.fromkeys(moments, 1), deadlines=moments)
        found = d.deadlines([*moments, "missing", "a"])
        assert found.pop("a") == pytest.approx(now + 600, abs=30)
        del moments["past"]
        assert found == moments
        assert list(d) == ["a", "b", *range(3000), (1.0, 2)]
        assert d.deadlines([]) == {}


def test_many_deadlines_take_few_calls(server: ServerProcess, client: Any) -> None:
    items = [Item(number, number, time.time() + 1000 + number / 3) for number in range(4000)]
    with kvmap.open(server.url, name="d") as d, kvmap.open(server.url, name="e") as other:
        client.config_resetstat()
        assert load(d, items).loaded == 4000
        assert load(other, Map(d)).loaded == 4000
        calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        assert calls < 60
        assert [round(each, 3) for each in d.deadlines(range(4000)).values() if each] == list(
            other.deadlines(range(4000)).values()
        )


def test_a_moved_deadline_is_the_same_to_the_millisecond(server: ServerProcess) -> None:
    """Whatever the clock of the client says: the deadline is a moment, not a time from now."""
    moments = {number: round(time.time() + 500 + number / 1000, 3) for number in range(200)}
    with kvmap.open(server.url, name="d") as d, kvmap.open(":memory:") as local:
        local.set_many(moments, deadlines=moments)
        load(d, Map(local))
        assert d.deadlines(moments) == moments
        local.clear()
        load(local, Map(d))
        assert local.deadlines(moments) == moments
