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
