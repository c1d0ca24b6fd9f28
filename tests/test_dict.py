"""Every method and operator of a dict, done to a map and to a dict, with the same outcome."""
# Lambdas are called before their loop goes on, and what reads oddly is what a dict allows.
# ruff: noqa: PLC3002, PLR0124, UP031

from __future__ import annotations

import copy
import json
import pickle
import tempfile
from collections import ChainMap, OrderedDict, UserDict
from collections.abc import Callable, ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from contextlib import nullcontext
from pathlib import Path
from types import GenericAlias, MappingProxyType
from typing import Any

import pytest
from helpers import AnyMap
from stores import Store

import kvmap

CONTENT = {"a": 1, 2: "two", (1, "b"): [3], None: None, 0.5: {"deep": [1.5, True]}}


@pytest.fixture
def d(store: Store) -> Iterator[AnyMap]:
    with store.open(shards=2) as d:
        d.update(CONTENT)
        yield d
        if not d.closed:
            store.check(d)


@pytest.fixture
def hashable(store: Store) -> Iterator[AnyMap]:
    with store.open(shards=2) as d:
        d.update(a=1, b=2, c=3)
        yield d
        store.check(d)


def outcome(call: Callable[[Any], Any], target: Any) -> tuple[Any, ...]:
    """What a call returns, exactly, or the type of what it raises, for a KeyError its arguments too."""
    try:
        found = call(target)
    except Exception as error:
        return type(error), error.args if type(error) is KeyError else None
    return type(found), repr(sorted(found, key=repr) if isinstance(found, set) else found)


def same(d: AnyMap, *calls: Callable[[Any], Any]) -> None:
    """Do the same to the map and to a dict of the same content; outcome and content must agree."""
    model = d.copy()
    for number, call in enumerate(calls):
        assert outcome(call, d) == outcome(call, model), f"call {number}"
        assert repr(list(d.items())) == repr(list(model.items())), f"call {number}"


def test_it_has_every_method_and_operator_of_a_dict() -> None:
    assert set(dir(dict)) - set(dir(kvmap.KVMap)) == set()
    for name in ("keys", "values", "items"):
        view = getattr(object.__new__(kvmap.KVMap), name)()
        assert set(dir(getattr({}, name)())) - set(dir(view)) == set(), name
    inherited = {
        name
        for name, method in vars(dict).items()
        if method is not getattr(object, name, None)
        and getattr(kvmap.KVMap, name) is getattr(object, name, None)
    }
    # `<` and its like are not defined for a dict either.
    assert inherited <= {
        *("__ge__", "__gt__", "__le__", "__lt__", "__ne__"),
        *("__getattribute__", "__new__", "__sizeof__"),
    }


def test_lookups(d: AnyMap) -> None:
    for key in (*CONTENT, True, 2.0, "absent", ("absent",), b"foreign", frozenset(), object):
        same(
            d,
            lambda d: d[key],
            lambda d: d.get(key),
            lambda d: d.get(key, "default"),
            lambda d: key in d,
            lambda d: key in d.keys(),
        )
    for key in ([], {}, set(), ("a", [])):
        same(
            d,
            lambda d: d[key],
            lambda d: d.get(key),
            lambda d: key in d,
            lambda d: key in d.keys(),
            lambda d: (key, 1) in d.items(),
        )
    same(d, len, bool, list, tuple, lambda d: d.get("a", default=1), lambda d: d.get())
    assert len(d) == 5
    d.clear()
    same(d, len, bool, list)


def test_the_key_of_a_key_error_is_the_one_that_was_asked_for(d: AnyMap) -> None:
    absent = ("absent", 1.0)
    for call in (
        lambda: d[absent],
        lambda: d.pop(absent),
        lambda: d.__delitem__(absent),
        lambda: d.expire(absent, 1),
        lambda: d.ttl(absent),
    ):
        with pytest.raises(KeyError) as caught:
            call()
        assert caught.type is KeyError
        (found,) = caught.value.args
        assert found is absent


