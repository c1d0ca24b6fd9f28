"""CPython's own tests of mappings and of dict, run against a map.

Each mapping that they make is a new store. Those of dict write `{1: 2}` where they mean the thing
under test, so their source is compiled with a store in place of each such display.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import unittest
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest
from helpers import AnyMap
from stores import Store

mapping_tests: Any = pytest.importorskip("test.mapping_tests")
test_dict: Any = pytest.importorskip("test.test_dict")

FOREIGN_KEY = "its keys are objects that JSON can't hold"
FOREIGN_VALUE = "its values are objects that JSON can't hold"
FROMKEYS = "fromkeys opens a new store, and knows no subclass; see test_dict.py"
REPR = "the repr is bounded and shows no entries; see test_dict.py"
SUBCLASS = "it is about subclasses of dict, made by their constructor"
CONSTRUCTOR = "a map is made by kvmap.open"
INNER = "it is about how CPython keeps dicts in memory"
REINSERTED = "a deleted key that is inserted again: a dict may raise, a map's iteration goes on"
PICKLING = "an iterator of a map can't be pickled"

MAPPING_LEFT_OUT = {
    "TestMappingProtocol.test_copy": "copy() is a plain dict",
    "TestMappingProtocol.test_fromkeys": FROMKEYS,
    "TestHashMappingProtocol.test_eq": FOREIGN_KEY,
    "TestHashMappingProtocol.test_fromkeys": FROMKEYS,
    "TestHashMappingProtocol.test_getitem": FOREIGN_KEY,
    "TestHashMappingProtocol.test_pop": FOREIGN_KEY,
    "TestHashMappingProtocol.test_repr": REPR,
    "TestHashMappingProtocol.test_repr_deep": REPR,
    "TestHashMappingProtocol.test_setdefault": FOREIGN_KEY,
}
NEEDS_WRITEBACK = {"TestMappingProtocol.test_setdefault"}
"""Tests that change a value in place."""
DICT_LEFT_OUT = {
    "test_bad_key": FOREIGN_KEY,
    "test_constructor": CONSTRUCTOR,
    "test_container_iterator": FOREIGN_KEY,
    "test_copy_maintains_tracking": INNER,
    "test_dict_contain_use_after_free": FOREIGN_KEY,
    "test_dict_copy_order": SUBCLASS,
    "test_dict_items_result_gc": INNER,
    "test_dict_items_result_gc_reversed": INNER,
    "test_dictitems_contains_use_after_free": FOREIGN_VALUE,
    "test_empty_presized_dict_in_freelist": INNER,
    "test_eq": FOREIGN_KEY,
    "test_equal_operator_modifying_operand": FOREIGN_KEY,
    "test_errors_in_view_containment_check": FOREIGN_VALUE,
    "test_free_after_iterating": SUBCLASS,
    "test_fromkeys": FROMKEYS,
    "test_fromkeys_operator_modifying_dict_operand": FROMKEYS,
    "test_getitem": FOREIGN_KEY,
    "test_init_use_after_free": CONSTRUCTOR,
    "test_instance_dict_getattr_str_subclass": INNER,
    "test_invalid_keyword_arguments": SUBCLASS,
    "test_itemiterator_pickling": PICKLING,
    "test_iterator_pickling": PICKLING,
    "test_literal_constructor": CONSTRUCTOR,
    "test_merge_and_mutate": FOREIGN_KEY,
    "test_missing": SUBCLASS,
    "test_mutating_iteration_delete": REINSERTED,
    "test_mutating_iteration_delete_over_items": REINSERTED,
    "test_mutating_iteration_delete_over_values": REINSERTED,
    "test_mutating_lookup": FOREIGN_KEY,
    "test_object_set_item_single_instance_non_str_key": INNER,
    "test_oob_indexing_dictiter_iternextitem": FOREIGN_VALUE,
    "test_pop": FOREIGN_KEY,
    "test_reentrant_insertion": FOREIGN_VALUE,
    "test_repr": REPR,
    "test_repr_deep": REPR,
    "test_resize2": FOREIGN_KEY,
    "test_reverse_iterator_for_shared_shared_dicts": INNER,
    "test_reverseitemiterator_pickling": PICKLING,
    "test_reverseiterator_pickling": PICKLING,
    "test_reversevaluesiterator_pickling": PICKLING,
    "test_setdefault": FOREIGN_KEY,
    "test_setdefault_atomic": FOREIGN_KEY,
    "test_setitem_atomic_at_resize": FOREIGN_KEY,
    "test_splittable_del": INNER,
    "test_splittable_pop": INNER,
    "test_splittable_pop_pending": INNER,
    "test_splittable_popitem": INNER,
    "test_splittable_setdefault": INNER,
    "test_splittable_to_generic_combinedtable": INNER,
    "test_splittable_update": INNER,
    "test_store_evilattr": INNER,
    "test_str_nonstr": FOREIGN_KEY,
    "test_string_keys_can_track_values": INNER,
    "test_track_dynamic": INNER,
    "test_track_literals": INNER,
    "test_track_subtypes": INNER,
    "test_valuesiterator_pickling": PICKLING,
    "test_views_mapping": SUBCLASS,
}
UNTRIED = {
    "TestHashMappingProtocol.test_repr_deep",  # makes a thousand stores
    "test_repr_deep",
    # What these make fails once more when it goes.
    "test_equal_operator_modifying_operand",
    "test_oob_indexing_dictiter_iternextitem",
    "test_reentrant_insertion",
    *(
        name
        for name, why in DICT_LEFT_OUT.items()
        if why in (INNER, SUBCLASS, CONSTRUCTOR, FROMKEYS, REINSERTED)
    ),
}
"""Tests left out of which it is not checked that they fail."""

MAPPING_CASES = [
    f"{case.__name__}.{method}"
    for case in (
        mapping_tests.BasicTestMappingProtocol,
        mapping_tests.TestMappingProtocol,
        mapping_tests.TestHashMappingProtocol,
    )
    for method in vars(case)
    if method.startswith("test")
]
DICT_CASES = unittest.defaultTestLoader.getTestCaseNames(test_dict.DictTest)

MakeStore = Callable[..., AnyMap]


@pytest.fixture
def new_store(store: Store) -> Iterator[MakeStore]:
    """What makes stores that are closed when the test ends."""
    numbers = count()
    with ExitStack() as stack:

        def new_store(*entries: Any, writeback: bool = False, **more: Any) -> AnyMap:
            d = store.open(str(next(numbers)), shards=2, writeback=writeback)
            stack.enter_context(d)
            d.update(*entries, **more)
            return d

        yield new_store


def run_mapping(name: str, new_store: MakeStore, *, writeback: bool) -> None:
    class_name, method = name.split(".")

    class Case(getattr(mapping_tests, class_name)):  # type: ignore[misc]
        def type2test(self, **entries: Any) -> AnyMap:
            return new_store(entries, writeback=writeback)

        def _reference(self) -> dict[Any, Any]:
            return {"1": "2", "key1": "value1", "key2": 3, ("a", 1): 0.5}

    Case(method).debug()


class _StoresForDicts(ast.NodeTransformer):
    def visit_Dict(self, node: ast.expr) -> ast.expr:
        self.generic_visit(node)
        return ast.Call(ast.Name("new_store", ast.Load()), [node], [])

    visit_DictComp = visit_Dict


@pytest.fixture(scope="module")
def dict_test() -> type[unittest.TestCase]:
    """CPython's DictTest with `new_store({...})` for each `{...}`, and that name still to be set."""
    source = textwrap.dedent(inspect.getsource(test_dict.DictTest))
    tree = ast.fix_missing_locations(_StoresForDicts().visit(ast.parse(source)))
    names = dict(vars(test_dict))
    exec(compile(tree, test_dict.__file__, "exec"), names)
    case: type[unittest.TestCase] = names["DictTest"]
    return case


