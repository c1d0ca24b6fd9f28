"""The names of a map's keys on the server, and the partition that each entry falls into."""

from __future__ import annotations

from functools import cached_property
from typing import Final
from zlib import crc32

PARTS: Final = ("values", "order", "deadlines", "forms", "state")
"""The keys of one partition, in the order in which every script gets them."""

LONGEST_NAME: Final = 200
"""Characters that a map's name may have."""

MOST_PARTITIONS: Final = 4096


class Layout:
    """The keys of one map.

    All keys of a partition have one hash tag, so that a cluster keeps them on one node and a script
    may touch them together.

    >>> Layout("sessions", 1).keys(0)[0]
    b'kvmap:{sessions:00}:values'
    >>> Layout("a{b}", 64).meta
    b'kvmap:{a%7Bb%7D}:meta'
    """

    def __init__(self, name: str, partitions: int) -> None:
        self.name = name
        self.partitions = partitions

    @cached_property
    def tag(self) -> str:
        """The map's name without what would end a hash tag, or begin one."""
        return tag(self.name)

    @property
    def meta(self) -> bytes:
        """The key of the settings: a string of JSON."""
        return meta_key(self.name)

    def keys(self, partition: int) -> list[bytes]:
        """The keys of a partition, one for each of `PARTS`."""
        return [f"kvmap:{{{self.tag}:{partition:02x}}}:{part}".encode() for part in PARTS]

    def partition(self, field: bytes) -> int:
        """The partition of a key's JSON text: by its CRC-32, as the shards of the disk engine."""
        return crc32(field) & (self.partitions - 1)


def meta_key(name: str) -> bytes:
    """The key that holds a map's settings, whatever its partitions."""
    return f"kvmap:{{{tag(name)}}}:meta".encode()


def tag(name: str) -> str:
    """The name as it stands in a hash tag."""
    return name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")


def check_name(name: object) -> str:
    """A map's name. Raises TypeError or ValueError for what can't be one."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {name!r}")
    if not name or len(name) > LONGEST_NAME:
        raise ValueError(f"name must have 1 to {LONGEST_NAME} characters, not {len(name)}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"name {name!r} is not valid UTF-8") from None
    return name


def check_partitions(shards: object) -> int:
    """The number of partitions. Raises TypeError or ValueError for what can't be one."""
    if type(shards) is not int:
        raise TypeError(f"shards must be an int or None, not {shards!r}")
    if not 1 <= shards <= MOST_PARTITIONS or shards & (shards - 1):
        raise ValueError(f"shards must be a power of two up to {MOST_PARTITIONS}, not {shards}")
    return shards
