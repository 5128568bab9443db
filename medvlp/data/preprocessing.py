"""Preprocessing from an image file to the input of an encoder; checkpoints store it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medvlp.data.transforms import reduce
from medvlp.errors import UserError
from medvlp.prepared import Geometry, Prepared, Resize

if TYPE_CHECKING:
    from medvlp.data import CXRDataModule

Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing in evaluation: first as `medvlp prepare` does it, then as the data module does.

    Attributes:
        size: Side of the prepared square in pixels.
        fit: How the image fills it; see `Geometry.of`.
        resize: Side that the square is then resized to; None leaves it as it is.
        crop: Side of the central square that the encoder sees.
    """

    size: int
    fit: Resize
    resize: int | None
    crop: int

    @classmethod
    def of(cls, data: CXRDataModule) -> Preprocessing:
        """Return the preprocessing of a data module's images.

        Raises:
            UserError: If they fill their squares in different ways.
        """
        folders = data.roots.open()
        fits: dict[Resize, Path] = {one.manifest["options"]["resize"]: one.root for one in folders}
        if len(fits) > 1:
            # Squares look the same however they are fitted.
            of_others = {one.manifest["options"]["resize"]: one.root for one in folders if not one.of_squares}
            if len(of_others) > 1:
                said = ", ".join(f"'{root}' with --resize {fit}" for fit, root in of_others.items())
                raise UserError(f"root: prepare all folders in the same way: {said}.")
            fits = of_others or fits
        # Of several sizes, all of which are resized, the least is in reach of every folder.
        size = min(one.manifest["options"]["size"] for one in folders)
        return cls(size, next(iter(fits)), data.framing.resize, data.framing.crop)

    @property
    def side(self) -> int:
        """Side of the square that is cropped."""
        return self.resize or self.size

    @property
    def margin(self) -> int:
        """Pixels of that square above, and to the left of, what the encoder sees."""
        return (self.side - self.crop) // 2

    def see(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the part (crop, crop) of a prepared image (size, size) that the encoder sees."""
        return reduce(image, self.resize)[self.margin :, self.margin :][: self.crop, : self.crop]

    def check(self, prepared: Prepared) -> None:
        """Refuse prepared images that the encoder would see differently from those of its training.

        Raises:
            UserError: If they are too small, or fill their square in another way and are not squares themselves.
        """
        size, fit = prepared.size, prepared.manifest["options"]["resize"]
        if size < min(self.size, self.side) or not (fit == self.fit or prepared.of_squares):
            raise UserError(
                f"root='{prepared.root}' was prepared with --size {size} --resize {fit}, but the model was trained on "
                f"--size {self.size} --resize {self.fit}: prepare the data with these options."
            )

    def window(self, geometry: Geometry) -> Window:
        """Return what the encoder sees of an image: x1, y1, x2, y2 in pixels of the original, beyond it for padding."""
        scale = self.size / self.side
        first, last = scale * self.margin, scale * (self.margin + self.crop)
        (left, top), (width, height) = geometry.corner, geometry.inner
        x, y = geometry.width / width, geometry.height / height
        return (first - left) * x, (first - top) * y, (last - left) * x, (last - top) * y
