"""A value in plain JSON types, part by part, and the refusal of a part that has none.

`kvmap.values` and `kvmap.extended` come here with what orjson can't write, or would write as
something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from kvmap.keys import shown

DEEPEST: Final = 254
"""Levels of lists and objects that a text may have: as many as orjson writes."""

SCALARS: Final = frozenset({str, int, bool, type(None)})
"""Types whose values come back equal once orjson has written them; a float may be NaN."""

LEAST: Final = -(2**63)
LARGEST: Final = 2**64 - 1


class Misfit(Exception):
    """A part of a value that can't be kept. Its place is put together on the way out."""

    def __init__(self, kind: type[Exception], reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self._places: list[str] = []

    def inside(self, place: str) -> None:
        """Name the next outer part, such as `['tags']` or `[2]`."""
        self._places.append(place)

    def error(self) -> Exception:
        """The error for the caller: where the part stands, and why it can't be kept."""
        place = "value" + "".join(reversed(self._places))
        if len(place) > 200:
            place = place[:100] + "…" + place[-80:]
        return self.kind(f"{place}: {self.reason}")


@dataclass(frozen=True, slots=True)
class Form:
    """What a codec makes of the parts that JSON has no text for.

    Both functions get the part and the number of levels around it.
    """

    other: Callable[[Any, int], Any]
    """For a tuple, an int beyond 64 bits, a float that is not finite, and any other type."""
    object: Callable[[dict[Any, Any], int], Any]
    """For a dict, as a plain one."""


def plain(value: Any, depth: int, form: Form) -> Any:
    """The value in plain types: subclasses of dict, list, str, int and float that are equal to them.

    `depth` is the number of levels around the value. Raises Misfit. O(size of the value).
    """
    kind: type[Any] = type(value)
    same = _without_subclass(value)
    if kind is not type(same) and not _is_equal(value, same):
        raise Misfit(
            TypeError,
            f"{kind.__name__} is not equal to the plain {type(same).__name__} that JSON returns, "
            "or has another hash; convert it first",
        )
    kind = type(same)
    if kind is str:
        if not same.isascii():
            try:
                same.encode()
            except UnicodeEncodeError as error:
                raise Misfit(ValueError, f"the str is not valid UTF-8: {error}") from None
        return same
    if kind is int:
        return same if LEAST <= same <= LARGEST else form.other(same, depth)
    if kind is float:
        return same if same - same == 0.0 else form.other(same, depth)
    if kind is dict:
        return form.object(same, depth)
    if kind is list:
        return parts(same, depth, form)
    return same if same is None or kind is bool else form.other(same, depth)


def parts(values: Iterable[Any], depth: int, form: Form) -> list[Any]:
    """The parts of an array, each as `plain` returns it. `depth`: the levels around the array."""
    check_depth(depth + 1)
    found: list[Any] = []
    try:
        for part in values:
            found.append(plain(part, depth + 1, form))  # noqa: PERF401 - len(found) is the place
    except Misfit as misfit:
        misfit.inside(f"[{len(found)}]")
        raise
    return found


def members(found: dict[Any, Any], depth: int, form: Form) -> dict[str, Any]:
    """The members of an object, each as `plain` returns it. Raises Misfit where a key is no str."""
    check_depth(depth + 1)
    same: dict[str, Any] = {}
    for key, part in found.items():
        name = key if type(key) is str and key.isascii() else _name(key, depth, form)
        kind = type(part)
        if (kind is str and part.isascii()) or kind is bool or part is None:
            same[name] = part  # as `plain` would return it, which is called less often so
            continue
        try:
            same[name] = plain(part, depth + 1, form)
        except Misfit as misfit:
            misfit.inside(f"[{shown(key)}]")
            raise
    return same


def check_depth(levels: int) -> None:
    """Raise Misfit unless a text may have so many levels."""
    if levels > DEEPEST:
        raise Misfit(ValueError, f"nested deeper than {DEEPEST} levels, or in itself")


def _name(key: Any, depth: int, form: Form) -> str:
    if not isinstance(key, str):
        raise Misfit(
            TypeError,
            f"the key {shown(key)} is of type {type(key).__name__}; a JSON object has only str "
            'keys; codec="extended" keeps others',
        )
    try:
        return str(plain(key, depth, form))
    except Misfit as misfit:
        misfit.inside(f", its key {shown(key)}")
        raise


def _without_subclass(value: Any) -> Any:
    """The same str, int, float, dict or list as the plain type; the value itself if it is none."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return value if type(value) is bool else int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, dict):
        found: dict[Any, Any] = value
        return found if type(found) is dict else dict(dict.items(found))
    if isinstance(value, list):
        items: list[Any] = value
        return items if type(items) is list else list(list.__iter__(items))
    return value


def _is_equal(value: Any, same: Any) -> bool:
    """Whether a value of a subclass can stand for its plain form, and the other way round."""
    if type(same) is float and math.isnan(same):
        return True
    if not bool(value == same):
        return False
    return isinstance(value, (dict, list)) or hash(value) == hash(same)
