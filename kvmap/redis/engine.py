"""The engine on a server: each operation is one script, so that it is atomic for everybody.

A map of several partitions makes batches one partition at a time, and its order is by the servers'
clocks. All else holds for any number of partitions.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from kvmap import keys, values
from kvmap.engine import INF, KEEP_DEADLINE, Changes, Condition, If, Progress, Seen
from kvmap.errors import KVMapError, ReadOnlyError, StoreClosedError
from kvmap.keys import Key
from kvmap.redis import fields, meta
from kvmap.redis.batches import Batches
from kvmap.redis.checks import Traits, check_settings
from kvmap.redis.figures import measure
from kvmap.redis.pages import Pages
from kvmap.redis.scripts import Script, reading, writing
from kvmap.redis.server import Server
from kvmap.redis.texts import limit_texts, ttl_text
from kvmap.settings import Settings
from kvmap.stats import Stats

_GET: Final = reading("get")
_CONTAINS: Final = reading("contains")
_LENGTH: Final = reading("length")
_DEADLINE: Final = reading("deadline")
_TIME: Final = reading("time")
_STATE: Final = reading("state")
_PUT: Final = writing("put")
_SETDEFAULT: Final = writing("setdefault")
_INCR: Final = writing("incr")
_EXPIRE: Final = writing("expire")
_POP: Final = writing("pop")
_POPITEM: Final = writing("popitem")
_DELETE: Final = writing("delete")
_CLEAR: Final = writing("clear")
_PURGE: Final = writing("purge")
_TOUCH: Final = writing("touch")

_INT64: Final = range(-(2**63), 2**63)


class RedisEngine:
    """Implements `kvmap.engine.Engine`, whose docstrings hold."""

    path = None
    remote = True
    version = 0
    net_size = 0
    next_deadline = INF
    held = False

    def __init__(
        self, server: Server, settings: Settings, name: str, traits: Traits, *, read_only: bool
    ) -> None:
        self.settings = settings
        self.name = name
        self.closed = False
        self._server = server
        self._traits = traits
        self._read_only = read_only
        self._pages = Pages(server)
        self._batches = Batches(server)
        self._partitions = range(server.layout.partitions)

    # Reading

    def get(self, key: Key, /) -> bytes | None:
        found = self._find(_GET, key)
        return None if found is None else bytes(found)

    def get_many(self, keys: Iterable[Key], /) -> list[bytes | None]:
        self._check_open()
        return self._batches.get_many(keys)

    def __contains__(self, key: object, /) -> bool:
        return bool(self._find(_CONTAINS, key))

    def __len__(self) -> int:
        return sum([self._read(_LENGTH, number) for number in self._partitions])

    def keys(self, *, reverse: bool = False) -> Iterator[list[Key]]:
        self._check_open()
        return self._while_open(self._pages.keys(reverse=reverse))

    def items(self, *, reverse: bool = False) -> Iterator[tuple[list[Key], list[bytes]]]:
        self._check_open()
        return self._while_open(self._pages.items(reverse=reverse))

    def deadline(self, key: Key, /) -> float | None:
        found = self._find(_DEADLINE, key)
        if found is None:
            return None
        return float(found) if found else INF

    def deadlines(self, keys: Iterable[Key], /) -> list[float | None]:
        self._check_open()
        return self._batches.deadlines(keys)

    def expiring(self, seconds: float, /) -> dict[Key, bytes]:
        self._check_open()
        found: dict[Key, bytes] = {}
        for number in self._partitions:
            found.update(self._pages.expiring(number, seconds))
        return found

    def now(self) -> float:
        return float(self._read(_TIME, 0))

    def state(self) -> object:
        if len(self._partitions) > 1:
            self._check_open()
            raise ValueError(
                f"a transaction on a map of {len(self._partitions)} partitions can't read all of "
                "it, only keys of one partition; open a new one with shards=1"
            )
        return self._read(_STATE, 0)

    def damaged(self, key: Key, reason: str) -> Exception:
        partition = self._server.layout.partition(fields.of_any(key) or b"")
        return self._pages.corrupt(partition, f"the value of key {keys.shown(key)}: {reason}")

    def peek(self, count: int, /) -> tuple[int | None, list[tuple[Key, bytes]]]:
        self._check_open()
        try:
            return len(self), self._pages.first(count)
        except OSError:
            return None, []

    # Writing

    def put(self, key: Key, text: bytes, ttl: float, only_if: Condition = None, /) -> bool:
        if only_if is None:
            condition = b""
        elif isinstance(only_if, If):
            condition = only_if.value.encode()
        else:
            condition = b"=" + only_if
        field, form = self._field_to_write(key)
        written = self._server.write(
            _PUT,
            self._server.layout.partition(field),
            field,
            text,
            ttl_text(ttl),
            ttl_text(self.settings.ttl),
            condition,
            form,
            *limit_texts(self.settings.limits),
        )
        return bool(written)

    def put_many(self, texts: Mapping[Key, bytes], ttl: float, /) -> None:
        self._check_writable()
        self._batches.put_many(texts, ttl, self.settings)

    def put_until(self, entries: Mapping[Key, tuple[bytes, float]], /) -> None:
        self._check_writable()
        self._batches.put_until(entries, self.settings)

    def setdefault(self, key: Key, text: bytes, ttl: float, /) -> bytes:
        field, form = self._field_to_write(key)
        return bytes(
            self._server.write(
                _SETDEFAULT,
                self._server.layout.partition(field),
                field,
                text,
                ttl_text(self.settings.ttl if ttl == KEEP_DEADLINE else ttl),
                form,
                *limit_texts(self.settings.limits),
            )
        )

    def incr(
        self, key: Key, by: int | float, default: int | float | None, ttl: float, /
    ) -> int | float:
        field, form = self._field_to_write(key)
        initial = b"" if default is None else values.add(key, values.encode(default), by)[0]
        while True:
            reply = self._server.write(
                _INCR,
                self._server.layout.partition(field),
                field,
                b"%d" % by if type(by) is int and by in _INT64 else b"",
                ttl_text(ttl),
                ttl_text(self.settings.ttl),
                initial,
                form,
                *limit_texts(self.settings.limits),
            )
            if reply is None:
                raise KeyError(key)
            if isinstance(reply, bytes):
                return values.add(key, reply, 0)[1]
            # Not two 64-bit integers: add them here, and write the sum if nobody was quicker.
            there: bytes = reply[0]
            text, total = values.add(key, there, by)
            if self.put(key, text, ttl, there):
                return total

    def expire(self, key: Key, ttl: float, /) -> bool:
        return bool(self._find_to_write(_EXPIRE, key, ttl_text(ttl)))

    def pop(self, key: Key, /) -> bytes | None:
        found = self._find_to_write(_POP, key)
        return None if found is None else bytes(found)

    def popitem(self, *, last: bool = True) -> tuple[Key, bytes] | None:
        self._check_writable()
        end = b"last" if last else b"first"
        while (partition := self._pages.outermost(last=last)) is not None:
            reply = self._server.write(_POPITEM, partition, end)
            if reply:
                text, _, value = reply.partition(b"\0")
                return fields.parsed(b"[" + text + b"]")[0], value
            if reply is None and len(self._partitions) == 1:
                return None
        return None

    def delete(self, key: Key, /) -> bool:
        return bool(self._find_to_write(_DELETE, key))

    def delete_many(self, keys: Iterable[Key], /) -> int:
        self._check_writable()
        return self._batches.delete_many(keys)

    def clear(self) -> None:
        self._check_writable()
        for number in self._partitions:
            self._server.write(_CLEAR, number)

    def purge(self) -> int:
        self._check_writable()
        total = 0
        for number in self._partitions:
            is_done = 0
            while not is_done:
                is_done, count = self._server.write(_PURGE, number)
                total += count
        return total

    # Transactions

    def hold(self, holder: object, *, wait: bool = True) -> bool:
        self._check_writable()
        return True

    def release(self, holder: object) -> None:
        """Nobody waits."""

    def commit(self, changes: Changes, seen: Seen) -> None:
        self._check_writable()
        self._batches.commit(changes, seen, self.settings)

    # Care

    def refresh(self) -> None:
        self._check_open()  # each read asks the server

    def load(self, progress: Progress | None = None) -> None:
        self._check_open()  # the server has read it

    def configure(self, settings: Settings) -> None:
        self._check_writable()
        check_settings(settings, len(self._partitions))
        text = meta.to_text(len(self._partitions), settings)
        self._server.command(self._server.layout.meta, "SET", self._server.layout.meta, text)
        self.settings = settings

    def stats(self) -> Stats:
        self._check_open()
        return measure(self._server, self._pages, self.now())

    def compact(self, progress: Progress | None = None) -> None:
        self._check_open()  # a server gives space back by itself

    def backup(self, path: Path, progress: Progress | None = None) -> None:
        raise io.UnsupportedOperation(
            f"{self.name} has no files to copy; load its entries into a new map on disk"
        )

    def sync(self) -> None:
        self._check_open()
        if self._read_only or self._traits.syncs_always:
            return
        if self._traits.has_file and self._traits.can_wait:
            for number in self._partitions:
                self._server.write_and_sync(_TOUCH, number)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            try:
                self._server.forget_callers()
            except KVMapError:
                pass  # it is away, or refuses: the numbers are removed by a later opening
            finally:
                self._server.link.close()

    def after_fork(self) -> None:
        self._server.renew()

    # Parts of the above

    def _check_open(self) -> None:
        if self.closed:
            raise StoreClosedError(f"the map is closed ({self.name})")

    def _check_writable(self) -> None:
        self._check_open()
        if self._read_only:
            raise ReadOnlyError(f'{self.name} was opened with flag "r"')

    def _while_open(self, pages: Iterator[Any]) -> Iterator[Any]:
        for page in pages:
            yield page
            self._check_open()

    def _read(self, script: Script, partition: int) -> Any:
        self._check_open()
        return self._server.read(script, partition)

    def _find(self, script: Script, key: object) -> Any:
        """What a reading script answers about a key; None for what can't be one."""
        if self.closed:
            self._check_open()
        field = fields.of_any(key)
        if field is None:
            return None
        return self._server.read(script, self._server.layout.partition(field), field)

    def _find_to_write(self, script: Script, key: object, *arguments: bytes) -> Any:
        self._check_writable()
        field = fields.of_any(key)
        if field is None:
            return None
        return self._server.write(script, self._server.layout.partition(field), field, *arguments)

    def _field_to_write(self, key: Key) -> tuple[bytes, bytes]:
        self._check_writable()
        return fields.to_write(key)