def test_removals(d: AnyMap) -> None:
    same(
        d,
        lambda d: d.pop("a"),
        lambda d: d.pop("a"),
        lambda d: d.pop("a", None),
        lambda d: d.pop("a", [1]),
        lambda d: d.pop([], 1),
        lambda d: d.pop(),
        lambda d: d.pop("a", 1, 2),
        lambda d: d.pop("a", default=1),
        lambda d: d.__delitem__(2),
        lambda d: d.__delitem__(2),
        lambda d: d.__delitem__([]),
        lambda d: d.__delitem__(b"foreign"),
        lambda d: d.popitem(),
        lambda d: d.popitem(1),
        lambda d: d.__setitem__("new", 1),
        lambda d: d.popitem(),
        lambda d: d.popitem(),
        lambda d: d.popitem(),
        lambda d: d.popitem(),
        lambda d: d.clear(1),
    )
    with pytest.raises(KeyError) as caught:
        d.popitem()
    with pytest.raises(KeyError) as expected:
        {}.popitem()
    assert caught.value.args == expected.value.args
    d["a"] = 1
    same(d, lambda d: d.clear(), lambda d: d.clear(), lambda d: d.popitem())


def test_insertions(d: AnyMap) -> None:
    same(
        d,
        lambda d: d.setdefault("a", 9),
        lambda d: d.setdefault("new", 9),
        lambda d: d.setdefault("nil"),
        lambda d: d.setdefault([], 9),
        lambda d: d.setdefault(),
        lambda d: d.setdefault("a", 1, 2),
        lambda d: d.setdefault("a", default=1),
        lambda d: d.__setitem__("a", 2),
        lambda d: d.__setitem__([], 2),
        lambda d: d.__setitem__("a"),
        lambda d: d.pop("a"),
        lambda d: d.__setitem__("a", 3),
    )


class OnlyKeys:
    """What `update` takes without its being a mapping."""

    def keys(self) -> list[str]:
        return ["a", "k"]

    def __getitem__(self, key: str) -> str:
        return key * 2


def test_update_in_every_form(d: AnyMap) -> None:
    same(
        d,
        lambda d: d.update(),
        lambda d: d.update({}),
        lambda d: d.update({"a": 2, "z": 26}),
        lambda d: d.update([("a", 3), ["y", 25]]),
        lambda d: d.update(["xy", ("a", 4)]),
        lambda d: d.update(iter([("a", 5)])),
        lambda d: d.update((each, 6) for each in "abc"),
        lambda d: d.update(OnlyKeys()),
        lambda d: d.update(UserDict(a=7)),
        lambda d: d.update(OrderedDict(a=8)),
        lambda d: d.update(MappingProxyType({"a": 9})),
        lambda d: d.update(b=10, c=11),
        lambda d: d.update({"b": 12}, c=13),
        lambda d: d.update([("b", 14)], b=15),
        lambda d: d.update(self=1, other=2, key=3, keys=4, more=5),
        lambda d: d.update(d),
        lambda d: d.update(d.items()),
        lambda d: d.update(None),
        lambda d: d.update(1),
        lambda d: d.update([1]),
        lambda d: d.update({}, {}),
        lambda d: d.update([("a", 1, 2)]),
    )


def test_in_place_union(d: AnyMap, store: Store) -> None:
    def union(other: Any) -> Callable[[Any], Any]:
        def call(d: Any) -> None:
            before = d
            d |= other
            assert d is before

        return call

    with store.open("other") as other:
        other.update(a=16, other=[1])
        same(
            d,
            union({"a": 2, "z": 26}),
            union([("a", 3), ("y", 25)]),
            union(OnlyKeys()),
            union(UserDict(a=7)),
            union(other),
            union(""),
            union(None),
            union("bad"),
        )


