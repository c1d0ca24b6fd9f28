"""Parts of a picture in plain SVG, in colours for a light and for a dark page."""

from collections.abc import Sequence
from html import escape

# A background of its own, for a page may be dark where the reader's system is light.
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.paper { fill: #fff }
.title { font-size: 16px; font-weight: 600 }
.panel { font-size: 13px; font-weight: 600 }
.faint { fill: #57606a }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .paper { fill: #0d1117 }
  .faint { fill: #9198a1 }
}
"""


def document(title: str, width: float, height: float, style: str, parts: Sequence[str]) -> str:
    """A whole SVG document; `style` adds to the classes paper, title, panel and faint."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}{style.lstrip()}</style>",
            f'<rect class="paper" width="{width:g}" height="{height:g}" rx="6"/>',
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text; `kind` is its class."""
    return (
        f'<text x="{x:.1f}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'
    )
