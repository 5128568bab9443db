"""A prepared folder with its pixels compressed, made of one with arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from medvlp.prepared import IMAGES, MANIFEST, MASKS
from medvlp.storage.pixels import COMPRESSED, folder_of
from medvlp.storage.shards import file_name, write_images


def compress(root: Path, rows: int = 16) -> Path:
    """Replace images.npy and masks.npy by compressed files of so many images."""
    manifest = json.loads((root / MANIFEST).read_text())
    for name in (IMAGES, MASKS):
        pixels = np.load(root / name)
        (root / folder_of(name)).mkdir()
        for first in range(0, len(pixels), rows):
            write_images(root / folder_of(name) / file_name(first), pixels[first : first + rows])
        (root / name).unlink()
        manifest["sha256"].setdefault(name, {})
        manifest["store"] = {"kind": COMPRESSED, "shape": pixels.shape, "rows": rows}
    (root / MANIFEST).write_text(json.dumps(manifest))
    return root
