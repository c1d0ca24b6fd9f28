"""The picture, in plain SVG: for each operation, everyone's time as a multiple of kvmap's."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from benchmarking.contestants import CONTESTANTS
from benchmarking.report import OPERATIONS, Table, ratios

# Two panels side by side, in units that are about pixels on a phone held upright.
WIDTH, MARGIN, GAP = 480, 12, 20
PANEL = (WIDTH - 2 * MARGIN - GAP) / 2
TOP, TITLE, BAR, PITCH = 78, 26, 11, 16
LABEL, NUMBER = 66, 38
MOST = 6.0  # a bar longer than so many times kvmap's is cut; its number says how long it is

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 }
.panel { font-size: 13px; font-weight: 600 }
.faint { fill: #57606a }
.line { stroke: #afb8c1 }
.kvmap { fill: #bf4b00; font-weight: 600 }
.floor { fill: #8c959f }
.engine { fill: #2f6fbd }
.dict-like { fill: #7fa8d6 }
.cut { stroke: #fff; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .faint { fill: #9198a1 }
  .line { stroke: #565d66 }
  .kvmap { fill: #ff8b3d }
  .floor { fill: #767e88 }
  .engine { fill: #5a9bea }
  .dict-like { fill: #36608f }
  .cut { stroke: #0d1117 }
}
"""


def chart(run: Mapping[str, Any]) -> str:
    """The run's ratios as an SVG document."""
    table: Table = run["medians"]
    rows = [row for row in OPERATIONS if row not in ("len", "reopen + len")]
    height = len(table) * PITCH + TITLE + GAP
    panels = []
    for place, row in enumerate(rows):
        x = MARGIN + place % 2 * (PANEL + GAP)
        y = TOP + place // 2 * height
        panels.append(f'<g transform="translate({x:g} {y:g})">{_panel(row, table)}</g>')
    total = TOP + (len(rows) + 1) // 2 * height
    what = f"{run['keys']:,} records of {run['size']:,} B"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:g}" role="img">',
            f"<title>Time per operation, as a multiple of kvmap's: {what}</title>",
            f"<style>{STYLE}</style>",
            _text(MARGIN, 24, "Time per operation, kvmap = 1", "title"),
            _text(MARGIN, 42, f"{what}. Shorter is faster; the time given is kvmap's.", "faint"),
            _text(
                MARGIN,
                58,
                "dict: JSON bytes in memory. Blue: C engines. Pale: dicts on disk.",
                "faint",
            ),
            *panels,
            "</svg>\n",
        ]
    )


def _panel(row: str, table: Table) -> str:
    """One operation: its name, kvmap's time, and a bar for each contestant."""
    figures = {name: ratio[row] for name, ratio in ratios(table).items() if row in ratio}
    unit = (PANEL - LABEL - NUMBER) / MOST
    own = table["kvmap"][row]
    parts = [
        _text(0, 10, row, "panel"),
        _text(PANEL, 10, f"{own:,.{0 if own >= 100 else 2}f} µs", "faint", anchor="end"),
    ]
    for place, (name, ratio) in enumerate(figures.items()):
        y = TITLE + place * PITCH
        length = min(ratio, MOST) * unit
        kind = CONTESTANTS[name].kind
        label = "kvmap" if kind == "kvmap" else ""
        parts.append(_text(LABEL - 6, y, name, label, anchor="end"))
        parts.append(
            f'<rect class="{kind}" x="{LABEL}" y="{y - BAR + 1:g}" '
            f'width="{length:.1f}" height="{BAR}" rx="1.5"/>'
        )
        if ratio > MOST:
            x = LABEL + length - 7
            parts.append(f'<path class="cut" d="M{x - 3:.1f} {y + 3:g}l6 {-BAR - 4}"/>')
        right = LABEL + max(length, unit) + 4  # clear of the line at 1
        parts.append(_text(right, y, _times(ratio), label or "faint"))
    bottom = TITLE + len(figures) * PITCH - BAR
    x = LABEL + unit
    parts.append(f'<path class="line" stroke-dasharray="2 2" d="M{x:.1f} {TITLE - BAR}V{bottom}"/>')
    return "".join(parts)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _times(ratio: float) -> str:
    if ratio >= 10_000:
        return f"{ratio / 1000:,.0f}k"
    return f"{ratio:,.{0 if ratio >= 10 else 1 if ratio >= 0.1 else 2}f}"
