"""The loss of one-stage detection: YOLOv3's, as MGCA weights and averages it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# The values of MGCA.
CENTRE_WEIGHT = SIZE_WEIGHT = 2.5
OBJECT_WEIGHT = CLASS_WEIGHT = 1.0
EMPTY_WEIGHT = 0.5
IGNORED_IOU = 0.5


def detection_loss(outputs: Sequence[Tensor], boxes: Sequence[Tensor], anchors: Tensor, side: int) -> dict[str, Tensor]:
    """Return the loss of a YOLO head for one class, that of MGCA (`yolo_loss.py`).

    At each level every object belongs to the cell that its centre is in, and there to the anchor of its shape; see
    `assign`. There, x and y are compared by BCE to the place of the centre in the cell, w and h by squared error to
    the logarithm of the object's size over the anchor's, objectness and class by BCE to 1. Objectness is compared to
    0 elsewhere, except where an anchor of an object's cell overlaps it by an IoU above 0.5. Each term is averaged over
    all cells and anchors of the level, those without object included, and summed over the levels.

    Args:
        outputs: What the head says on L levels, (B, A, h, w, 6): x, y, w, h, objectness, class.
        boxes: Objects of the B images, (n, 4): x1, y1, x2, y2 in pixels. Each has an area.
        anchors: Width and height of the A anchors of each level, as a share of the image, (L, A, 2).
        side: Of the images, in pixels.

    Returns:
        `centre`, `size`, `object` and `class`, weighted scalars, whose sum is the loss.
    """
    box = torch.cat([box.float() for box in boxes]) / side
    counts = torch.tensor([len(box) for box in boxes], device=box.device)
    image = torch.arange(len(boxes), device=box.device).repeat_interleave(counts)

    terms = {name: anchors.new_zeros(()) for name in ("centre", "size", "object", "class")}
    with torch.autocast(box.device.type, enabled=False):
        for level, level_anchors in zip(outputs, anchors, strict=True):
            output = level.float()
            place, centre, size, ignored = assign(box, image, level_anchors, output.shape)
            own = output[place]
            cells = output[..., 4].numel()
            empty = torch.ones_like(output[..., 4])
            empty[ignored] = 0
            centre_loss = F.binary_cross_entropy_with_logits(own[:, :2], centre, reduction="sum")
            size_loss = F.mse_loss(own[:, 2:4], size, reduction="sum")
            object_loss = F.softplus(-own[:, 4]).sum()
            empty_loss = (F.softplus(output[..., 4]) * empty).sum()
            class_loss = F.softplus(-own[:, 5]).sum()
            terms["centre"] = terms["centre"] + CENTRE_WEIGHT * centre_loss / cells
            terms["size"] = terms["size"] + SIZE_WEIGHT * size_loss / cells
            terms["object"] = terms["object"] + (OBJECT_WEIGHT * object_loss + EMPTY_WEIGHT * empty_loss) / cells
            terms["class"] = terms["class"] + CLASS_WEIGHT * class_loss / cells
    return terms


Place = tuple[Tensor, Tensor, Tensor, Tensor]
"""Image, anchor, row and column, each int64 (m,)."""


def assign(box: Tensor, image: Tensor, anchors: Tensor, shape: Sequence[int]) -> tuple[Place, Tensor, Tensor, Place]:
    """Say which cells and anchors of one level are responsible for which objects.

    An object's anchor is that of the highest IoU with it, both centred at one point. Of objects with the same cell
    and anchor the last counts. As in MGCA, a cell and anchor that is responsible is still compared to 0, too, where
    its IoU is not above 0.5: at levels whose anchors do not fit, an object makes a middling objectness.

    Args:
        box: Objects (n, 4): x1, y1, x2, y2 as a share of the image.
        image: The image of each, int64 (n,).
        anchors: Width and height of the level's A anchors, as a share of the image, (A, 2).
        shape: Of the level: (B, A, h, w, ...).

    Returns:
        Places of m objects; their centres in the cell, (m, 2) from 0 to 1; the logarithms of their size over the
        anchor's, (m, 2); and places of anchors whose objectness is not compared to 0.
    """
    _, number, rows, columns = shape[:4]
    size = box[:, 2:] - box[:, :2]
    # MGCA's IoU adds 1 to sides, which here are in cells: an error that makes all anchors of coarse levels fit.
    common = torch.minimum(size[:, None], anchors).prod(-1)
    iou = common / (size.prod(-1)[:, None] + anchors.prod(-1) - common)
    anchor = iou.argmax(1)
    centre = (box[:, :2] + box[:, 2:]) / 2 * box.new_tensor([columns, rows])
    # The centre of a box at the very edge would be beyond the last cell.
    cell = torch.minimum(centre.long(), torch.tensor([columns - 1, rows - 1], device=box.device))
    column, row = cell.unbind(1)
    fits, which = (iou > IGNORED_IOU).nonzero(as_tuple=True)
    ignored = (image[fits], which, row[fits], column[fits])
    key = ((image * number + anchor) * rows + row) * columns + column
    last = ~(key[:, None] == key).triu(1).any(1)
    place = (image[last], anchor[last], row[last], column[last])
    return place, (centre - cell)[last], (size / anchors[anchor]).log()[last], ignored