def test_union_is_a_plain_dict(d: AnyMap, store: Store) -> None:
    with store.open("other") as other:
        other.update(a=16, other=[1])
        same(
            d,
            lambda d: d | {"a": 2, "z": 26},
            lambda d: {"z": 26, "a": 2} | d,
            lambda d: d | d,
            lambda d: d | {},
            lambda d: d | other,
            lambda d: other | d,
            lambda d: d | OrderedDict(z=1) == {**d, "z": 1},
            lambda d: d | [("a", 1)],
            lambda d: [("a", 1)] | d,
            lambda d: d | None,
            lambda d: None | d,
            lambda d: d.__or__([]),
            lambda d: d.__ror__([]),
        )


def test_equality(d: AnyMap, store: Store) -> None:
    shuffled = dict(reversed(CONTENT.items()))
    with store.open("other") as other:
        other.update(shuffled)
        for right in (CONTENT, shuffled, {}, {**CONTENT, "a": 2}, {**CONTENT, "z": 1}, other):
            same(d, lambda d: d == right, lambda d: d != right, lambda d: right == d)
        other["a"] = 2
        same(d, lambda d: d == other, lambda d: other != d)
    for right in (None, 1, [], list(CONTENT), list(CONTENT.items()), "a"):
        same(d, lambda d: d == right, lambda d: d != right, lambda d: right == d)
    same(d, lambda d: d == d, lambda d: d != d)
    same(d, lambda d: d < {}, lambda d: d >= d, hash)


def test_copies(d: AnyMap) -> None:
    found = d.copy()
    assert type(found) is dict
    assert found == CONTENT
    found[0.5]["deep"].append("changed")
    assert d[0.5] == {"deep": [1.5, True]}
    same(d, dict, lambda d: {**d}, lambda d: [*d], lambda d: dict(d.items()), lambda d: d.copy(1))
    same(d, lambda d: dict(zip(d.keys(), d.values(), strict=True)))
    for refused in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"d\.copy\(\)"):
            refused(d)


def test_it_goes_where_a_dict_goes(hashable: AnyMap) -> None:
    def matched(d: Any) -> Any:
        match d:
            case {"absent": _}:
                return "absent"
            case {"a": int(a), "b": 2, **rest}:
                return a, rest
        return None

    same(
        hashable,
        matched,
        lambda d: (lambda **names: names)(**d),
        lambda d: "{a}-{b}".format(**d),
        lambda d: "{a}-{c}".format_map(d),
        lambda d: "%(a)s" % d,
        lambda d: json.dumps(d.copy()),
        lambda d: sorted(d, key=d.get, reverse=True),
        lambda d: max(d, key=d.__getitem__),
        lambda d: eval("a + b", {}, d),
        lambda d: dict(ChainMap({"a": 5, "z": 1}, d)),
        lambda d: ChainMap({}, d)["b"],
        lambda d: UserDict(d),
        lambda d: [key for key, _ in zip(d, range(2), strict=False)],
    )
    chain = ChainMap(hashable, {"z": 26})
    chain["new"] = chain["z"]
    assert hashable["new"] == 26
    assert isinstance(hashable, MutableMapping)
    assert type(kvmap.KVMap[str, int]) is not type
    assert kvmap.KVMap[str, int].__origin__ is kvmap.KVMap  # type: ignore[attr-defined]
    assert kvmap.KVMap[str, int].__args__ == (str, int)  # type: ignore[attr-defined]
    assert type(dict[str, int]) is GenericAlias


def test_fromkeys_makes_a_new_map() -> None:
    for arguments in (("ab",), ("abca", 0), ([], 1), ([1, 1.0, True], [0]), ({"x": 1}, None)):
        with kvmap.KVMap.fromkeys(*arguments, path=":memory:") as made:
            assert repr(made.copy()) == repr(dict.fromkeys(*arguments))
            with made.fromkeys("z", path=":memory:") as other:
                assert other.copy() == {"z": None}
            assert repr(made.copy()) == repr(dict.fromkeys(*arguments))
    for wrong in (1, None, [[]]):
        with pytest.raises(TypeError):
            kvmap.KVMap.fromkeys(wrong, path=":memory:")
    with pytest.raises(TypeError):
        kvmap.KVMap.fromkeys()  # type: ignore[call-overload]


