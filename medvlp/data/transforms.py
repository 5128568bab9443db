"""Image transforms; the only module that knows albumentations."""

from __future__ import annotations

import os
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

# Set before the import, which would otherwise ask the network for a newer version.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A

Image = npt.NDArray[np.uint8]


@dataclass
class Augmentation:
    """IMITATE's augmentations of one view; every probability can be set to 0.

    Attributes:
        horizontal_flip: Probability. Flips mirror the patient, while reports speak of left and right: turn them off
            to keep laterality.
        vertical_flip: Probability.
        rotation: Largest angle in degrees, either way.
        perspective: Probability of a perspective distortion.
        distortion: Largest shift of a corner, as a share of half the side.
        autocontrast: Probability of stretching the grey values to 0..255.
    """

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.5
    rotation: float = 30.0
    perspective: float = 0.5
    distortion: float = 0.5
    autocontrast: float = 0.5


def reduce(image: Image, side: int | None) -> Image:
    """Resize a stored image to (side, side), averaging; None leaves it as it is."""
    return (
        image if side is None else np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    )


class TrainTransform:
    """Random crop and augmentation, a function of the image and a seed.

    The official code also applies a random grey-scale conversion, which does nothing to grey images.

    Args:
        crop: Side of the crop in pixels.
        augmentation: What is done to it.
        resize: Side that images are resized to before, in pixels.
    """

    def __init__(self, crop: int, augmentation: Augmentation, resize: int | None = None) -> None:
        self.resize = resize
        steps: list[A.BasicTransform] = [A.RandomCrop(crop, crop)]
        if augmentation.horizontal_flip:
            steps.append(A.HorizontalFlip(p=augmentation.horizontal_flip))
        if augmentation.vertical_flip:
            steps.append(A.VerticalFlip(p=augmentation.vertical_flip))
        if augmentation.rotation:
            steps.append(A.Rotate(limit=augmentation.rotation, border_mode=cv2.BORDER_CONSTANT, fill=0, p=1.0))
        if augmentation.perspective:
            # Corners move by a normal deviate here and by a uniform one, up to distortion / 2 of the side, in
            # torchvision: the mean shifts agree.
            scale = augmentation.distortion * 0.156 / 0.5
            steps.append(A.Perspective(scale=(scale, scale), keep_size=True, fill=0, p=augmentation.perspective))
        if augmentation.autocontrast:
            steps.append(A.AutoContrast(p=augmentation.autocontrast))
        self._pipeline = A.Compose(steps, seed=0)

    def __call__(self, image: Image, seed: int) -> Image:
        """Return one view (crop, crop) of a stored image (S, S)."""
        self._pipeline.set_random_seed(seed)
        view: Image = self._pipeline(image=reduce(image, self.resize))["image"]
        return view


class EvaluationTransform:
    """Centre crop.

    Args:
        crop: Side of the crop in pixels.
        resize: Side that images are resized to before, in pixels.
    """

    def __init__(self, crop: int, resize: int | None = None) -> None:
        self.crop, self.resize = crop, resize

    def __call__(self, image: Image, seed: int) -> Image:
        """Return the central (crop, crop) of a stored image (S, S)."""
        image = reduce(image, self.resize)
        start = (image.shape[0] - self.crop) // 2
        return image[start : start + self.crop, start : start + self.crop]
