"""How a call of a function becomes a readable key: `weather.forecast(city='Rome', days=3)`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

from kvmap.argument_text import argument_text
from kvmap.keys import Key, shown

_LONGEST: Final = 400
"""Characters of the arguments that a key holds; longer ones end in their SHA-256."""


class ArgumentKeys:
    """The keys of one function's results.

    Raises TypeError where the function, or an option, can't make keys that tell calls apart.

    >>> def forecast(city, days=3): ...
    >>> keys = ArgumentKeys(forecast, version=2)
    >>> keys.make(("Rome",), {}).removeprefix(__name__)
    ".forecast@2(city='Rome', days=3)"
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        key: Callable[..., Key] | None = None,
        ignore: str | Iterable[str] = (),
        version: str | int | None = None,
    ) -> None:
        self.name = f"{getattr(function, '__module__', None)}.{_qualified_name(function)}"
        """The function's module and name; with these its keys begin, if it makes them itself."""
        self._ignored = names_of(ignore)
        self._make_key = key
        self._prefix = self.name
        if key is not None:
            self._check_key(key, version)
            return
        if self.name.endswith("<lambda>"):
            raise TypeError(f"{shown(function)} has no name for keys; use def, or memoize(key=...)")
        if version is not None:
            if isinstance(version, bool) or not isinstance(version, (str, int)):
                raise TypeError(f"version must be a str or an int, not {shown(version)}")
            self._prefix += f"@{version!r}"
        elif captured := _captured(function):
            raise TypeError(
                f"the result of {self.name} may depend on variables of the function around it "
                f"({', '.join(captured)}), which its keys do not hold: make them parameters, give "
                "memoize(key=...), or memoize(version=...) if they are always the same"
            )
        self._bound_to: tuple[Any, ...] = ()
        """The object of a bound method, which is its first argument."""
        if isinstance(function, MethodType):
            self._bound_to = (function.__self__,)
            function = function.__func__
        try:
            self._signature = inspect.signature(function)
        except ValueError:
            raise TypeError(
                f"{self.name} has no signature to make keys of; give memoize(key=...)"
            ) from None
        self._check_ignored()
        if self._bound_to:
            self._check_bound(version)

    def make(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Key:
        """The key for these arguments. O(size of the arguments).

        Raises TypeError for arguments that do not fit the function, or that have no stable text.
        """
        if self._make_key is not None:
            return self._make_key(*args, **kwargs)
        bound = self._signature.bind(*self._bound_to, *args, **kwargs)
        bound.apply_defaults()
        try:
            parts = [
                f"{name}={argument_text(value, name)}"
                for name, value in bound.arguments.items()
                if name not in self._ignored
            ]
        except RecursionError:
            raise ValueError(f"an argument of {self.name} is nested too deep for a key") from None
        text = ", ".join(parts)
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}… sha256={sha256(text.encode()).hexdigest()}"
        return f"{self._prefix}({text})"

    def owns(self, key: Key) -> bool:
        """Whether it is a key of this function, of whatever version.

        Raises TypeError where keys come from `key=`, which can't be told from others.
        """
        if self._make_key is not None:
            raise TypeError(f"{self.name} has keys that key= made; forget() them one by one")
        return isinstance(key, str) and key.startswith((self.name + "(", self.name + "@"))

    def _check_key(self, key: Callable[..., Key], version: object) -> None:
        if not callable(key) or inspect.iscoroutinefunction(key):
            raise TypeError(f"key must be a function of the arguments, not {shown(key)}")
        if version is not None or self._ignored:
            option = "ignore" if version is None else "version"
            raise TypeError(f"{option}= changes nothing beside key=, which makes the whole key")

    def _check_ignored(self) -> None:
        names = self._signature.parameters
        if unknown := [name for name in self._ignored if name not in names]:
            raise TypeError(
                f"ignore names {', '.join(map(repr, unknown))}, which is no parameter of "
                f"{self.name}({', '.join(names)})"
            )

    def _check_bound(self, version: object) -> None:
        """Refuse the method of an object that a key can't hold."""
        name = next(iter(self._signature.parameters), None)
        if name is None or name in self._ignored:
            return
        try:
            argument_text(self._bound_to[0], name)
        except TypeError as error:
            if version is None:
                error.add_note(
                    f"{self.name} is bound to that object; memoize(version=...) leaves it out"
                )
                raise
            self._ignored.append(name)


def _qualified_name(function: Callable[..., Any]) -> str:
    """The name within its module; `<lambda>` for what has none, such as a partial."""
    return str(getattr(function, "__qualname__", "<lambda>"))


def names_of(ignore: Any) -> list[str]:
    """The names that `ignore` gives, which may be one. Raises TypeError for anything else."""
    if not isinstance(ignore, Iterable):
        raise TypeError(f"ignore must be names of parameters, not {shown(ignore)}")
    names = [ignore] if isinstance(ignore, str) else list(ignore)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"ignore must be names of parameters, not {shown(name)}")
    return names


def _captured(function: Any) -> list[str]:
    """The variables of functions around it that may change what a function returns.

    Its own name, `__class__` (that is what `super()` reads) and modules are the same in every run.
    """
    found: list[str] = []
    while function is not None:
        if isinstance(function, MethodType):
            function = function.__func__
        if isinstance(function, FunctionType):
            cells = function.__closure__ or ()
            for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
                try:
                    value = cell.cell_contents
                    same = value is function or isinstance(value, ModuleType)
                except ValueError:  # empty until the decorator has returned
                    same = name == function.__name__
                if not same and name != "__class__":
                    found.append(name)
        function = getattr(function, "__wrapped__", None)
    return found
