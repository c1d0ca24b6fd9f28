"""The engine on Redis or Valkey: one map for many processes, on many machines.

What may be lost of the writes that were acknowledged depends on the server's settings:

    setting                        kill of the server   power cut        failover to a replica
    no append-only file            since the last save  the same         what was not replicated
    appendfsync no                 nothing              ~30 seconds      what was not replicated
    appendfsync everysec           ~2 seconds at most   ~2 seconds       what was not replicated
      and sync=True, with WAITAOF  nothing              nothing          what was not replicated
    appendfsync always             nothing              nothing          what was not replicated

A write is done once or not at all in each case. `sync()` waits until all so far is in the synced
append-only file, where WAITAOF can be had; without an append-only file it can promise nothing.
"""

from __future__ import annotations

try:
    from kvmap.redis.opening import open_engine
except ModuleNotFoundError as error:
    if error.name != "redis":
        raise
    raise ModuleNotFoundError(
        "a map on a server needs redis-py: pip install redis", name="redis"
    ) from error

__all__ = ["open_engine"]
