"""Which entry a codec's error is about: a note on the exception, as in a traceback's last lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orjson import JSONDecodeError, loads

from kvmap.engine import Engine
from kvmap.keys import shown


def note_decoding(engine: Engine, key: Any, text: bytes, error: Exception) -> None:
    """Note the key on the error with which a text could not be decoded. O(size of the text).

    Raises the engine's error of damage where the text is not JSON at all; a `decode` of the user
    may raise JSONDecodeError for a text that is.
    """
    if isinstance(error, JSONDecodeError) and not _is_json(text):
        raise engine.damaged(key, str(error)) from None
    _note(error, key)


def note_encoding(
    encode: Callable[[Any], bytes], entries: Mapping[Any, Any], error: Exception
) -> None:
    """Note the key on the error with which one of many values could not be encoded.

    Encodes them again, one by one, up to that one.
    """
    for key, value in entries.items():
        try:
            encode(value)
        except Exception as same:
            if str(same) == str(error):
                _note(error, key)
            return


def _is_json(text: bytes) -> bool:
    try:
        loads(text)
    except JSONDecodeError:
        return False
    return True


def _note(error: Exception, key: Any) -> None:
    note = f"that is the value of key {shown(key)}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
