"""Sizes, times and numbers as people read and write them."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = ("", "k", "m", "g", "t")
_ONE: Final = {"entries": "entry", "shards": "shard"}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """A size in bytes. Raises ValueError for what is none.

    >>> parse_size("4096"), parse_size("64kB"), parse_size("1.5GB"), parse_size("2GiB")
    (4096, 64000, 1500000000, 2147483648)
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r:.80} is no size; write 4096, 64kB, 100MB or 2GiB")
    number, unit, binary = found.groups()
    step = 1024.0 if binary else 1000.0
    return round(float(number) * step ** _UNITS.index((unit or "").lower()))


def size(count: float) -> str:
    """Bytes, in decimal units.

    >>> size(999), size(12_345), size(5_000_000_000)
    ('999 B', '12.3 kB', '5.0 GB')
    """
    if count < 999.5:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.95 or unit == "TB":
            break
    return f"{count:.1f} {unit}"


def span(seconds: float) -> str:
    """A time, in its two largest units.

    >>> span(5), span(125), span(3 * 3600 + 60), span(2 * 86400)
    ('5s', '2m05s', '3h01m', '2d00h')
    """
    whole = int(seconds)
    for unit, length, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "m", 60)):
        if whole >= length:
            return f"{whole // length}{unit}{whole % length // part:02}{smaller}"
    return f"{whole // 60}m{whole % 60:02}s" if whole >= 60 else f"{whole}s"


def amount(count: int, unit: str) -> str:
    """A number of entries, shards or bytes.

    >>> amount(1, "entries"), amount(1234, "entries"), amount(1, "shards"), amount(1234, "bytes")
    ('1 entry', '1,234 entries', '1 shard', '1.2 kB')
    """
    if unit == "bytes":
        return size(count)
    return f"1 {_ONE[unit]}" if count == 1 else f"{count:,} {unit}"
