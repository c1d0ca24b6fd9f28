"""A dict that lives on disk as plain JSON.

>>> import kvmap
>>> with kvmap.open() as d:  # kvmap.open("sessions") for a directory of your own
...     d["ada"] = {"name": "Ada", "visits": 1}
...     d["ada"]["name"]
'Ada'

Start with `kvmap.open`, which makes a store or opens one, and `kvmap.KVMap`, which is what it
returns. `verify` and `repair` are for a store that is damaged. All errors that are kvmap's own are
a `KVMapError`; a missing key is a `KeyError`, and what the disk refuses an `OSError`.

Times are in seconds, deadlines in Unix seconds, sizes in bytes. In the costs, n is the number of
entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvmap.errors import (
    CorruptStoreError,
    KeyExistsError,
    KVMapError,
    LimitError,
    NotAStoreError,
    ReadOnlyError,
    StoreClosedError,
    StoreLockedError,
)
from kvmap.manifest import Limits
from kvmap.mapping import KVMap
from kvmap.opening import open

if TYPE_CHECKING:
    from kvmap.repairing import Aside, Repaired, repair, verify
    from kvmap.survey import Damage, Report, ShardReport

__all__ = [
    "Aside",
    "CorruptStoreError",
    "Damage",
    "KVMap",
    "KVMapError",
    "KeyExistsError",
    "LimitError",
    "Limits",
    "NotAStoreError",
    "ReadOnlyError",
    "Repaired",
    "Report",
    "ShardReport",
    "StoreClosedError",
    "StoreLockedError",
    "open",
    "repair",
    "verify",
]

_LATER = {
    "Aside": "repairing",
    "Damage": "survey",
    "Repaired": "repairing",
    "Report": "survey",
    "ShardReport": "survey",
    "repair": "repairing",
    "verify": "repairing",
}


def __getattr__(name: str) -> Any:
    """Import what few programs use when it is first asked for; it takes a third of start-up."""
    if name not in _LATER:
        raise AttributeError(f"module 'kvmap' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"kvmap.{_LATER[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__  # what is imported later, too; so `help(kvmap)` tells of it
