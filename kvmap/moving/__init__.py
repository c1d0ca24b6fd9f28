"""Entries in and out of a map: JSON, CSV, another map, and the stores of other libraries.

A `Source` yields entries, `load` writes them to a map, `line` prints one. The `kvmap load` and
`kvmap dump` commands are made of these.

>>> import io, kvmap
>>> from kvmap import moving
>>> file = io.BytesIO(b'{"key":"ada","value":1}\\n{"key":"bob","value":2,"ttl":"1h30m"}\\n')
>>> with kvmap.open(":memory:") as d:
...     report = moving.load(d, moving.open_json(file))
...     report.loaded, dict(d), round(d.ttl("bob"))
(2, {'ada': 1, 'bob': 2}, 5400)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvmap.moving.csv_files import CSV
    from kvmap.moving.diskcaches import DiskCache
    from kvmap.moving.entries import (
        ConflictingEntryError,
        Item,
        LoadError,
        Source,
        SourceError,
        Unreadable,
    )
    from kvmap.moving.json_files import JSONLines, JSONObject, open_json
    from kvmap.moving.loading import Report, load
    from kvmap.moving.maps import Map, line
    from kvmap.moving.shelves import Shelf
    from kvmap.moving.sqlitedicts import SqliteDict
    from kvmap.moving.tinydbs import TinyDB

_MODULES = {
    "CSV": "csv_files",
    "ConflictingEntryError": "entries",
    "DiskCache": "diskcaches",
    "Item": "entries",
    "JSONLines": "json_files",
    "JSONObject": "json_files",
    "LoadError": "entries",
    "Map": "maps",
    "Report": "loading",
    "Shelf": "shelves",
    "Source": "entries",
    "SourceError": "entries",
    "SqliteDict": "sqlitedicts",
    "TinyDB": "tinydbs",
    "Unreadable": "entries",
    "line": "maps",
    "load": "loading",
    "open_json": "json_files",
}

__all__ = [
    "CSV",
    "ConflictingEntryError",
    "DiskCache",
    "Item",
    "JSONLines",
    "JSONObject",
    "LoadError",
    "Map",
    "Report",
    "Shelf",
    "Source",
    "SourceError",
    "SqliteDict",
    "TinyDB",
    "Unreadable",
    "line",
    "load",
    "open_json",
]


def __getattr__(name: str) -> Any:
    """Import a module when it is first needed: most commands need few, and none needs all."""
    if name not in _MODULES:
        raise AttributeError(f"module 'kvmap.moving' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"kvmap.moving.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
