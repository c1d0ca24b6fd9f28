"""Where a map is: a URL in its parts, and what messages call it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from kvmap.redis.layout import check_name
from kvmap.urls import SCHEMES, SHOWN

DEFAULT_NAME: Final = "default"
"""The name of a map for which neither the URL nor `name=` gives one."""


@dataclass(frozen=True)
class Address:
    """A server, a database on it, and a map's name."""

    url: str
    """What redis-py connects to. It may hold a password."""
    shown: str
    """What messages call the server and the database; without a password."""
    name: str

    def __repr__(self) -> str:
        return f"<Address {self.shown}/{self.name}>"


def parse(url: str, name: str | None) -> Address:
    """The parts of a URL such as `redis://user:secret@host:6379/0/sessions`.

    A `unix://` URL ends with the socket's path; database and name stand behind it: `?db=0&name=…`.
    Raises ValueError, never with the password in it.

    >>> parse("valkey://:secret@example.org/0/sessions", None)
    <Address redis://example.org:6379/0/sessions>
    """
    parts = urlsplit(url)
    scheme = SCHEMES.get(parts.scheme.lower())
    if scheme is None:
        raise ValueError(f"a server's URL begins with one of {SHOWN}, not {parts.scheme!r}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("a unix:// URL needs the path of the server's socket")
        database, named = options.pop("db", "0"), options.pop("name", None)
        path, shown = parts.path, f"unix://{unquote(parts.path)}?db={database}"
        options["db"] = database
    else:
        try:
            port = parts.port or 6379
        except ValueError:
            raise ValueError("the port in the server's URL is not a number up to 65535") from None
        path_parts = parts.path.strip("/").split("/", 1)
        asked = options.pop("db", None)
        database = path_parts[0] or asked or "0"
        if asked not in (None, database):
            raise ValueError(f"the URL names the databases {database!r} and {asked!r}")
        named = _unquoted(path_parts[1]) if len(path_parts) > 1 else options.pop("name", None)
        path = f"/{database}"
        host = parts.hostname or "localhost"
        shown = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/{database}"
    if not database.isdecimal():
        raise ValueError(
            f"the database in the URL must be a number, not {database!r}; the map's name stands "
            f"behind it: /0/{quote(database)}"
        )
    if name is not None and named is not None and name != named:
        raise ValueError(f"the URL names the map {named!r}, and name= says {name!r}")
    chosen = name if name is not None else named if named is not None else DEFAULT_NAME
    query = f"?{urlencode(options)}" if options else ""
    clean = f"{scheme}://{parts.netloc}{path}{query}"
    return Address(clean, shown, check_name(chosen))


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"the map's name in the URL, {text!r}, is not UTF-8") from None


def of_client(client: Any, name: str | None) -> Address:
    """The address that a client object connects to."""
    if hasattr(client, "connection_pool"):
        options = client.connection_pool.connection_kwargs
        database = options.get("db") or 0
        service = getattr(client.connection_pool, "service_name", None)  # of sentinels
        if options.get("path"):
            shown = f"unix://{options['path']}?db={database}"
        elif service is not None:
            shown = f"the service {service} of redis sentinels, /{database}"
        else:
            shown = f"redis://{options.get('host', 'localhost')}:{options.get('port', 6379)}/"
            shown += str(database)
    else:
        node = client.get_default_node()
        shown = f"redis://{node.host}:{node.port}/0"
    return Address("", shown, check_name(DEFAULT_NAME if name is None else name))
