"""Image transforms; the only module that knows albumentations."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

# Set before the import, which would otherwise ask the network for a newer version.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A

Image = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]

# A view shows a region if at least this share of the region's box is in it. ASG keeps any box that is not wholly
# outside; of a sliver at the border nothing can be said.
SHOWN = 0.25


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


class View(NamedTuple):
    """What a transform makes of a stored image.

    Attributes:
        image: uint8 (crop, crop).
        box: Boxes of its regions, (R, 4): x1, y1, x2, y2 in pixels of the view, zero where it does not show them.
        visible: Which regions it shows, bool (R,).
    """

    image: Image
    box: Boxes
    visible: npt.NDArray[np.bool_]


def reduce(image: Image, boxes: Boxes, side: int | None) -> tuple[Image, Boxes]:
    """Resize a stored image to (side, side), averaging, and its boxes; None leaves them as they are."""
    if side is None:
        return image, boxes
    resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8), boxes * np.float32(side / image.shape[0])


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
        boxes = A.BboxParams("pascal_voc", label_fields=["number"], min_visibility=SHOWN, clip=True)
        self._with_boxes = A.Compose(steps, bbox_params=boxes, seed=0)

    def __call__(self, image: Image, boxes: Boxes, seed: int) -> View:
        """Return one view (crop, crop) of a stored image (S, S), and its boxes.

        The box of a region that was turned is the smallest upright one around it.
        """
        image, boxes = reduce(image, boxes, self.resize)
        # Following boxes takes longer than the image itself; the random numbers are the same.
        pipeline = self._with_boxes if len(boxes) else self._pipeline
        pipeline.set_random_seed(seed)
        seen = pipeline(image=image, **({"bboxes": boxes, "number": np.arange(len(boxes))} if len(boxes) else {}))
        placed, visible = np.zeros((len(boxes), 4), np.float32), np.zeros(len(boxes), np.bool_)
        if len(boxes):
            shown = np.asarray(seen["number"], np.int64)
            placed[shown], visible[shown] = np.reshape(seen["bboxes"], (-1, 4)), True
        return View(seen["image"], placed, visible)


class EvaluationTransform:
    """Centre crop.

    Args:
        crop: Side of the crop in pixels.
        resize: Side that images are resized to before, in pixels.
    """

    def __init__(self, crop: int, resize: int | None = None) -> None:
        self.crop, self.resize = crop, resize

    def __call__(self, image: Image, boxes: Boxes, seed: int) -> View:
        """Return the central (crop, crop) of a stored image (S, S), and its boxes."""
        image, boxes = reduce(image, boxes, self.resize)
        start = (image.shape[0] - self.crop) // 2
        placed = (boxes - start).clip(0, self.crop)
        visible = (_area(placed) > 0) & (_area(placed) >= SHOWN * _area(boxes))
        placed[~visible] = 0
        return View(image[start : start + self.crop, start : start + self.crop], placed, visible)


def _area(boxes: Boxes) -> Boxes:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
