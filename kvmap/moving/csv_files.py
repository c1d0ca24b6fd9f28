"""Tables of text, read and written: CSV and TSV, with names of columns on the first line."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, Any, Final

from kvmap.moving.entries import Item, Source, SourceError, Unreadable
from kvmap.moving.json_files import decode, entry

_ENTRY: Final = {"value", "expires", "ttl"}
"""Columns that make an entry, with the one that holds the key."""
_LONGEST_CELL: Final = 1 << 30
"""Characters; the csv module's own limit is 128 kB."""


class CSV(Source):
    """A table whose rows are entries; `separator` is "," for CSV and a tab for TSV.

    The column `key`, or else the first one, holds the keys, which are str. The value is a dict of
    the other columns. Where these are `value` and perhaps `expires` or `ttl`, the row is an entry
    with the same fields as in JSON Lines. A cell is a str; with `json_cells` a cell that is JSON,
    such as `17`, `true` or `[1,2]`, is what the JSON says.

    Raises SourceError for a table without usable names of columns, or without the one named `key`.

    >>> import io
    >>> table = io.BytesIO(b"name,visits,city\\nada,1,London\\n")
    >>> [(each.key, each.value) for each in CSV(table, json_cells=True)]
    [('ada', {'visits': 1, 'city': 'London'})]
    """

    unit = "bytes"

    def __init__(
        self,
        file: IO[bytes],
        separator: str = ",",
        *,
        key: str | None = None,
        json_cells: bool = False,
    ) -> None:
        with suppress(OSError):  # raised by what is not a file of the system
            self.total = os.fstat(file.fileno()).st_size or None  # a pipe has no size
        csv.field_size_limit(_LONGEST_CELL)
        self._rows = csv.reader(self._lines(file), delimiter=separator, strict=True)
        self._json_cells = json_cells
        try:
            self._names = next(self._rows, [])
        except (csv.Error, UnicodeDecodeError) as error:
            raise SourceError(f"line 1: {_reason(error)}") from None
        if not self._names:
            raise SourceError("the first line has no names of columns")
        for name in self._names:
            if not name or self._names.count(name) > 1:
                raise SourceError(f"line 1: the column {name!r} has no name of its own")
        if key is None:
            key = "key" if "key" in self._names else self._names[0]
        elif key not in self._names:
            names = ", ".join(map(repr, self._names))
            raise SourceError(f"there is no column {key!r}; there are {names}")
        self._key = key
        others = set(self._names) - {key}
        self._is_entry = {"value"} <= others <= _ENTRY

    def _lines(self, file: IO[bytes]) -> Iterator[str]:
        for number, line in enumerate(file):
            self.done += len(line)
            yield line.decode("utf-8" if number else "utf-8-sig")

    def __iter__(self) -> Iterator[Item | Unreadable]:
        while True:
            number = self._rows.line_num + 1
            try:
                row = next(self._rows, None)
            except (csv.Error, UnicodeDecodeError) as error:
                # What follows can't be told apart any more.
                yield Unreadable(f"line {number}", f"{_reason(error)}; the rest was not read")
                return
            if row is None:
                return
            if not row:
                continue
            try:
                yield self._item(row, number)
            except ValueError as error:
                yield Unreadable(f"line {number}", str(error))

    def _item(self, row: list[str], number: int) -> Item:
        if len(row) != len(self._names):
            raise ValueError(f"{len(row)} cells, but {len(self._names)} columns")
        cells = dict(zip(self._names, row, strict=True))
        key = cells.pop(self._key)
        if not self._is_entry:
            values = {name: self._value(cell) for name, cell in cells.items()}
            return Item(key, values, line=number)
        value = self._value(cells.pop("value"))
        moments = {name: _moment(cell) for name, cell in cells.items()}
        return entry({"key": key, "value": value, **moments}, number)

    def _value(self, cell: str) -> Any:
        if self._json_cells:
            with suppress(ValueError):  # it is text
                return decode(cell.encode())
        return cell


HEADER: Final = ("key", "value", "expires")


class Row:
    """Makes lines of CSV or TSV: key, value and deadline, which `CSV` reads with `json_cells`.

    A str is written as it is, unless it could be taken for JSON; any other value is its JSON text.

    >>> row = Row(",")
    >>> row("ada", b"[1,2]", None).decode().rstrip()
    'ada,"[1,2]",'
    """

    def __init__(self, separator: str) -> None:
        self._buffer = io.StringIO(newline="")
        self._writer = csv.writer(self._buffer, delimiter=separator)

    def __call__(self, key: str, text: bytes, moment: float | None) -> bytes:
        """A line: the key, the value's JSON text, and the deadline in Unix seconds."""
        return self.line((key, _cell(text), "" if moment is None else moment))

    def line(self, cells: Iterable[object]) -> bytes:
        """A line of any cells."""
        self._writer.writerow(cells)
        line = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return line.encode()


def _cell(text: bytes) -> str:
    value = decode(text)
    if isinstance(value, str):
        try:
            decode(value.encode())
        except ValueError:
            return value
    return text.decode()


def _moment(cell: str) -> Any:
    """A deadline or a time to live; an empty cell says that the entry stays."""
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return cell  # a duration such as 1h30m, or an error that names it


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error.reason}"
    return f"not a table: {error}"
