"""What stands behind an option, as text: times and numbers. Each raises ArgumentTypeError."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError

from kvmap.cli.quantities import parse_size
from kvmap.moving import durations


def time(text: str) -> float:
    """A time in seconds."""
    try:
        return durations.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def ttl(text: str) -> float:
    """A time to live in seconds; infinite for `forever`."""
    found = math.inf if text == "forever" else time(text)
    if found == 0:
        raise ArgumentTypeError("a time to live must be above 0")
    return found


def natural(text: str) -> int:
    """A number from 0 up."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return int(text)


def number(text: str) -> int | float:
    """An int, or a finite float."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ArgumentTypeError(f"{text!r} is not a number")
    return found


def count_or_none(text: str) -> int | None:
    """A number from 0 up; None for `none`."""
    return None if text == "none" else natural(text)


def size_or_none(text: str) -> int | None:
    """A size in bytes; None for `none`."""
    if text == "none":
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
