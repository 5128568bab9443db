"""Draws the rooms of the package in their order, from the table of layers: `python -m tests.support.rooms`."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.documents import SITE

PICTURE = SITE / "pages" / "pictures" / "rooms.svg"
# In pixels.
WIDTH, ROW, BOX, GAP, MARGIN, LETTER = 720, 44, 30, 10, 12, 8.4
STYLE = (
    "text{font:14px ui-monospace,monospace;fill:#1b2733}"
    ".box{fill:#e3edf7;stroke:#5b7fa3}.band{fill:#f6f8fa}.note{font:13px sans-serif;fill:#57606a}"
)


def drawing(layers: Sequence[Sequence[str]]) -> str:
    """Return an SVG of the rooms: one band a layer, the first at the bottom, as each stands on those below it.

    Args:
        layers: Names of the rooms, the layers that import nothing first.
    """
    height = len(layers) * ROW + 2 * MARGIN + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">',
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text class="note" x="{MARGIN}" y="{MARGIN + 8}">A room imports from the bands below its own alone.</text>',
    ]
    for number, names in enumerate(reversed(layers)):
        top = MARGIN + 20 + number * ROW
        parts.append(f'<rect class="band" x="0" y="{top}" width="{WIDTH}" height="{ROW - 4}"/>')
        left = float(MARGIN)
        for name in names:
            width = LETTER * len(name) + 2 * GAP
            parts.append(f'<rect class="box" x="{left:.0f}" y="{top + 5}" width="{width:.0f}" height="{BOX}" rx="4"/>')
            parts.append(f'<text x="{left + GAP:.0f}" y="{top + 25}">{name}</text>')
            left += width + GAP
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    from tests.test_layers import LAYERS

    PICTURE.write_text(drawing(LAYERS))
    print(f"{PICTURE} is drawn.")
