"""SQLite files, opened for reading; errors name the file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from kvmap.moving.entries import SourceError


def connect(path: str) -> sqlite3.Connection:
    """Open a file for reading only. Raises FileNotFoundError where there is none."""
    os.stat(path)  # its error names the file; that of sqlite3 does not
    return sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=ro", uri=True)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Make a SourceError, which names the file, of an error of sqlite3."""
    try:
        yield
    except sqlite3.Error as error:
        raise SourceError(f"{path}: {error}") from None