@pytest.mark.disk
def test_fromkeys_makes_a_new_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(path.parent))  # where a store without a path goes
    with kvmap.KVMap.fromkeys("ab", 1, path=path) as made:
        assert made.path == path
        assert made.copy() == {"a": 1, "b": 1}
        with made.fromkeys("z") as other:
            assert other.copy() == {"z": None}
            assert other.path.parent == path.parent
            assert other.path != path
    with pytest.raises(FileExistsError):
        kvmap.KVMap.fromkeys("ab", path=path)
    with kvmap.open(path) as d:
        assert d.copy() == {"a": 1, "b": 1}


# Views

SETS: list[Any] = [
    *(
        set(),
        {"a"},
        {"a", "b", "c"},
        {"a", "z"},
        frozenset("abcd"),
        {("a", 1)},
        {("a", 2), ("z", 1)},
    ),
    *({}.keys(), {"a": 1, "z": 2}.keys(), {"a": 1, "b": 2, "c": 3}.items()),
]
ITERABLES: list[Any] = ["ab", [("a", 1)], (), ["a", "a", "z"], {"a": 1}]
OPERATORS: list[Callable[[Any, Any], Any]] = [
    lambda view, other: view & other,
    lambda view, other: other & view,
    lambda view, other: view | other,
    lambda view, other: other | view,
    lambda view, other: view - other,
    lambda view, other: other - view,
    lambda view, other: view ^ other,
    lambda view, other: other ^ view,
    lambda view, other: view.isdisjoint(other),
]
COMPARISONS: list[Callable[[Any, Any], Any]] = [
    lambda view, other: view == other,
    lambda view, other: view != other,
    lambda view, other: view < other,
    lambda view, other: view <= other,
    lambda view, other: view > other,
    lambda view, other: view >= other,
    lambda view, other: other == view,
    lambda view, other: other <= view,
    lambda view, other: other > view,
]


@pytest.mark.parametrize("name", ["keys", "items"])
def test_views_are_sets(hashable: AnyMap, name: str) -> None:
    for operator in (*OPERATORS, *COMPARISONS):
        for other in (*SETS, *ITERABLES, None, 1):
            if other in (None, 1) and operator in OPERATORS[:-1]:
                continue  # a TypeError either way; a dict's view says it of iter()
            same(hashable, lambda d: operator(getattr(d, name)(), other))
        same(
            hashable,
            lambda d: operator(d.keys(), d.keys()),
            lambda d: operator(d.items(), d.items()),
            lambda d: operator(d.keys(), d.items()),
        )
    for wrong in (None, 1):
        for operator in OPERATORS:
            with pytest.raises(TypeError):
                operator(getattr(hashable, name)(), wrong)


def test_items_with_unhashable_values_fail_in_sets_as_a_dicts(d: AnyMap) -> None:
    for other in (set(), {("a", 1)}, [("a", 1)], {(2, "three")}):
        for operator in (*OPERATORS[:4], *OPERATORS[6:], *COMPARISONS):
            same(d, lambda d: operator(d.items(), other))


def test_views_are_live(d: AnyMap) -> None:
    model = d.copy()
    views = [(d.keys(), model.keys()), (d.values(), model.values()), (d.items(), model.items())]
    kinds = (KeysView, ValuesView, ItemsView)
    assert all(isinstance(view, kind) for (view, _), kind in zip(views, kinds, strict=True))
    for step in (
        lambda d: None,
        lambda d: d.__setitem__("new", [1]),
        lambda d: d.__setitem__("a", 0),
        lambda d: d.pop(2),
        lambda d: d.clear(),
    ):
        step(d), step(model)
        for view, expected in views:
            assert len(view) == len(expected)
            assert repr(list(view)) == repr(list(expected))
            assert repr(list(reversed(view))) == repr(list(reversed(expected)))
            assert view.mapping == expected.mapping
            assert type(view.mapping) is MappingProxyType
        assert repr(list(reversed(d))) == repr(list(reversed(model)))


