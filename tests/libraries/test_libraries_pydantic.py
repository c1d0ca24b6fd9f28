"""pydantic models go in and come out through `type=`, and a model may take a map's items."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers import AnyMap

import kvmap

pydantic = pytest.importorskip("pydantic")


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_models_are_values(path: Path, on_disk: bool) -> None:
    user = pydantic.create_model("User", name=(str, ...))
    with kvmap.open(path if on_disk else ":memory:", type=user) as d:
        d["ada"] = user(name="Ada")
        assert d["ada"] == user(name="Ada")
        assert isinstance(d["ada"], user)


def test_a_map_is_validated_as_a_mapping(d: AnyMap) -> None:
    d["a"] = 1
    adapter = pydantic.TypeAdapter(dict[str, int])
    assert adapter.validate_python(d) == {"a": 1}
    d["a"] = "x"
    with pytest.raises(pydantic.ValidationError):
        adapter.validate_python(d)
    assert isinstance(d, Mapping)
