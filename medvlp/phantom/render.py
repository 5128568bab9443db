"""The way from path lengths to grey levels: attenuation, scatter, quantum noise and the display curve."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from medvlp.phantom.geometry import Array, Canvas, Frame
from medvlp.phantom.world import Shot, stream

# Effective attenuation per cm at about 120 kVp, behind a grid.
MU_SOFT, MU_LUNG, MU_BONE, MU_METAL = 0.17, 0.055, 0.34, 2.2


@dataclass
class Layers:
    """Path lengths in cm along the beam, per pixel.

    Attributes:
        body: Whole body, skin to skin.
        lung: Aerated lung, part of the body.
        air: Free air (trachea, stomach, pneumothorax), part of the body.
        soft: Soft tissue in addition to it: vessels, nodules, lines of pleura.
        bone: Bone.
        metal: Metal and radiopaque plastic.
        masks: Mask of each structure and finding: the truth.
    """

    body: Array
    lung: Array
    air: Array
    soft: Array
    bone: Array
    metal: Array
    masks: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)


def frame_of(shot: Shot, size: int) -> Frame:
    """Return the frame of an image with a longest side of `size` pixels."""
    wide, tall = shot.field
    scale = size / max(wide, tall)
    return Frame(max(round(tall * scale), 1), max(round(wide * scale), 1), scale, shot.centre, shot.degrees)


def develop(layers: Layers, shot: Shot, canvas: Canvas) -> npt.NDArray[np.uint8]:
    """Return the radiograph of path lengths, uint8 (rows, columns)."""
    rng = stream(shot.key, 7)
    air = np.minimum(layers.air, layers.body)
    lung = np.minimum(layers.lung, layers.body - air)
    path = MU_SOFT * (layers.body - lung - air + layers.soft) + MU_LUNG * lung
    path += MU_BONE * layers.bone + MU_METAL * layers.metal
    primary = np.exp(-path)
    # Scatter adds a veil: thick parts lose more contrast than thin ones.
    signal = primary + np.float32(0.35) * canvas.blur(np.minimum(primary, 0.25), 3.0)
    photons = np.float32(shot.quanta * 1.2e6 / canvas.frame.scale**2)
    # Quantum noise is independent between pixels, and thus the only difference between image sizes.
    grain = rng.standard_normal(signal.shape, dtype=np.float32)
    signal += np.sqrt(signal / photons) * grain
    density = -np.log(np.maximum(signal, 1e-3))
    density = canvas.blur(density, shot.blur)
    low, high = 0.55 + 0.12 * shot.exposure, 3.45 + 0.12 * shot.exposure
    middle = (low + high) / 2
    value = 0.5 + shot.contrast * (density - middle) / (high - low)
    # A soft toe and shoulder, as film and display curves have.
    grey = 1 / (1 + np.exp(-4.2 * (value - 0.5)))
    grey = (grey - 0.09) * np.float32(1 / 0.85)
    image: npt.NDArray[np.uint8] = np.clip(grey * 255, 0, 255).astype(np.uint8)
    _annotate(image, shot)
    return image


def _annotate(image: npt.NDArray[np.uint8], shot: Shot) -> None:
    h, w = image.shape
    scale = max(h, w) / 512
    if shot.marker:
        text = shot.marker if shot.view != "LATERAL" else "L LAT"
        # The left of the patient is on the right of a frontal image.
        x = (0.88 if shot.marker == "L" else 0.06) * w if shot.view != "LATERAL" else 0.08 * w
        cv2.putText(
            image,
            text,
            (round(x), round(0.09 * h)),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.9 * scale,
            245,
            max(round(2.2 * scale), 1),
            cv2.LINE_AA,
        )
    left, top, right, bottom = shot.border
    image[:, : round(left * w)] = 0
    image[: round(top * h)] = 0
    image[:, w - round(right * w) :] = 0
    image[h - round(bottom * h) :] = 0