def test_membership_in_views(d: AnyMap) -> None:
    for value in (
        1,
        True,
        1.0,
        "two",
        [3],
        (3,),
        None,
        {"deep": [1.5, 1]},
        {},
        float("nan"),
        object,
    ):
        same(d, lambda d: value in d.values())
    items = (("a", 1), ("a", 2), ("z", 1), ["a", 1], ("a",), ("a", 1, 2), "a", None, (2.0, "two"))
    for item in (*items, ((1, "b"), [3]), (None, None), (b"foreign", 1), ([], 1)):
        same(d, lambda d: item in d.items())


def test_views_refuse_what_a_dicts_refuse(hashable: AnyMap) -> None:
    for refused in (copy.copy, copy.deepcopy, pickle.dumps, hash, lambda view: view < view.mapping):
        for name in ("keys", "values", "items"):
            for target in (hashable, hashable.copy()):
                if refused is hash and name == "values":
                    continue  # a dict's values have an object's hash
                with pytest.raises(TypeError):
                    refused(getattr(target, name)())


def test_values_are_equal_to_nothing_but_themselves(hashable: AnyMap) -> None:
    values = hashable.values()
    assert values == values
    assert hashable.values() != hashable.values()
    for view in (hashable.keys(), hashable.items()):
        with pytest.raises(TypeError):
            hash(view)


# Iteration

ITERATORS: list[Callable[[Any], Iterator[Any]]] = [
    lambda d: iter(d),
    lambda d: iter(d.keys()),
    lambda d: iter(d.values()),
    lambda d: iter(d.items()),
    lambda d: reversed(d),
    lambda d: reversed(d.keys()),
    lambda d: reversed(d.values()),
    lambda d: reversed(d.items()),
]
CHANGES: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda d: None,
    "overwrites": lambda d: d.__setitem__("b", "over"),
    "overwrites the last": lambda d: d.__setitem__("c", "over"),
    "inserts": lambda d: d.__setitem__("new", 1),
    "deletes": lambda d: d.pop("b", None),
    "deletes and inserts another": lambda d: (d.pop("b"), d.__setitem__("new", 1)),
    "inserts and deletes it": lambda d: (d.__setitem__("new", 1), d.pop("new")),
    "updates": lambda d: d.update(a=0, b=0),
    "updates with a new key": lambda d: d.update(a=0, new=0),
    "clears": lambda d: d.clear(),
    "pops": lambda d: d.popitem(),
    "setdefault of what is there": lambda d: d.setdefault("a", 1),
    "setdefault of what is not": lambda d: d.setdefault("new", 1),
}


def refill(d: AnyMap, more: int) -> None:
    for key in list(d):
        del d[key]
    d.update(a=1, b=2)
    d.update({number: number for number in range(more)})
    d.update(c=3)


def drained(iterator: Iterator[Any], change: Callable[[], Any], after: int) -> list[Any]:
    """What an iterator yields, and how it ends, when the mapping changes after so many items."""
    found: list[Any] = []
    try:
        for _ in range(after):
            found += [next(iterator)]
        change()
        found += iterator
    except RuntimeError as error:
        found.append(RuntimeError)
        assert "during iteration" in str(error)
    return found


@pytest.mark.parametrize("more", [0, 15])
@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_while_iterating_is_met_as_by_a_dict(
    store: Store, change: str, in_transaction: bool, more: int
) -> None:
    work = CHANGES[change]
    with store.open(shards=2) as d:
        for number, iterate in enumerate(ITERATORS):
            for after in (0, 1, 2, 3, 5, 17, 18)[: 7 if more else 4]:
                refill(d, more)
                model = d.copy()
                expected = drained(iterate(model), lambda: work(model), after)
                with d.transaction() if in_transaction else nullcontext():
                    found = drained(iterate(d), lambda: work(d), after)
                if change == "deletes and inserts another":
                    # A dict yields what came behind the iterator, misses it or raises.
                    expected = [each for each in expected if each is not RuntimeError]
                    shorter, longer = sorted((found, expected), key=len)
                    assert longer[: len(shorter)] == shorter, (number, after)
                    assert len(longer) <= len(shorter) + 1, (number, after)
                else:
                    assert found == expected, (number, after)
                assert list(d.items()) == list(model.items())


