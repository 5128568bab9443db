"""Image transforms; the only module that knows albumentations."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL import ImageOps

# Set before the import, which would otherwise ask the network for a newer version.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A

Image = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]

# A view shows a region or an object if at least this share of its box is in it. ASG keeps any box that is not wholly
# outside; of a sliver at the border nothing can be said.
SHOWN = 0.25
# Largest changes of brightness and contrast, and the range of the blur's sigma in pixels, of MoCo v2's recipe, which
# MGCA trains its CheXpert classifier with. Its changes of colour do nothing to grey images.
JITTER = 0.4
BLUR = (0.1, 2.0)


@dataclass
class Augmentation:
    """IMITATE's augmentations of one view, and others that are off; every probability can be set to 0.

    Attributes:
        horizontal_flip: Probability. Flips mirror the patient, while reports speak of left and right: turn them off
            to keep laterality.
        vertical_flip: Probability.
        rotation: Largest angle in degrees, either way.
        perspective: Probability of a perspective distortion, which shrinks the image; see `Perspective`.
        distortion: Largest shift of a corner, as a share of half the side.
        autocontrast: Probability of stretching the darkest and the brightest grey value to 0 and 255.
        affine: Probability of scaling and turning together, MGCA's recipe for segmentation.
        affine_scale: Its largest change of scale, as a share.
        affine_rotation: Its largest angle in degrees, either way.
        jitter: Probability of changing brightness and contrast, MoCo's recipe.
        blur: Probability of a Gaussian blur, likewise.
    """

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.5
    rotation: float = 30.0
    perspective: float = 0.5
    distortion: float = 0.5
    autocontrast: float = 0.5
    affine: float = 0.0
    affine_scale: float = 0.1
    affine_rotation: float = 10.0
    jitter: float = 0.0
    blur: float = 0.0

    @property
    def off(self) -> bool:
        """Whether nothing is done to a view."""
        geometry = (self.horizontal_flip, self.vertical_flip, self.rotation, self.perspective, self.affine)
        return not any((*geometry, self.autocontrast, self.jitter, self.blur))


class View(NamedTuple):
    """What a transform makes of a stored image.

    Attributes:
        image: uint8 (crop, crop).
        box: Its boxes, (R, 4): x1, y1, x2, y2 in pixels of the view, zero where it does not show them.
        visible: Which of them it shows, bool (R,).
        mask: uint8 (crop, crop), or None where the image has none.
    """

    image: Image
    box: Boxes
    visible: npt.NDArray[np.bool_]
    mask: Image | None = None


def reduce(image: Image, side: int | None) -> Image:
    """Resize a stored image to (side, side), averaging; None leaves it as it is."""
    if side is None or side == len(image):
        return image
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


# A mask holds shares of pixels: it is interpolated as the image is.
BLACK: dict[str, Any] = {
    "border_mode": cv2.BORDER_CONSTANT,
    "fill": 0,
    "fill_mask": 0,
    "mask_interpolation": cv2.INTER_LINEAR,
}


class Perspective(A.Perspective):  # type: ignore[misc]  # of an untyped library
    """torchvision's `RandomPerspective`: each corner of the image moves inwards, and black fills the rest.

    `albumentations.Perspective` does the opposite: it enlarges a random quadrilateral to the whole frame, and such
    views lose half of the chest. IMITATE interpolates bicubically, this bilinearly, as masks are.

    Args:
        distortion: Largest shift of a corner, as a share of half the side.
        p: Probability.
    """

    def __init__(self, distortion: float, p: float) -> None:
        super().__init__(p=p, **BLACK)
        self.distortion = distortion

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw where the corners go, whole pixels like torchvision's."""
        height, width = params["shape"][:2]
        corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
        inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        most = (np.array([width // 2, height // 2]) * self.distortion).astype(np.int64)
        shift = self.random_generator.integers(0, most, (4, 2), endpoint=True)
        matrix = cv2.getPerspectiveTransform(corners, (corners + inwards * shift).astype(np.float32))
        return {"matrix": matrix, "matrix_bbox": matrix, "max_height": height, "max_width": width}


class AutoContrast(A.ImageOnlyTransform):  # type: ignore[misc]  # of an untyped library
    """torchvision's `RandomAutocontrast`, which is Pillow's: the darkest grey value becomes 0, the brightest 255.

    `albumentations.AutoContrast` equalises the histogram by default. Its `method="pil"` overlooks the value 255, and so
    stretches an image with a white marker as if the marker were not there.

    Args:
        p: Probability.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p=p)

    def apply(self, img: Image, **params: Any) -> Image:
        """Stretch one image (H, W)."""
        return np.asarray(ImageOps.autocontrast(PIL.Image.fromarray(img)))


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
            steps.append(A.Rotate(limit=augmentation.rotation, p=1.0, **BLACK))
        if augmentation.perspective:
            steps.append(Perspective(augmentation.distortion, augmentation.perspective))
        if augmentation.affine:
            angle, scale = augmentation.affine_rotation, augmentation.affine_scale
            steps.append(
                A.Affine(
                    scale=(1 - scale, 1 + scale),
                    rotate=(-angle, angle),
                    keep_ratio=True,
                    p=augmentation.affine,
                    **BLACK,
                )
            )
        if augmentation.autocontrast:
            steps.append(AutoContrast(augmentation.autocontrast))
        if augmentation.jitter:
            factors = (1 - JITTER, 1 + JITTER)
            still: dict[str, Any] = {"saturation": (1, 1), "hue": (0, 0)}
            steps.append(A.ColorJitter(brightness=factors, contrast=factors, p=augmentation.jitter, **still))
        if augmentation.blur:
            steps.append(A.GaussianBlur(blur_limit=0, sigma_limit=BLUR, p=augmentation.blur))
        self._pipeline = A.Compose(steps, seed=0)
        boxes = A.BboxParams("pascal_voc", label_fields=["number"], min_visibility=SHOWN, clip=True)
        self._with_boxes = A.Compose(steps, bbox_params=boxes, seed=0)

    def __call__(self, image: Image, boxes: Boxes, seed: int, mask: Image | None = None) -> View:
        """Return one view (crop, crop) of a stored image (S, S), its boxes and its mask (S, S).

        The box of what was turned is the smallest upright one around it.
        """
        scale = np.float32((self.resize or len(image)) / len(image))
        given: dict[str, Any] = {"image": reduce(image, self.resize)}
        if mask is not None:
            given["mask"] = reduce(mask, self.resize)
        if len(boxes):
            given |= {"bboxes": boxes * scale, "number": np.arange(len(boxes))}
        # Following boxes takes longer than the image itself; the random numbers are the same.
        pipeline = self._with_boxes if len(boxes) else self._pipeline
        pipeline.set_random_seed(seed)
        output = pipeline(**given)
        placed, visible = np.zeros((len(boxes), 4), np.float32), np.zeros(len(boxes), np.bool_)
        if len(boxes):
            shown = np.asarray(output["number"], np.int64)
            placed[shown], visible[shown] = np.reshape(output["bboxes"], (-1, 4)), True
        return View(output["image"], placed, visible, output.get("mask"))


@dataclass(frozen=True)
class Framing:
    """How stored images are scaled and cut.

    Attributes:
        resize: Side in pixels that stored images are resized to; None leaves them as they are.
        crop: Side in pixels of the square that is then cut out.
    """

    resize: int | None
    crop: int


class EvaluationTransform:
    """Centre crop.

    Args:
        crop: Side of the crop in pixels.
        resize: Side that images are resized to before, in pixels.
    """

    def __init__(self, crop: int, resize: int | None = None) -> None:
        self.crop, self.resize = crop, resize

    def __call__(self, image: Image, boxes: Boxes, seed: int, mask: Image | None = None) -> View:
        """Return the central (crop, crop) of a stored image (S, S), its boxes and its mask (S, S)."""
        side = self.resize or len(image)
        start = (side - self.crop) // 2
        whole = boxes * np.float32(side / len(image))
        placed = (whole - start).clip(0, self.crop)
        visible = (_area(placed) > 0) & (_area(placed) >= SHOWN * _area(whole))
        placed[~visible] = 0
        return View(self._cut(image, start), placed, visible, None if mask is None else self._cut(mask, start))

    def _cut(self, image: Image, start: int) -> Image:
        return reduce(image, self.resize)[start : start + self.crop, start : start + self.crop]


def _area(boxes: Boxes) -> Boxes:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
