"""The picture, in plain SVG: for each operation, everyone's time as a multiple of kvmap's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from benchmarking.contestants import CONTESTANTS
from benchmarking.report import OPERATIONS, Table, ratios
from benchmarking.svg import document, text

# Two panels side by side, in units that are about pixels on a phone held upright.
WIDTH, MARGIN, GAP = 400, 12, 16
PANEL = (WIDTH - 2 * MARGIN - GAP) / 2
TITLE, BAR, PITCH, LINE = 26, 11, 16, 17
LABEL, NUMBER = 67, 36
LETTERS = 62  # of a line of notes
MOST = 6.0  # a bar longer than so many times kvmap's is cut; its number says how long it is

STYLE = """
.line { stroke: #8c959f }
.kvmap { fill: #bf4b00; font-weight: 600 }
.floor { fill: #8c959f }
.engine { fill: #2f6fbd }
.extra { fill: none; stroke: #2f6fbd }
.dict-like { fill: #7fa8d6 }
.cut { stroke: #fff; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  .line { stroke: #8b949e }
  .kvmap { fill: #ff8b3d }
  .floor { fill: #767e88 }
  .engine { fill: #5a9bea }
  .extra { stroke: #5a9bea }
  .dict-like { fill: #3f71ab }
  .cut { stroke: #0d1117 }
}
"""
LEGEND = (
    ("kvmap", "kvmap"),
    ("floor", "dict of JSON"),
    ("engine", "C engines"),
    ("dict-like", "dicts on disk"),
)


def chart(
    result: Mapping[str, Any], run: Mapping[str, Any], operations: Sequence[str] = OPERATIONS
) -> str:
    """The ratios of one of the result's runs as an SVG document, a panel for each operation."""
    table: Table = run["medians"]
    what = f"{run['keys']:,} records of {run['size']:,} B of JSON"
    parts = [
        text(MARGIN, 26, "Time per operation, kvmap = 1", "title"),
        text(MARGIN, 46, "Shorter is faster. In the corner, kvmap's own time.", "faint"),
        text(MARGIN, 46 + LINE, f"A bar with a slash is cut at {MOST:g} times kvmap's.", "faint"),
        _legend(46 + 2 * LINE),
    ]
    top = 46 + 3 * LINE + GAP
    height = len(table) * PITCH + TITLE + GAP
    for place, row in enumerate(operations):
        x = MARGIN + place % 2 * (PANEL + GAP)
        y = top + place // 2 * height
        parts.append(f'<g transform="translate({x:g} {y:g})">{_panel(row, table)}</g>')
    total = top + (len(operations) + 1) // 2 * height
    for line in _notes(result, run, what):
        parts.append(text(MARGIN, total, line, "faint"))
        total += LINE
    title = f"Time per operation, as a multiple of kvmap's: {what}"
    return document(title, WIDTH, total, STYLE, parts)


def _legend(y: float) -> str:
    parts, x = [], float(MARGIN)
    for kind, words in LEGEND:
        parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y - 9:g}" width="10" height="10" rx="2"/>'
        )
        parts.append(text(x + 14, y, words, "faint"))
        x += 28 + 6.3 * len(words)
    return "".join(parts)


def _notes(result: Mapping[str, Any], run: Mapping[str, Any], what: str) -> list[str]:
    """What must be known to trust the picture."""
    fewer = [name for name, held in run["held"].items() if held < run["keys"]]
    notes = [
        f"{what}, medians of {run['rounds']} rounds.",
        f"{result['python']}, {result['system']}; {result['clock']}.",
    ]
    if fewer:
        notes.append(f"With fewer records: {', '.join(fewer)}.")
    if "writemap" in run["medians"]:
        notes.append("writemap: LMDB with writemap=True, not safe on a full disk.")
    return [line for note in notes for line in wrap(note, LETTERS)]


def _panel(row: str, table: Table) -> str:
    """One operation: its name, kvmap's time, and a bar for each contestant."""
    figures = {name: ratio[row] for name, ratio in ratios(table).items() if row in ratio}
    unit = (PANEL - LABEL - NUMBER) / MOST
    own = table["kvmap"][row]
    parts = [
        text(0, 10, row, "panel"),
        text(PANEL, 10, _time(own), "faint", anchor="end"),
    ]
    for place, (name, ratio) in enumerate(figures.items()):
        y = TITLE + place * PITCH
        length = min(ratio, MOST) * unit
        kind = CONTESTANTS[name].kind
        label = "kvmap" if kind == "kvmap" else ""
        parts.append(text(LABEL - 6, y, name, label, anchor="end"))
        parts.append(
            f'<rect class="{kind}" x="{LABEL}" y="{y - BAR + 1:g}" '
            f'width="{length:.1f}" height="{BAR}" rx="1.5"/>'
        )
        if ratio > MOST:
            x = LABEL + length - 7
            parts.append(f'<path class="cut" d="M{x - 3:.1f} {y + 3:g}l6 {-BAR - 4}"/>')
        right = LABEL + max(length, unit) + 4  # clear of the line at 1
        parts.append(text(right, y, _times(ratio), label or "faint"))
    bottom = TITLE + len(figures) * PITCH - BAR
    x = LABEL + unit
    parts.append(f'<path class="line" stroke-dasharray="2 2" d="M{x:.1f} {TITLE - BAR}V{bottom}"/>')
    return "".join(parts)


def _time(microseconds: float) -> str:
    """
    >>> _time(0.123), _time(4.5), _time(141_140)
    ('0.12 µs', '4.5 µs', '141 ms')
    """
    large = microseconds >= 1000
    figure = microseconds / 1000 if large else microseconds
    return (
        f"{figure:,.{0 if figure >= 100 else 1 if figure >= 1 else 2}f} {'ms' if large else 'µs'}"
    )


def _times(ratio: float) -> str:
    """
    >>> _times(883_700), _times(54.3), _times(1.61), _times(0.37), _times(0.00063)
    ('884k', '54', '1.6', '0.4', '0.0006')
    """
    if ratio >= 10_000:
        return f"{ratio / 1000:,.0f}k"
    if ratio >= 0.1:
        return f"{ratio:,.{0 if ratio >= 10 else 1}f}"
    return f"{ratio:.{2 if ratio >= 0.01 else 4}f}"