def test_an_iterator_that_is_done_stays_done(hashable: AnyMap) -> None:
    for iterate in ITERATORS:
        iterator = iterate(hashable)
        assert iter(iterator) is iterator
        assert len(list(iterator)) == len(hashable)
        hashable[str(iterate)] = 1
        assert next(iterator, "done") == "done"


@pytest.mark.parametrize("after", [1, 2, 5])
def test_an_iterator_of_a_closed_map_says_so(store: Store, after: int) -> None:
    for iterate in ITERATORS:
        d = store.open("store", "n")
        d.update({number: number for number in range(20)})
        iterator = iterate(d)
        for _ in range(after):
            next(iterator)
        d.close()
        with pytest.raises(kvmap.StoreClosedError):
            next(iterator)
        with pytest.raises(kvmap.StoreClosedError):
            iterate(d)


@pytest.mark.parametrize("size", [10, 1000, 5000])
def test_an_iteration_decodes_few_values_ahead(store: Store, size: int) -> None:
    decoded: list[str] = []

    def decode(value: str) -> str:
        decoded.append(value)
        return value

    with store.open(decode=decode) as d:
        d.update({number: "x" * (size + number) for number in range(800)})
        for iterate in (ITERATORS[2], ITERATORS[3], ITERATORS[6], ITERATORS[7]):
            decoded.clear()
            iterator = iterate(d)
            assert not decoded
            for number, _ in enumerate(iterator, 1):
                assert len(decoded) <= number + 600
            assert len(decoded) == 800


@pytest.mark.parametrize("swept", [False, True])
def test_an_entry_that_expires_while_iterating_is_passed_over(store: Store, swept: bool) -> None:
    with store.open(shards=2) as d:
        for iterate in ITERATORS:
            for after in range(5):
                while d:
                    d.popitem()
                for key in "abcd":
                    d.set(key, key, ttl=1 if key in "bd" else None)
                iterator = iterate(d)
                before = list(iterate(d))
                found = [next(iterator) for _ in range(after)]
                store.clock.wait(2)
                if swept:
                    assert len(d) == 2
                found += iterator
                left = list(iterate(d))
                assert found == before[:after] + [each for each in before[after:] if each in left]


# Length and repr


def test_len_is_exact_with_deadlines(store: Store) -> None:
    with store.open() as d:
        for number in range(100):
            d.set(number, number, ttl=number + 1)
        for gone in range(101):
            assert len(d) == len(d.keys()) == len(d.values()) == len(d.items()) == 100 - gone
            assert bool(d) is (gone < 100)
            assert list(d) == list(range(gone, 100))
            store.clock.wait(1)


def test_repr_shows_a_few_entries(store: Store) -> None:
    with store.open() as d:
        name = repr(d.name)
        assert repr(d) == f"<KVMap {name} {{}}>"
        d.update(a=1, b=[2])
        assert str(d) == f"{d}" == repr(d) == f"<KVMap {name} {{'a': 1, 'b': [2]}}>"
        d.update({str(i): "x" * 1000 for i in range(1000)})
        assert repr(d).startswith(f"<KVMap {name} {{'a': 1, 'b': [2], '0': 'xxx")
        assert repr(d).endswith(", … 997 more}>")
        assert len(repr(d)) < len(name) + 500
        for view in (d.keys(), d.values(), d.items()):
            assert repr(d) in repr(view)
        with d.transaction():
            d["new"] = 1
            assert repr(d).startswith(f"<KVMap {name}")
    assert repr(d) == f"<KVMap {name}, closed>"
    for view in (d.keys(), d.values(), d.items()):
        assert repr(d) in repr(view)


