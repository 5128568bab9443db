"""Decoding a run of images into their rows of images.npy."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medvlp.prepare.dataset import LeftOutError, Picture
from medvlp.prepare.files import EscapesRootError, inside
from medvlp.prepare.images import Geometry, Resize, read_image
from medvlp.prepare.regions import Region, RegionSource, joined

# Rows that are decoded, hashed and written at once. Part of the meaning of the manifest's hash.
CHUNK = 32


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows.

    Attributes:
        first: The first of them.
        pictures: The image of each.
    """

    first: int
    pictures: list[Picture]


@dataclass(frozen=True)
class Decoder:
    """Decodes chunks. Runs in the worker processes.

    Attributes:
        root: Image root.
        real_roots: Folders in one of which every image must really lie.
        regions: Finds the anatomical boxes, if they are wanted.
        output: images.npy, of its final size.
        offset: Of its first row, in bytes.
        size: Side of the prepared images.
        resize: Keep the aspect ratio, or not.
    """

    root: Path
    real_roots: list[str]
    regions: RegionSource | None
    output: Path
    offset: int
    size: int
    resize: Resize

    def __call__(self, chunk: Chunk) -> dict[str, Any]:
        """Decode and write a chunk.

        Returns:
            The chunk's line in the journal: `first`, `sha256` of its pixels, for each image [height, width, regions]
            or None, and what was `skipped`.

        Raises:
            OSError: If the output cannot be written.
        """
        pixels = np.zeros((len(chunk.pictures), self.size, self.size), np.uint8)
        images: list[tuple[int, int, list[Region] | None] | None] = []
        skipped: list[tuple[str, str]] = []
        for row, picture in zip(pixels, chunk.pictures, strict=True):
            try:
                row[:], geometry = read_image(inside(self.root, picture.path, self.real_roots), self.size, self.resize)
            except (EscapesRootError, LeftOutError) as error:
                skipped.append((picture.image_id, str(error)))
                images.append(None)
            else:
                images.append((geometry.height, geometry.width, self._regions(picture, row, geometry, skipped)))
        data = pixels.reshape(-1).data
        write_at(self.output, data, self.offset + chunk.first * self.size * self.size)
        return {
            "first": chunk.first,
            "sha256": hashlib.sha256(data).hexdigest(),
            "images": images,
            "skipped": skipped,
        }

    def _regions(
        self, picture: Picture, pixels: npt.NDArray[np.uint8], geometry: Geometry, skipped: list[tuple[str, str]]
    ) -> list[Region] | None:
        if self.regions is None:
            return None

        def skip(name: str, reason: str) -> None:
            skipped.append((f"{picture.image_id}/{name}", reason))

        try:
            return joined(self.regions.find(picture, pixels, geometry, skip))
        except LeftOutError as error:
            skipped.append((f"regions of {picture.image_id}", str(error)))
            return None


def write_at(path: Path, data: memoryview, offset: int) -> None:
    """Write bytes into a file at a position.

    A memory map would end the process with SIGBUS where the disk is full; this raises OSError.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        while data:
            written = os.pwrite(descriptor, data, offset)
            data, offset = data[written:], offset + written
    finally:
        os.close(descriptor)
