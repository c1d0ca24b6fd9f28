"""What a type checker sees in typical code; .ci/run gives this file to `mypy --strict`."""

from datetime import timedelta
from pathlib import Path
from typing import TypedDict, assert_type

import pytest

import kvmap


class User(TypedDict):
    name: str
    visits: int


def test_a_map_of_users() -> None:
    users: kvmap.KVMap[str, User]
    with kvmap.open(":memory:", ttl=timedelta(days=1)) as users:
        assert_type(users.closed, bool)
        assert_type(users.name, str)

        users["ada"] = {"name": "Ada", "visits": 1}
        users.set("bob", {"name": "Bob", "visits": 2}, ttl=None)
        users.create("eve", {"name": "Eve", "visits": 3}, ttl=60)
        users.set("eve", {"name": "Eve", "visits": 4}, ttl=kvmap.KEEP)

        assert_type(users["ada"], User)
        assert_type(users.get("ada"), User | None)
        assert_type(users.get("ada", 0), User | int)
        assert_type(users.get_many(["ada"]), dict[str, User])
        assert_type(users.ttl("ada"), float | None)
        assert_type(users.pop("eve"), User)
        assert_type(users.setdefault("ada", {"name": "Ada", "visits": 0}), User)
        assert_type(users.purge(), int)
        assert_type(users.delete_many(["eve"]), int)
        assert_type(users.copy(), dict[str, User])
        assert_type(next(iter(users)), str)
        assert_type(list(users.scan("a")), list[str])
        assert_type([user["visits"] for user in users.values()], list[int])
        assert_type([(key, user["name"]) for key, user in users.items()], list[tuple[str, str]])
        users.update({"joe": {"name": "Joe", "visits": 0}})
        users.update([("tom", {"name": "Tom", "visits": 0})])
        users.set_many({"tom": {"name": "Tom", "visits": 1}}, ttl=5)
        assert_type(users.popitem(), tuple[str, User])
        assert_type(users.popitem(last=False), tuple[str, User])
        users.expire("joe", 0.5)
        with users.edit("joe") as user:
            assert_type(user, User)
            user["visits"] += 1
        with users.transaction():
            users["joe"] = {"name": "Joe", "visits": 9}
        users.sync()
        users.compact()


def test_views_compare_with_sets() -> None:
    numbers: kvmap.KVMap[str, int]
    with kvmap.open(":memory:") as numbers:
        numbers.update(a=1, b=2)
        assert numbers.keys() == {"a", "b"}
        assert numbers.items() == {("a", 1), ("b", 2)}
        assert_type(numbers.keys() & {"a"}, set[str])
        assert sum(numbers.values()) == 3
        assert_type(numbers | {"c": 3}, dict[str, int])
        assert_type(numbers.incr("a"), int | float)
        numbers |= {"c": 3}
        assert numbers == {"a": 2, "b": 2, "c": 3}


def test_a_map_can_not_be_put_into_a_set() -> None:
    with kvmap.open(":memory:") as d, pytest.raises(TypeError, match="unhashable"):
        {d}  # pyright: ignore[reportUnhashable]


def test_values_of_any_type() -> None:
    with kvmap.open(":memory:", "n", limits=kvmap.Limits(key_chars=3)) as d:
        d["n"] = 1
        d["l"] = [1, "two", None]
        d[12] = {"a": (1, 2)}

        with pytest.raises(kvmap.LimitError):
            d["long"] = 1
        with pytest.raises(kvmap.KeyExistsError):
            d.create("n", 2)
    with pytest.raises(kvmap.StoreClosedError):
        len(d)


def test_a_memoized_function_keeps_its_types() -> None:
    with kvmap.open(":memory:") as d:

        @d.memoize(ttl=60)
        def area(width: int, height: int = 1) -> float:
            return width * height

        assert_type(area(2, height=3), float)
        assert area(2, height=3) == 6


@pytest.mark.disk
def test_a_path_is_a_str_or_a_path(tmp_path: Path) -> None:
    with kvmap.open(tmp_path / "store", shards=1) as d:
        assert_type(d.path, Path)
        with pytest.raises(kvmap.StoreLockedError):
            kvmap.open(str(tmp_path / "store"), "w", timeout=0)
        with kvmap.snapshot(tmp_path / "store") as then:
            assert_type(then.path, Path)
            assert then.path == d.path