def test_repr_in_a_block_shows_what_the_block_sees(store: Store) -> None:
    with store.open() as d:
        name = repr(d.name)
        d.update(a=1, b=2, c=3)
        with pytest.raises(ZeroDivisionError), d.transaction():
            d["b"] = 20
            del d["a"]
            d["d"] = 4
            assert repr(d) == f"<KVMap {name} {{'b': 20, 'c': 3, 'd': 4}}>"
            assert "<td>20</td>" in d._repr_html_()
            assert d._ipython_key_completions_() == ["b", "c", "d"]
            d["a"] = 5
            d.set("e", 6, ttl=5)
            assert repr(d) == f"<KVMap {name} {{'b': 20, 'c': 3, 'd': 4, 'a': 5, 'e': 6}}>"
            store.clock.wait(5)
            assert "'e'" not in repr(d)
            d.clear()
            assert repr(d) == f"<KVMap {name} {{}}>"
            d.update({number: number for number in range(9)})
            assert repr(d) == f"<KVMap {name} {{0: 0, 1: 1, 2: 2, 3: 3, 4: 4, … 4 more}}>"
            raise ZeroDivisionError
        assert repr(d) == f"<KVMap {name} {{'a': 1, 'b': 2, 'c': 3}}>"


def test_repr_never_fails() -> None:
    def decode(value: Any) -> Any:
        raise ZeroDivisionError

    half_made = object.__new__(kvmap.KVMap)
    assert repr(half_made) == "<KVMap, not open>"
    for view in (half_made.keys(), half_made.values(), half_made.items()):
        assert repr(half_made) in repr(view)
    with kvmap.open(":memory:", decode=decode) as d:
        d.update(a=1, b=2)
        assert repr(d) == "<KVMap ':memory:' {'a': <ZeroDivisionError>, 'b': <ZeroDivisionError>}>"
        assert "<td>&lt;ZeroDivisionError&gt;</td>" in d._repr_html_()


def test_repr_shows_nothing_that_has_expired(store: Store) -> None:
    with store.open() as d:
        d.set("token", "s3cr3t", ttl=5)
        d["a"] = 1
        assert "s3cr3t" in repr(d)
        store.clock.wait(5)
        for shown in (repr(d), d._repr_html_(), repr(d._ipython_key_completions_())):
            assert "s3cr3t" not in shown
            assert "token" not in shown
        assert len(d) == 1
        assert repr(d) == f"<KVMap {d.name!r} {{'a': 1}}>"


def test_notebooks_get_a_table_and_completions(store: Store) -> None:
    with store.open() as d:
        d.update({"<b>": "&", 1: 2, **{f"key {number}": number for number in range(10)}})
        len(d)
        table = d._repr_html_()
        assert "<td>&#x27;&lt;b&gt;&#x27;</td><td>&#x27;&amp;&#x27;</td>" in table
        assert "… 7 more" in table
        assert "12 entries" in table
        completions = d._ipython_key_completions_()
        assert completions == ["<b>", *[f"key {number}" for number in range(10)]]
    assert "closed" in d._repr_html_()


def test_a_closed_map_refuses_everything_that_needs_its_entries(d: AnyMap) -> None:
    keys, values, items = d.keys(), d.values(), d.items()
    d.close()
    for use in (
        lambda: d["a"],
        lambda: d.get("a"),
        lambda: "a" in d,
        lambda: len(d),
        lambda: bool(d),
        lambda: iter(d),
        lambda: reversed(d),
        lambda: d.copy(),
        lambda: d == {},
        lambda: d | {},
        lambda: d.__setitem__("a", 1),
        lambda: d.__delitem__("a"),
        lambda: d.pop("a", 1),
        lambda: d.popitem(),
        lambda: d.setdefault("a", 1),
        lambda: d.update(a=1),
        lambda: d.update(),
        lambda: d.clear(),
        lambda: "a" in keys,
        lambda: len(values),
        lambda: list(items),
    ):
        with pytest.raises(kvmap.StoreClosedError):
            use()
