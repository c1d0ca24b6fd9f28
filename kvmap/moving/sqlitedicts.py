"""Files of the package `sqlitedict`."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

from kvmap.moving.entries import Item, Source, SourceError, Unreadable, read
from kvmap.moving.json_files import decode
from kvmap.moving.sqlite import connect, naming


class SqliteDict(Source):
    """A table of a sqlitedict file: the only one, or else "unnamed", unless `table` names another.

    Values are pickles, unless the file was written with `encode=json.dumps`.

    Raises SourceError for what is no such file, FileNotFoundError where there is nothing.
    """

    def __init__(self, path: str, table: str | None = None) -> None:
        self._path, self._file = path, connect(path)
        try:
            with naming(path):
                self._table = self._quoted(table)
                (self.total,) = self._one("COUNT(*)")
                blob = self._one("1", "WHERE typeof(value) = 'blob' LIMIT 1")
                self.pickled = blob is not None
        except BaseException:
            self._file.close()
            raise

    def _quoted(self, named: str | None) -> str:
        names = self._file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        found = [name for (name,) in names if self._columns(name) == ["key", "value"]]
        table: str = named or (found[0] if len(found) == 1 else "unnamed")
        if table not in found:
            has = ", ".join(map(repr, found)) or "none"
            raise SourceError(f"{self._path} has no sqlitedict table {table!r}; it has {has}")
        return '"' + table.replace('"', '""') + '"'

    def _columns(self, table: str) -> list[str]:
        found = self._file.execute("SELECT name FROM pragma_table_info(?)", (table,))
        return [column for (column,) in found]

    def _one(self, what: str, where: str = "") -> Any:
        return self._file.execute(f"SELECT {what} FROM {self._table} {where}").fetchone()

    def __iter__(self) -> Iterator[Item | Unreadable]:
        query = f"SELECT key, value FROM {self._table} ORDER BY rowid"
        with naming(self._path):
            for key, value in self._file.execute(query):
                self.done += 1
                yield read(key, lambda: _value(value))  # noqa: B023  # called at once

    def close(self) -> None:
        self._file.close()


def _value(stored: Any) -> Any:
    if type(stored) is bytes:
        return pickle.loads(stored)
    return decode(stored.encode()) if type(stored) is str else stored
