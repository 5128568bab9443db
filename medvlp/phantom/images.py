"""The images of a study: pixels, and the truth about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medvlp.phantom import anatomy, findings, frontal
from medvlp.phantom.geometry import Canvas
from medvlp.phantom.lateral import lateral
from medvlp.phantom.render import develop, frame_of
from medvlp.phantom.world import Shot, Study

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Image:
    """A rendered image.

    Attributes:
        pixels: uint8 (rows, columns).
        masks: Boolean masks by name: lungs, heart, findings.
        regions: Boxes x1, y1, x2, y2 (exclusive) by region name; empty for a lateral view.
        heart_ratio: Drawn cardiothoracic ratio; None for a lateral view.
    """

    pixels: npt.NDArray[np.uint8]
    masks: dict[str, npt.NDArray[np.bool_]]
    regions: dict[str, Box]
    heart_ratio: float | None


def image(study: Study, shot: Shot, size: int) -> Image:
    """Return one image of a study.

    Args:
        study: The study.
        shot: Acquisition of the image.
        size: Longest side in pixels.
    """
    canvas = Canvas(frame_of(shot, size))
    if shot.view == "LATERAL":
        layers = lateral(canvas, study.body, shot, study.findings)
        return Image(develop(layers, shot, canvas), layers.masks, {}, None)
    outlines = anatomy.thorax(study.body, shot, study.findings)
    layers, vessels, fields = frontal.normal(canvas, outlines, shot)
    findings.draw(canvas, outlines, layers, vessels, fields, study.findings)
    boxes = {name: canvas.frame.box(corners) for name, corners in anatomy.regions(outlines).items()}
    kept = {name: box for name, box in boxes.items() if box is not None}
    return Image(develop(layers, shot, canvas), layers.masks, kept, outlines.ratio)
