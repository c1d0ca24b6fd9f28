"""A map passes zict's own contract of a mapping, and zict's classes are built on one."""

from collections.abc import Iterator

import pytest
from helpers import AnyMap, Library
from stores import Store

zict = Library("zict")
contract = Library("zict.tests.utils_test")


@pytest.fixture
def values(store: Store) -> Iterator[AnyMap]:
    """A map for bytes, which zict's tests store."""
    with store.open("values", codec="extended") as d:
        yield d


def test_zicts_contract_of_a_mapping(values: AnyMap) -> None:
    contract.check_mapping(values)


def test_zicts_contract_of_threads(values: AnyMap) -> None:
    contract.check_different_keys_threadsafe(values)
    contract.check_same_key_threadsafe(values)


def test_zicts_contract_of_bad_keys_and_values(values: AnyMap) -> None:
    contract.check_bad_key_types(values)
    contract.check_bad_value_types(values)


@pytest.mark.parametrize("kind", ["Buffer", "LRU", "Cache"])
def test_zicts_contract_of_its_own_classes_over_a_map(values: AnyMap, kind: str) -> None:
    made = {
        "Buffer": lambda: zict.Buffer({}, values, n=2),
        "LRU": lambda: zict.LRU(100, values),
        "Cache": lambda: zict.Cache(values, {}),
    }
    mapping = made[kind]()
    contract.check_mapping(mapping)
    assert len(mapping) == 26
    mapping.close()
    assert values.closed


def test_a_buffer_spills_into_the_map(d: AnyMap) -> None:
    buffer = zict.Buffer({}, d, n=2)
    for i in range(5):
        buffer[str(i)] = [i]
    assert len(d) == 3
    assert {key: buffer[key] for key in map(str, range(5))} == {str(i): [i] for i in range(5)}


def test_func_changes_values_on_the_way(d: AnyMap) -> None:
    changed = zict.Func(bytes.hex, bytes.fromhex, d)
    contract.check_mapping(changed)
    changed.clear()
    changed["a"] = b"\xff"
    assert d == {"a": "ff"}
    assert changed["a"] == b"\xff"
