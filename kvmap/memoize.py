"""A function's results, kept in a map under a readable key. `KVMap.memoize` is the way to it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from functools import update_wrapper
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from kvmap.argument_keys import ArgumentKeys, names_of
from kvmap.kept_results import CacheInfo, KeptResults, ResultMap
from kvmap.keys import Key, shown
from kvmap.settings import DEFAULT, Default, Seconds
from kvmap.single_flight import MISSING, SingleFlight
from kvmap.wait_graph import Node

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")


class Memoize:
    """The decorator that `KVMap.memoize` returns; its options are described there."""

    def __init__(
        self,
        d: ResultMap,
        *,
        ttl: Seconds | Default = DEFAULT,
        key: Callable[..., Key] | None = None,
        ignore: str | Iterable[str] = (),
        version: str | int | None = None,
        type: Any = None,
    ) -> None:
        self._results = KeptResults(d, ttl, type)
        self._key, self._version = key, version
        self._ignore = names_of(ignore)

    def __call__(self, function: Callable[P, R]) -> Memoized[P, R]:
        """The function with its results kept. Raises TypeError for what can't be memoized."""
        _check(function)
        keys = ArgumentKeys(function, key=self._key, ignore=self._ignore, version=self._version)
        kind: Any = AsyncMemoized if _is_async(function) else Memoized
        return cast("Memoized[P, R]", kind(function, keys, self._results.fresh()))


class Memoized(Generic[P, R]):
    """A function whose results are kept in a map.

    Its class for an `async def` is `AsyncMemoized`, whose calls and `refresh` are awaited.

    >>> import kvmap
    >>> with kvmap.open(":memory:") as d:
    ...
    ...     @d.memoize
    ...     def square(n):
    ...         return n * n
    ...
    ...     square(3), square(3), square.cache_info()
    (9, 9, CacheInfo(hits=1, misses=1, unkept=0))
    """

    __wrapped__: Callable[P, R]
    """The function itself: a call of it neither reads nor writes the map."""

    def __init__(self, function: Callable[P, R], keys: ArgumentKeys, results: KeptResults) -> None:
        update_wrapper(cast("Callable[P, R]", self), function)
        self._keys, self._results = keys, results
        self._flights: SingleFlight[Any] = SingleFlight()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The kept result for these arguments, or the function's, which is then kept.

        A hit costs one read of the map. Raises what the function raises, and TypeError or
        ValueError for a result that the map can't hold.
        """
        key = self._keys.make(args, kwargs)
        found = self._results.get(key)
        if found is not MISSING:
            self._results.count_hit()
            return cast(R, found)
        with self._flights.turn(key, alone=self._results.is_in_block()) as turn:
            if turn.leads:
                turn.value = self._results.get(key)  # another may just have kept it
                if turn.value is MISSING:
                    self._results.count_miss()
                    value = _checked(self, self.__wrapped__(*args, **kwargs))
                    turn.value = self._results.keep(key, value, turn.node)
                    return cast(R, turn.value)
        self._results.count_hit()
        return cast(R, turn.value if turn.leads else self._results.own(key, turn.value))

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function whatever is kept, and keep and return its result.

        A computation for the same arguments that is under way is not waited for, nor kept. Where
        the map has no room for the result, what it held before is forgotten. Raises as a call does,
        and ReadOnlyError where the map can't be written.

        >>> import kvmap
        >>> rates = {"EUR": 1.0}
        >>> with kvmap.open(":memory:") as d:
        ...
        ...     @d.memoize
        ...     def rate(currency):
        ...         return rates[currency]
        ...
        ...     rate("EUR")
        ...     rates["EUR"] = 1.1
        ...     rate("EUR"), rate.refresh("EUR"), rate("EUR")
        1.0
        (1.0, 1.1, 1.1)
        """
        key = self._keys.make(args, kwargs)
        with self._flights.turn(key, anew=True, alone=self._results.is_in_block()) as turn:
            self._results.count_miss()
            value = _checked(self, self.__wrapped__(*args, **kwargs))
            turn.value = self._results.keep(key, value, turn.node, replace=True)
        return cast(R, turn.value)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> Key:
        """The key under which the result for these arguments is kept.

        Raises TypeError where the arguments do not fit, or one has no stable text.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...
        ...     @d.memoize(version=2)
        ...     def forecast(city, days=3): ...
        ...
        ...     forecast.key("Rome").removeprefix(__name__)
        ".forecast@2(city='Rome', days=3)"
        """
        return self._keys.make(args, kwargs)

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result for these arguments; return whether there was one. One write.

        The result of a computation under way is not kept.
        """
        key = self._keys.make(args, kwargs)
        self._flights.disown(key)
        return self._results.remove(key)

    def forget_all(self) -> int:
        """Remove all results of the function, of all versions; return how many there were.

        O(keys of the map). Raises TypeError for a function with keys of its own making, which can't
        be told from others.
        """
        self._keys.owns("")
        self._flights.disown_all()
        return self._results.remove_all(self._keys.owns)

    def cache_info(self) -> CacheInfo:
        """How many calls found a result, had to compute it, and could not keep it, so far. O(1)."""
        return self._results.info()

    @overload
    def __get__(self, instance: None, owner: type, /) -> Memoized[P, R]: ...
    @overload
    def __get__(
        self: Memoized[Concatenate[Any, Q], R], instance: object, owner: type | None = None, /
    ) -> BoundMemoized[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None, /) -> Any:
        return self if instance is None else BoundMemoized(cast(Any, self), instance)

    def __repr__(self) -> str:
        return f"<memoized {self._keys.name}>"


class AsyncMemoized(Memoized[P, Coroutine[Any, Any, T]]):
    """An `async def` whose results are kept in a map.

    All tasks, of all threads, that ask for one result wait for one computation. It is a task of its
    own: it goes on, and its result is kept, when those that wait for it are cancelled. The map is
    read and written in the event loop's own thread.

    >>> import asyncio, kvmap
    >>> async def main():
    ...     with kvmap.open(":memory:") as d:
    ...
    ...         @d.memoize(ttl=60)
    ...         async def page(url):
    ...             print("fetching", url)
    ...             await asyncio.sleep(0.01)
    ...             return len(url)
    ...
    ...         return await asyncio.gather(page("/a"), page("/a"), page("/a"))
    >>> asyncio.run(main())
    fetching /a
    [2, 2, 2]
    """

    def __init__(
        self,
        function: Callable[P, Coroutine[Any, Any, T]],
        keys: ArgumentKeys,
        results: KeptResults,
    ) -> None:
        super().__init__(function, keys, results)
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `Memoized.__call__`, for one task among many."""
        key = self._keys.make(args, kwargs)
        found = self._results.get(key)
        if found is not MISSING:
            self._results.count_hit()
            return cast(T, found)
        computed = False

        async def compute(node: Node) -> Any:
            nonlocal computed
            found = self._results.get(key)  # another may just have kept it
            if found is not MISSING:
                return found
            computed = True
            self._results.count_miss()
            value = _checked(self, await self.__wrapped__(*args, **kwargs))
            return await self._results.keep_in_turn(key, value, node)

        value, led = await self._flights.run(key, compute, alone=self._results.is_in_block())
        if not computed:
            self._results.count_hit()
        return cast(T, value if led else self._results.own(key, value))

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `Memoized.refresh`."""
        key = self._keys.make(args, kwargs)

        async def compute(node: Node) -> Any:
            self._results.count_miss()
            value = _checked(self, await self.__wrapped__(*args, **kwargs))
            return await self._results.keep_in_turn(key, value, node, replace=True)

        value, _ = await self._flights.run(
            key, compute, anew=True, alone=self._results.is_in_block()
        )
        return cast(T, value)

    def __get__(self, instance: object, owner: type | None = None, /) -> Any:
        return self if instance is None else AsyncBoundMemoized(cast(Any, self), instance)


class BoundMemoized(Generic[Q, R]):
    """A memoized method of one object: as the function, with the object as first argument."""

    def __init__(self, function: Memoized[Concatenate[Any, Q], R], instance: object) -> None:
        self.__func__, self.__self__ = function, instance

    @property
    def __wrapped__(self) -> Callable[Q, R]:
        """The method itself: a call of it neither reads nor writes the map."""
        return cast("Callable[Q, R]", MethodType(self.__func__.__wrapped__, self.__self__))

    def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        """As `Memoized.__call__`."""
        return self.__func__(self.__self__, *args, **kwargs)

    def refresh(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        """As `Memoized.refresh`."""
        return self.__func__.refresh(self.__self__, *args, **kwargs)

    def key(self, *args: Q.args, **kwargs: Q.kwargs) -> Key:
        """As `Memoized.key`."""
        return self.__func__.key(self.__self__, *args, **kwargs)

    def forget(self, *args: Q.args, **kwargs: Q.kwargs) -> bool:
        """As `Memoized.forget`."""
        return self.__func__.forget(self.__self__, *args, **kwargs)

    def forget_all(self) -> int:
        """As `Memoized.forget_all`: for all objects."""
        return self.__func__.forget_all()

    def cache_info(self) -> CacheInfo:
        """As `Memoized.cache_info`: for all objects."""
        return self.__func__.cache_info()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Other attributes are the function's, as those of any method."""
            return getattr(self.__func__, name)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {shown(self.__self__)}>"


