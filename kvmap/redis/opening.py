"""Opening a map on a server."""

from __future__ import annotations

from typing import Any, Final

from kvmap.errors import NotAStoreError
from kvmap.redis import address as addresses
from kvmap.redis import links, meta
from kvmap.redis.callers import PREFIX
from kvmap.redis.checks import check_servers, check_settings, check_sync
from kvmap.redis.engine import RedisEngine
from kvmap.redis.failures import FAILURES, translated
from kvmap.redis.layout import Layout, check_partitions, meta_key
from kvmap.redis.scripts import writing
from kvmap.redis.server import Server
from kvmap.settings import Change, Settings

_CLUSTER_PARTITIONS: Final = 64

_FORGET_AFTER: Final = 86400
"""Seconds after which a caller's last number is removed at the next opening."""


def open_engine(
    target: Any,
    flag: str,
    *,
    name: str | None,
    timeout: float,
    sync: bool,
    shards: int | None,
    change: Change,
    clock: str | None = None,
) -> RedisEngine:
    """Open a map at a URL, or over a client object, and make it where flag and state call for that.

    `timeout` is in seconds for a call; 0 stands for 5, and for a client object, which has its own.
    `change` makes the settings from those that are kept, or from None for a new map.
    `clock` is for tests, see `Server`. Takes a few trips to the server.

    Raises FileNotFoundError with the flags "w" and "r" where there is no map, NotAStoreError where
    a key is in the way, ValueError for what can't be had, StoreUnavailableError and
    StoreTimeoutError.
    """
    if shards is not None:
        check_partitions(shards)
    seconds = timeout or links.DEFAULT_TIMEOUT
    if isinstance(target, str):
        place = addresses.parse(target, name)
        try:
            link = links.to_url(place, seconds)
        except FAILURES as error:
            raise translated(error, place.shown, is_write=False, was_sent=False) from error
        except TypeError as error:
            option = str(error).rpartition(" ")[2]
            raise ValueError(
                f"redis-py has no option {option} for a URL such as {place.shown}"
            ) from error
    else:
        if timeout:
            raise ValueError("timeout can't be had with a client object, which has its own")
        link = links.to_client(target)
        place = addresses.of_client(target, name)
    try:
        return _open(
            link, place, flag, seconds, sync=sync, shards=shards, change=change, clock=clock
        )
    except BaseException:
        link.close()
        raise


def _open(
    link: links.Link,
    place: addresses.Address,
    flag: str,
    timeout: float,
    *,
    sync: bool,
    shards: int | None,
    change: Change,
    clock: str | None,
) -> RedisEngine:
    full_name = f"{place.shown}/{place.name}"
    asking = Server(link, Layout(place.name, 1), place.shown, timeout)
    traits = check_servers(asking)
    wait_for_sync = sync and flag != "r" and check_sync(traits, place.shown)
    partitions, settings = _settings(asking, full_name, flag, shards, change)
    layout = Layout(place.name, partitions)
    server = Server(
        link,
        layout,
        place.shown,
        timeout,
        wait_for_sync=wait_for_sync,
        clock=None if clock is None else clock.encode(),
    )
    engine = RedisEngine(server, settings, full_name, traits, read_only=flag == "r")
    if flag == "n":
        engine.clear()
    if flag != "r":
        _forget_old_callers(server, engine.now())
    return engine


def _settings(
    server: Server,
    full_name: str,
    flag: str,
    shards: int | None,
    change: Change,
) -> tuple[int, Settings]:
    """The map's partitions and settings, which are kept from now on."""
    key = meta_key(server.layout.name)
    there = server.command(key, "GET", key)
    if there is None:
        if flag in ("w", "r"):
            raise FileNotFoundError(f"there is no map {full_name}; flag {flag!r} does not make one")
        partitions = shards or (_CLUSTER_PARTITIONS if server.link.is_cluster else 1)
        settings = change(None)
        check_settings(settings, partitions)
        _check_free(server, full_name, partitions)
        text = meta.to_text(partitions, settings)
        if server.command(key, "SET", key, text, "NX", is_write=True) is not None:
            return partitions, settings
        there = server.command(key, "GET", key)  # another process has just made it
        if there is None:
            raise NotAStoreError(f"{full_name} was removed while it was opened")
    partitions, kept = meta.from_text(there, full_name)
    if shards is not None and shards != partitions:
        raise ValueError(
            f"{full_name} has {partitions} partitions, which stay as they are; shards={shards} "
            "can't be had"
        )
    settings = change(None if flag == "n" else kept)
    if settings != kept:
        if flag == "r":
            raise ValueError(f'{full_name} was opened with flag "r", which keeps its settings')
        check_settings(settings, partitions)
        server.command(key, "SET", key, meta.to_text(partitions, settings), is_write=True)
    return partitions, settings


def _check_free(server: Server, full_name: str, partitions: int) -> None:
    """Raise NotAStoreError where a new map's keys are taken."""
    layout = Layout(server.layout.name, partitions)
    for number in range(partitions):
        for key in layout.keys(number):
            if server.command(key, "EXISTS", key):
                raise NotAStoreError(
                    f"{full_name} has no settings, and the key {key.decode()} is there; nothing was "
                    "changed"
                )


def _forget_old_callers(server: Server, now: float) -> None:
    """Remove the numbers of callers whose process ended long ago without closing its map."""
    script = writing("forget")
    moment = b"%d" % int((now - _FORGET_AFTER) * 1_000_000)
    for number in range(server.layout.partitions):
        server.write(script, number, PREFIX, moment)
