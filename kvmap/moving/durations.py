"""Durations as people write them: `90`, `90s`, `1h30m`, `7d`."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION = re.compile("".join([f"(?:{_NUMBER}{unit})?" for unit in _UNITS]))
_SECONDS = re.compile(_NUMBER)


def parse(text: str) -> float:
    """A duration in seconds: a number of seconds, or numbers with units, largest unit first.

    Raises ValueError for anything else.

    >>> parse("90"), parse("1h30m"), parse("1.5h"), parse("2w")
    (90.0, 5400.0, 5400.0, 1209600.0)
    >>> parse("soon")
    Traceback (most recent call last):
        ...
    ValueError: 'soon' is no time; write 90, 90s, 15m, 1h30m or 7d
    """
    if _SECONDS.fullmatch(text):
        return float(text)
    found = _DURATION.fullmatch(text)
    if found is None or not text:
        raise ValueError(f"{text!r:.80} is no time; write 90, 90s, 15m, 1h30m or 7d")
    parts = zip(found.groups(), _UNITS.values(), strict=True)
    return sum([float(number) * length for number, length in parts if number])


def write(seconds: float) -> str:
    """A duration that `parse` reads, to the second; to the millisecond below a minute.

    >>> write(5400), write(90061), write(7.25), write(0.0004)
    ('1h30m', '1d1h1m1s', '7.25s', '0s')
    """
    if seconds < 59.9995:
        return f"{round(seconds, 3):g}s"
    left = round(seconds)
    parts = []
    for unit in "dhms":
        count, left = divmod(left, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
