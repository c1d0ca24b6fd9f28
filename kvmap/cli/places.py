"""Where a store is: a directory or the URL of a server, opened for a command."""

from __future__ import annotations

import os
import stat
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import kvmap
from kvmap.cli import screen
from kvmap.cli.progress import Progress
from kvmap.cli.words import Refused, refusing
from kvmap.mapping import KVMap
from kvmap.urls import SCHEMES, SHOWN, scheme

_MANIFEST: Final = "kvmap.json"


class NoStoreError(Refused):
    """There is nothing at a path or URL."""


def is_url(store: str) -> bool:
    """
    >>> is_url("redis://localhost/0/sessions"), is_url("sessions")
    (True, False)
    """
    return scheme(store) is not None


def shown(store: str) -> str:
    """What messages call a store: without the password of a URL.

    >>> shown("redis://ada:secret@localhost:6379/0/sessions"), shown("sessions")
    ('redis://localhost:6379/0/sessions', 'sessions')
    """
    if not is_url(store):
        return store
    parts = urlsplit(store)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def open_to_read(store: str, timeout: float, *, whole: bool = False) -> KVMap[Any, Any]:
    """A store as it is now; its owner may go on writing. `whole`: the command reads all of it."""
    if is_url(store):
        return _open_server(store, "r", timeout)
    must_be_store(store)
    d = kvmap.snapshot(store)
    if whole:
        _read_index(d)
    return d


def open_to_write(
    store: str, timeout: float, *, new: bool = False, whole: bool = False, **settings: Any
) -> KVMap[Any, Any]:
    """A store of one's own. `new`: made, with these settings, where there is none."""
    if store == ":memory:":
        raise Refused("a map in memory is not kept; name a directory or a URL")
    if is_url(store):
        return _open_server(store, "c" if new else "w", timeout, **settings)
    if not new:
        must_be_store(store)
    existed = os.path.lexists(store)
    if existed and new:
        must_be_directory(store)
    with refusing():
        d = kvmap.open(store, "c" if new else "w", timeout=timeout, **settings)
    if not existed:
        screen.note(f"made a new store, {store}")
    if whole:
        _read_index(d)
    return d


def _open_server(store: str, flag: str, timeout: float, **settings: Any) -> KVMap[Any, Any]:
    if scheme(store) not in SCHEMES:
        raise Refused(f"{shown(store)}: the URL of a server begins with one of {SHOWN}")
    try:
        with refusing():
            return kvmap.open(store, flag, timeout=timeout, **settings)
    except FileNotFoundError:
        raise NoStoreError(f"there is no store at {shown(store)}") from None
    except ModuleNotFoundError as error:
        raise Refused(str(error)) from None


def _read_index(d: KVMap[Any, Any]) -> None:
    try:
        with Progress("read index", "shards") as progress:
            d.load(progress)
    except BaseException:
        d.close()
        raise


def must_be_store(path: str) -> None:
    """Raise Refused unless there is a store's directory, and OSError where it can't be read."""
    must_be_directory(path)
    if _MANIFEST not in os.listdir(path):
        raise Refused(f"{path} is no kvmap store: it holds no {_MANIFEST}")


def must_be_directory(path: str) -> None:
    """Raise Refused unless there is a directory, and OSError where it can't be looked at."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoStoreError(f"there is no store at {path}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(f"{path} is not a directory; a store is one")


def must_have_files(store: str, command: str) -> None:
    """Raise Refused for a server, and for what is no directory."""
    if is_url(store):
        raise Refused(
            f"{shown(store)} has no files to {command}; `kvmap load` copies its entries to a directory"
        )
    must_be_directory(store)


def is_there(store: str, timeout: float) -> bool:
    """Whether something is at a path, or a map at a URL."""
    if not is_url(store):
        return os.path.lexists(store)
    try:
        _open_server(store, "r", timeout).close()
    except NoStoreError:
        return False
    return True
