"""Foreign objects on a finished radiograph: buttons, coins, clips and pins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from medvlp.phantom.drawn import bounds
from medvlp.phantom.geometry import Array, Canvas, Frame, Points, ellipse, points, spline
from medvlp.phantom.images import Box, Image
from medvlp.phantom.world import Shot, stream

Kind = Literal["button", "coin", "clip", "pin"]
_KINDS: tuple[Kind, ...] = get_args(Kind)
_CHANCE = 0.5
_TRIES = 24
# Grey level of dense metal, and the mean grey level of a background from which an object does not stand out.
_METAL, _WHITE = 250, 165
_WIRE = 0.15  # cm
# Centre line of the wire of a paper clip; 1 is half of its length, and half of its width.
_CLIP = (
    (-0.35, -1.0),
    (0.72, -1.0),
    (0.95, -0.6),
    (1.0, 0.0),
    (0.95, 0.6),
    (0.72, 1.0),
    (-0.72, 1.0),
    (-0.95, 0.65),
    (-1.0, 0.2),
    (-0.92, -0.25),
    (-0.7, -0.5),
    (0.4, -0.5),
    (0.58, -0.2),
    (0.58, 0.2),
    (0.4, 0.5),
    (-0.4, 0.5),
)


@dataclass(frozen=True)
class ForeignObject:
    """One object.

    Attributes:
        kind: Kind of object.
        box: x1, y1, x2, y2 (exclusive) in pixels.
        outline: Corners (N, 2) of a polygon around it: x and y in whole pixels, 0 at the edge of the image.
    """

    kind: Kind
    box: Box
    outline: npt.NDArray[np.int64]


def stamp(shot: Shot, image: Image) -> tuple[npt.NDArray[np.uint8], list[ForeignObject]]:
    """Return the pixels of a frontal image with objects over its lungs, and the objects. Half of the images have none.

    The objects are no part of the path lengths, so that all layouts share one rendering.
    """
    rng = stream(shot.key, 71)
    if rng.random() > _CHANCE:
        return image.pixels, []
    pixels = image.pixels.copy()
    scale = max(pixels.shape) / max(shot.field)
    lungs = image.masks["right lung"] | image.masks["left lung"]
    # All buttons of a shirt have one size.
    button = float(rng.uniform(0.6, 0.95))
    things: list[ForeignObject] = []
    for _ in range(int(rng.choice((1, 2, 3, 4, 5), p=(0.35, 0.25, 0.2, 0.12, 0.08)))):
        kind = _KINDS[int(rng.choice(len(_KINDS), p=(0.4, 0.2, 0.2, 0.2)))]
        a, b = _half(kind, button, rng)
        degrees = float(rng.uniform(0, 180))
        # The origin of a frame without size is the centre of the object.
        corners = Frame(0, 0, scale, (0.0, 0.0), degrees).to_pixels(_outline(kind, a, b))
        reach = np.ceil(np.abs(corners).max(axis=0)).astype(int)
        centre = _place(rng, pixels, shot, lungs, [thing.box for thing in things], reach)
        if centre is None:
            continue
        x1, y1, x2, y2 = (int(v) for v in (*(centre - reach), *(centre + reach)))
        metal = _metal(kind, Canvas(Frame(y2 - y1, x2 - x1, scale, (0.0, 0.0), degrees)), a, b)
        behind = pixels[y1:y2, x1:x2]
        pixels[y1:y2, x1:x2] = np.rint(behind + np.maximum(_METAL - behind.astype(np.float32), 0) * metal)
        outward = np.where(corners < 0, np.floor(corners), np.ceil(corners)).astype(np.int64)
        things.append(ForeignObject(kind, (x1, y1, x2, y2), outward + centre))
    return pixels, things


def _place(
    rng: np.random.Generator,
    pixels: npt.NDArray[np.uint8],
    shot: Shot,
    lungs: npt.NDArray[np.bool_],
    taken: list[Box],
    reach: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64] | None:
    """Return a centre at which an object is wholly visible, over a lung, and apart from the others; None if none is."""
    h, w = pixels.shape
    left, top, right, bottom = (round(b * n) for b, n in zip(shot.border, (w, h, w, h), strict=True))
    area = np.reshape(bounds(lungs) or (0, 0, w, h), (2, 2))
    for _ in range(_TRIES):
        centre: npt.NDArray[np.int64] = np.floor(rng.uniform(*area)).astype(np.int64)
        (x1, y1), (x2, y2) = centre - reach, centre + reach
        inside = lungs[centre[1], centre[0]]
        shown = left <= x1 and top <= y1 and x2 <= w - right and y2 <= h - bottom
        apart = all(x2 <= t[0] or t[2] <= x1 or y2 <= t[1] or t[3] <= y1 for t in taken)
        # Annotators cannot outline white on white.
        if inside and shown and apart and pixels[y1:y2, x1:x2].mean() < _WHITE:
            return centre
    return None


def _half(kind: Kind, button: float, rng: np.random.Generator) -> tuple[float, float]:
    """Return half the length and half the width of an object in cm."""
    a, b = float(rng.uniform(0, 1)), float(rng.uniform(0, 1))
    if kind == "button":
        return button, button * (0.75 + 0.25 * a)
    if kind == "coin":
        return 0.95 + 0.35 * a, 0.95 + 0.35 * a
    return (1.6 + 0.4 * a, 0.42 + 0.08 * b) if kind == "clip" else (1.7 + 0.6 * a, 0.45 + 0.1 * b)


def _outline(kind: Kind, a: float, b: float) -> Points:
    """Return the outline in cm: an ellipse, or a strip with round ends."""
    if kind in ("button", "coin"):
        return ellipse(0, 0, a, b)
    turn = np.linspace(-np.pi / 2, np.pi / 2, 5)
    end = np.stack([a - b + b * np.cos(turn), b * np.sin(turn)], axis=1)
    return np.vstack([end, -end])


def _metal(kind: Kind, canvas: Canvas, a: float, b: float) -> Array:
    """Return the share of the light that an object absorbs, 0 to 1."""
    disc = canvas.fill(_outline(kind, a, b))
    if kind == "coin":
        return 0.97 * disc
    if kind == "button":
        rim = ellipse(0, 0, 0.88 * a, 0.88 * b)
        ring = canvas.bands([(np.vstack([rim, rim[:1]]), 0.24 * a, 0.24 * a, 1.0)])
        holes = canvas.fill(*(ellipse(x * a, y * b, 0.13 * a, 0.13 * b) for x in (-0.28, 0.28) for y in (-0.28, 0.28)))
        return np.asarray(np.clip(0.5 * disc + 0.3 * ring * disc - 0.4 * holes, 0, 1), np.float32)
    x, y = a - _WIRE / 2, b - _WIRE / 2
    if kind == "clip":
        return 0.95 * canvas.bands([(spline(points(_CLIP) * [x, y]), _WIRE, _WIRE, 1.0)])
    coil = ellipse(-0.84 * x, 0, 0.55 * y, 0.55 * y)
    bars = [points([(-0.84 * x, s * 0.55 * y), (0.8 * x, s * 0.8 * y)]) for s in (-1, 1)]
    wires = canvas.bands([(path, _WIRE, _WIRE, 1.0) for path in (np.vstack([coil, coil[:1]]), *bars)])
    head = canvas.fill(ellipse(a - 0.45, 0, 0.45, b))
    return np.asarray(np.maximum(0.95 * wires, 0.85 * head), np.float32)
