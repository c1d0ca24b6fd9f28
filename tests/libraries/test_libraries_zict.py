"""zict composes mappings; a map is one."""

import pytest
from helpers import AnyMap

zict = pytest.importorskip("zict")


def test_a_buffer_spills_into_the_map(d: AnyMap) -> None:
    buffer = zict.Buffer({}, d, n=2)
    for i in range(5):
        buffer[str(i)] = [i]
    assert len(d) == 3
    assert {key: buffer[key] for key in map(str, range(5))} == {str(i): [i] for i in range(5)}


def test_func_changes_values_on_the_way(d: AnyMap) -> None:
    changed = zict.Func(bytes.hex, bytes.fromhex, d)
    changed["a"] = b"\xff"
    assert d == {"a": "ff"}
    assert changed["a"] == b"\xff"
