"""The operating system without its syncs, for tests that cut no power; the time is the test's."""

from helpers import Clock

from kvmap.disk.fs import FileSystem


class Unsynced(FileSystem):
    """Every test of the disk engine that is about something else than syncs is quick with it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def now(self) -> float:
        return self.clock.now()

    def sync(self, descriptor: int) -> None:
        pass

    def sync_directory(self, directory: int) -> None:
        pass
