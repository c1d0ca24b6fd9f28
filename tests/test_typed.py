"""type=: values of one type, in and out, by msgspec and pydantic."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NotRequired, TypedDict, TypeVar
from uuid import UUID

import attrs
import json_values
import msgspec
import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import Store

import kvmap
from kvmap.typed import functions

T = TypeVar("T")


class Colour(Enum):
    RED = "red"


@dataclass
class Address:
    city: str


@dataclass
class User:
    name: str
    visits: int = 0
    address: Address | None = None
    tags: list[str] = field(default_factory=list)
    score: float = 0.0
    extra: Any = None


@dataclass
class Admin(User):
    pass


@dataclass(eq=False)
class Session:
    user: Address
    numbers: list[int]


@dataclass
class Event:
    at: datetime
    day: date
    id: UUID
    price: Decimal
    data: bytes
    colours: set[Colour]
    names: dict[int, tuple[str, ...]]


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Order(msgspec.Struct, tag="order"):
    id: int
    items: frozenset[str]


class Refund(msgspec.Struct, tag="refund"):
    id: int


@attrs.define
class Point:
    x: int
    y: list[int] = attrs.field(factory=list)


class Model(pydantic.BaseModel):
    name: str
    visits: int = 0
    at: datetime | None = None
    children: "list[Model]" = []
    kind: str = pydantic.Field("a", alias="Kind")

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def shouted(self) -> str:
        return self.name.upper()


class Strict(pydantic.BaseModel, extra="forbid"):
    model: Model
    secret: str = pydantic.Field("", exclude=True)


class Box(pydantic.BaseModel, Generic[T]):
    content: T


@dataclass
class Family:
    parents: list[Model]


ADA = User("Ada", 1, Address("London"), ["a"], 0.5, {"x": [None, True]})
EVENT = Event(
    datetime(2026, 1, 2, tzinfo=UTC),
    date(2026, 1, 2),
    UUID(int=5),
    Decimal("1.50"),
    b"\0\xff",
    {Colour.RED},
    {1: ("a", "b"), 2: ()},
)

FIT: list[tuple[Any, Any]] = [
    (User, ADA),
    (User, User("Bob")),
    (User, User("Bob", score=1)),
    (Event, EVENT),
    (Movie, {"title": "Alien"}),
    (Movie, {"title": "Alien", "year": 1979}),
    (Order, Order(1, frozenset({"tea"}))),
    (Order | Refund, Refund(2)),
    (Point, Point(1, [2])),
    (Model, Model(name="Ada", at=datetime(2026, 1, 2), children=[Model(name="Bob")])),
    (Model, Model(name="Ada", Kind="b")),
    (Strict, Strict(model=Model(name="Ada"))),
    (Box[int], Box[int](content=5)),
    (Family, Family([Model(name="Ada")])),
    (list[User], [ADA, User("Bob")]),
    (dict[str, User], {"ada": ADA}),
    (dict[str, Model], {"ada": Model(name="Ada")}),
    (User | None, None),
    (User | Address, Address("London")),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (bytes, b"\0"),
    (datetime, datetime(2026, 1, 2)),
    (Literal["a", "b"], "b"),
    (Annotated[int, msgspec.Meta(ge=0)], 5),
    (int, 2**64 - 1),
    (int, -(2**63)),
    (str, "12345678901234567890"),
    (Any, [1, {"a": None}]),
]


@pytest.mark.parametrize(("kind", "value"), FIT, ids=lambda part: "")
def test_a_value_of_the_type_comes_back_equal(kind: Any, value: Any) -> None:
    encode, decode = functions(kind)
    text = encode(value)
    assert (decode(text), type(decode(text))) == (value, type(value))
    assert b"\n" not in text
    orjson.loads(text)


def test_an_object_that_is_only_equal_to_itself_is_looked_into() -> None:
    encode, decode = functions(Session)
    found = decode(encode(Session(Address("London"), [1, 2])))
    assert (type(found), found.user, found.numbers) == (Session, Address("London"), [1, 2])
    with pytest.raises(TypeError, match=r"^\$\.numbers: expected `list`, got `tuple`"):
        encode(Session(Address("London"), (1, 2)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^\$\.user: expected `Address`, got `dict`"):
        encode(Session({"city": "London"}, []))  # type: ignore[arg-type]


class Sub(str):
    pass


UNFIT: list[tuple[Any, Any, type[Exception], str]] = [
    (User, User("Ada", "one"), TypeError, "$.visits: expected `int`, got `str`"),  # type: ignore[arg-type]
    (User, User("Ada", True), TypeError, "$.visits: expected `int`, got `bool`"),
    (User, User("Ada", tags=("a",)), TypeError, "$.tags: expected `list`, got `tuple`"),  # type: ignore[arg-type]
    (User, User("Ada", tags=["a", 1]), TypeError, "$.tags[1]: expected `str`, got `int`"),  # type: ignore[list-item]
    (User, User("Ada", address={"city": "x"}), TypeError, "$.address: expected `Address`, got"),  # type: ignore[arg-type]
    (User, User("Ada", address=Address(5)), TypeError, "$.address.city: expected `str`"),  # type: ignore[arg-type]
    (User, User("Ada", extra={1, 2}), TypeError, "$.extra: expected `list`, got `set`"),
    (User, User("Ada", extra={"a": [b"x"]}), TypeError, "$.extra['a'][0]: expected `str`, got"),
    (User, User("Ada", extra=[1j]), TypeError, "$.extra[0]: 1j can't be written"),
    (User, User("Ada", score=math.nan), ValueError, "$.score: nan is not JSON"),
    (User, User("Ada", extra=[math.inf]), ValueError, "$.extra[0]: inf is not JSON"),
    (User, User("Ada", extra={"a": 2**64}), ValueError, "$.extra['a']: 18446744073709551616 does"),
    (User, User("Ada", -(2**63) - 1), ValueError, "$.visits: -9223372036854775809 does not fit"),
    (User, User("Ada", extra={1: 2}), TypeError, "$.extra[1]: would be lost"),
    (User, User("\ud800"), ValueError, "$.name: '\\ud800' can't be written"),
    (User, Admin("Ada"), TypeError, "$: expected `User`, got `Admin`"),
    (User, {"name": "Ada"}, TypeError, "$: expected `User`, got `dict`"),
    (User, None, TypeError, "$: expected `object`, got `null`"),
    (Movie, {"title": "Alien", "director": "Scott"}, TypeError, "$['director']: would be lost"),
    (Movie, {"title": 5}, TypeError, "$.title: expected `str`, got `int`"),
    (Movie, {}, TypeError, "$: object missing required field `title`"),
    (Order, Refund(1), TypeError, "$.type: invalid value 'refund'"),
    (Order | Refund, Point(1), TypeError, "$: object missing required field `type`"),
    (Point, Point("1"), TypeError, "$.x: expected `int`, got `str`"),  # type: ignore[arg-type]
    (Point, Point(1, (2,)), TypeError, "$.y: expected `list`, got `tuple`"),  # type: ignore[arg-type]
    (Order, Order(1, ["a"]), TypeError, "$.items: expected `frozenset`, got `list`"),  # type: ignore[arg-type]
    (Model, Model.model_construct(name=5), TypeError, "$.name: input should be a valid string"),  # type: ignore[arg-type]
    (Model, Model.model_construct(name="a", visits="1"), TypeError, "$.visits: expected `int`"),  # type: ignore[arg-type]
    (Model, {"name": "Ada"}, TypeError, "$: expected `Model`, got `dict`"),
    (Model, User("Ada"), TypeError, "$: "),
    (Strict, Strict(model=Model(name="a"), secret="x"), TypeError, "$.secret: 'x' would come back"),
    (list[User], [User("Ada"), 5], TypeError, "$[1]: expected `object`, got `int`"),
    (list[User], [User("Ada"), User(5)], TypeError, "$[1].name: expected `str`"),  # type: ignore[arg-type]
    (dict[str, User], {"ada": {"name": "Ada"}}, TypeError, "$['ada']: expected `User`, got"),
    (tuple[int, str], [1, "a"], TypeError, "$: expected `tuple`, got `list`"),
    (set[int], {2**70}, ValueError, "$: 1180591620717411303424 does not fit in 64 bits"),
    (float, math.nan, ValueError, "$: nan is not JSON"),
    (Literal["a"], "b", TypeError, "$: invalid enum value 'b'"),
    (int | str, 1.5, TypeError, "$: expected `int | str`, got `float`"),
]


@pytest.mark.parametrize(("kind", "value", "error", "message"), UNFIT, ids=lambda part: "")
def test_what_does_not_fit_is_refused_with_its_place(
    kind: Any, value: Any, error: type[Exception], message: str
) -> None:
    encode, _decode = functions(kind)
    with pytest.raises(error) as caught:
        encode(value)
    assert str(caught.value).startswith(message)


def test_a_text_is_nested_254_levels_at_most() -> None:
    encode, decode = functions(User)
    for extra in (json_values.nested(253, 1), [[[]]] * 300):
        assert decode(encode(User("Ada", extra=extra))) == User("Ada", extra=extra)
    for levels in (254, 255, 800):
        with pytest.raises(ValueError, match="nested deeper than 254 levels"):
            encode(User("Ada", extra=json_values.nested(levels, 1)))


def test_what_is_inside_itself_is_refused() -> None:
    value = User("Ada")
    value.extra = [value]
    with pytest.raises(ValueError, match="nested too deep, or in itself"):
        functions(User)[0](value)


@given(st.builds(User, st.text(), st.integers(), st.none(), st.lists(st.text()), st.floats()))
def test_any_value_comes_back_equal_or_is_refused(user: User) -> None:
    encode, decode = functions(User)
    try:
        text = encode(user)
    except ValueError:
        fits = -(2**63) <= user.visits < 2**64 and math.isfinite(user.score)
        assert not fits or any("\ud800" <= c < "\ue000" for c in user.name + "".join(user.tags))
    else:
        assert decode(text) == user
        assert orjson.loads(text)["visits"] == user.visits


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (User, '{"name":5}', r"^\$\.name: expected `str`, got `int`; what is stored does not fit"),
        (User, '{"name":"a","tags":["a",1]}', r"^\$\.tags\[1\]: expected `str`, got `int`; "),
        (User, "null", r"^\$: expected `object`, got `null`; what is stored does not fit User$"),
        (Order | Refund, '{"id":1,"items":[]}', r"^\$: object missing required field `type`"),
        (Model, '{"name":"a","children":[{}]}', r"^\$\.children\[0\]\.name: field required; "),
        (list[Model], '[{"name":5}]', r"^\$\[0\]\.name: input should be a valid string; "),
    ],
    ids=lambda part: "",
)
def test_a_stored_text_that_does_not_fit_is_refused_with_its_place(
    kind: Any, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        functions(kind)[1](text.encode())
    assert not isinstance(caught.value, orjson.JSONDecodeError)


@pytest.mark.parametrize("kind", [User, Model, int])
def test_what_is_not_json_is_another_error(kind: Any) -> None:
    for text in (b"", b"[1", b'{"name":}', b"\xff", b"[" * 100_000):
        with pytest.raises(orjson.JSONDecodeError):
            functions(kind)[1](text)


def test_a_field_that_was_added_later_has_its_default() -> None:
    assert functions(User)[1](b'{"name":"Ada","gone":1}') == User("Ada")
    assert functions(Model)[1](b'{"name":"Ada","gone":1}') == Model(name="Ada")


# Which library


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


def test_pydantic_stands_in_for_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "msgspec")
    for kind, value in [(User, ADA), (list[User], [ADA]), (User | Address, ADA)]:
        encode, decode = functions(kind)
        assert decode(encode(value)) == value
    with pytest.raises(TypeError, match=r"^\$\.visits: .*; the value does not fit User"):
        functions(User)[0](User("Ada", "one"))  # type: ignore[arg-type]


def test_msgspec_alone_is_enough_for_what_is_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pydantic")
    encode, decode = functions(User)
    assert decode(encode(ADA)) == ADA
    with pytest.raises(ImportError, match="type=Model needs .* pydantic for its models"):
        functions(Model)


def test_without_either_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    without(monkeypatch, "msgspec", "pydantic")
    with pytest.raises(ImportError, match=r"type=User needs msgspec \(pip install msgspec\)"):
        kvmap.open(":memory:", type=User)


class Node:
    pass


@dataclass
class Unfinished:
    inner: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("User", "type must be a type, such as a dataclass or list.User., not 'User'"),
        (Order | Model, "type=.* has no JSON that could be read again; pydantic: "),
        (Unfinished, "type=Unfinished has no JSON that could be read again; msgspec: .*Nowhere"),
    ],
    ids=["str", "union of both libraries", "unfinished"],
)
def test_what_is_no_type_is_refused_at_once(kind: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        functions(kind)


def test_a_type_that_no_library_can_write_is_refused_at_the_first_value() -> None:
    with pytest.raises(TypeError, match=r"^\$: <.*Node object .*> can't be written: "):
        functions(Node)[0](Node())


# Through a map


@pytest.mark.parametrize(
    "write",
    [
        lambda d, value: d.__setitem__("x", value),
        lambda d, value: d.set("x", value, ttl=60),
        lambda d, value: d.set_many({"y": ADA, "x": value}),
        lambda d, value: d.create("x", value),
        lambda d, value: d.setdefault("x", value),
        lambda d, value: d.update(y=ADA, x=value),
    ],
    ids=["assignment", "set", "set_many", "create", "setdefault", "update"],
)
def test_every_way_into_a_map_checks_the_type(
    store: Store, write: Callable[[kvmap.KVMap[str, Any], Any], None]
) -> None:
    with store.open(type=User) as d:
        with pytest.raises(TypeError, match=r"^\$\.visits: expected `int`, got `str`"):
            write(d, User("Bob", "one"))  # type: ignore[arg-type]
        assert dict(d) == {}
        write(d, User("Bob"))
        assert d["x"] == d.get("x") == d.copy()["x"] == User("Bob")
        assert User("Bob") in d.values()


@pytest.mark.parametrize(
    ("kind", "value"),
    [(User, ADA), (Movie, {"title": "Alien"}), (Point, Point(1)), (Model, Model(name="Ada"))],
    ids=["dataclass", "TypedDict", "attrs", "pydantic"],
)
def test_values_of_a_type_are_there_after_a_reopen(kept: Store, kind: Any, value: Any) -> None:
    with kept.open(type=kind) as d:
        d["x"] = value
    with kept.open(type=kind) as d:
        assert d["x"] == value
        assert d.pop("x") == value


def test_an_edit_changes_an_object_in_place(store: Store) -> None:
    with store.open(type=User) as d:
        d["ada"] = User("Ada")
        with d.edit("ada") as user:
            user.tags.append("a")
        assert d["ada"] == User("Ada", tags=["a"])
        with pytest.raises(TypeError, match=r"^\$\.name"), d.edit("ada") as user:
            user.name = 5
        assert d["ada"] == User("Ada", tags=["a"])


def test_what_does_not_fit_is_named_and_not_lost(kept: Store) -> None:
    with kept.open() as d:
        d.update(old={"name": 5}, good={"name": "Ada"})
    with kept.open(type=User) as d:
        for read in (lambda: d["old"], lambda: list(d.values()), lambda: d.pop("old")):
            with pytest.raises(ValueError, match=r"^\$\.name: expected `str`, got `int`"):
                read()
        assert d["good"] == User("Ada")
        assert list(d) == ["old", "good"]
