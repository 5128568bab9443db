"""The images and masks of a prepared folder, however they are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medvlp.errors import UserError
from medvlp.storage.mirror import Mirror
from medvlp.storage.shards import Shards

IMAGES = "images.npy"
MASKS = "masks.npy"
# The store that is no array; the manifest of a folder with arrays does not speak of a store.
COMPRESSED = "compressed"


class Images(Protocol):
    """Images (N, S, S), uint8, on disk: a memory map, or `Shards`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, S, S."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, row: Any, /) -> npt.NDArray[np.uint8]:
        """Return the image (S, S) of a row, or those (M, S, S) of M rows."""


def folder_of(name: str) -> str:
    """Return the folder of the compressed pixels that stand in place of an array, IMAGES or MASKS."""
    return Path(name).stem


def open_pixels(root: Path, manifest: dict[str, Any]) -> tuple[Images, Images | None]:
    """Return the images of a prepared folder, and its masks if it has any.

    Args:
        root: The folder, or that of the copies of one that is elsewhere.
        manifest: Its manifest.

    Raises:
        UserError: If the folder is read from elsewhere, and its images are an array.
    """
    local = Mirror.of(root)
    if store := manifest.get("store"):
        images, masks = (
            Shards(root / folder_of(name), tuple(store["shape"]), store["rows"], local.fetch)
            for name in (IMAGES, MASKS)
        )
        return images, masks if MASKS in manifest["sha256"] else None
    if local.url is not None:
        raise UserError(
            f"root='{local.url}' holds one large array, which is not copied in parts: copy the folder to this machine "
            "yourself, or prepare the data with --store compressed."
        )
    place = root / MASKS
    return np.load(root / IMAGES, mmap_mode="r"), np.load(place, mmap_mode="r") if place.is_file() else None
