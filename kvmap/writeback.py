"""With `writeback=True`: the values that were handed out, which may have been changed in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvmap.engine import KEEP_DEADLINE, State
from kvmap.keys import Key, shown


class Writeback:
    """Remembers the values handed out, and writes those that were changed in place."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self._encode = encode
        self._values: dict[Key, Any] = {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def hand_out(self, key: Key, decode: Callable[[], Any]) -> Any:
        """The value that was handed out for a key that is there, or else the decoded one."""
        if key not in self._values:
            # One object for all threads that read the key at the same time.
            return self._values.setdefault(key, decode())
        return self._values[key]

    def remember(self, key: Key, value: Any) -> None:
        """The map holds this object from now on."""
        self._values[key] = value

    def forget(self, key: Key) -> None:
        """The value that was handed out is no longer the map's."""
        self._values.pop(key, None)

    def clear(self) -> None:
        """None of the values that were handed out is the map's any more."""
        self._values.clear()

    def write(self, state: State) -> None:
        """Write what was changed in place; write the rest before raising the first error."""
        errors: list[Exception] = []
        for key, value in list(self._values.items()):
            try:
                there = state.get(key)
                if there is None:
                    self.forget(key)
                elif (text := self._encode(value)) != there:
                    state.put(key, text, KEEP_DEADLINE)
            except Exception as error:  # whatever a codec raises: the others are written
                error.add_note(f"that is the value of key {shown(key)}, which was changed in place")
                errors.append(error)
        if errors:
            raise errors[0]
