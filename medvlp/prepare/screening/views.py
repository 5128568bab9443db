"""Classifiers of lateral and of mirrored views, by the directions of edges.

Each one is a network with one hidden layer, trained on phantoms alone (`medvlp.localiser.views`). Source of the
features: Dalal and Triggs, Histograms of oriented gradients for human detection, CVPR 2005.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medvlp.prepare.regions.lung_fields import INPUT_SIDE

Values = npt.NDArray[np.float32]

DATA = Path(__file__).with_name("views.npz")
# Side of a cell in pixels, cells along a side of the image, and directions of edges.
CELL = 8
CELLS = INPUT_SIDE // CELL
DIRECTIONS = 8
COUNT = CELLS * CELLS * (DIRECTIONS + 1)


def features(seen: npt.NDArray[np.uint8]) -> Values:
    """Return the features (COUNT,) of an image: the strength of its edges in each direction and cell, and its greys.

    Args:
        seen: The image as `medvlp.prepare.regions.lung_fields.network_input` returns it.
    """
    grey = seen.astype(np.float32) / 255
    down, across = np.gradient(grey)
    strength = np.hypot(down, across)
    # The first direction is that of edges from top to bottom, and lies on both sides of zero.
    direction = np.rint(np.arctan2(down, across) * (DIRECTIONS / np.pi)).astype(np.intp) % DIRECTIONS
    cell = np.arange(INPUT_SIDE) // CELL
    place = (cell[:, None] * CELLS + cell) * DIRECTIONS + direction
    edges = np.bincount(place.ravel(), strength.ravel(), CELLS * CELLS * DIRECTIONS).reshape(-1, DIRECTIONS)
    edges = np.sqrt(edges / (edges.sum(axis=1, keepdims=True) + 0.5))
    means = grey.reshape(CELLS, CELL, CELLS, CELL).mean((1, 3))
    return np.concatenate([edges.ravel(), means.ravel()]).astype(np.float32)


def mirror(found: Values) -> Values:
    """Return the features (COUNT,) of the mirror image from those of an image."""
    edges, means = found[: -CELLS * CELLS].reshape(CELLS, CELLS, DIRECTIONS), found[-CELLS * CELLS :]
    edges = edges[:, ::-1, -np.arange(DIRECTIONS) % DIRECTIONS]
    return np.concatenate([edges.ravel(), means.reshape(CELLS, CELLS)[:, ::-1].ravel()])


@dataclass(frozen=True)
class Classifier:
    """A network with one hidden layer.

    Attributes:
        hidden: Weights of the hidden layer, (H, COUNT), and its bias, (H,).
        out: Weights of the output, (1, H), and its bias, (1,).
    """

    hidden: tuple[Values, Values]
    out: tuple[Values, Values]

    def __call__(self, found: Values) -> float:
        """Return the logit of features (COUNT,)."""
        (weight, bias), (out_weight, out_bias) = self.hidden, self.out
        return float((out_weight @ np.maximum(weight @ found + bias, 0) + out_bias)[0])


def lateral_logit(found: Values) -> float:
    """Return the logit that features are those of a lateral chest radiograph, upright, and facing either side."""
    return _classifier("lateral")(found)


def mirrored_lead(found: Values) -> float:
    """Return how much more an upright frontal radiograph seems to be mirrored than its mirror image does, in logits."""
    classifier = _classifier("mirrored")
    return classifier(found) - classifier(mirror(found))


def digest() -> str:
    """Return the beginning of the hash of the weights, for the manifest."""
    return hashlib.sha256(DATA.read_bytes()).hexdigest()[:12]


@lru_cache
def _classifier(name: str) -> Classifier:
    with np.load(DATA) as arrays:
        hidden, out = (
            (arrays[f"{name}.{layer}.weight"].astype(np.float32), arrays[f"{name}.{layer}.bias"].astype(np.float32))
            for layer in ("hidden", "out")
        )
        return Classifier(hidden, out)
