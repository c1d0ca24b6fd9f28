"""What a store keeps about itself, whatever the engine: limits, default ttl, codec, eviction."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

from kvmap.limits import Limits

Seconds = float | int | timedelta | None
"""A time to live: seconds or a timedelta; None: the entry stays."""

POLICIES: Final = ("oldest", "sieve")
"""What `evict` may be, other than None."""

CODECS: Final = ("json", "extended")

Change = Callable[["Settings | None"], "Settings"]
"""Makes a store's settings from those that it keeps; from None for a new store.

It may raise TypeError or ValueError. An engine calls it before it changes anything.
"""


class Default:
    """The type of `DEFAULT`, so that its repr reads well in a signature."""

    def __repr__(self) -> str:
        return "<the store's own>"


DEFAULT: Final = Default()
"""An option that was left out: what the store keeps stays as it is."""


class NoDefault:
    """The type of a default that was left out, so that its repr reads well in a signature."""

    def __repr__(self) -> str:
        return "<no default>"


class Keep:
    """`kvmap.KEEP`, the one object of this class, is a ttl: an entry that is there keeps its deadline.

    A new entry gets the store's default. `set`, `set_many` and `incr` take it.

    >>> import kvmap
    >>> with kvmap.open(":memory:") as d:
    ...     d.set("token", "s3cr3t", ttl=3600)
    ...     d.set("token", "n3w", ttl=kvmap.KEEP)
    ...     round(d.ttl("token"))
    3600
    """

    def __repr__(self) -> str:
        return "kvmap.KEEP"


KEEP: Final = Keep()
"""As a ttl: an entry that is there keeps its deadline."""


@dataclass(frozen=True)
class Settings:
    """What a store keeps about itself."""

    limits: Limits = field(default_factory=Limits)
    ttl: float = math.inf
    """Seconds that an entry lives for which the write names nothing else; infinite: it stays."""
    codec: str = "json"
    evict: str | None = None
    """How room is made at a bound: "oldest", "sieve", or None: the write raises LimitError."""

    def __post_init__(self) -> None:
        if self.evict is not None:
            if self.evict not in POLICIES:
                names = ", ".join(map(repr, POLICIES))
                raise ValueError(f"evict must be one of {names} or None, not {self.evict!r}")
            if self.limits.entries is None and self.limits.store_bytes is None:
                raise ValueError(
                    f"evict={self.evict!r} needs a bound: Limits(entries=...) or "
                    "Limits(store_bytes=...)"
                )
        if self.codec not in CODECS:
            names = ", ".join(map(repr, CODECS))
            raise ValueError(f"codec must be one of {names}, not {self.codec!r}")

    def changed(
        self,
        *,
        limits: Limits | Default = DEFAULT,
        ttl: Seconds | Default = DEFAULT,
        codec: str | Default = DEFAULT,
        evict: str | Default | None = DEFAULT,
    ) -> Settings:
        """These settings but for the options that are named. Raises TypeError or ValueError."""
        given: dict[str, Any] = {"limits": limits, "codec": codec, "evict": evict}
        if not isinstance(ttl, Default):
            given["ttl"] = check_ttl(ttl)
        return replace(self, **{k: v for k, v in given.items() if not isinstance(v, Default)})

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; a ttl of None stands for forever."""
        return {
            "limits": {k: v for k, v in asdict(self.limits).items() if v is not None},
            "ttl": None if self.ttl == math.inf else self.ttl,
            "codec": self.codec,
            "evict": self.evict,
        }

    @classmethod
    def from_json(cls, content: Any) -> Settings:
        """What `to_json` made. Raises TypeError, ValueError or LookupError for anything else."""
        return cls(
            limits=Limits(**content["limits"]),
            ttl=check_ttl(content["ttl"]),
            codec=content["codec"],
            evict=content["evict"],
        )


def keep(kept: Settings | None) -> Settings:
    """As a `Change`: the settings that are kept, or those of a store for which none were named."""
    return Settings() if kept is None else kept


def changing(
    *,
    limits: Limits | Default = DEFAULT,
    ttl: Seconds | Default = DEFAULT,
    codec: str | Default = DEFAULT,
    evict: str | Default | None = DEFAULT,
) -> Change:
    """A `Change` of the options that are named. It raises what `Settings.changed` raises.

    It raises ValueError for another codec than that of a store that is there, whose values would be
    read wrongly.

    >>> changing(codec="extended")(None).codec
    'extended'
    >>> changing(codec="extended")(Settings())
    Traceback (most recent call last):
        ...
    ValueError: the store keeps its values with codec='json', and codec='extended' is for a new ...
    """

    def change(kept: Settings | None) -> Settings:
        if kept is not None and codec not in (DEFAULT, kept.codec):
            raise ValueError(
                f"the store keeps its values with codec={kept.codec!r}, and codec={codec!r} is for a "
                f"new one; leave codec out, or move the entries: kvmap load NEW OLD --codec {codec}"
            )
        return keep(kept).changed(limits=limits, ttl=ttl, codec=codec, evict=evict)

    return change


def check_ttl(ttl: Any) -> float:
    """A time to live in seconds; infinite for None. Raises TypeError or ValueError."""
    if ttl is None:
        return math.inf
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise TypeError(f"ttl must be seconds (int, float), a timedelta or None, not {ttl!r}")
    if not 0 < ttl < math.inf:
        raise ValueError(f"ttl must be above 0 and finite, not {ttl!r}; None: the entry stays")
    return float(ttl)


def check_deadline(moment: Any) -> float:
    """A deadline in Unix seconds; infinite for None. Raises TypeError or ValueError."""
    if moment is None:
        return math.inf
    if isinstance(moment, bool) or not isinstance(moment, (int, float)):
        raise TypeError(f"a deadline must be Unix seconds (int, float) or None, not {moment!r}")
    if not math.isfinite(moment):
        raise ValueError(f"a deadline must be finite, not {moment!r}; None: the entry stays")
    return float(moment)


def check_seconds(value: Any, name: str) -> float:
    """A number of seconds from 0 up, or infinite. Raises TypeError or ValueError, naming it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be seconds, not {value!r}")
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more seconds, not {value!r}")
    return float(value)
