"""The loss of the YOLO head against loops over images, objects and cells."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from medvlp.losses import detection_loss
from medvlp.models.yolo import ANCHORS

SIDE = 224
ANCHOR_SHARES = torch.tensor(ANCHORS) / 416


def slow_loss(outputs, boxes):
    """The protocol written down with dense targets, as MGCA has it, without the added pixel of its IoU."""
    total = torch.zeros(())
    for output, anchors in zip(outputs, ANCHOR_SHARES.tolist(), strict=True):
        _, _, rows, columns, _ = output.shape
        mask, empty = torch.zeros(output.shape[:4]), torch.ones(output.shape[:4])
        target = torch.zeros(output.shape)
        for i, image in enumerate(boxes):
            for x1, y1, x2, y2 in (image / SIDE).tolist():
                x, y, w, h = (x1 + x2) / 2 * columns, (y1 + y2) / 2 * rows, (x2 - x1) * columns, (y2 - y1) * rows
                column, row = min(int(x), columns - 1), min(int(y), rows - 1)
                ious = []
                for width, height in anchors:
                    width, height = width * columns, height * rows
                    common = min(w, width) * min(h, height)
                    ious.append(common / (w * h + width * height - common))
                for a, iou in enumerate(ious):
                    if iou > 0.5:
                        empty[i, a, row, column] = 0
                a = ious.index(max(ious))
                mask[i, a, row, column] = 1
                target[i, a, row, column] = torch.tensor(
                    [
                        x - column,
                        y - row,
                        math.log(w / (anchors[a][0] * columns)),
                        math.log(h / (anchors[a][1] * rows)),
                        1,
                        1,
                    ]
                )
        x, y, w, h, confidence, category = output.unbind(-1)
        tx, ty, tw, th, _, tc = target.unbind(-1)
        total = total + 2.5 * F.binary_cross_entropy(x.sigmoid() * mask, tx * mask)
        total = total + 2.5 * F.binary_cross_entropy(y.sigmoid() * mask, ty * mask)
        total = total + 2.5 * F.mse_loss(w * mask, tw * mask) + 2.5 * F.mse_loss(h * mask, th * mask)
        total = total + F.binary_cross_entropy(confidence.sigmoid() * mask, mask)
        total = total + 0.5 * F.binary_cross_entropy(confidence.sigmoid() * empty, torch.zeros_like(empty))
        total = total + F.binary_cross_entropy(category.sigmoid() * mask, tc * mask)
    return total


def random_outputs(generator, batch):
    return [torch.randn(batch, 3, grid, grid, 6, generator=generator).requires_grad_() for grid in (8, 4, 2)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_equals_a_slow_loop(seed, batch):
    generator = torch.Generator().manual_seed(seed)
    boxes = []
    for _ in range(batch):
        n = int(torch.randint(6, (1,), generator=generator))
        corner = torch.rand(n, 2, generator=generator) * (SIDE - 1)
        extent = 0.5 + torch.rand(n, 2, generator=generator) ** 2 * SIDE
        boxes.append(torch.cat([corner, (corner + extent).clamp(max=SIDE)], 1))
    if seed % 2:
        # Two in one cell, and a sliver whose centre is at the very edge.
        boxes[0] = torch.cat([boxes[0], boxes[0], torch.tensor([[SIDE - 1e-4, 10.0, SIDE, 20.0]])])
    outputs = random_outputs(generator, batch)
    terms = detection_loss(outputs, boxes, ANCHOR_SHARES, SIDE)
    expected = slow_loss(outputs, boxes)
    torch.testing.assert_close(sum(terms.values()), expected)
    gradients = torch.autograd.grad(sum(terms.values()), outputs)
    for gradient, slow in zip(gradients, torch.autograd.grad(expected, outputs), strict=True):
        torch.testing.assert_close(gradient, slow)


def test_without_objects_all_cells_are_empty():
    outputs = random_outputs(torch.Generator().manual_seed(0), 2)
    terms = detection_loss(outputs, [torch.zeros(0, 4)] * 2, ANCHOR_SHARES, SIDE)
    assert [name for name, term in terms.items() if term != 0] == ["object"]
    sum(terms.values()).backward()
    assert all(output.grad.isfinite().all() for output in outputs)
