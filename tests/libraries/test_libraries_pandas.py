"""pandas reads a map as a Series, and its copy as a DataFrame."""

import pytest
from helpers import AnyMap

pandas = pytest.importorskip("pandas")


def test_series(d: AnyMap) -> None:
    d.update(a=1, b=2)
    assert pandas.Series(d.copy()).to_dict() == {"a": 1, "b": 2}


def test_series_of_the_map_itself(d: AnyMap) -> None:
    d.update(a=1, b=2)
    assert pandas.Series(d).to_dict() == {"a": 1, "b": 2}


def test_data_frame(d: AnyMap) -> None:
    d.update(ada={"visits": 1}, bob={"visits": 2})
    frame = pandas.DataFrame.from_dict(d.copy(), orient="index")
    assert frame["visits"].to_dict() == {"ada": 1, "bob": 2}
