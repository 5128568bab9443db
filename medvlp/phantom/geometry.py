"""Drawing in centimetres, so that the anatomy is the same at every image size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

_SHIFT = 4  # sub-pixel bits of OpenCV's drawing functions


def points(pairs: Sequence[tuple[float, float]]) -> Points:
    """Return pairs (x, y) in cm as an array (N, 2)."""
    return np.asarray(pairs, dtype=np.float64)


def spline(control: Points, closed: bool = False, steps: int = 8) -> Points:
    """Return a Catmull-Rom curve through the control points.

    Args:
        control: Array (N, 2).
        closed: Whether the last point joins the first.
        steps: Points per span.
    """
    ext = np.vstack([control[-1:], control, control[:2]]) if closed else np.vstack([control[:1], control, control[-1:]])
    p0, p1, p2, p3 = ext[:-3, None], ext[1:-2, None], ext[2:-1, None], ext[3:, None]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    out = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    curve = out.reshape(-1, 2)
    return curve if closed else np.vstack([curve, control[-1:]])


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Points:
    """Return the outline of an ellipse with the given radii, rotated clockwise on the screen."""
    a = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    px, py = rx * np.cos(a), ry * np.sin(a)
    return np.stack([x + c * px - s * py, y + s * px + c * py], axis=1)


@dataclass(frozen=True)
class Frame:
    """The frame of an image in patient coordinates.

    Attributes:
        height: Rows of the image in pixels.
        width: Columns of the image in pixels.
        scale: Pixels per cm.
        centre: Patient coordinates (x, y) in cm of the middle of the picture.
        degrees: Rotation of the patient in the image plane.
    """

    height: int
    width: int
    scale: float
    centre: tuple[float, float]
    degrees: float

    def to_pixels(self, pts: Points) -> Points:
        """Map points (N, 2) in cm to pixels."""
        c, s = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))
        d = (pts - np.asarray(self.centre)) * self.scale
        turned = np.stack([c * d[:, 0] - s * d[:, 1], s * d[:, 0] + c * d[:, 1]], axis=1)
        return np.asarray(turned + np.array([self.width / 2, self.height / 2]))

    def box(self, pts: Points) -> tuple[int, int, int, int] | None:
        """Return the box x1, y1, x2, y2 (exclusive, in pixels) around points in cm, cut to the image; None outside."""
        px = self.to_pixels(pts)
        x1, y1 = np.floor(px.min(axis=0)).astype(int)
        x2, y2 = np.ceil(px.max(axis=0)).astype(int)
        x1, y1, x2, y2 = max(int(x1), 0), max(int(y1), 0), min(int(x2), self.width), min(int(y2), self.height)
        return (x1, y1, x2, y2) if x2 - x1 > 1 and y2 - y1 > 1 else None


class Canvas:
    """Rasterises outlines given in cm onto the pixels of a frame."""

    def __init__(self, frame: Frame) -> None:
        """Draw into this frame."""
        self.frame = frame

    def zeros(self) -> Array:
        """Return an empty map."""
        return np.zeros((self.frame.height, self.frame.width), np.float32)

    def fill(self, *outlines: Points) -> Array:
        """Return the coverage (0 to 1) of the union of polygons."""
        img = np.zeros((self.frame.height, self.frame.width), np.uint8)
        for outline in outlines:
            cv2.fillPoly(img, [self._fixed(outline)], 255, cv2.LINE_AA, _SHIFT)
        return np.asarray(img.astype(np.float32) * np.float32(1 / 255), np.float32)

    def bands(self, paths: Sequence[tuple[Points, float, float, float]]) -> Array:
        """Return a map of tapering bands; the last of several overlapping bands counts.

        Args:
            paths: Tuples of points (N, 2), width at the start, width at the end (cm), value (0 to 1).
        """
        img = np.zeros((self.frame.height, self.frame.width), np.uint8)
        # A band thinner than a pixel is a pixel wide and fainter, so that the mean intensity is the same at every size.
        floor = 0.5 / self.frame.scale
        shapes: dict[int, tuple[npt.NDArray[np.int32], float]] = {}
        # Paths of equal length are computed at once: there are hundreds of vessels.
        for length in {len(path[0]) for path in paths}:
            group = [i for i, path in enumerate(paths) if len(path[0]) == length]
            pts = np.stack([paths[i][0] for i in group])
            widths = np.array([paths[i][1:3] for i in group])
            step = np.gradient(pts, axis=1)
            normal = np.stack([-step[..., 1], step[..., 0]], axis=-1)
            normal /= np.maximum(np.hypot(step[..., 0], step[..., 1]), 1e-9)[..., None]
            half = (widths[:, :1] + (widths[:, 1:] - widths[:, :1]) * np.linspace(0, 1, length))[..., None] / 2
            faint = np.clip(half.mean(axis=(1, 2)) / floor, 0.0, 1.0)
            side = normal * np.maximum(half, floor)
            outlines = np.concatenate([pts + side, (pts - side)[:, ::-1]], axis=1)
            fixed = self._fixed(outlines.reshape(-1, 2)).reshape(outlines.shape)
            shapes |= {i: (fixed[k], float(faint[k])) for k, i in enumerate(group)}
        for i in range(len(paths)):
            outline, faint_i = shapes[i]
            cv2.fillPoly(img, [outline], 255 * paths[i][3] * faint_i, cv2.LINE_AA, _SHIFT)
        return np.asarray(img.astype(np.float32) * np.float32(1 / 255), np.float32)

    def blur(self, img: Array, sigma: float) -> Array:
        """Return the map blurred by a Gaussian of `sigma` cm."""
        px = sigma * self.frame.scale
        if px < 0.3:
            return img
        shrink = int(px // 4)
        if shrink < 2:
            return np.asarray(cv2.GaussianBlur(img, (0, 0), px), np.float32)
        h, w = img.shape
        small = cv2.resize(img, (max(w // shrink, 8), max(h // shrink, 8)), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), px / shrink)
        return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR), np.float32)

    def dome(self, mask: Array, radius: float, height: float) -> Array:
        """Return a map of thickness (cm) that rises from the border of a mask to `height` like a quarter circle."""
        distance = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        rest = 1 - np.minimum(distance * np.float32(1 / (self.frame.scale * radius)), 1)
        return np.asarray(np.float32(height) * np.sqrt(1 - rest * rest) * mask, np.float32)

    def noise(self, rng: np.random.Generator, cell: float) -> Array:
        """Return smooth noise (mean 0, deviation about 1) with cells of `cell` cm, the same at every image size."""
        lattice = rng.standard_normal((int(48 / cell) + 2, int(48 / cell) + 2)).astype(np.float32)
        px = cell * self.frame.scale
        h, w = self.frame.height, self.frame.width
        # The lattice is centred on the picture, as the patient is.
        mid = (lattice.shape[0] - 1) / 2
        xs = ((np.arange(w, dtype=np.float32) + 0.5 - w / 2) / px + mid).astype(np.float32)
        ys = ((np.arange(h, dtype=np.float32) + 0.5 - h / 2) / px + mid).astype(np.float32)
        grid = np.meshgrid(xs, ys)
        smooth = cv2.remap(lattice, grid[0], grid[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        return np.asarray(smooth * np.float32(1.4), np.float32)

    def _fixed(self, pts: Points) -> npt.NDArray[np.int32]:
        px = np.clip(self.frame.to_pixels(pts) - 0.5, -16000, 16000)
        return np.round(px * (1 << _SHIFT)).astype(np.int32)
