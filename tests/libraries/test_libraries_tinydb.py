"""tinydb keeps its tables in a map through a Storage of a few lines."""

import pytest
from helpers import AnyMap

tinydb = pytest.importorskip("tinydb")


def test_storage(d: AnyMap) -> None:
    class MapStorage(tinydb.Storage):
        def read(self):  # type: ignore[no-untyped-def]
            return d.copy() or None

        def write(self, data):  # type: ignore[no-untyped-def]
            with d.transaction():
                d.delete_many(d.keys() - data.keys())
                d.update(data)

    db = tinydb.TinyDB(storage=MapStorage)
    db.insert({"name": "ada", "visits": 1})
    db.update({"visits": 2}, tinydb.where("name") == "ada")
    assert db.search(tinydb.where("visits") == 2) == [{"name": "ada", "visits": 2}]
    assert d == {"_default": {"1": {"name": "ada", "visits": 2}}}
    db.drop_tables()
    assert d == {}
