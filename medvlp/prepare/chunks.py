"""The decoding of images, and of their masks, into the store of a prepared folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Annotation, AnnotationSource, Box, cut_boxes
from medvlp.prepare.files import EscapesRootError, inside
from medvlp.prepare.images import read_image, resize_mask
from medvlp.prepare.regions import Region, RegionSource, Square, joined
from medvlp.prepare.screening import FLAGS, screen
from medvlp.prepare.source import Source
from medvlp.prepare.study import Picture
from medvlp.prepare.views import ViewTeller
from medvlp.prepared import Geometry, Resize

# Number of rows that are decoded, hashed and written at once. The hashes in the manifest depend on it.
CHUNK = 32
# Height, width, flags, regions and boxes of an image.
Decoded = tuple[int, int, list[str], list[Region] | None, list[Box] | None]


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows.

    Attributes:
        first: Number of the first row.
        pictures: Image of each row.
    """

    first: int
    pictures: list[Picture]


class PixelWriter(Protocol):
    """Where decoded pixels go. It is pickled into the worker processes."""

    @property
    def masks(self) -> bool:
        """Whether there are masks."""

    def write(self, first: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Write a chunk.

        Args:
            first: Its first row.
            pixels: Its images and, if there are masks, its masks: (1 or 2, M, S, S).

        Raises:
            OSError: If it cannot be written.
        """


@dataclass(frozen=True)
class Decoder:
    """The decoder of chunks. It runs in the worker processes.

    Attributes:
        root: Image root.
        real_roots: Folders without links. Every image must lie in one of them.
        regions: Finder of the anatomical boxes; None if the preparation needs none.
        annotations: Reader of the drawn objects; None in a data set without any.
        writer: Where the pixels go.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad, squash, or keep it and crop.
        leave_out: Flags whose images are left out.
        views: Views to keep, of those that are told on decoding.
        view_teller: Source of the views that the tables lack; None if they have all.
    """

    root: Path
    real_roots: list[str]
    regions: RegionSource | None
    annotations: AnnotationSource | None
    writer: PixelWriter
    size: int
    resize: Resize
    leave_out: frozenset[str]
    views: frozenset[str]
    view_teller: ViewTeller | None

    def __call__(self, chunk: Chunk) -> dict[str, Any]:
        """Decode and write a chunk.

        Returns:
            The line of the chunk in the journal: `first`; `sha256` of its images, and of its masks; `images`, which
            holds [height, width, flags, regions, boxes] or None for each image; the `views` of the images, None for one
            that the tables give; and the `skipped` images and boxes, with reasons.

        Raises:
            OSError: If the output cannot be written.
        """
        outputs = np.zeros((1 + self.writer.masks, len(chunk.pictures), self.size, self.size), np.uint8)
        skipped: list[tuple[str, str]] = []
        decoded = [self.decode(picture, None, outputs[:, row], skipped) for row, picture in enumerate(chunk.pictures)]
        self.writer.write(chunk.first, outputs)
        return {
            "first": chunk.first,
            "sha256": pixel_digests(outputs),
            "images": [image for image, _ in decoded],
            "views": [view for _, view in decoded],
            "skipped": skipped,
        }

    def decode(
        self, picture: Picture, content: bytes | None, output: npt.NDArray[np.uint8], skipped: list[tuple[str, str]]
    ) -> tuple[Decoded | None, str | None]:
        """Decode one image.

        Args:
            picture: The facts about it in the tables.
            content: Its file, where it comes out of an archive; None to read it from the image root.
            output: Zeros (1 or 2, S, S), to be filled with its pixels and its mask.
            skipped: List to which it, or its boxes, are added with the reason why they are left out.

        Returns:
            The image, None if it is left out; and its view, None if the tables give it.
        """
        view = None
        try:
            source = inside(self.root, picture.path, self.real_roots) if content is None else content
            square = Square(*read_image(source, self.size, self.resize))
            flags = self._flags(source, square)
            if picture.view is None:
                view = self._view(source, flags)
                picture = replace(picture, view=view)
            geometry = square.geometry
            annotation = self._annotation(picture, geometry, skipped)
        except (EscapesRootError, LeftOutError) as error:
            skipped.append((picture.image_id, str(error)))
            return None, None
        output[0] = square.pixels
        if annotation and annotation.mask is not None:
            output[1] = resize_mask(annotation.mask, geometry)
        regions = self._regions(picture, square, skipped)
        boxes: list[Box] | None = None
        if annotation:
            boxes = [box.at(*geometry.box(box.x1, box.y1, box.x2, box.y2)) for box in annotation.boxes]
        return (geometry.height, geometry.width, flags, regions, boxes), view

    def _annotation(self, picture: Picture, geometry: Geometry, skipped: list[tuple[str, str]]) -> Annotation | None:
        """Return the annotation of an image, its boxes cut to what is shown of it; None if it was never annotated."""
        if self.annotations is None or picture.annotation is None:
            return None
        drawn = self.annotations.read(picture.annotation, geometry.height, geometry.width)
        boxes, outside = cut_boxes(drawn.boxes, *geometry.shown)
        reason = "box without area in the image"
        if outside and not boxes:
            raise LeftOutError(reason)  # It would count as an image without objects.
        skipped.extend((f"{picture.image_id}/{name}", reason) for name in outside)
        return replace(drawn, boxes=boxes)

    def _flags(self, source: Source, square: Square) -> list[str]:
        """Return the flags of an image, unless one of them leaves it out."""
        flags = screen(source, square)
        for flag in flags:
            if flag in self.leave_out:
                raise LeftOutError(f"flagged {flag}: {FLAGS[flag]}")
        return flags

    def _view(self, source: Source, flags: list[str]) -> str:
        """Return the view of an image that the tables do not say, if it is wanted."""
        assert self.view_teller is not None
        view = self.view_teller.tell(source, flags)
        if view not in self.views:
            raise LeftOutError(f"view {view or 'not given'}: told by {self.view_teller.name}")
        return view

    def _regions(self, picture: Picture, square: Square, skipped: list[tuple[str, str]]) -> list[Region] | None:
        if self.regions is None:
            return None

        def skip(name: str, reason: str) -> None:
            skipped.append((f"{picture.image_id}/{name}", reason))

        try:
            return joined(self.regions.find(picture, square, skip))
        except LeftOutError as error:
            skipped.append((f"regions of {picture.image_id}", str(error)))
            return None


def pixel_digests(pixels: npt.NDArray[np.uint8]) -> list[str]:
    """Return the SHA-256 of the images and, if there are masks, of the masks of a chunk (1 or 2, M, S, S)."""
    return [hashlib.sha256(output.reshape(-1).data).hexdigest() for output in pixels]
