"""What the server or the way to it refuses, as kvmap's own errors."""

from __future__ import annotations

import re
from typing import Final

from redis import exceptions

from kvmap.errors import (
    ConflictError,
    KVMapError,
    LimitError,
    NotAStoreError,
    OutcomeUnknownError,
    ReadOnlyError,
    StoreTimeoutError,
    StoreUnavailableError,
)

FAILURES: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
"""All that a call to the server may raise."""

_UNSENT: Final = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.BusyLoadingError,
    exceptions.MaxConnectionsError,
)
"""Errors of the connection that say that the server has done nothing."""

_CODES: Final = re.compile(
    r"\b(KVMAP[A-Z]+|OOM|READONLY|WRONGTYPE|MISCONF|NOREPLICAS|NOPERM|BUSY|CLUSTERDOWN|MASTERDOWN)\b"
)
_LIMIT: Final = re.compile(r"KVMAPLIMIT (\w+) (\d+) (\d+)")
_HINTS: Final = {
    "ASK": "this part of the cluster is being moved to another node",
    "TRYAGAIN": "this part of the cluster is being moved to another node",
    "OOM": "it has reached its maxmemory",
    "MISCONF": "it can't write to its disk",
    "NOREPLICAS": "too few replicas follow it",
    "NOPERM": "this user may not do that",
    "BUSY": "it is running a script of another client",
    "CLUSTERDOWN": "a part of the cluster is down",
    "MASTERDOWN": "it is a replica that has lost its primary",
}
_CODE_OF: Final = (
    (exceptions.AskError, "ASK"),
    (exceptions.TryAgainError, "TRYAGAIN"),
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
)


def is_lost(error: BaseException) -> bool:
    """Whether the connection broke, so that the server may have done what it was asked to."""
    if isinstance(error, _UNSENT):
        return False
    return isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError))


def is_timeout(error: BaseException) -> bool:
    return isinstance(error, (exceptions.TimeoutError, TimeoutError))


def code_of(error: BaseException) -> str:
    """The server's own word for what it refuses; empty where it is none that kvmap knows."""
    for kind, code in _CODE_OF:
        if isinstance(error, kind):
            return code
    found = _CODES.search(str(error))
    return found[1] if found else ""


def translated(error: BaseException, server: str, *, is_write: bool, was_sent: bool) -> KVMapError:
    """The error to raise. `was_sent`: the server may have done the write it was asked for."""
    if is_lost(error):
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if is_write and was_sent:
            return OutcomeUnknownError(
                f"{server} did not answer a write ({said}); it was done once or not at all"
            )
        if is_timeout(error):
            return StoreTimeoutError(f"{server} did not answer in time; nothing was changed")
        return StoreUnavailableError(f"{server} can't be reached ({said}); nothing was changed")
    return _refusal(error, server)


def _refusal(error: BaseException, server: str) -> KVMapError:
    """The error for what the server answers instead of doing it."""
    code = code_of(error)
    if code == "READONLY":
        return ReadOnlyError(f"{server} is a read-only replica; nothing was changed")
    if code == "WRONGTYPE":
        return NotAStoreError(
            f"{server}: a key with this map's name has another type than kvmap's; nothing was "
            "changed"
        )
    if code == "KVMAPUNKNOWN":
        return OutcomeUnknownError(
            f"{server} went away before it answered a write; the write was done, and the answer is "
            "too long to have been kept"
        )
    if code == "KVMAPCONFLICT":
        return ConflictError(
            "what this transaction has read was changed by another writer; nothing was written"
        )
    if code == "KVMAPLIMIT":
        return _beyond_limit(str(error))
    if isinstance(error, (exceptions.AuthenticationError, exceptions.AuthorizationError)):
        return StoreUnavailableError(f"{server} refuses the user or the password: {error}")
    if isinstance(error, exceptions.BusyLoadingError):
        return StoreUnavailableError(f"{server} is still reading its files; nothing was changed")
    hint = f"{_HINTS[code]}: " if code in _HINTS else ""
    return StoreUnavailableError(f"{server} refuses the call: {hint}{error}; nothing was changed")


def _beyond_limit(reply: str) -> LimitError:
    found = _LIMIT.search(reply)
    assert found is not None, reply
    limit, wanted, most = found.groups()
    what = "entries" if limit == "entries" else "bytes of keys and values"
    return LimitError(
        f"the map would hold {wanted} {what}, limits.{limit} is {most}; nothing was changed; delete "
        "entries, or open it with larger limits"
    )