class AsyncBoundMemoized(BoundMemoized[Q, Coroutine[Any, Any, T]]):
    """A memoized `async def` method of one object."""

    async def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> T:
        """As `AsyncMemoized.__call__`."""
        return await self.__func__(self.__self__, *args, **kwargs)


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether calls of it are awaited."""
    return any(map(inspect.iscoroutinefunction, _called(function)))


def _called(function: Any) -> tuple[Any, Any]:
    """The function, and the method that a call of it runs where it is an object."""
    return function, type(function).__call__


def _check(function: Any) -> None:
    """Raise TypeError for what can't be memoized, and say what to do."""
    if isinstance(function, (staticmethod, classmethod, property)):
        name = type(function).__name__
        raise TypeError(f"memoize is applied to a {name}: write @{name} above it, not below")
    if not callable(function):
        raise TypeError(
            f"memoize takes a function, not {shown(function)}; its options have names, as in "
            "@d.memoize(ttl=60)"
        )
    if any(
        inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each)
        for each in _called(function)
    ):
        raise TypeError(
            f"{shown(function)} is a generator, which can be read only once; memoize a function "
            "that returns a list"
        )


def _checked(function: Callable[..., Any], value: R) -> R:
    """A result that can be kept. Raises TypeError for one that can be used only once."""
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()  # or Python warns that nobody awaited it
        raise TypeError(
            f"{shown(function)} returned a {type(value).__name__}, to be awaited; memoize an "
            "async def, which may await it"
        )
    if isinstance(value, (Iterator, AsyncIterator)):
        raise TypeError(
            f"{shown(function)} returned a {type(value).__name__}, which can be read only once; "
            "return a list"
        )
    return value
