"""An atlas of the chest: the boxes of the regions, given the landmarks on lungs and heart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medvlp.prepare.regions.lung_fields import Landmarks, Points

# Greatest distance of a landmark from the mean of the training images, in standard deviations; others are cut.
REACH = 3.0


@dataclass(frozen=True)
class Axis:
    """The linear map from landmarks to edges of boxes along one axis.

    It is fitted in the frame of the lungs, so that it follows shifts and stretches of the image.

    Attributes:
        mean: Mean of each landmark (L,).
        spread: Standard deviation of each landmark (L,).
        weights: Weights of the landmarks and of 1, for both edges of each region (N, 2, L + 1).
    """

    mean: Points
    spread: Points
    weights: Points

    @classmethod
    def fit(cls, places: Points, edges: Points, frames: Points) -> Axis:
        """Return the map of least squares, with a small ridge penalty towards the mean box.

        Args:
            places: Landmarks of M images (M, L).
            edges: Edges of their regions (M, N, 2).
            frames: Origin and length of the lungs (M, 2).
        """
        places = (places - frames[:, :1]) / frames[:, 1:]
        mean, spread = places.mean(axis=0), np.maximum(places.std(axis=0), 0.01)
        inputs = _inputs(places, mean, spread)
        outputs = ((edges - frames[:, :1, None]) / frames[:, 1:, None]).reshape(len(edges), -1)
        ridge = np.eye(inputs.shape[1]) * 0.01 * len(inputs)
        ridge[-1, -1] = 0
        weights = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ outputs)
        return cls(mean, spread, weights.T.reshape(edges.shape[1], 2, -1))

    def __call__(self, places: Points, origin: float, length: float) -> Points:
        """Return the edges (N, 2) that go with landmarks (L,)."""
        inputs = _inputs((places - origin) / length, self.mean, self.spread)
        return np.asarray(origin + length * (self.weights * inputs).sum(axis=-1))


@dataclass(frozen=True)
class Atlas:
    """Boxes of regions from landmarks.

    Attributes:
        names: Names of the regions.
        x: Map to left and right edges.
        y: Map to upper and lower edges.
    """

    names: list[str]
    x: Axis
    y: Axis

    def __call__(self, marks: Landmarks) -> npt.NDArray[np.float64]:
        """Return boxes (N, 4) as x1, y1, x2, y2 in shares of the image; they may reach out of it."""
        left, top, width, height = marks.frame
        edges = np.stack([self.x(marks.x, left, width), self.y(marks.y, top, height)], axis=-1)
        return edges.reshape(len(self.names), 4)


def _inputs(places: Points, mean: Points, spread: Points) -> Points:
    standard = np.clip((places - mean) / spread, -REACH, REACH)
    return np.concatenate([standard, np.ones_like(standard[..., :1])], axis=-1)
