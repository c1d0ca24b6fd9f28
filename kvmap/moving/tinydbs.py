"""Files of the package `tinydb`, which are JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kvmap.moving.entries import Item, Source, SourceError, Unreadable
from kvmap.moving.json_files import decode

_DEFAULT: Final = "_default"


class TinyDB(Source):
    """A table of a tinydb file: the only one, or else "_default", unless `table` names another.

    Keys are the documents' numbers, as int. The whole file is held in memory.

    Raises SourceError for what is no such file, FileNotFoundError where there is nothing.
    """

    def __init__(self, path: str, table: str | None = None) -> None:
        try:
            found = decode(Path(path).read_bytes() or b"{}")
        except ValueError as error:
            raise SourceError(f"{path}: {error}") from None
        if not _are_tables(found):
            raise SourceError(f"{path} is no tinydb file: not an object of tables of documents")
        if table is None:
            table = next(iter(found)) if len(found) == 1 else _DEFAULT
        if table not in found and found:
            has = ", ".join(map(repr, found))
            raise SourceError(f"{path} has no tinydb table {table!r}; it has {has}")
        self._documents: dict[str, Any] = found.get(table, {})
        self.total = len(self._documents)

    def __iter__(self) -> Iterator[Item | Unreadable]:
        for number, document in self._documents.items():
            self.done += 1
            yield Item(int(number), document)


def _are_tables(found: Any) -> bool:
    return isinstance(found, dict) and all(map(_is_table, found.values()))


def _is_table(found: Any) -> bool:
    return isinstance(found, dict) and all(
        number.isdecimal() and isinstance(document, dict) for number, document in found.items()
    )
