"""pydantic's models go in and come out through `type=`, and it validates a map as a mapping."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from helpers import AnyMap, Library

import kvmap

pydantic = Library("pydantic")


def models() -> tuple[Any, Any]:
    """A model, and one that holds it."""
    tag = pydantic.create_model("Tag", name=(str, ...), score=(float, 0.5))
    user = pydantic.create_model(
        "User", name=(str, ...), born=(datetime | None, None), tags=(list[tag], [])
    )
    return tag, user


@pytest.fixture(params=[False, True], ids=["memory", "disk"])
def path(request: pytest.FixtureRequest, path: Path) -> str:
    return str(path) if request.param else ":memory:"


def test_models_are_values(path: str) -> None:
    Tag, User = models()
    ada = User(name="Ada", born=datetime(1815, 12, 10, tzinfo=UTC), tags=[Tag(name="first")])
    with kvmap.open(path, type=User) as d:
        d.update(ada=ada, bob=User(name="Bob"))
        assert d["ada"] == ada
        assert isinstance(d["ada"].tags[0], Tag)
        assert list(d.values()) == [ada, User(name="Bob")]
        with d.edit("bob") as bob:
            bob.tags.append(Tag(name="new", score=1))
        assert d["bob"].tags == [Tag(name="new", score=1)]
        for wrong in ({"name": "Eve"}, User.model_construct(name=5), None):
            with pytest.raises(TypeError, match="does not fit User"):
                d["eve"] = wrong
        assert "eve" not in d
    if path != ":memory:":
        with kvmap.open(path) as raw:
            assert raw["bob"] == {
                "name": "Bob", "born": None, "tags": [{"name": "new", "score": 1.0}],
            }  # fmt: skip
            raw["bob"] = {"name": "Bob", "tags": [{"name": None}]}
        with (
            kvmap.open(path, type=User) as d,
            pytest.raises(ValueError, match=r"\$\.tags\[0\]\.name: .*; what is stored"),
        ):
            d["bob"]


def test_a_map_is_validated_as_a_mapping(d: AnyMap) -> None:
    d["a"] = 1
    adapter = pydantic.TypeAdapter(dict[str, int])
    assert adapter.validate_python(d) == {"a": 1}
    holder = pydantic.create_model("Holder", counts=(Mapping[str, int], ...))
    assert holder(counts=d).model_dump() == {"counts": {"a": 1}}
    d["a"] = "x"
    with pytest.raises(pydantic.ValidationError):
        adapter.validate_python(d)
