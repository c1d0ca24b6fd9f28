"""The directory `damaged`, where `repair` keeps what it takes out of a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from kvmap.disk.folder import NEW, QUARANTINE, Folder, write_at
from kvmap.disk.fs import FileSystem
from kvmap.disk.report import Damage

_STEP: Final = 1 << 20


@dataclass(frozen=True)
class Quarantined:
    """Bytes that `repair` took out, or a whole file, and where they are now."""

    damage: Damage
    kept: str
    """A file's name inside the store, such as `damaged/07.jsonl.at-4096`."""


class Quarantine:
    """The directory `damaged`, made when it is first needed."""

    def __init__(self, folder: Folder) -> None:
        self.all: list[Quarantined] = []
        self.records = 0
        """Whole records among them."""
        self._folder = folder

    def _open(self) -> Folder:
        if QUARANTINE not in self._folder.names():
            self._folder.make_subfolder(QUARANTINE)
            self._folder.sync()
        return self._folder.subfolder(QUARANTINE)

    def copy(self, damage: Damage, parts: Iterator[bytes]) -> None:
        """Copy bytes that will be taken out, and sync them."""
        found = self._open()
        try:
            new = f"{os.path.basename(damage.file)}{NEW}"
            found.remove(new)
            descriptor = found.create_file(new)
            try:
                at = 0
                for part in parts:
                    write_at(found.fs, descriptor, part, at)
                    at += len(part)
                found.fs.sync(descriptor)
                name = self._name(found, damage, descriptor, at)
            finally:
                found.fs.close(descriptor)
            found.rename(new, name)
            found.sync()
        finally:
            found.close()
        self.all.append(Quarantined(damage, f"{QUARANTINE}/{name}"))

    def move(self, damage: Damage) -> None:
        """Move what is no plain file, or a file that can't be read, as it stands."""
        found = self._open()
        try:
            name = self._name(found, damage, -1, 0)
            self._folder.rename(damage.file, f"{QUARANTINE}/{name}")
            found.unsynced = True
            found.sync()
            self._folder.sync()
        finally:
            found.close()
        self.all.append(Quarantined(damage, f"{QUARANTINE}/{name}"))

    def _name(self, found: Folder, damage: Damage, descriptor: int, size: int) -> str:
        """A name that is free, or that stands for these very bytes since a repair was killed."""
        base = f"{os.path.basename(damage.file)}.at-{damage.offset}"
        for number in count(1):
            name = base if number == 1 else f"{base}.{number}"
            status = found.fs.status(found.descriptor, name)
            if status is None:
                return name
            if descriptor >= 0 and status.is_file and status.size == size:
                other = found.open_file(name, write=False)
                try:
                    if _same(found.fs, descriptor, other, size):
                        return name
                finally:
                    found.fs.close(other)
        raise AssertionError


def _same(fs: FileSystem, one: int, other: int, size: int) -> bool:
    return all(
        fs.pread(one, _STEP, at) == fs.pread(other, _STEP, at) for at in range(0, size, _STEP)
    )
