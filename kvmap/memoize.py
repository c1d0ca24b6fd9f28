"""A function's results, kept in a map under a readable key."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import update_wrapper
from hashlib import sha256
from pathlib import PurePath
from threading import Lock, RLock
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload
from uuid import UUID
from weakref import WeakValueDictionary

from kvmap.keys import Key, shown

if TYPE_CHECKING:
    from kvmap.mapping import KVMap

P = ParamSpec("P")
R = TypeVar("R")

_MISSING: Any = object()
_LONGEST = 400
"""Characters of a key's arguments that are written out; longer ones end in a SHA-256."""

# What tells all about itself in its repr, and the same in every run.
_TOLD = (
    *(str, int, float, bool, complex, bytes, type(None), type(Ellipsis)),
    *(date, datetime, time, timedelta, timezone, Decimal, Fraction, UUID),
)


class Memoize:
    """What `KVMap.memoize` returns: it makes a `Memoized` function of a function."""

    def __init__(
        self,
        d: KVMap[Any],
        options: dict[str, Any],
        key: Callable[..., Key] | None,
        ignore: Iterable[str],
    ) -> None:
        self._d, self._options, self._key = d, options, key
        self._ignore = {ignore} if isinstance(ignore, str) else set(ignore)

    def __call__(self, function: Callable[P, R]) -> Memoized[P, R]:
        return Memoized(self._d, function, self._options, self._key, self._ignore)


class Memoized(Generic[P, R]):
    """A function whose results are kept in a map."""

    __wrapped__: Callable[P, R]

    def __init__(
        self,
        d: KVMap[Any],
        function: Callable[P, R],
        options: dict[str, Any],
        key: Callable[..., Key] | None,
        ignore: set[str],
    ) -> None:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function!r} is async; memoize what it awaits")
        name = getattr(function, "__qualname__", "<lambda>")  # a partial or an object has none
        if key is None and name.endswith("<lambda>"):
            raise TypeError(
                f"{function!r} has no name to make keys of; use def, or memoize(key=...)"
            )
        update_wrapper(cast("Callable[P, R]", self), function)
        self._d, self._options, self._ignore = d, options, ignore
        self._make_key = key
        self._signature = inspect.signature(function)
        if unknown := ignore - set(self._signature.parameters):
            raise TypeError(f"ignore names {min(unknown)!r}, which is no parameter of {function!r}")
        self._name = f"{function.__module__}.{name}"
        self._guard = Lock()
        self._turns: WeakValueDictionary[Key, Any] = WeakValueDictionary()
        """A lock for each key whose result is being computed; it goes with its last user.

        It lets in its own thread again: a function may call itself with an ignored argument changed.
        """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        key = self.key(*args, **kwargs)
        found = self._d.get(key, _MISSING)
        if found is not _MISSING:
            return cast(R, found)
        with self._turn(key):
            found = self._d.get(key, _MISSING)
            if found is not _MISSING:
                return cast(R, found)
            value = self.__wrapped__(*args, **kwargs)
            try:
                self._d.set(key, value, **self._options)
            except (TypeError, ValueError) as error:
                error.add_note(f"that is the result of {shown(key)}, which was to be kept")
                raise
            return cast(R, self._d.get(key, value))

    def key(self, *args: P.args, **kwargs: P.kwargs) -> Key:
        """The key under which the result for these arguments is kept."""
        if self._make_key is not None:
            return self._make_key(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        told = [
            f"{name}={_told(value, name)}"
            for name, value in bound.arguments.items()
            if name not in self._ignore
        ]
        text = ", ".join(told)
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}… sha256={sha256(text.encode()).hexdigest()}"
        return f"{self._name}({text})"

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Drop the result for these arguments; tell whether there was one."""
        return self._d.pop(self.key(*args, **kwargs), _MISSING) is not _MISSING

    def forget_all(self) -> int:
        """Drop all results of the function and return how many there were. O(keys of the map).

        Raises TypeError for a function with keys of its own making: these can't be told from others.
        """
        if self._make_key is not None:
            raise TypeError(f"{self._name} has keys that key= made; forget() them one by one")
        beginning, count = self._name + "(", 0
        for key in list(self._d):
            if isinstance(key, str) and key.startswith(beginning):
                count += self._d.pop(key, _MISSING) is not _MISSING
        return count

    @overload
    def __get__(self, instance: None, owner: type, /) -> Memoized[P, R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> BoundMemoized[R]: ...
    def __get__(self, instance: object, owner: type | None = None, /) -> Any:
        return self if instance is None else BoundMemoized(self, instance)

    def __repr__(self) -> str:
        return f"<memoized {self._name}>"

    def _turn(self, key: Key) -> Any:
        # Who holds the map's lock, in a transaction or an edit, must not wait for a thread that may
        # be waiting for that lock: it computes the result for itself.
        if self._d._is_locked_here():
            return nullcontext()
        with self._guard:
            turn = self._turns.get(key)
            if turn is None:
                turn = self._turns[key] = RLock()
        return turn


class BoundMemoized(Generic[R]):
    """A memoized method of one object: as the function, with the object as first argument."""

    def __init__(self, function: Memoized[..., R], instance: object) -> None:
        self.__wrapped__ = function
        self.__self__ = instance

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        return self.__wrapped__(self.__self__, *args, **kwargs)

    def key(self, *args: Any, **kwargs: Any) -> Key:
        """The key under which the result for these arguments is kept."""
        return self.__wrapped__.key(self.__self__, *args, **kwargs)

    def forget(self, *args: Any, **kwargs: Any) -> bool:
        """Drop the result for these arguments; tell whether there was one."""
        return self.__wrapped__.forget(self.__self__, *args, **kwargs)

    def forget_all(self) -> int:
        """Drop all results of the method, for all objects, and return how many there were."""
        return self.__wrapped__.forget_all()


def _told(value: Any, where: str) -> str:
    """The value as text that no other value has, the same in every run. Raises TypeError."""
    kind: type[Any] = type(value)
    if kind in _TOLD or isinstance(value, PurePath):
        return repr(value)
    if kind is tuple or kind is list:
        parts: list[Any] = list(value)
        told = ", ".join([_told(part, f"{where}[{i}]") for i, part in enumerate(parts)])
        if kind is list:
            return f"[{told}]"
        return f"({told},)" if len(parts) == 1 else f"({told})"
    if kind is dict:
        items: dict[Any, Any] = value
        entries = [f"{_told(k, where)}: {_told(v, f'{where}[{k!r}]')}" for k, v in items.items()]
        return "{" + ", ".join(entries) + "}"
    if kind is set or kind is frozenset:
        several: set[Any] = value
        return f"{kind.__name__}({sorted([_told(part, where) for part in several])})"
    if isinstance(value, Enum):
        return f"{kind.__qualname__}({_told(value.value, where)})"
    if (
        isinstance(value, (type, FunctionType, BuiltinFunctionType))
        and "<" not in value.__qualname__
    ):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, MethodType):
        return f"{_told(value.__self__, where)}.{value.__name__}"
    if dataclasses.is_dataclass(value):
        fields = [each.name for each in dataclasses.fields(value) if each.compare]
        told = ", ".join([f"{f}={_told(getattr(value, f), f'{where}.{f}')}" for f in fields])
        return f"{kind.__qualname__}({told})"
    raise TypeError(
        f"argument {where}: {kind.__name__} can't be told in a key; "
        "name the parameter in memoize(ignore=...), or make the key with memoize(key=...)"
    )
