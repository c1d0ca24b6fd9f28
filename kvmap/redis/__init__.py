"""The engine on Redis or Valkey: one map for many processes, on many machines."""

from __future__ import annotations

from kvmap.redis.address import is_url

try:
    from kvmap.redis.opening import open_engine
except ModuleNotFoundError as error:
    if error.name != "redis":
        raise
    raise ModuleNotFoundError(
        "a map on a server needs redis-py: pip install kvmap[redis]", name="redis"
    ) from error

__all__ = ["is_url", "open_engine"]
