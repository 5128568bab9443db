"""Puts the pictures of a demo into the documentation, small: `python -m tests.support.pictures runs/demo`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from tests.support.documents import SITE

FOLDER = SITE / "pages" / "pictures"
# Width in pixels, and the upper share of the picture that is kept.
PICTURES = {"curves": (1200, 1.0), "matches": (1000, 1.0), "heat_maps": (1000, 0.515)}
COLOURS = 64


def shrink(source: Path, out: Path, width: int, share: float) -> None:
    """Write the upper share of a picture, with a width in pixels and few colours."""
    with Image.open(source) as picture:
        part = picture.convert("RGB").crop((0, 0, picture.width, round(share * picture.height)))
    size = (width, round(part.height * width / part.width))
    part.resize(size, Image.Resampling.LANCZOS).quantize(COLOURS).save(out, optimize=True)


if __name__ == "__main__":
    for name, (width, share) in PICTURES.items():
        shrink(Path(sys.argv[1]) / f"{name}.png", FOLDER / f"{name}.png", width, share)
