"""Running scripts on the server: each write once, whatever happens to its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from redis import exceptions

from kvmap.errors import OutcomeUnknownError
from kvmap.redis.callers import Callers
from kvmap.redis.failures import FAILURES, code_of, is_lost, is_timeout, translated
from kvmap.redis.layout import PARTS, Layout
from kvmap.redis.links import Connections, Link
from kvmap.redis.scripts import Script

_MOST_ATTEMPTS: Final = 12
"""How often a call is sent, if `timeout` allows it."""

_PAUSE: Final = 0.05
"""Seconds before the second repeat of a call; twice as many before each that follows."""

_COMMAND: Final = b"$7\r\nEVALSHA\r\n"


class NotSentError(Exception):
    """There is no connection to send a command over; its cause says why."""


class Server:
    """The scripts of one map on one server or cluster.

    A script that reads may be repeated. One that writes carries a caller's name and a number, so
    that a repeat of what was done returns the first answer. Where the server does not come back
    within `timeout`, the call raises OutcomeUnknownError. `clock`: the key that holds the time, for
    tests; None: the server's own clock.
    """

    def __init__(
        self,
        link: Link,
        layout: Layout,
        shown: str,
        timeout: float,
        *,
        wait_for_sync: bool = False,
        clock: bytes | None = None,
    ) -> None:
        self.link = link
        self.layout = layout
        self.shown = shown
        self.timeout = timeout
        self._wait_for_sync = wait_for_sync
        self._clock = clock
        self._callers = Callers()
        self._written: set[int] = set()
        self._prefixes: dict[tuple[str, int], bytes] = {}
        self._tags = [layout.keys(number)[0] for number in range(layout.partitions)]

    # Scripts

    def read(self, script: Script, partition: int, *arguments: bytes) -> Any:
        """Run a script that changes nothing."""
        return self._call(script, partition, arguments, sync=False)

    def write(self, script: Script, partition: int, *arguments: bytes) -> Any:
        """Run a script that changes something, once."""
        return self._write(script, partition, arguments, sync=self._wait_for_sync)

    def write_and_sync(self, script: Script, partition: int, *arguments: bytes) -> Any:
        """As `write`; return when the server has synced its append-only file."""
        return self._write(script, partition, arguments, sync=True)

    def _write(
        self, script: Script, partition: int, arguments: Sequence[bytes], *, sync: bool
    ) -> Any:
        caller = self._callers.take()
        try:
            self._written.add(partition)
            numbered = (caller.name, caller.next_number(), *arguments)
            return self._call(script, partition, numbered, sync=sync)
        finally:
            self._callers.give_back(caller)

    def _call(
        self, script: Script, partition: int, arguments: Sequence[bytes], *, sync: bool
    ) -> Any:
        packed = self._packed(script, partition, arguments)
        try:
            return self._attempt(self.link.connections(self._tags[partition]), packed, sync=sync)
        except (NotSentError, *FAILURES) as error:
            return self._call_again(script, partition, arguments, error, sync=sync)

    def _call_again(
        self,
        script: Script,
        partition: int,
        arguments: Sequence[bytes],
        error: BaseException,
        *,
        sync: bool,
    ) -> Any:
        """Do what the error of the first attempt calls for: repeat the call, or raise."""
        deadline = time.monotonic() + self.timeout
        packed = self._packed(script, partition, arguments)
        was_sent = False
        pause = 0.0
        for _ in range(_MOST_ATTEMPTS):
            node: tuple[str, int] | None = None
            cause = error.__cause__ if isinstance(error, NotSentError) else error
            assert cause is not None
            was_sent = was_sent or (cause is error and is_lost(cause))
            if isinstance(cause, exceptions.NoScriptError):
                packed = self._packed(script, partition, arguments, whole=True)
            elif isinstance(cause, exceptions.MovedError):
                self._refresh()
            elif isinstance(cause, exceptions.AskError):
                node = cause.host, cause.port
            elif (
                self._may_pass(cause, was_sent=was_sent and (script.is_write or not pause))
                and time.monotonic() + pause < deadline
            ):
                time.sleep(pause)
                pause = max(_PAUSE, 2 * pause)
                self._refresh()
            else:
                break
            try:
                connections = (
                    self.link.connections_at(*node)
                    if node
                    else self.link.connections(self._tags[partition])
                )
                return self._attempt(connections, packed, sync=sync, asking=node is not None)
            except (NotSentError, *FAILURES) as another:
                error = another
        cause = error.__cause__ if isinstance(error, NotSentError) else error
        assert cause is not None
        raise translated(
            cause, self.shown, is_write=script.is_write, was_sent=was_sent or error is cause
        ) from cause

    def _attempt(
        self, connections: Connections, packed: bytes, *, sync: bool, asking: bool = False
    ) -> Any:
        """Send a command over a connection of its own, and return the answer."""
        try:
            connection = connections.take()
        except FAILURES as error:
            raise NotSentError from error
        try:
            if asking:
                self._exchange(connection, b"*1\r\n$6\r\nASKING\r\n", sync=False)
            reply = self._exchange(connection, packed, sync=sync)
        except exceptions.ResponseError as error:
            if code_of(error) == "READONLY":
                connections.drop(connection)  # the name may stand for another server by now
            else:
                connections.give_back(connection)
            raise
        except BaseException:
            connections.drop(connection)
            raise
        connections.give_back(connection)
        return reply

    def _exchange(self, connection: Any, packed: bytes, *, sync: bool) -> Any:
        """Send a command, and return its answer."""
        if not sync:
            connection.send_packed_command([packed])
            return connection.read_response(disable_decoding=True)
        limit = int(self.timeout * 1000)
        wait = b"*4\r\n$7\r\nWAITAOF\r\n$1\r\n1\r\n$1\r\n0\r\n" + _packed_arguments(
            (b"%d" % limit,)
        )
        connection.send_packed_command([packed, wait])
        try:
            reply = connection.read_response(disable_decoding=True)
        except exceptions.ResponseError:
            connection.read_response(disable_decoding=True)
            raise
        synced = connection.read_response(disable_decoding=True)
        if synced[0] < 1:
            raise OutcomeUnknownError(
                f"{self.shown} has done the write, and has not synced it in {self.timeout:g} s"
            )
        return reply

    def _may_pass(self, error: BaseException, *, was_sent: bool) -> bool:
        """Whether another attempt may fare better: while the nodes of a cluster find their places, or
        to learn what became of a call that was sent. For one that reads, one repeat does: the
        connection may have been closed long ago.
        """
        if is_timeout(error):
            return False
        if was_sent and (is_lost(error) or isinstance(error, exceptions.BusyLoadingError)):
            return True
        return self.link.is_cluster and (
            is_lost(error)
            or isinstance(error, (exceptions.RedisClusterException, exceptions.TryAgainError))
            or code_of(error) in ("CLUSTERDOWN", "READONLY", "MASTERDOWN")
        )

    def _refresh(self) -> None:
        try:
            self.link.refresh()
        except FAILURES:
            return  # the call that follows fails as well, and says what is wrong

    def _packed(
        self, script: Script, partition: int, arguments: Sequence[bytes], *, whole: bool = False
    ) -> bytes:
        """The command as it goes over the wire; `whole`: with the script's source."""
        prefix = self._prefixes.get((script.name, partition))
        if prefix is None or whole:
            if self.layout.partitions > 1:
                script = script.for_many()
            if self._clock is not None:
                script = script.by_clock(self._clock)
            keys = _packed_arguments((b"%d" % len(PARTS), *self.layout.keys(partition)))
            if whole:
                prefix = b"$4\r\nEVAL\r\n" + _packed_arguments((script.source,)) + keys
            else:
                prefix = _COMMAND + _packed_arguments((script.digest,)) + keys
                self._prefixes[script.name, partition] = prefix
        count = 3 + len(PARTS) + len(arguments)
        return b"*%d\r\n%b%b" % (count, prefix, _packed_arguments(arguments))

    # Other commands

    def ask(self, question: Callable[[Any], Any], *, is_write: bool = False) -> list[Any]:
        """What each server answers to a question: a function of redis-py's client."""
        try:
            return [question(client) for client in self.link.clients()]
        except FAILURES as error:
            raise translated(error, self.shown, is_write=is_write, was_sent=is_write) from error

    def command(self, key: bytes, *words: Any, is_write: bool = False) -> Any:
        """One command about one key."""
        packed = b"*%d\r\n%b" % (len(words), _packed_arguments([_as_bytes(word) for word in words]))
        try:
            return self._attempt(self.link.connections(key), packed, sync=False)
        except NotSentError as error:
            cause = error.__cause__
            assert cause is not None
            raise translated(cause, self.shown, is_write=is_write, was_sent=False) from cause
        except FAILURES as error:
            raise translated(error, self.shown, is_write=is_write, was_sent=True) from error

    # Life

    def renew(self) -> None:
        """In a forked child."""
        self.link.renew()
        self._callers.renew()
        self._written = set()

    def forget_callers(self) -> None:
        """Remove this map's callers from the server; they will not call again."""
        if self._callers.names:
            for partition in sorted(self._written):
                state = self.layout.keys(partition)[PARTS.index("state")]
                answers = [name + b":answer" for name in self._callers.names]
                self.command(state, "HDEL", state, *self._callers.names, *answers, is_write=True)


def _as_bytes(word: Any) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def _packed_arguments(arguments: Sequence[bytes]) -> bytes:
    return b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in arguments])
