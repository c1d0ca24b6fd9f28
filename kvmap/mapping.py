"""KVMap: the dict's face. It knows an engine and a codec, but no file and no server."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast, overload

from kvmap import iteration, keys, lifecycle, showing
from kvmap.blocks import Blocks
from kvmap.dict_methods import DictMethods, pairs_of
from kvmap.engine import INF, KEEP_DEADLINE, Engine, If, Progress, State
from kvmap.entry_notes import note_decoding, note_encoding
from kvmap.errors import KeyExistsError, ReadOnlyError
from kvmap.keys import Key
from kvmap.limits import Limits
from kvmap.promise import Promise
from kvmap.settings import (
    DEFAULT,
    KEEP,
    Default,
    Keep,
    NoDefault,
    Seconds,
    Settings,
    check_deadline,
    check_ttl,
)
from kvmap.transactions import Edit, Transaction
from kvmap.urls import whole_path
from kvmap.views import Items, Keys, Values
from kvmap.writeback import Writeback

if TYPE_CHECKING:
    import os

    from _typeshed import SupportsKeysAndGetItem

    from kvmap.codecs import Codec
    from kvmap.memoize import Memoize, Memoized
    from kvmap.stats import Stats

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

_MISSING: Any = NoDefault()
_IN_PLACE = "can't be changed in place"
_FIXED = (str, bytes, int, float, complex, tuple, frozenset, type(None))
_FIXED_MODULES = frozenset({"datetime", "decimal", "uuid"})
"""Python's own modules whose types can't be changed in place either; not imported for this alone."""


class KVMap(DictMethods[K, V]):
    """A dict whose entries outlive the process. Made by `kvmap.open`.

    It has every method and operator of a dict, in insertion order, and raises a dict's errors.
    Keys are str, int, float, bool, None and tuples of these; values what the store's codec holds.
    A value that is read is a copy: `edit` changes it in place. Each method says what it costs.
    `iter(d)`, `len(d)` and all that needs every key first read the shards that were not read yet.

    When a write has returned, `kill -9` does not lose it. Any number of threads and tasks may use a
    map; single operations are atomic.

    Any use of a closed map raises StoreClosedError, a write to a read-only one ReadOnlyError. A read
    raises CorruptStoreError for a damaged record. A write raises TypeError or ValueError for what the
    codec can't hold, LimitError beyond a limit and OSError where the disk is full, and changes
    nothing then.

    >>> import kvmap
    >>> with kvmap.open(":memory:") as d:
    ...     d["ada"] = (1, 2)
    ...     d["ada"], "bob" in d, len(d), list(d)
    ([1, 2], False, 1, ['ada'])
    """

    def __init__(self, engine: Engine, codec: Codec, *, writeback: bool = False) -> None:
        self._engine = engine
        self._blocks = Blocks(engine)
        self._open_blocks = self._blocks.open
        """Empty, but inside of transactions: then reads and writes go where `_blocks` says."""
        self._codec = codec
        self._encode = codec.encode
        self._decode = codec.decode
        self._writeback = Writeback(self._encode_checked) if writeback else None
        self._promised: Promise | None = None
        self._use(engine.settings)
        lifecycle.register(self)

    def _use(self, settings: Settings) -> None:
        limits = settings.limits
        self._ttl = settings.ttl
        self._checks_entry = limits.key_chars is not None or limits.value_bytes is not None
        """Whether a key or a value needs more than to be encoded."""

    # Reading

    def __getitem__(self, key: K) -> V:
        """The key's value, as a copy. O(size of the value); one round trip on a server.

        Raises KeyError where the key is not there, CorruptStoreError for a damaged record.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d["ada"] = {"visits": 1}
        ...     d["ada"]
        {'visits': 1}
        """
        text = (self._blocks.view() if self._open_blocks else self._engine).get(key)
        if text is None:
            return self._missing(key)
        if self._writeback is not None:
            return self._hand_out(key, text)
        try:
            value: V = self._decode(text)
        except Exception as error:
            note_decoding(self._engine, key, text, error)
            raise
        return value

    def _hand_out(self, key: K, text: bytes) -> V:
        assert self._writeback is not None
        return cast(V, self._writeback.hand_out(key, partial(self._decoded, key, text)))

    def _decoded(self, key: Any, text: bytes) -> Any:
        try:
            return self._decode(text)
        except Exception as error:
            note_decoding(self._engine, key, text, error)
            raise

    def _value(self, key: Any, text: bytes) -> V:
        if self._writeback is not None:
            return self._hand_out(key, text)
        return cast(V, self._decoded(key, text))

    def _missing(self, key: K) -> V:
        promised = self._promised
        if promised is not None and (text := promised.take(key)) is not None:
            return cast(V, self._decoded(key, text))
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        """Whether the key is there and has not expired. O(1); one round trip on a server.

        Raises TypeError for an unhashable key.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d["ada"] = 1
        ...     "ada" in d, "bob" in d
        (True, False)
        """
        if key in (self._blocks.view() if self._open_blocks else self._engine):
            return True
        if self._promised is not None:
            self._was_missing(key)
        return False

    def _was_missing(self, key: object) -> None:
        """A caller has got no entry for the key: from now on nobody gets its value."""
        if self._promised is not None:
            self._promised.drop(key)

    @overload
    def get(self, key: K, default: None = None, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V, /) -> V: ...
    @overload
    def get(self, key: K, default: T, /) -> V | T: ...
    def get(self, key: K, default: Any = None, /) -> Any:
        """The key's value, or `default` where there is none. O(size of the value).

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.get("ada", 0)
        0
        """
        text = (self._blocks.view() if self._open_blocks else self._engine).get(key)
        if text is not None:
            return self._value(key, text)
        if self._promised is not None:
            self._was_missing(key)
        return default

    def get_many(self, keys: Iterable[K], /) -> dict[K, V]:
        """The entries of those of the keys that are there, as they are at one moment.

        O(size of the values); one round trip on a server.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(ada=1, bob=2)
        ...     d.get_many(["bob", "eve"])
        {'bob': 2}
        """
        wanted = list(dict.fromkeys(keys))
        texts = self._blocks.view().get_many(wanted)
        found = [(k, text) for k, text in zip(wanted, texts, strict=True) if text is not None]
        return {key: self._value(key, text) for key, text in found}

    def __len__(self) -> int:
        """The number of entries that have not expired. O(1) once all shards are read.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(ada=1, bob=2)
        ...     len(d)
        2
        """
        return len(self._blocks.view() if self._open_blocks else self._engine)

    # Iteration

    def __iter__(self) -> Iterator[K]:
        """The keys, in the order they were inserted. O(n); reads no values.

        Raises RuntimeError where an entry is inserted or deleted meanwhile, as a dict does; on a server
        others may write.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(bob=2, ada=1)
        ...     list(d)
        ['bob', 'ada']
        """
        state = self._blocks.view()
        done = None
        if state.next_deadline < INF:
            done = partial(setattr, self, "_promised", Promise(state))
        return iteration.keys(state, done=done)

    def __reversed__(self) -> Iterator[K]:
        """The keys, the newest first. Otherwise as `iter(d)`.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(bob=2, ada=1)
        ...     list(reversed(d))
        ['ada', 'bob']
        """
        return iteration.keys(self._blocks.view(), reverse=True)

    def _iterate(self, reverse: bool) -> Iterator[tuple[K, V]]:
        return iteration.items(self._blocks.view(), self._values_of, reverse=reverse)

    def _values_of(self, keys: list[Key], texts: list[bytes]) -> list[Any]:
        if self._writeback is None:
            try:
                return self._codec.decode_many(texts)
            except Exception:
                pass  # the next line says which of them it is
        return [self._value(key, text) for key, text in zip(keys, texts, strict=True)]

    def keys(self) -> Keys[K]:
        """A live view of the keys, as a dict's. O(1); iteration is O(n) and reads no values.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(ada=1, bob=2)
        ...     list(d.keys()), d.keys() & {"ada", "eve"}
        (['ada', 'bob'], {'ada'})
        """
        return Keys(self)

    def values(self) -> Values[V]:
        """A live view of the values, as a dict's; decoded a few at a time as they are asked for. O(1).

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(ada=1, bob=2)
        ...     sum(d.values())
        3
        """
        return Values(self, self._iterate)

    def items(self) -> Items[K, V]:
        """A live view of the entries as (key, value), as a dict's. O(1).

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(ada=1, bob=2)
        ...     list(d.items())
        [('ada', 1), ('bob', 2)]
        """
        return Items(self, self._iterate)

    def scan(self, prefix: str | tuple[Any, ...]) -> Iterator[K]:
        """The keys that begin with `prefix`: str keys with a str, tuples with a tuple. O(n).

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update({"user:ada": 1, "job:1": 2, ("user", "bob"): 3})
        ...     list(d.scan("user:")), list(d.scan(("user",)))
        (['user:ada'], [('user', 'bob')])
        """
        if isinstance(prefix, str):
            return (k for k in self if isinstance(k, str) and k.startswith(prefix))
        if isinstance(prefix, tuple):
            length = len(prefix)
            return (k for k in self if isinstance(k, tuple) and k[:length] == prefix)
        raise TypeError(f"prefix must be a str or a tuple, not {type(prefix).__name__}")

    # Writing one entry

    def __setitem__(self, key: K, value: V) -> None:
        """Store a value, with the store's default time to live. Atomic.

        When it returns, `kill -9` does not lose it; with `sync=True`, neither does a power cut. An entry
        that is there keeps its place in the order, but not its deadline: see `set`. O(size of the value);
        with `sync=True` one disk sync; one round trip on a server.

        Raises TypeError or ValueError, naming the place in the value, for what the codec can't hold,
        TypeError for another type of key, LimitError beyond a limit, OSError where the disk is full; then
        nothing is changed.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d["ada"] = 1
        ...     d["bob"] = {1, 2}
        Traceback (most recent call last):
            ...
        TypeError: value: set is not JSON; codec="extended" keeps it
        """
        text = self._encode(value)
        if type(key) is not str or self._checks_entry:
            key = self._checked(key, text)
        state = self._blocks.writer() if self._open_blocks else self._engine
        state.put(key, text, self._ttl)
        if self._promised is not None:
            self._promised.drop(key)
        if self._writeback is not None:
            self._writeback.remember(key, value)

    def _checked(self, key: Any, text: bytes) -> Any:
        """The key as it will come back. Raises what a key, or the limits of one entry, may raise."""
        key = keys.plain(key)
        self._engine.settings.limits.check_entry(key, text)
        return key

    def _encode_checked(self, value: Any) -> bytes:
        text = self._encode(value)
        self._engine.settings.limits.check_entry("", text)
        return text

    def _put(self, key: K, value: V, ttl: Seconds | Default | Keep, only_if: If | None) -> bool:
        seconds = self._seconds(ttl)
        text = self._encode(value)
        key = self._checked(key, text)
        written = self._blocks.writer().put(key, text, seconds, only_if)
        if written:
            self._changed(key, value)
        return written

    def _changed(self, key: K, value: Any = _MISSING) -> None:
        """What other parts know of an entry's value is out of date; `value` is what it is now."""
        if self._promised is not None:
            self._promised.drop(key)
        if self._writeback is not None:
            if value is _MISSING:
                self._writeback.forget(key)
            else:
                self._writeback.remember(key, value)

    def _seconds(self, ttl: Seconds | Default | Keep) -> float:
        if isinstance(ttl, Default):
            return self._ttl
        return KEEP_DEADLINE if isinstance(ttl, Keep) else check_ttl(ttl)

    def set(self, key: K, value: V, *, ttl: Seconds | Default | Keep = DEFAULT) -> None:
        """Store a value, with a time to live for this entry.

        `ttl` is a number of seconds or a timedelta; None: the entry stays, whatever the store's
        default; `kvmap.KEEP`: an entry that is there keeps its deadline, which `d[key] = value` does
        not. O(size of the value); with `sync=True` one disk sync.

        Raises TypeError or ValueError for what JSON can't hold and for a `ttl` of 0 or less.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.set("token", "s3cr3t", ttl=3600)
        ...     d.set("token", "n3w", ttl=kvmap.KEEP)
        ...     d["token"], round(d.ttl("token"))
        ('n3w', 3600)
        """
        self._put(key, value, ttl, None)

    def create(self, key: K, value: V, *, ttl: Seconds | Default = DEFAULT) -> None:
        """Like `set`, but only if the key is not there. Atomic. O(size of the value).

        Raises KeyExistsError, and changes nothing, where it is; otherwise what `set` raises.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.create("ada", 1)
        ...     d.create("ada", 2)
        Traceback (most recent call last):
            ...
        kvmap.errors.KeyExistsError: key 'ada' is there already
        """
        if not self._put(key, value, ttl, If.ABSENT):
            raise KeyExistsError(f"key {keys.shown(key)} is there already")

    @overload
    def setdefault(self: KVMap[K, T | None], key: K, default: None = None, /) -> T | None: ...
    @overload
    def setdefault(self, key: K, default: V, /) -> V: ...
    def setdefault(self, key: K, default: Any = None, /) -> Any:
        """The key's value; where there is none, `default` after storing it. Atomic.

        What is done to the returned value is not stored, as `setdefault(k, []).append(x)` would in
        a dict: use `edit(k, [])`. O(size of the value).

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.setdefault("ada", 1), d.setdefault("ada", 2)
        (1, 1)
        """
        there = self._blocks.writer().get(key)
        if there is not None:
            return self._value(key, there)
        text = self._encode(default)
        key = self._checked(key, text)
        found = self._blocks.writer().setdefault(key, text, self._ttl)
        if self._writeback is not None and found is text:
            self._changed(key, default)
        return self._value(key, found)

    def incr(
        self,
        key: K,
        by: int | float = 1,
        *,
        default: int | float | None = 0,
        ttl: Seconds | Default | Keep = KEEP,
    ) -> int | float:
        """Add to a number and return the sum. Atomic, which `d[key] += 1` is not.

        A missing key counts as `default`, or raises KeyError where that is None. The entry keeps its
        deadline, unless `ttl` names another; a new entry gets the store's default. O(1).

        Raises TypeError where the value is no number, ValueError where the sum does not fit.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.incr("visits"), d.incr("visits", 2), d.incr("visits", -1)
        (1, 3, 2)
        """
        for name, number in (("by", by), ("default", default)):
            if isinstance(number, bool) or not isinstance(number, (int, float, type(None))):
                raise TypeError(f"{name} must be a number, not {number!r}")
        if by is None:
            raise TypeError("by must be a number, not None")
        key = keys.plain(key)
        self._engine.settings.limits.check_entry(key, b"")
        total = self._blocks.writer().incr(key, by, default, self._seconds(ttl))
        self._changed(key)
        return total

    def expire(self, key: K, ttl: Seconds) -> None:
        """Give an entry a new deadline, `ttl` seconds from now; None: it stays. The value is untouched.

        O(size of the value). Raises KeyError where the key is not there.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d["ada"] = 1
        ...     d.expire("ada", 60)
        ...     round(d.ttl("ada"))
        60
        """
        if not self._blocks.writer().expire(key, check_ttl(ttl)):
            self._was_missing(key)
            raise KeyError(key)

    def ttl(self, key: K) -> float | None:
        """Seconds until the entry expires, None where it never does. O(1).

        Raises KeyError where the key is not there.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d["ada"] = 1
        ...     print(d.ttl("ada"))
        None
        """
        deadline = self.deadline(key)
        return None if deadline is None else max(0.0, deadline - self._blocks.view().now())

    def deadline(self, key: K) -> float | None:
        """When the entry expires, in Unix seconds; None where it never does. O(1).

        Raises KeyError where the key is not there.

        >>> import kvmap
        >>> with kvmap.open(":memory:", ttl=60) as d:
        ...     d["ada"] = 1
        ...     d.expire("ada", None)
        ...     print(d.deadline("ada"))
        None
        """
        deadline = self._blocks.view().deadline(key)
        if deadline is None:
            self._was_missing(key)
            raise KeyError(key)
        return None if deadline == INF else deadline

    def deadlines(self, keys: Iterable[K], /) -> dict[K, float | None]:
        """The deadlines of those of the keys that are there, each as `deadline` returns it.

        O(number of keys); one round trip on a server.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(ada=1, bob=2)
        ...     d.deadlines(["bob", "eve"])
        {'bob': None}
        """
        state = self._blocks.view()
        wanted = list(dict.fromkeys(keys))
        found = state.deadlines(wanted)
        there = [(key, each) for key, each in zip(wanted, found, strict=True) if each is not None]
        return {key: None if each == INF else each for key, each in there}

    # Removing entries

    def __delitem__(self, key: K) -> None:
        """Remove an entry. Atomic. O(size of the key); with `sync=True` one disk sync.

        Raises KeyError where the key is not there.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d["ada"] = 1
        ...     del d["ada"]
        ...     len(d)
        0
        """
        if not (self._blocks.writer() if self._open_blocks else self._engine).delete(key):
            self._was_missing(key)
            raise KeyError(key)
        self._changed(key)

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, default: V, /) -> V: ...
    @overload
    def pop(self, key: K, default: T, /) -> V | T: ...
    def pop(self, key: K, default: Any = _MISSING, /) -> Any:
        """Remove an entry and return its value; `default` where it is missing. Atomic.

        O(size of the value). Raises KeyError where it is missing and there is no default.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d["ada"] = 1
        ...     d.pop("ada"), d.pop("ada", None)
        (1, None)
        """
        state = self._blocks.writer()
        if self._codec.may_fail and (there := state.get(key)) is not None:
            self._decoded(key, there)  # an entry that can't be decoded is not removed
        text = state.pop(key)
        if text is None:
            self._was_missing(key)
            if default is _MISSING:
                raise KeyError(key)
            return default
        return self._removed(key, text)

    def _removed(self, key: K, text: bytes) -> V:
        value = self._value(key, text)
        self._changed(key)
        return value

    def popitem(self, *, last: bool = True) -> tuple[K, V]:
        """Remove the entry that was inserted last and return it as (key, value). Atomic.

        With `last=False` the one that was inserted first, so that a map serves as a queue. Amortized
        O(1) once all shards are read. Raises KeyError on an empty map.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(ada=1, bob=2, eve=3)
        ...     d.popitem(), d.popitem(last=False)
        (('eve', 3), ('ada', 1))
        """
        state = self._blocks.writer()
        if self._codec.may_fail:
            for key in iteration.keys(state, reverse=last):
                if (there := state.get(key)) is not None:
                    self._decoded(key, there)  # an entry that can't be decoded is not removed
                    break
        found = state.popitem(last=last)
        if found is None:
            raise KeyError("popitem(): dictionary is empty")
        key, text = found
        return key, self._removed(key, text)

    def delete_many(self, keys: Iterable[K], /) -> int:
        """Remove those of the keys that are there, in one batch; return how many these were.

        All or nothing, also for a kill. O(keys); with `sync=True` one disk sync for each shard.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(ada=1, bob=2, eve=3)
        ...     d.delete_many(["ada", "eve", "joe"]), list(d)
        (2, ['bob'])
        """
        gone = list(keys)
        count = self._blocks.writer().delete_many(gone)
        for key in gone:
            self._changed(key)
        return count

    def clear(self) -> None:
        """Remove all entries, in one step for readers and for a crash.

        O(shards), with a few disk syncs, whatever the number of entries; inside a transaction O(n).

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d["ada"] = 1
        ...     d.clear()
        ...     len(d)
        0
        """
        self._blocks.writer().clear()
        self._changed_any()

    def _changed_any(self) -> None:
        self._promised = None
        if self._writeback is not None:
            self._writeback.clear()

    def purge(self) -> int:
        """Drop the entries that have expired, and return how many these were since the last call.

        There is no need to call it: no read ever returns one. O(k log n) for k of them. Inside a
        transaction it does nothing.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.set("token", 1, ttl=60)
        ...     d.purge()
        0
        """
        return self._blocks.writer().purge()

    # Writing many entries

    @overload
    def update(self, other: SupportsKeysAndGetItem[K, V], /) -> None: ...
    @overload
    def update(self, other: Iterable[tuple[K, V]], /) -> None: ...
    @overload
    def update(
        self: KVMap[str, V],
        other: SupportsKeysAndGetItem[str, V] | Iterable[tuple[str, V]] = (),
        /,
        **more: V,
    ) -> None: ...
    def update(self, other: Any = (), /, **more: Any) -> None:
        """As in a dict. All of it is checked before any is written, and appears at once to readers.

        All or nothing, also for a kill. O(n) with one append for each shard; with `sync=True` one
        disk sync for each shard.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update({"ada": 1}, bob=2)
        ...     d.update([("eve", 3)])
        ...     dict(d)
        {'ada': 1, 'bob': 2, 'eve': 3}
        """
        self.set_many(pairs_of(other, more))

    def set_many(
        self,
        entries: Mapping[K, V],
        /,
        *,
        ttl: Seconds | Default | Keep = DEFAULT,
        deadlines: Mapping[K, float | None] | None = None,
    ) -> None:
        """Store many values in one batch, each with this time to live; otherwise as `update`.

        All or nothing, also for a kill. O(bytes of the values), one append for each shard; one round
        trip on a server. Raises what `d[key] = value` raises, naming the key.

        With `deadlines`, as the method of that name returns them, each entry expires at the moment
        that they give for its key, in Unix seconds; None: it stays. Raises KeyError where a key is
        missing there, TypeError for a moment that is no number.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.set_many({"ada": 1, "bob": 2}, ttl=60)
        ...     dict(d)
        {'ada': 1, 'bob': 2}
        """
        seconds = self._seconds(ttl)
        if not hasattr(entries, "items"):
            kind = type(entries).__name__
            raise TypeError(f"set_many takes a mapping, not {kind}; update takes pairs too")
        try:
            texts = self._codec.encode_many(list(entries.values()))
        except Exception as error:
            note_encoding(self._encode, entries, error)
            raise
        wanted = list(entries)
        if self._checks_entry or set(map(type, wanted)) != {str}:
            wanted = [self._checked(k, text) for k, text in zip(wanted, texts, strict=True)]
        if deadlines is None:
            self._blocks.writer().put_many(dict(zip(wanted, texts, strict=True)), seconds)
        else:
            moments = [check_deadline(deadlines[key]) for key in entries]
            until = zip(texts, moments, strict=True)
            self._blocks.writer().put_until(dict(zip(wanted, until, strict=True)))
        self._promised = None
        if self._writeback is not None:
            for key, value in zip(wanted, entries.values(), strict=True):
                self._writeback.remember(key, value)

    # Blocks

    def transaction(self) -> Transaction:
        """Make all writes in the block one write: `with d.transaction():` or `async with`.

        Others see none of them before the block ends and all of them after it; the block itself sees
        them at once. An exception undoes them; a crash leaves all or none, and so does a power cut
        with `sync=True`. A transaction inside another is part of it.

        Other threads' writes wait until the block ends, for a minute at most, and then raise
        HeldError. The block belongs to the thread and the asyncio task that entered it: a write of
        another task of the same thread raises RuntimeError; `async with` makes tasks take turns. On a
        server nobody waits: the end of the block raises ConflictError, and nothing is written, where
        others have changed what the block has read.

        O(bytes written in the block); with `sync=True` two disk syncs more than the shards'.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.update(ada=10, bob=0)
        ...     with d.transaction():
        ...         d["ada"] -= 3
        ...         d["bob"] += 3
        ...     dict(d)
        {'ada': 7, 'bob': 3}
        """
        return Transaction(self._engine, self._blocks, self._write_back, self._changed_any)

    @property
    def in_block(self) -> bool:
        """Whether the caller is inside a transaction or an edit of this map. O(1).

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d, d.transaction():
        ...     d.in_block
        True
        """
        return self._blocks.mine() is not None

    def edit(self, key: K, default: V = _MISSING) -> Edit[V]:
        """Change a value in place: `with d.edit("ada") as user: user["visits"] += 1`.

        A transaction whose block gets one value, which is written at the end if it was changed; the
        entry keeps its deadline, and is gone where that has passed by then. Where the key is missing,
        the block gets a copy of `default`. `async with` makes other tasks wait for their turn.

        Raises KeyError for a missing key without a default, TypeError for a value that can't be
        changed in place, and what `transaction` raises.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d["ada"] = {"visits": 1}
        ...     with d.edit("ada") as user:
        ...         user["visits"] += 1
        ...     d["ada"]
        {'visits': 2}
        """
        before, expires = b"", INF

        def begin(state: State) -> V:
            nonlocal before, expires
            there = state.get(key)
            if there is None:
                if default is _MISSING:
                    raise KeyError(key)
                value = self._decoded(key, self._encode_checked(default))
            else:
                value = self._value(key, there)
            kind = type(value)
            if isinstance(value, _FIXED) or kind.__module__ in _FIXED_MODULES:
                raise TypeError(
                    f"the value of key {keys.shown(key)} is of type {kind.__name__}, which {_IN_PLACE}; "
                    "use d[key] = value, d.incr(key) for a number, or d.transaction() around both"
                )
            if there is not None:
                before, expires = self._encode(value), state.deadline(key) or INF
            return cast(V, value)

        def finish(state: State, value: V) -> None:
            text = self._encode(value)
            if text != before and (expires == INF or expires > state.now()):
                plain = self._checked(key, text)
                state.put(plain, text, KEEP_DEADLINE)
                self._changed(plain, value)

        return Edit(self.transaction(), begin, finish)

    def _write_back(self, state: State | None = None) -> None:
        if self._writeback:
            self._writeback.write(self._blocks.writer() if state is None else state)

    @overload
    def memoize(self, function: Callable[P, R], /) -> Memoized[P, R]: ...
    @overload
    def memoize(
        self,
        *,
        ttl: Seconds | Default = DEFAULT,
        key: Callable[..., Key] | None = None,
        ignore: str | Iterable[str] = (),
        version: str | int | None = None,
        type: Any = None,
    ) -> Memoize: ...
    def memoize(
        self,
        function: Callable[..., Any] | None = None,
        *,
        ttl: Seconds | Default = DEFAULT,
        key: Callable[..., Key] | None = None,
        ignore: str | Iterable[str] = (),
        version: str | int | None = None,
        type: Any = None,
    ) -> Any:
        """Keep a function's results in the map: `@d.memoize` or `@d.memoize(ttl=60)`.

        An entry's key is the function's module and name with the arguments, for instance
        `weather.forecast(city='Rome', days=3)`; equal arguments make one entry, however the call is
        written. It works on functions, methods and `async def`. Threads and tasks that ask for the
        same result wait for the one that computes it; its exception reaches all of them and is not
        kept. Processes on a server's map do not wait for each other: those that ask at the same time
        compute it once each, and the last result stays. Every call returns the value as the map gives
        it back, the first one too.

        - `ttl`: how long a result is kept, as for `set`.
        - `key`: makes the key from the arguments instead.
        - `ignore`: parameters that the key leaves out. `ignore=["self"]` on a method makes all
          objects of the class, and of its subclasses, share their results.
        - `version`: a str or an int that becomes part of the key: a new version begins without
          results. It is needed, or `key`, for a function that uses variables of a function around
          it: the key does not hold them, and they would have to be the same in every run.
        - `type`: the type of the results, as for `kvmap.open`, so that a dataclass or a model comes
          back as one. The map itself has none then: else memoize raises ValueError.

        The decorated function has `refresh(*arguments)`, `forget(*arguments)`, `forget_all()`,
        `key(*arguments)` and `cache_info()`. `@staticmethod`, `@classmethod` and `@property` go above
        `memoize`. A result for which the map has no room, or that a read-only map lacks, is returned
        as it was computed, and not kept; `cache_info()` counts these.

        Raises TypeError for a function that can't be memoized: a generator, a lambda without `key`,
        or as said above. A call raises TypeError for an argument that has no stable text, and
        TypeError or ValueError for a result that the map can't hold.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...
        ...     @d.memoize(ttl=60)
        ...     def area(width, height=1):
        ...         print("computing")
        ...         return width * height
        ...
        ...     area(2, 3), area(height=3, width=2), area.forget(2, 3), len(d)
        computing
        (6, 6, True, 0)
        """
        from kvmap.memoize import Memoize

        if type is not None and self._codec.type is not None:
            own, wanted = (getattr(each, "__name__", each) for each in (self._codec.type, type))
            raise ValueError(
                f"this map was opened with type={own}, so it holds no other values; leave type out of "
                f"memoize where the results are of type {own}, or use another map for results of {wanted}"
            )
        decorator = Memoize(self, ttl=ttl, key=key, ignore=ignore, version=version, type=type)
        return decorator if function is None else decorator(function)

    # Looking after the store

    def sync(self) -> None:
        """Make everything written so far survive a power cut; inside a block, what was before it.

        One disk sync for each shard written to since the last call, and a few more. Raises OSError
        where the disk refuses.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d["ada"] = 1
        ...     d.sync()
        """
        self._write_back()
        self._engine.sync()

    def compact(self, progress: Progress | None = None) -> None:
        """Give back the space of all dead records. O(bytes of the store).

        There is no need to call it: a shard that is half dead is compacted in passing. Raises
        OSError where there is no room for a shard's copy, and leaves that shard as it was.
        `progress` is called as progress(done_bytes, total_bytes).

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = 1
        ...     d["ada"] = 2
        ...     d.compact()
        ...     d["ada"], d.stats().dead_bytes
        (2, 0)
        """
        self._refuse_in_block("compact")
        self._engine.compact(progress)

    def backup(self, path: str | os.PathLike[str], progress: Progress | None = None) -> None:
        """Write a complete, compact and independent copy of the store, as it is at one moment.

        `path` is a directory that is empty or not there yet. Settings, deadlines and order are the
        same; what has expired is left out. When this returns, the copy would survive a power cut;
        where it raises, nothing is left of it. `progress` is called as progress(done_bytes,
        total_bytes). O(bytes of live records), one disk sync for each shard and a few more.

        Raises FileExistsError for a directory that is not empty, ValueError for a URL,
        CorruptStoreError for a damaged record, OSError where there is no room, RuntimeError inside
        a transaction, whose writes are not made yet, and io.UnsupportedOperation where the store
        has no files.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = 1
        ...     d.backup(f"{d.path}-copy")
        >>> with kvmap.open(f"{d.path}-copy") as copy:
        ...     copy["ada"]
        1
        """
        self._refuse_in_block("back up")
        self._write_back()
        self._engine.backup(Path(whole_path(path)), progress)

    def _refuse_in_block(self, what: str) -> None:
        if self.in_block:
            raise RuntimeError(
                f"can't {what} inside a transaction, whose writes are not made yet: {what} after it"
            )

    def stats(self) -> Stats:
        """Figures about the store: live and dead bytes, sizes of values, coming deadlines.

        O(entries); no value is read. Inside a transaction: those before it.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.set("token", "s3cr3t", ttl=90 * 60)
        ...     found = d.stats()
        >>> found.entries, found.value_bytes, found.deadlines.hours[:3]
        (1, 8, (0, 1, 0))
        """
        return self._engine.stats()

    @property
    def settings(self) -> Settings:
        """What the store keeps about itself: limits, ttl (seconds), codec, evict. O(1).

        >>> import kvmap
        >>> with kvmap.open(":memory:", ttl=60) as d:
        ...     d.settings.ttl, d.settings.codec, d.settings.limits.entries
        (60.0, 'json', None)
        """
        return self._engine.settings

    def configure(
        self,
        *,
        limits: Limits | Default = DEFAULT,
        ttl: Seconds | Default = DEFAULT,
        evict: str | Default | None = DEFAULT,
    ) -> None:
        """Change what the store keeps about itself; what is left out stays. One disk sync.

        Raises TypeError or ValueError, and changes nothing, for settings that make no sense.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.configure(ttl=60, limits=kvmap.Limits(entries=1000), evict="sieve")
        ...     d.settings.ttl, d.settings.evict
        (60.0, 'sieve')
        """
        settings = self._engine.settings.changed(limits=limits, ttl=ttl, evict=evict)
        self._refuse_in_block("configure")
        self._engine.configure(settings)
        self._use(settings)

    def refresh(self) -> None:
        """Move a snapshot to the store's present state; does nothing on any other map.

        O(bytes written since). See `kvmap.snapshot`.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d["ada"] = 1
        ...     with kvmap.snapshot(d.path) as then:
        ...         d["ada"] = 2
        ...         before = then["ada"]
        ...         then.refresh()
        ...         before, then["ada"]
        (1, 2)
        """
        self._engine.refresh()
        self._use(self._engine.settings)

    def load(self, progress: Progress | None = None) -> None:
        """Read the whole index, which is otherwise read when it is first needed.

        `progress` is called as progress(done_shards, all_shards). O(bytes of the store), or of its
        hint file.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     d.load()
        """
        self._engine.load(progress)

    @property
    def path(self) -> Path:
        """The store's directory, as an absolute path. Raises ValueError where the store has none.

        >>> import kvmap
        >>> with kvmap.open() as d:
        ...     sorted(each.name for each in d.path.iterdir())
        ['kvmap.json', 'lock', 'shards']
        """
        path = self._engine.path
        if path is None:
            raise ValueError(f"{self._engine.name} has no directory")
        return path

    @property
    def name(self) -> str:
        """The store's path, or its URL without a password, or ":memory:".

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.name
        ':memory:'
        """
        return self._engine.name

    # Closing

    def close(self) -> None:
        """Sync the files and let go of the store; closing twice is harmless.

        Inside a transaction's block its writes are undone. One disk sync for each shard that was
        written to, and a few more. Raises OSError where the disk refuses; the store is let go of all
        the same, and what was written stays.

        >>> import kvmap
        >>> d = kvmap.open(":memory:")
        >>> d.close()
        >>> d.closed
        True
        """
        if self._engine.closed:
            return
        if self._open_blocks and not self.in_block:
            with self.transaction():  # waits for the blocks of others to end
                pass
        self._close()

    def _close(self) -> None:
        try:
            if not self._open_blocks:
                self._write_back()
        finally:
            try:
                self._blocks.abandon()
                self._engine.close()
            finally:
                lifecycle.unregister(self)
                self._changed_any()

    def close_at_exit(self) -> None:
        """Close, and undo the transactions of all threads. For the end of the process."""
        if not self._engine.closed:
            self._blocks.abandon()
            self._close()

    def after_fork(self) -> None:
        """Let the parent keep the store. For a forked child."""
        self._blocks.abandon_after_fork()
        self._engine.after_fork()

    @property
    def closed(self) -> bool:
        """Whether the map was closed, or belongs to the process this one was forked from.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d.closed
        False
        >>> d.closed
        True
        """
        return self._engine.closed

    def __enter__(self) -> Self:
        """The map itself. Raises StoreClosedError where it is closed."""
        if self._engine.closed:
            self._engine.state()  # which raises, and says why
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the map, whatever has ended the block."""
        self.close()

    def __del__(self) -> None:
        engine = self.__dict__.get("_engine")
        if engine is not None and not engine.closed:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, stacklevel=2, source=self)
            self._close()

    # Showing

    def __repr__(self) -> str:
        engine = self.__dict__.get("_engine")
        if engine is None:
            return "<KVMap, not open>"
        return showing.text(engine, self._blocks.view(), self._decode)

    def _repr_html_(self) -> str:
        return showing.html(self._engine, self._blocks.view(), self._decode)

    def _ipython_key_completions_(self) -> list[str]:
        return showing.completions(self._blocks.view())

    # Making

    @classmethod
    def fromkeys(
        cls,
        iterable: Iterable[T],
        value: Any = None,
        /,
        *,
        path: str | os.PathLike[str] | None = None,
    ) -> KVMap[T, Any]:
        """A new store, open, with these keys, which all have the same value. O(n).

        `path` is where to make it; by default, as for `kvmap.open`, in the temporary directory.
        Raises FileExistsError where there is something already.

        >>> from kvmap import KVMap
        >>> with KVMap.fromkeys(["ada", "bob"], 0, path=":memory:") as d:
        ...     dict(d)
        {'ada': 0, 'bob': 0}
        """
        from kvmap.opening import open_new

        entries = dict.fromkeys(iterable, value)
        d: KVMap[T, Any] = open_new(path)
        try:
            d.set_many(entries)
        except BaseException:
            d.close()
            raise
        return d

    def copy(self) -> dict[K, V]:
        """A plain dict with the same entries, every value decoded. O(bytes of the store).

        Other threads' writes wait meanwhile; on a server, where they do not, it is read as `items`
        reads it.

        >>> import kvmap
        >>> with kvmap.open(":memory:") as d:
        ...     d["ada"] = (1, 2)
        ...     d.copy()
        {'ada': [1, 2]}
        """
        if self._engine.remote:
            return dict(self._iterate(False))
        try:
            with self.transaction():
                return dict(self._iterate(False))
        except ReadOnlyError:
            return dict(self._iterate(False))
