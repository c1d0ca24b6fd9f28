"""A dict that outlives its process, as plain JSON.

>>> import kvmap
>>> with kvmap.open(":memory:") as d:  # kvmap.open("sessions") for a directory of your own
...     d["ada"] = {"name": "Ada", "visits": 1}
...     d["ada"]["name"]
'Ada'

Start with `kvmap.open`, which makes a store or opens one, and `kvmap.KVMap`, which is what it
returns. `snapshot` reads a store beside its owner. `verify` and `repair` are for a store that is
damaged. All errors that are kvmap's own are a `KVMapError`; a missing key is a `KeyError`, and what
the disk refuses an `OSError`.

Times are in seconds, deadlines in Unix seconds, sizes in bytes. In the costs, n is the number of
entries.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if os.name != "posix":
    raise ImportError(
        "kvmap needs a POSIX system such as Linux or macOS: its store is owned through flock, and "
        "replaces files that are open. On Windows, use it inside WSL"
    )

from kvmap.errors import (
    ConflictError,
    CorruptStoreError,
    HeldError,
    KeyExistsError,
    KVMapError,
    LimitError,
    NotAStoreError,
    OutcomeUnknownError,
    ReadOnlyError,
    StoreClosedError,
    StoreLockedError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from kvmap.limits import Limits
from kvmap.mapping import KVMap
from kvmap.opening import open, snapshot
from kvmap.settings import KEEP

if TYPE_CHECKING:
    from kvmap.disk.repair import Quarantined, Repaired, repair
    from kvmap.disk.verify import Damage, Report, ShardReport, verify

__version__ = "0.1.0"

__all__ = [
    "KEEP",
    "ConflictError",
    "CorruptStoreError",
    "Damage",
    "HeldError",
    "KVMap",
    "KVMapError",
    "KeyExistsError",
    "LimitError",
    "Limits",
    "NotAStoreError",
    "OutcomeUnknownError",
    "Quarantined",
    "ReadOnlyError",
    "Repaired",
    "Report",
    "ShardReport",
    "StoreClosedError",
    "StoreLockedError",
    "StoreTimeoutError",
    "StoreUnavailableError",
    "open",
    "repair",
    "snapshot",
    "verify",
]

_IMPORTED_LATER = {
    "Damage": "kvmap.disk.verify",
    "Quarantined": "kvmap.disk.repair",
    "Repaired": "kvmap.disk.repair",
    "Report": "kvmap.disk.verify",
    "ShardReport": "kvmap.disk.verify",
    "repair": "kvmap.disk.repair",
    "verify": "kvmap.disk.verify",
}


def __getattr__(name: str) -> Any:
    """Import what few programs use when it is first asked for; it takes a third of start-up."""
    if name not in _IMPORTED_LATER:
        raise AttributeError(f"module 'kvmap' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(_IMPORTED_LATER[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__  # what is imported later too, for `help(kvmap)`
