"""Tags: how each type that JSON does not have is written as JSON, and read from it.

`kvmap.extended` has the table of them.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from kvmap.plain import Misfit

_DIGITS: Final = 4300
"""Digits of an int, at most: beyond them, Python takes long to read it, and refuses by default."""
_INT_BOUND: Final = 10**_DIGITS
_INT: Final = re.compile(rf"-?[0-9]{{1,{_DIGITS}}}", re.ASCII)
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]{0,63}", re.ASCII)
_TIME: Final = re.compile(rf"([^\[]+)(?:\[({_ZONE.pattern})\])?(\[_fold=1\])?", re.ASCII)
_DURATION: Final = re.compile(
    r"(-)?P(?=[0-9]|T[0-9])(?:([0-9]{1,9})D)?(?:T([0-9]{1,5})(?:\.([0-9]{1,6}))?S)?", re.ASCII
)
_MICROSECOND: Final = timedelta(microseconds=1)
_STRICT: Final = Context(traps=[InvalidOperation])


def _base64(value: bytes | bytearray) -> str:
    return b2a_base64(value, newline=False).decode()


def _int(value: int) -> str:
    if abs(value) >= _INT_BOUND:
        raise Misfit(ValueError, f"an int of more than {_DIGITS} digits can't be kept")
    return str(value)


def _datetime(value: datetime | time) -> str:
    zone, suffix = value.tzinfo, "[_fold=1]" if value.fold else ""
    if type(zone) is ZoneInfo and _ZONE.fullmatch(str(zone.key)):
        suffix = f"[{zone.key}]{suffix}"
    elif zone is not None and type(zone) is not timezone:
        raise Misfit(
            TypeError,
            f"a {type(value).__name__} with a tzinfo of type {type(zone).__name__} can't be kept; "
            "use datetime.timezone, or zoneinfo.ZoneInfo with the name of a zone",
        )
    elif zone is not None and zone.utcoffset(None).microseconds:
        # datetime.fromisoformat takes an offset of less than a second for UTC.
        raise Misfit(ValueError, f"the offset {zone.utcoffset(None)} is no whole number of seconds")
    return value.isoformat() + suffix


def _timedelta(value: timedelta) -> str:
    days, rest = divmod(abs(value // _MICROSECOND), 86_400_000_000)
    seconds, micros = divmod(rest, 1_000_000)
    text = f"{'-' if value.days < 0 else ''}P{f'{days}D' if days else ''}"
    if not rest:
        return text if days else "PT0S"
    return f"{text}T{seconds}{f'.{micros:06}'.rstrip('0') if micros else ''}S"


WRITERS: Final[dict[type[Any], tuple[str, Callable[[Any], str]]]] = {
    bytes: ("$bytes", _base64),
    bytearray: ("$bytearray", _base64),
    datetime: ("$datetime", _datetime),
    date: ("$date", date.isoformat),
    time: ("$time", _datetime),
    timedelta: ("$timedelta", _timedelta),
    Decimal: ("$decimal", str),
    UUID: ("$uuid", str),
    int: ("$int", _int),
    float: ("$float", repr),
}
"""By type: the tag, and what makes its content of a value. Others have parts of any type."""


def _read_bytes(content: Any) -> bytes:
    return a2b_base64(_str(content), strict_mode=True)


def _read_bytearray(content: Any) -> bytearray:
    return bytearray(_read_bytes(content))


def _read_tuple(content: Any) -> tuple[Any, ...]:
    return tuple(_list(content))


def _read_set(content: Any) -> set[Any]:
    found = set(_list(content))
    if len(found) != len(content):
        raise ValueError("an element stands there twice")
    return found


def _read_frozenset(content: Any) -> frozenset[Any]:
    return frozenset(_read_set(content))


def _read_dict(content: Any) -> dict[Any, Any]:
    found = dict(map(_list, _list(content)))
    if len(found) != len(content):
        raise ValueError("a key stands there twice")
    return found


def _read_datetime(content: Any) -> datetime:
    if type(content) is str and "[" not in content:
        return datetime.fromisoformat(content)
    text, zone, fold = _split_time(content)
    found = datetime.fromisoformat(text).replace(fold=fold)
    if zone is None:
        return found
    local = found.replace(tzinfo=zone)
    return local if local.utcoffset() == found.utcoffset() else found.astimezone(zone)


def _read_time(content: Any) -> time:
    text, zone, fold = _split_time(content)
    found = time.fromisoformat(text).replace(fold=fold)
    return found if zone is None else found.replace(tzinfo=zone)


def _split_time(content: Any) -> tuple[str, ZoneInfo | None, int]:
    """The ISO text, the zone and the fold."""
    match = _TIME.fullmatch(_str(content))
    if match is None:
        raise ValueError("not as RFC 9557 has it")
    text, name, fold = match.groups()
    try:
        return text, None if name is None else ZoneInfo(name), 0 if fold is None else 1
    except (OSError, LookupError) as error:
        raise ValueError(f"this machine knows no such time zone ({error})") from None


def _read_date(content: Any) -> date:
    return date.fromisoformat(_str(content))


def _read_timedelta(content: Any) -> timedelta:
    match = _DURATION.fullmatch(_str(content))
    if match is None:
        raise ValueError("not days and seconds as in -P1DT2.5S")
    sign, days, seconds, fraction = match.groups()
    found = timedelta(int(days or 0), int(seconds or 0), int((fraction or "").ljust(6, "0")))
    return -found if sign else found


def _read_decimal(content: Any) -> Decimal:
    return Decimal(_str(content), _STRICT)


def _read_uuid(content: Any) -> UUID:
    return UUID(_str(content))


def _read_complex(content: Any) -> complex:
    real, imag = _list(content)
    if type(real) is not float or type(imag) is not float:
        raise TypeError("its parts are floats")
    return complex(real, imag)


def _read_int(content: Any) -> int:
    if _INT.fullmatch(_str(content)) is None:
        raise ValueError(f"not an int of at most {_DIGITS} digits")
    return int(content)


def _read_float(content: Any) -> float:
    if content not in ("nan", "inf", "-inf"):
        raise ValueError('it holds "nan", "inf" or "-inf"')
    return float(content)


def _str(content: Any) -> str:
    if type(content) is not str:
        raise TypeError("it holds a string")
    return content


def _list(content: Any) -> list[Any]:
    if type(content) is not list:
        raise TypeError("it holds an array")
    return content


READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$bytes": _read_bytes,
    "$bytearray": _read_bytearray,
    "$tuple": _read_tuple,
    "$set": _read_set,
    "$frozenset": _read_frozenset,
    "$dict": _read_dict,
    "$datetime": _read_datetime,
    "$date": _read_date,
    "$time": _read_time,
    "$timedelta": _read_timedelta,
    "$decimal": _read_decimal,
    "$uuid": _read_uuid,
    "$complex": _read_complex,
    "$int": _read_int,
    "$float": _read_float,
}
"""By tag: what makes a value of its content, tags in it read already, or raises."""
