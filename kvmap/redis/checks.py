"""What a server must be set to, so that a map on it keeps its promises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import ResponseError

from kvmap.errors import StoreUnavailableError
from kvmap.redis.server import Server
from kvmap.settings import Settings

_LEAST_VERSION: Final = (6, 2)
_WAITAOF_VERSION: Final = (7, 2)


@dataclass(frozen=True)
class Traits:
    """What all servers of a map have in common."""

    has_file: bool
    """Whether they write an append-only file."""
    syncs_always: bool
    """Whether they sync it before each answer."""
    can_wait: bool
    """Whether WAITAOF can wait until it is synced."""


def check_settings(settings: Settings, partitions: int) -> None:
    """Raise ValueError for what a server can't do."""
    if settings.evict is not None:
        raise ValueError(
            f"evict={settings.evict!r} can't be had on a server: a map there refuses what exceeds "
            "its limits; evict=None"
        )
    limits = settings.limits
    if partitions > 1 and (limits.entries is not None or limits.store_bytes is not None):
        raise ValueError(
            f"limits.entries and limits.store_bytes can't be had on a map of {partitions} "
            "partitions, which are written one by one; open a new one with shards=1"
        )


def check_servers(server: Server) -> Traits:
    """Raise where a server is too old or may evict entries; otherwise say what they can do."""
    each = [_check_server(server.shown, *found) for found in server.ask(_facts)]
    return Traits(
        has_file=all(traits.has_file for traits in each),
        syncs_always=all(traits.syncs_always for traits in each),
        can_wait=all(traits.can_wait for traits in each),
    )


def check_sync(traits: Traits, shown: str) -> bool:
    """Whether a write must wait with WAITAOF to survive a power cut. Raises where it can't."""
    if traits.has_file and traits.syncs_always:
        return False
    if traits.has_file and traits.can_wait:
        return True
    raise ValueError(
        f"sync=True can't be had on {shown}: it needs `appendonly yes`, and either `appendfsync "
        "always` or WAITAOF, which came with Redis 7.2"
    )


def _facts(client: Any) -> tuple[Mapping[str, Any], str]:
    """INFO, and the `appendfsync` setting, empty where the server does not say."""
    info = client.info()
    try:
        settings = {_text(k): _text(v) for k, v in client.config_get("appendfsync").items()}
    except ResponseError:  # managed servers refuse CONFIG
        settings = {}
    return info, settings.get("appendfsync", "")


def _check_server(shown: str, info: Mapping[str, Any], appendfsync: str) -> Traits:
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < _LEAST_VERSION:
        raise StoreUnavailableError(
            f"{shown} is Redis {info['redis_version']}; a map needs Redis 6.2 or Valkey"
        )
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys"):
        raise StoreUnavailableError(
            f"{shown} may drop entries when its memory is full: its maxmemory-policy is {policy}; "
            "set it to noeviction, or to one of volatile-…, which spare kvmap's keys"
        )
    return Traits(
        has_file=info.get("aof_enabled") == 1,
        syncs_always=appendfsync == "always",
        can_wait=version >= _WAITAOF_VERSION,
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
