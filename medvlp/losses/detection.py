"""The loss of one-stage detection: YOLOv3's, with MGCA's weights and averages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# As in MGCA.
CENTRE_WEIGHT = SIZE_WEIGHT = 2.5
OBJECT_WEIGHT = CLASS_WEIGHT = 1.0
EMPTY_WEIGHT = 0.5
IGNORED_IOU = 0.5


def detection_loss(outputs: Sequence[Tensor], boxes: Sequence[Tensor], anchors: Tensor, side: int) -> dict[str, Tensor]:
    """Return the loss of a YOLO head for one class, that of MGCA (`yolo_loss.py`).

    At each level every object belongs to the cell of its centre, and there to the anchor with the most similar shape;
    see `assign`. The terms at this place are:

    - x and y: BCE with the position of the centre in the cell.
    - w and h: squared error to the logarithm of the object's size over the anchor's.
    - objectness and class: BCE with 1.

    Objectness also has a BCE with 0 at all places except some anchors in the cells of objects: those whose IoU with
    the object is above 0.5. Each term is averaged over all cells and anchors of the level, with or without object, and
    summed over the levels.

    Args:
        outputs: Outputs of the head on L levels, (B, A, h, w, 6): x, y, w, h, objectness, class.
        boxes: Objects of the B images, (n, 4): x1, y1, x2, y2 in pixels. Each has an area.
        anchors: Width and height of the A anchors of each level, as a share of the image, (L, A, 2).
        side: Side of the images in pixels.

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
            values = output[place]
            cells = output[..., 4].numel()
            empty = torch.ones_like(output[..., 4])
            empty[ignored] = 0
            centre_loss = F.binary_cross_entropy_with_logits(values[:, :2], centre, reduction="sum")
            size_loss = F.mse_loss(values[:, 2:4], size, reduction="sum")
            object_loss = F.softplus(-values[:, 4]).sum()
            empty_loss = (F.softplus(output[..., 4]) * empty).sum()
            class_loss = F.softplus(-values[:, 5]).sum()
            terms["centre"] = terms["centre"] + CENTRE_WEIGHT * centre_loss / cells
            terms["size"] = terms["size"] + SIZE_WEIGHT * size_loss / cells
            terms["object"] = terms["object"] + (OBJECT_WEIGHT * object_loss + EMPTY_WEIGHT * empty_loss) / cells
            terms["class"] = terms["class"] + CLASS_WEIGHT * class_loss / cells
    return terms


Place = tuple[Tensor, Tensor, Tensor, Tensor]
"""Image, anchor, row and column, each int64 (m,)."""


def assign(box: Tensor, image: Tensor, anchors: Tensor, shape: Sequence[int]) -> tuple[Place, Tensor, Tensor, Place]:
    """Assign objects to cells and anchors of one level.

    The anchor of an object is the one with the highest IoU, if both have the same centre. If several objects have the
    same cell and anchor, the last one counts. As in MGCA, the objectness of an assigned place is also compared with 0
    if the IoU is not above 0.5. At levels whose anchors do not fit, the best objectness is thus between 0 and 1.

    Args:
        box: Objects (n, 4): x1, y1, x2, y2 as a share of the image.
        image: The image of each object, int64 (n,).
        anchors: Width and height of the level's A anchors, as a share of the image, (A, 2).
        shape: Shape of the level: (B, A, h, w, ...).

    Returns:
        Places of m objects; their centres in the cell, (m, 2) from 0 to 1; the logarithms of their size over the
        anchor's, (m, 2); and places whose objectness is not compared with 0.
    """
    _, number, rows, columns = shape[:4]
    size = box[:, 2:] - box[:, :2]
    # MGCA's IoU adds 1 to sides in units of cells: an error that makes all anchors of coarse levels fit.
    common = torch.minimum(size[:, None], anchors).prod(-1)
    iou = common / (size.prod(-1)[:, None] + anchors.prod(-1) - common)
    anchor = iou.argmax(1)
    centre = (box[:, :2] + box[:, 2:]) / 2 * box.new_tensor([columns, rows])
    # A centre at the edge of the image would be beyond the last cell.
    cell = torch.minimum(centre.long(), torch.tensor([columns - 1, rows - 1], device=box.device))
    column, row = cell.unbind(1)
    fits, which = (iou > IGNORED_IOU).nonzero(as_tuple=True)
    ignored = (image[fits], which, row[fits], column[fits])
    key = ((image * number + anchor) * rows + row) * columns + column
    last = ~(key[:, None] == key).triu(1).any(1)
    place = (image[last], anchor[last], row[last], column[last])
    return place, (centre - cell)[last], (size / anchors[anchor]).log()[last], ignored
