"""The front door: `kvmap.open`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar, overload

from kvmap.files import Files
from kvmap.manifest import Limits, check_shards
from kvmap.mapping import KVMap, Seconds, check_ttl
from kvmap.record import INF
from kvmap.store import Store

V = TypeVar("V")


@overload
def open(
    path: str | os.PathLike[str] | None = None,
    flag: str = "c",
    *,
    ttl: Seconds = None,
    timeout: float = 0,
    sync: bool = False,
    shards: int = 64,
    limits: Limits | None = None,
    mode: int = 0o700,
    encode: Callable[[Any], Any] | None = None,
    decode: None = None,
    writeback: bool = False,
    files: Files | None = None,
) -> KVMap[Any]: ...
@overload
def open(
    path: str | os.PathLike[str] | None = None,
    flag: str = "c",
    *,
    ttl: Seconds = None,
    timeout: float = 0,
    sync: bool = False,
    shards: int = 64,
    limits: Limits | None = None,
    mode: int = 0o700,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], V],
    writeback: bool = False,
    files: Files | None = None,
) -> KVMap[V]: ...
def open(
    path: str | os.PathLike[str] | None = None,
    flag: str = "c",
    *,
    ttl: Seconds = None,
    timeout: float = 0,
    sync: bool = False,
    shards: int = 64,
    limits: Limits | None = None,
    mode: int = 0o700,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    writeback: bool = False,
    files: Files | None = None,
) -> KVMap[Any]:
    """Open the store in a directory, and make it where there is none.

    A context manager closes it; the map owns the store until then. Costs about a millisecond,
    whatever the store's size: a shard is read when one of its keys is first asked for.

    - `path`: a directory. None makes a new one under the system's temporary directory, and
      `d.path` tells where; it stays after closing.
    - `flag`: "c" makes the store if it is missing, "w" and "r" want it to be there, "r" refuses
      every write, "n" starts empty (only kvmap's own files are removed).
    - `ttl`: how long entries live for which the write names nothing else: seconds or a timedelta.
      Kept in the store; None leaves what is kept.
    - `timeout`: seconds to wait for another owner to let go; 0 fails at once.
    - `sync`: a write returns when it would survive a power cut, at the cost of one disk sync.
    - `shards`: into how many files a new store is split, a power of two up to 4,096. Fixed then.
      With fewer, the last step of a compaction takes longer; more than 64 share 65 maps, so that
      at random each access may cost 20 µs. At a million keys, 16, 64 and 256 shards make the
      slowest write 105, 55 and 30 ms.
    - `limits`: bounds on keys, values and the store, kept in the store; None leaves what is kept.
    - `mode`: permissions of a new store's directory; by default only its owner gets in.
    - `encode`, `decode`: called with each value on its way in and out, for what JSON can't hold.
    - `writeback`: remember the values handed out, and write those that were changed in place at
      `sync()`, `close()` and both ends of a transaction.
    - `files`: stands in for the operating system; for tests.

    Raises StoreLockedError where the store is open elsewhere, NotAStoreError where the path is
    something else, FileNotFoundError with "w" and "r" where there is nothing, and TypeError or
    ValueError for arguments that make no sense.

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
    check_shards(shards)
    _check_options(timeout, limits, mode, encode, decode)
    seconds = check_ttl(ttl)
    store = Store.open(
        new_path() if path is None else _whole_path(path),
        flag,
        timeout=timeout,
        shards=shards,
        limits=limits,
        ttl=None if seconds == INF else seconds,
        mode=mode,
        files=files or Files(),
    )
    try:
        return KVMap(store, sync=sync, encode=encode, decode=decode, writeback=writeback)
    except BaseException:
        store.release()
        raise


def _check_options(timeout: Any, limits: Any, mode: Any, encode: Any, decode: Any) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be seconds, not {timeout!r}")
    if not timeout >= 0:
        raise ValueError(f"timeout must be 0 or more seconds, not {timeout!r}")
    if not isinstance(limits, Limits | None):
        raise TypeError(f"limits must be kvmap.Limits or None, not {limits!r}")
    if type(mode) is not int:
        raise TypeError(f"mode must be an int such as 0o700, not {mode!r}")
    if not 0 <= mode <= 0o7777:
        raise ValueError(f"mode must be permissions such as 0o700, not {mode}")
    for name, hook in (("encode", encode), ("decode", decode)):
        if hook is not None and not callable(hook):
            raise TypeError(f"{name} must be callable or None, not {hook!r}")


def _whole_path(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    if not isinstance(name, str):
        raise TypeError(f"path must be a str or an os.PathLike of one, not {path!r}")
    if not name:
        raise ValueError('path is empty; "." is the current directory')
    return os.path.abspath(name)


def new_path() -> str:
    """A path in the system's temporary directory that nobody uses. Unique: it holds a UUID."""
    # Imported here because most programs name their store, and these take 3 ms of start-up.
    import tempfile
    import uuid

    return os.path.join(tempfile.gettempdir(), f"kvmap-{uuid.uuid4()}")
