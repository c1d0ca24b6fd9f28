"""The front door: `kvmap.open` and `kvmap.snapshot` choose an engine and put a map before it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from types import UnionType
from typing import Any, Final, Protocol, TypedDict, TypeGuard, TypeVar, Unpack, overload

from kvmap import codecs
from kvmap.engine import Engine
from kvmap.limits import Limits
from kvmap.mapping import KVMap
from kvmap.settings import DEFAULT, Default, Seconds, Settings, changing, check_seconds
from kvmap.urls import SCHEMES, scheme, whole_path

V = TypeVar("V")

MEMORY = ":memory:"
"""In place of a path: a map that is not kept."""

_MODE: Final = 0o700


class Client(Protocol):
    """A client object of redis-py, as far as this module needs to know one."""

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """Send a command."""
        ...


class Options(TypedDict, total=False):
    """The options of `open` that do not decide its type."""

    ttl: Seconds | Default
    limits: Limits | Default
    evict: str | Default | None
    codec: str | Default
    timeout: float
    sync: bool
    writeback: bool
    count_reads: bool
    shards: int | None
    mode: int
    name: str | None


Where = str | os.PathLike[str] | Client | None


@overload
def open(
    path: Where = None,
    flag: str = "c",
    *,
    type: None = None,
    encode: Callable[[Any], Any] | None = None,
    decode: None = None,
    **options: Unpack[Options],
) -> KVMap[Any, Any]: ...
@overload
def open(
    path: Where = None, flag: str = "c", *, type: type[V], **options: Unpack[Options]
) -> KVMap[Any, V]: ...
@overload
def open(
    path: Where = None, flag: str = "c", *, type: UnionType, **options: Unpack[Options]
) -> KVMap[Any, Any]: ...
@overload
def open(
    path: Where = None,
    flag: str = "c",
    *,
    type: None = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], V],
    **options: Unpack[Options],
) -> KVMap[Any, V]: ...
def open(
    path: Where = None,
    flag: str = "c",
    *,
    type: Any = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    ttl: Seconds | Default = DEFAULT,
    limits: Limits | Default = DEFAULT,
    evict: str | Default | None = DEFAULT,
    codec: str | Default = DEFAULT,
    timeout: float = 0,
    sync: bool = False,
    writeback: bool = False,
    count_reads: bool = False,
    shards: int | None = None,
    mode: int = _MODE,
    name: str | None = None,
) -> KVMap[Any, Any]:
    """Open a store, and make it where there is none.

    A context manager closes it; on a directory the map owns the store until then. Costs about a
    millisecond, whatever the store's size: a shard is read when one of its keys is first asked for.

    - `path`: a directory; parents that are missing are made. Or ":memory:" for a map that is not
      kept, or a URL such as "redis://localhost:6379/0/sessions", or a client object of redis-py.
      A str such as "a://b" is a URL; "./a://b" and a `Path` are a directory. None makes a new
      directory under the system's temporary directory, and `d.path` says where; it stays after
      closing.
    - `flag`: "c" makes the store if it is missing, "w" and "r" want it to be there, "r" refuses
      every write, "n" starts empty (only kvmap's own data is removed).
    - `type`: the type of the values: a dataclass, TypedDict, attrs class, msgspec struct or pydantic
      model. It needs msgspec or pydantic.
    - `encode`, `decode`: called with each value on its way in and out, instead of `type`.
    - `timeout`: seconds to wait for another owner to let go; 0 fails at once. On a server: seconds
      that a call may take; 0 is the client's own setting.
    - `sync`: a write returns when it would survive a power cut, at the cost of one disk sync.
    - `writeback`: remember the values handed out, and write those that were changed in place at
      `sync()`, `close()` and both ends of a transaction.
    - `count_reads`: count hits and misses for `stats()`; a get takes some 0.2 µs longer.
    - `shards`: into how many files, or parts on a server, a new store is split: a power of two. A
      store that is there keeps its number, and refuses another.
    - `mode`: permissions of a new store's directory; by default only its owner gets in.
    - `name`: the store's name on a server, where the URL has none.

    These are kept in the store; an option that is left out leaves what is kept:

    - `ttl`: how long entries live for which the write names nothing else: seconds or a timedelta;
      None: they stay.
    - `limits`: bounds on keys, values and the store, see `kvmap.Limits`.
    - `evict`: how room is made at a bound: "oldest" or "sieve"; None: the write raises LimitError.
    - `codec`: "json" or "extended". A store that is there keeps its own, and refuses another: move
      the entries with `kvmap load NEW OLD --codec extended`.

    Nothing is made or changed before all of this is checked.

    Raises StoreLockedError where the store is open elsewhere, NotAStoreError where the path is
    something else, FileNotFoundError with "w" and "r" where there is nothing, and TypeError or
    ValueError for arguments that make no sense or do not fit the store.

    >>> import kvmap
    >>> with kvmap.open() as d:
    ...     d["ada"] = 1
    ...     path = d.path
    >>> with kvmap.open(path, "r") as d:
    ...     dict(d)
    {'ada': 1}
    """
    if flag not in ("c", "w", "r", "n"):
        raise ValueError(f"flag must be 'c', 'w', 'r' or 'n', not {flag!r}")
    if not isinstance(limits, (Limits, Default)):
        raise TypeError(f"limits must be kvmap.Limits, not {limits!r}; Limits() sets no bound")
    check_seconds(timeout, "timeout")
    _check_mode(mode)
    # What depends on no store is checked here, the rest by `change`; `codecs.make` for its refusals.
    asked = Settings(limits=Limits(entries=1)).changed(ttl=ttl, evict=evict, codec=codec)
    codecs.make(asked.codec, type=type, encode=encode, decode=decode)
    wanted = changing(limits=limits, ttl=ttl, evict=evict, codec=codec)

    def change(kept: Settings | None) -> Settings:
        settings = wanted(kept)
        if settings.codec != asked.codec:
            codecs.make(settings.codec, type=type, encode=encode, decode=decode)
        return settings

    engine: Engine
    if path == MEMORY:
        from kvmap.memory import MemoryEngine

        if flag in "rw":
            raise FileNotFoundError(errno.ENOENT, "a map in memory is always new", path)
        engine = MemoryEngine(change(None))
    elif _is_server(path):
        from kvmap import redis

        if mode != _MODE:
            raise ValueError("mode= is for a store on disk; a server has no directory")
        engine = redis.open_engine(
            path, flag, name=name, timeout=timeout, sync=sync, shards=shards, change=change
        )
    else:
        from kvmap import disk

        where = new_path() if path is None else whole_path(path)
        if name is not None:
            raise ValueError(f"name= is for a map on a server; the store's path is {where}")
        engine = disk.open_engine(
            where, flag, timeout=timeout, sync=sync, shards=shards, mode=mode, change=change
        )
    if count_reads:
        from kvmap.counting import counted

        engine = counted(engine)
    return before(engine, type=type, encode=encode, decode=decode, writeback=writeback)


def before(
    engine: Engine,
    *,
    type: Any = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    writeback: bool = False,
) -> KVMap[Any, Any]:
    """Put a map before an open engine; where that fails, close the engine."""
    try:
        codec = codecs.make(engine.settings.codec, type=type, encode=encode, decode=decode)
        return KVMap(engine, codec, writeback=writeback)
    except BaseException:
        engine.close()
        raise


def snapshot(
    path: str | os.PathLike[str],
    *,
    type: Any = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
) -> KVMap[Any, Any]:
    """A read-only map of a store on disk as it is now, also while its owner writes to it.

    Takes no lock, writes nothing, and needs no permission but to read. Every entry is right or its
    read raises; a batch or a transaction is there as a whole or not at all. `refresh()` moves the
    map to the store's present state. O(bytes written since the store's last clean close).

    Raises FileNotFoundError where there is nothing, NotAStoreError where the path is something else.

    >>> import kvmap
    >>> with kvmap.open() as d:
    ...     d["ada"] = 1
    ...     with kvmap.snapshot(d.path) as then:
    ...         d["ada"] = 2
    ...         then["ada"]
    1
    """
    from kvmap import disk

    return before(disk.open_snapshot(whole_path(path)), type=type, encode=encode, decode=decode)


def open_new(path: str | os.PathLike[str] | None) -> KVMap[Any, Any]:
    """Open a store that must not be there yet. Raises FileExistsError where there is something."""
    if path is not None and path != MEMORY and _is_there(path):
        raise FileExistsError(errno.EEXIST, "fromkeys makes a new store", os.fspath(path))
    return open(path)


def _is_there(path: str | os.PathLike[str]) -> bool:
    if not _is_server(path):
        return os.path.lexists(path)
    try:
        open(path, "r").close()
    except FileNotFoundError:
        return False
    return True


def _is_server(path: Where) -> TypeGuard[str | Client]:
    """Whether this is a URL, or a client object, of a server."""
    if isinstance(path, str):
        return scheme(path) in SCHEMES
    return not isinstance(path, (bytes, os.PathLike)) and hasattr(path, "execute_command")


def _check_mode(mode: Any) -> None:
    if not isinstance(mode, int) or isinstance(mode, bool):
        raise TypeError(f"mode must be an int such as 0o700, not {mode!r}")
    if not 0 <= mode <= 0o7777:
        raise ValueError(f"mode must be permissions such as 0o700, not {mode}")


def new_path() -> str:
    """A path in the system's temporary directory that nobody uses. Unique: it holds a UUID."""
    # Imported here because most programs name their store, and these take 3 ms of start-up.
    import tempfile
    import uuid

    return os.path.join(tempfile.gettempdir(), f"kvmap-{uuid.uuid4()}")
