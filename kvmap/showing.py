"""How a map shows itself: its repr, a table in a notebook, completion of its keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvmap.engine import Engine, State
from kvmap.keys import Key, shown

_ENTRIES = 5
"""Entries that a repr shows."""
_COMPLETIONS = 1000
"""Keys that are offered for completion, at most."""

Decode = Callable[[bytes], Any]


def text(engine: Engine, state: State, decode: Decode) -> str:
    """A map's repr: a few entries of what the caller sees. It never raises, waits or reads much."""
    if engine.closed:
        return f"<KVMap {engine.name!r}, closed>"
    count, entries = _peek(state, decode)
    if count is None:
        return f"<KVMap {engine.name!r}>"
    parts = [f"{shown(key)}: {value}" for key, value in entries]
    if count > len(entries):
        parts.append(f"… {count - len(entries):,} more")
    return f"<KVMap {engine.name!r} {{{', '.join(parts)}}}>"


def html(engine: Engine, state: State, decode: Decode) -> str:
    """The same as a table."""
    from html import escape  # a fifth of the package's import

    count, entries = _peek(state, decode)
    rows = [
        f"<tr><td>{escape(shown(key))}</td><td>{escape(value)}</td></tr>" for key, value in entries
    ]
    if count is not None and count > len(entries):
        rows.append(f"<tr><td colspan=2>… {count - len(entries):,} more</td></tr>")
    note = "closed" if engine.closed else "" if count is None else f"{count:,} entries"
    caption = f"<caption>KVMap {escape(repr(engine.name))}, {note}</caption>"
    return f"<table>{caption}{''.join(rows)}</table>"


def completions(state: State) -> list[str]:
    """Keys for a notebook to offer after `d["`."""
    _, entries = state.peek(_COMPLETIONS)
    return [key for key, _ in entries if isinstance(key, str)]


def _peek(state: State, decode: Decode) -> tuple[int | None, list[tuple[Key, str]]]:
    try:
        count, entries = state.peek(_ENTRIES)
    except Exception:  # a repr says what it can
        return None, []
    return count, [(key, _value(text, decode)) for key, text in entries]


def _value(text: bytes, decode: Decode) -> str:
    try:
        return shown(decode(text))
    except Exception as error:
        return f"<{type(error).__name__}>"
