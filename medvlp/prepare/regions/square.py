"""The prepared square of an image, and the lung fields that the localiser's network finds in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medvlp.prepare.regions.lung_fields import Landmarks, Mask, find_masks, landmarks, network_input
from medvlp.prepare.regions.network import Network
from medvlp.prepared import Geometry

# Weights and atlas, which `medvlp.localiser` makes.
DATA = Path(__file__).with_name("localiser.npz")


@dataclass(frozen=True)
class Square:
    """An image in its prepared square. The network looks at it once, for all who ask.

    Attributes:
        pixels: The square, uint8 (S, S).
        geometry: Place of the image in it.
    """

    pixels: npt.NDArray[np.uint8]
    geometry: Geometry

    @property
    def image(self) -> npt.NDArray[np.uint8]:
        """The part of the square that the image fills."""
        left, top, right, bottom = self.geometry.filled
        return self.pixels[top:bottom, left:right]

    @cached_property
    def input(self) -> npt.NDArray[np.uint8]:
        """The input of the network; see `network_input`."""
        return network_input(self.image)

    @cached_property
    def masks(self) -> Mask:
        """The masks of lungs and heart; see `find_masks`."""
        return find_masks(network(), self.input)

    @cached_property
    def marks(self) -> Landmarks | None:
        """The landmarks on the masks; None if these are not two lungs with a heart between them."""
        return landmarks(self.masks)


def has_lungs(seen: npt.NDArray[np.uint8]) -> bool:
    """Return whether the network finds two lungs with a heart between them in an input."""
    return landmarks(find_masks(network(), seen)) is not None


@lru_cache(maxsize=1)
def network() -> Network:
    """Return the network of this package; each process reads it once."""
    with np.load(DATA) as arrays:
        return Network.of(arrays)
