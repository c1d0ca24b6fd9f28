"""pandas reads a map as a Series, and its copy as a DataFrame."""

from helpers import AnyMap, Library

pandas = Library("pandas")


def test_series(d: AnyMap) -> None:
    d.update(a=1, b=2)
    for series in (pandas.Series(d), pandas.Series(d.copy())):
        assert series.to_dict() == {"a": 1, "b": 2}
        assert list(series.index) == ["a", "b"]
        assert series.sum() == 3


def test_a_data_frame_with_a_row_for_each_entry(d: AnyMap) -> None:
    d.update(ada={"visits": 1}, bob={"visits": 2, "city": "Rome"})
    frame = pandas.DataFrame.from_dict(d.copy(), orient="index")
    assert frame["visits"].to_dict() == {"ada": 1, "bob": 2}
    assert frame["city"].to_dict()["bob"] == "Rome"
    by_list = pandas.DataFrame(d.values(), index=d.keys())
    assert by_list["visits"].to_dict() == {"ada": 1, "bob": 2}


def test_a_data_frame_with_a_column_for_each_entry(d: AnyMap) -> None:
    d.update(visits=[1, 2], city=["Rome", "Bonn"])
    frame = pandas.DataFrame(d.copy())
    assert frame.to_dict("list") == {"visits": [1, 2], "city": ["Rome", "Bonn"]}


def test_a_frame_goes_in_row_by_row(d: AnyMap) -> None:
    frame = pandas.DataFrame({"visits": [1, 2], "score": [0.5, None]}, index=["ada", "bob"])
    d.update(frame.astype(object).where(frame.notna(), None).to_dict("index"))
    assert d == {"ada": {"visits": 1, "score": 0.5}, "bob": {"visits": 2, "score": None}}
