"""Tells lateral chest radiographs from other pictures, by the directions of their edges.

The classifier is a network with one hidden layer, trained on phantoms alone (`medvlp.localiser.laterals`). Source of
its features: Dalal and Triggs, Histograms of oriented gradients for human detection, CVPR 2005.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medvlp.prepare.regions.lung_fields import INPUT_SIDE, network_input

Values = npt.NDArray[np.float32]

DATA = Path(__file__).with_name("lateral.npz")
# Side of a cell in pixels, cells along a side of the image, and directions of edges.
CELL = 8
CELLS = INPUT_SIDE // CELL
DIRECTIONS = 8
COUNT = CELLS * CELLS * (DIRECTIONS + 1)


def features(image: npt.NDArray[np.uint8]) -> Values:
    """Return the features (COUNT,) of a grey image (H, W).

    They are the strength of the edges in each direction, and the grey level, of each cell. They do not depend on the
    contrast and gamma of the archive; see `network_input`.
    """
    grey = network_input(image).astype(np.float32) / 255
    down, across = np.gradient(grey)
    strength = np.hypot(down, across)
    direction = np.arctan2(down, across) % np.pi * (DIRECTIONS / np.pi)
    nearest = np.minimum(direction.astype(np.intp), DIRECTIONS - 1)
    rows = np.arange(INPUT_SIDE) // CELL
    place = (rows[:, None] * CELLS + rows) * DIRECTIONS + nearest
    edges = np.bincount(place.ravel(), strength.ravel(), CELLS * CELLS * DIRECTIONS).reshape(-1, DIRECTIONS)
    edges = np.sqrt(edges / (edges.sum(axis=1, keepdims=True) + 0.5))
    means = grey.reshape(CELLS, CELL, CELLS, CELL).mean((1, 3))
    return np.concatenate([edges.ravel(), means.ravel()]).astype(np.float32)


def lateral_logit(image: npt.NDArray[np.uint8]) -> float:
    """Return the logit that a grey image (H, W) is a lateral chest radiograph, upright and facing either side."""
    hidden, out = _layers()
    return float(out(np.maximum(hidden(features(image)), 0))[0])


@dataclass(frozen=True)
class Linear:
    """A layer of the classifier.

    Attributes:
        weight: (outputs, inputs).
        bias: (outputs,).
    """

    weight: Values
    bias: Values

    def __call__(self, x: Values) -> Values:
        """Map (inputs,) to (outputs,)."""
        return self.weight @ x + self.bias


def digest() -> str:
    """Return the beginning of the hash of the weights, for the manifest."""
    return hashlib.sha256(DATA.read_bytes()).hexdigest()[:12]


@lru_cache(maxsize=1)
def _layers() -> tuple[Linear, Linear]:
    with np.load(DATA) as arrays:
        hidden, out = (
            Linear(*(arrays[f"{name}.{part}"].astype(np.float32) for part in ("weight", "bias")))
            for name in ("hidden", "out")
        )
        return hidden, out
