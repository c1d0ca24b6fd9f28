"""What a map keeps about itself on the server: one string of JSON under its `meta` key."""

from __future__ import annotations

from typing import Any, Final

from orjson import JSONDecodeError, dumps, loads

from kvmap.errors import NotAStoreError
from kvmap.redis.layout import check_partitions
from kvmap.settings import Settings

FORMAT: Final = 1
"""The format that this version reads and writes."""


def to_text(partitions: int, settings: Settings) -> bytes:
    """The text to keep.

    >>> to_text(1, Settings())
    b'{"kvmap":1,"partitions":1,"limits":{},"ttl":null,"codec":"json","evict":null}'
    """
    return dumps({"kvmap": FORMAT, "partitions": partitions, **settings.to_json()})


def from_text(text: bytes, shown: str) -> tuple[int, Settings]:
    """Partitions and settings. Raises NotAStoreError for what `to_text` did not make."""
    try:
        content: Any = loads(text)
        version = content["kvmap"]
    except (JSONDecodeError, LookupError, TypeError):
        raise NotAStoreError(f"{shown}: the key is no kvmap map's; nothing was changed") from None
    if type(version) is not int or version > FORMAT:
        raise NotAStoreError(
            f"{shown} has format {version!r}, and this version of kvmap knows {FORMAT}; "
            "a newer version can open it"
        )
    try:
        return check_partitions(content["partitions"]), Settings.from_json(content)
    except (LookupError, TypeError, ValueError) as error:
        raise NotAStoreError(f"{shown}: its settings can't be used: {error}") from None