def run_dict(name: str, new_store: MakeStore, case: type[unittest.TestCase]) -> None:
    method = getattr(case, name)
    inspect.unwrap(method).__globals__["new_store"] = new_store
    case(name).debug()


@pytest.mark.parametrize("name", [each for each in MAPPING_CASES if each not in MAPPING_LEFT_OUT])
def test_a_mapping_test_passes(name: str, new_store: MakeStore) -> None:
    run_mapping(name, new_store, writeback=name in NEEDS_WRITEBACK)


@pytest.mark.parametrize("name", [each for each in DICT_CASES if each not in DICT_LEFT_OUT])
def test_a_test_of_dict_passes(
    name: str, new_store: MakeStore, dict_test: type[unittest.TestCase]
) -> None:
    run_dict(name, new_store, dict_test)


@pytest.mark.parametrize("name", sorted(MAPPING_LEFT_OUT.keys() & set(MAPPING_CASES) - UNTRIED))
def test_a_mapping_test_is_not_left_out_in_vain(name: str, new_store: MakeStore) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        run_mapping(name, new_store, writeback=True)


@pytest.mark.parametrize("name", sorted(DICT_LEFT_OUT.keys() & set(DICT_CASES) - UNTRIED))
def test_a_test_of_dict_is_not_left_out_in_vain(
    name: str, new_store: MakeStore, dict_test: type[unittest.TestCase]
) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011
        run_dict(name, new_store, dict_test)
