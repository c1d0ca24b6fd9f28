"""Iterators over what a map sees: live, and with a dict's errors.

None of these functions is a generator: an iterator notices what was inserted or deleted since it
was made, not since its first step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from kvmap.engine import INF, State
from kvmap.keys import Key

Done = Callable[[], None]
DecodeMany = Callable[[list[Key], list[bytes]], list[Any]]


def keys(state: State, *, reverse: bool = False, done: Done | None = None) -> Iterator[Key]:
    """The keys in the map's order. `done` is called when all were yielded."""
    return _keys(state, state.keys(reverse=reverse), state.net_size, done)


def items(
    state: State, decode_many: DecodeMany, *, reverse: bool = False
) -> Iterator[tuple[Key, Any]]:
    """The entries in the map's order; their values are decoded a page at a time."""
    return _items(state, state.items(reverse=reverse), state.net_size, decode_many)


def _keys(state: State, pages: Iterator[list[Key]], size: int, done: Done | None) -> Iterator[Key]:
    while True:
        version, deadline = state.version, state.next_deadline
        page = next(pages, None)
        if page is None:
            break
        rest = iter(page)
        for key in rest:
            yield key
            if state.version != version or (deadline < INF and deadline <= state.now()):
                for each in _unchanged(state, rest, size):
                    if each in state:
                        yield each
                break
    if done is not None:
        done()


def _items(
    state: State,
    pages: Iterator[tuple[list[Key], list[bytes]]],
    size: int,
    decode_many: DecodeMany,
) -> Iterator[tuple[Key, Any]]:
    while True:
        version, deadline = state.version, state.next_deadline
        page = next(pages, None)
        if page is None:
            return
        rest = iter(page[0])
        # The values first: where one page is longer, zip has not taken a key that it does not yield.
        for value, key in zip(decode_many(*page), rest, strict=False):
            yield key, value
            if state.version != version or (deadline < INF and deadline <= state.now()):
                for each in _unchanged(state, rest, size):
                    text = state.get(each)
                    if text is not None:
                        yield each, decode_many([each], [text])[0]
                break


def _unchanged(state: State, rest: Iterator[Key], size: int) -> Iterator[Key]:
    """The rest of a page. Raises RuntimeError where entries were inserted or deleted."""
    for key in rest:
        _check(state, size)
        yield key
    _check(state, size)


def _check(state: State, size: int) -> None:
    if state.net_size != size:
        len(state)  # which says so where the map is closed
        raise RuntimeError("dictionary changed size during iteration")
