"""The parts of an image that region alignment compares with sentences: regions and background patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Said(NamedTuple):
    """The sentences that mention a region of their image.

    Attributes:
        feature: Normalised embeddings (T, D).
        read: Mask of those that have words, bool (T,).
        study: int64 (T,).
        text_id: Equal for equal sentences, int64 (T,).
        aligned: Mask of the pairs of a region and a sentence that mentions it, bool (R, T).
    """

    feature: Tensor
    read: Tensor
    study: Tensor
    text_id: Tensor
    aligned: Tensor


class Shown(NamedTuple):
    """The parts of one view to compare with sentences: regions and, after them, background patches.

    Attributes:
        feature: Normalised embeddings (R, D).
        study: The study of each part, int64 (R,).
        visible: Whether the view shows the part, bool (R,).
        aligned: Mask of the pairs of a part and a sentence that mentions it, bool (R, T).
    """

    feature: Tensor
    study: Tensor
    visible: Tensor
    aligned: Tensor

    def pairs(self, said: Said) -> tuple[Tensor, Tensor]:
        """Return masks of the positive pairs and of all pairs to compare, both inside an image, bool (R, T)."""
        taken = self.visible[:, None] & said.read
        return self.aligned & taken, (self.study[:, None] == said.study) & taken

    def with_background(self, patches: Tensor, box: Tensor, side: int) -> Shown:
        """Return a copy with the background patches after the regions; no sentence mentions these patches.

        Args:
            patches: Embedded patches (N, D, h, w).
            box: (R, 4), in pixels of the image.
            side: Side of the images in pixels.
        """
        around = patches_around(box[self.visible], self.study[self.visible], len(patches), patches.shape[-2:], side)
        study = around.nonzero()[:, 0]
        return Shown(
            torch.cat([self.feature, patches.flatten(2).transpose(1, 2)[around]]),
            torch.cat([self.study, study]),
            F.pad(self.visible, (0, len(study)), value=True),
            F.pad(self.aligned, (0, 0, 0, len(study))),
        )


def boxed_patches(box: Tensor, grid: Sequence[int], side: int) -> Tensor:
    """Return a mask of the patches that have their centre in each box, bool (R, h * w).

    Args:
        box: (R, 4), in pixels.
        grid: h and w.
        side: Side of the image in pixels.
    """
    y, x = ((torch.arange(n, device=box.device) + 0.5) * side / n for n in grid)
    x1, y1, x2, y2 = box[:, :, None].unbind(1)
    rows, columns = (y1 <= y) & (y < y2), (x1 <= x) & (x < x2)
    return (rows[:, :, None] & columns[:, None, :]).flatten(1)


def patches_around(box: Tensor, image: Tensor, images: int, grid: Sequence[int], side: int) -> Tensor:
    """Return a mask of the patches around the boxes of each image, bool (N, h * w).

    The centre of such a patch lies outside the smallest rectangle around the boxes. An image without boxes has none.

    Args:
        box: (R, 4), in pixels.
        image: The image of each box, int64 (R,).
        images: Number of images N.
        grid: h and w.
        side: Side of the images in pixels.
    """
    index = image[:, None].expand(-1, 2)
    first = box.new_full((images, 2), torch.inf).scatter_reduce(0, index, box[:, :2], "amin")
    last = box.new_full((images, 2), -torch.inf).scatter_reduce(0, index, box[:, 2:], "amax")
    inside = boxed_patches(torch.cat([first, last], 1), grid, side)
    return ~inside & torch.isfinite(first[:, :1])
