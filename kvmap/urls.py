"""Paths, and URLs in place of a path."""

from __future__ import annotations

import os
import re
from typing import Any, Final

SCHEMES: Final = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
"""The schemes of URLs that name a server, and what redis-py calls each."""

SHOWN: Final = ", ".join(f"{each}://" for each in SCHEMES)
"""The schemes as messages list them."""

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def scheme(text: object) -> str | None:
    """The scheme of a URL, in small letters; None for anything else.

    >>> scheme("REDIS://localhost/0"), scheme("http://host"), scheme("sessions"), scheme("./a://b")
    ('redis', 'http', None, None)
    """
    url = _URL.match(text) if isinstance(text, str) else None
    return None if url is None else url[1].lower()


def whole_path(path: Any) -> str:
    """The absolute path. Raises TypeError or ValueError for what is no path of a directory."""
    if (found := scheme(path)) is not None:
        raise ValueError(
            f"{found}:// begins a URL, not the path of a directory; kvmap.open knows {SHOWN}; a "
            f"directory of that name is './{found}://...'"
        )
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise TypeError(f"path must be a str or an os.PathLike of one, not {path!r}")
    if not name:
        raise ValueError('path is empty; "." is the current directory')
    return os.path.abspath(name)
