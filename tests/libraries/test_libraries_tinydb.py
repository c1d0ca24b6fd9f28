"""tinydb keeps its tables in a map."""

from types import ModuleType

import pytest
from helpers import AnyMap, Library

tinydb = Library("tinydb")


def test_a_database(d: AnyMap, recipes: ModuleType) -> None:
    db = recipes.tinydb_over(d)
    assert not db.all()
    db.insert({"name": "ada", "visits": 1})
    db.update({"visits": 2}, tinydb.where("name") == "ada")
    assert db.search(tinydb.where("visits") == 2) == [{"name": "ada", "visits": 2}]
    assert d == {"_default": {"1": {"name": "ada", "visits": 2}}}
    db.table("log").insert_multiple([{"n": 1}, {"n": 2}])
    assert d["log"] == {"1": {"n": 1}, "2": {"n": 2}}
    assert recipes.tinydb_over(d).table("log").remove(tinydb.where("n") == 1) == [1]
    assert d["log"] == {"2": {"n": 2}}
    db.drop_table("log")
    assert list(d) == ["_default"]
    db.drop_tables()
    assert d == {}


def test_what_json_cannot_hold_changes_nothing(d: AnyMap, recipes: ModuleType) -> None:
    db = recipes.tinydb_over(d)
    db.insert({"n": 1})
    with pytest.raises(TypeError, match="complex is not JSON"):
        db.insert({"n": 3j})
    assert d == {"_default": {"1": {"n": 1}}}
    assert [dict(each) for each in recipes.tinydb_over(d)] == [{"n": 1}]
