"""Strategies for keys and values from all of JSON, the awkward ones often."""

import math
from typing import Any

from hypothesis import strategies as st

LEAST, LARGEST = -(2**63), 2**64 - 1
DEEPEST = 254
"""Levels of lists and objects that a value may have."""

# What could be taken for a record's own syntax, or for the end of a line or of a string.
AWKWARD = [
    *("", "\0", '"', "\\", '\\"', "\n", "\r", "\u2028", "é", "\U0001f40d", "\x7f", "x" * 500),
    *(',"value":', ',"crc":"', ',"crc":"00000000"}\n', '","seq":9,"value":', '{"key":"a","seq":1}'),
]
strings = st.text(max_size=6) | st.sampled_from(AWKWARD)
integers = st.integers(LEAST, LARGEST) | st.sampled_from([LEAST, LARGEST, 2**63, 2**53 + 1, 0, 1])
floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [-0.0, 1.0, 5e-324, 1e300]
)
scalars = st.none() | st.booleans() | integers | floats | strings

keys = st.recursive(
    strings | scalars, lambda parts: st.lists(parts, max_size=3).map(tuple), max_leaves=4
)
values = st.recursive(
    scalars,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(strings, parts, max_size=4),
    max_leaves=8,
)


def nested(levels: int, inner: Any) -> Any:
    """A value that many lists and objects deep."""
    for level in range(levels):
        inner = {"": inner} if level % 2 else [inner]
    return inner


deep = st.builds(nested, st.integers(1, DEEPEST), strings)

# What JSON can't hold, or can't give back equal.
_unfit_parts = st.sampled_from(
    [math.nan, math.inf, -math.inf, 2**64, -(2**63) - 1, "\ud800", "a\udfffb", b"", {1}, 1j, {1: 2}]
)
unfit_values = _unfit_parts | st.builds(
    lambda part, before, levels: nested(levels, [before, part]),
    _unfit_parts,
    scalars,
    st.integers(0, 9),
)
unfit_keys = st.sampled_from(
    [
        math.nan,
        math.inf,
        2**64,
        -(2**63) - 1,
        "\ud800",
        b"",
        1j,
        frozenset(),
        ("a", b""),
        ("\udfff",),
    ]
)
