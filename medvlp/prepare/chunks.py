"""Decoding a run of images into their rows of images.npy."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medvlp.prepare.dataset import LeftOutError
from medvlp.prepare.files import ESCAPES, EscapesRootError, Store, inside
from medvlp.prepare.images import Geometry, Resize, read_image
from medvlp.prepare.scene_graphs import Region, read_regions

# Rows that are decoded, hashed and written at once. Part of the meaning of the manifest's hash.
CHUNK = 32


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows.

    Attributes:
        first: The first of them.
        pictures: Image id, path below the image root, and locator of the scene graph, if any, of each.
    """

    first: int
    pictures: list[tuple[str, str, str | None]]


@dataclass(frozen=True)
class Decoder:
    """Decodes chunks. Runs in the worker processes.

    Attributes:
        root: Image root.
        real_roots: Folders in one of which every image must really lie.
        graphs: Where scene graphs are, if anywhere.
        output: images.npy, of its final size.
        offset: Of its first row, in bytes.
        size: Side of the prepared images.
        resize: Keep the aspect ratio, or not.
    """

    root: Path
    real_roots: list[str]
    graphs: Store | None
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
        for row, (image_id, path, graph) in zip(pixels, chunk.pictures, strict=True):
            try:
                row[:], geometry = read_image(inside(self.root, path, self.real_roots), self.size, self.resize)
            except (EscapesRootError, LeftOutError) as error:
                skipped.append((image_id, str(error)))
                images.append(None)
            else:
                images.append((geometry.height, geometry.width, self._regions(image_id, graph, geometry, skipped)))
        data = pixels.reshape(-1).data
        write_at(self.output, data, self.offset + chunk.first * self.size * self.size)
        return {
            "first": chunk.first,
            "sha256": hashlib.sha256(data).hexdigest(),
            "images": images,
            "skipped": skipped,
        }

    def _regions(
        self, image_id: str, graph: str | None, geometry: Geometry, skipped: list[tuple[str, str]]
    ) -> list[Region] | None:
        if self.graphs is None:
            return None
        try:
            if graph is None:
                raise LeftOutError("no scene graph")
            return read_regions(
                self.graphs, graph, geometry, lambda name, reason: skipped.append((f"{image_id}/{name}", reason))
            )
        except LeftOutError as error:
            what = f"scene graph of {image_id}"
            skipped.append((what, f"scene graph {ESCAPES}" if str(error) == ESCAPES else str(error)))
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
