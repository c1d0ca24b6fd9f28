"""A read-only engine on a store as it was when it was opened, beside its owner."""

from __future__ import annotations

from typing import Any, Final

from kvmap.disk.engine import DiskEngine
from kvmap.disk.folder import Folder
from kvmap.disk.fs import FileSystem
from kvmap.disk.opening import Home, read_manifest
from kvmap.disk.tuning import Tuning
from kvmap.disk.view import look_at, stop_at_one_moment
from kvmap.errors import CorruptStoreError
from kvmap.keys import Key
from kvmap.settings import Change

_TRIES: Final = 20


class Snapshot:
    """Passes on all that is asked to a read-only engine, and puts a newer one in its place.

    It holds the files that were there. What the owner does to their names, compaction or `clear`,
    is not seen.
    """

    def __init__(self, path: str, fs: FileSystem, tuning: Tuning, change: Change) -> None:
        self._path = path
        self._fs = fs
        self._tuning = tuning
        self._engine = self._open()
        settings = self._engine.settings
        if change(settings) != settings:
            self._engine.close()
            raise ValueError(
                "limits, ttl, codec and eviction are kept in the store; a snapshot can't change them"
            )

    def _open(self) -> DiskEngine:
        """The store's present state.

        A manifest that was read before the owner changed the files does not fit them. So what looks
        like damage is damage only where the manifest is still the same.
        """
        for _ in range(_TRIES):
            home = look_at(self._path, self._fs)
            try:
                return DiskEngine(
                    home, self._fs, self._tuning, sync=False, recover=stop_at_one_moment
                )
            except (CorruptStoreError, FileNotFoundError):
                if _is_current(home):
                    home.close(clean=False)
                    raise
                home.close(clean=False)
            except BaseException:
                home.close(clean=False)
                raise
        raise CorruptStoreError(self._path, 0, "the files do not fit the manifest")

    def refresh(self) -> None:
        """Use the store's present state from now on."""
        if self._engine.closed:
            len(self._engine)  # raises
        old, self._engine = self._engine, self._open()
        old.close()

    def get(self, key: Key, /) -> bytes | None:
        return self._engine.get(key)

    def __contains__(self, key: object, /) -> bool:
        return key in self._engine

    def __len__(self) -> int:
        return len(self._engine)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def _is_current(home: Home) -> bool:
    """Whether the manifest is still the one that was read."""
    folder: Folder = home.folder
    try:
        return read_manifest(folder) == home.manifest
    except (OSError, ValueError):
        return False
