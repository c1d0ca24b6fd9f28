"""Numbers as scripts take them."""

from __future__ import annotations

from kvmap.engine import INF, KEEP_DEADLINE
from kvmap.limits import Limits


def ttl_text(ttl: float) -> bytes:
    """A time to live: seconds, `inf` or `keep`.

    >>> ttl_text(2.5), ttl_text(INF), ttl_text(KEEP_DEADLINE)
    (b'2.5', b'inf', b'keep')
    """
    if ttl == INF:
        return b"inf"
    return b"keep" if ttl == KEEP_DEADLINE else repr(float(ttl)).encode()


def moment_text(deadline: float) -> bytes:
    """A deadline in Unix seconds, exactly; `inf` where there is none."""
    return b"inf" if deadline == INF else repr(float(deadline)).encode()


def limit_texts(limits: Limits) -> tuple[bytes, bytes]:
    """The bounds on entries and bytes; empty where there is none."""
    if limits.entries is None and limits.store_bytes is None:
        return b"", b""
    return _bound(limits.entries), _bound(limits.store_bytes)


def _bound(number: int | None) -> bytes:
    return b"" if number is None else b"%d" % number
