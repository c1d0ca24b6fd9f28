"""What a type checker sees in typical code: .ci/run gives this file to `mypy --strict`."""

from datetime import timedelta
from pathlib import Path
from typing import TypedDict, assert_type

import pytest

import kvmap


class User(TypedDict):
    name: str
    visits: int


def test_a_map_of_users(tmp_path: Path) -> None:
    users: kvmap.KVMap[User]
    with kvmap.open(tmp_path / "users", ttl=timedelta(days=1)) as users:
        assert_type(users.path, Path)
        assert_type(users.closed, bool)

        users["ada"] = {"name": "Ada", "visits": 1}
        users.set("bob", {"name": "Bob", "visits": 2}, ttl=None)
        users.create("eve", {"name": "Eve", "visits": 3}, ttl=60)

        assert_type(users["ada"], User)
        assert_type(users.get("ada"), User | None)
        assert_type(users.ttl("ada"), float | None)
        assert_type(users.pop("eve"), User)
        assert_type(users.setdefault("ada", {"name": "Ada", "visits": 0}), User)
        assert_type(users.purge(), int)
        assert_type([user["visits"] for user in users.values()], list[int])
        assert_type([user["name"] for _, user in users.items()], list[str])
        users.update({"joe": {"name": "Joe", "visits": 0}})
        users.expire("joe", 0.5)
        users.sync()
        users.compact()


def test_values_of_any_type(tmp_path: Path) -> None:
    with kvmap.open(str(tmp_path / "any"), "n", limits=kvmap.Limits(key_chars=3)) as d:
        d["n"] = 1
        d["l"] = [1, "two", None]

        with pytest.raises(kvmap.LimitError):
            d["long"] = 1
        with pytest.raises(kvmap.KeyExistsError):
            d.create("n", 2)
        with pytest.raises(kvmap.StoreLockedError):
            kvmap.open(d.path)
    with pytest.raises(kvmap.StoreClosedError):
        len(d)
