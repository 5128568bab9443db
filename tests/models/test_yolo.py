"""The YOLO head: shapes on all kinds of maps, decoding and suppression against loops."""

import math

import pytest
import torch

from medvlp.losses.detection import assign
from medvlp.models import TimmEncoder
from medvlp.models.pyramid import LEVELS, pyramid
from medvlp.models.yolo import ANCHORS, YOLOHead, suppress


@pytest.mark.parametrize(
    ("name", "side", "size", "grids"),
    [
        ("test_resnet.r160_in1k", 64, None, [8, 4, 2]),
        ("test_resnet.r160_in1k", 40, None, [5, 3, 2]),  # rounded up
        ("test_vit", 160, None, [20, 10, 5]),
        ("test_vit", 64, 64, [8, 4, 2]),
    ],
)
def test_all_encoders_give_three_levels(name, side, size, grids):
    encoder = TimmEncoder(name, pretrained=False, image_size=size).eval()
    image = torch.randint(256, (2, side, side), dtype=torch.uint8)
    head = YOLOHead(encoder.map_widths[LEVELS], encoder.map_strides[LEVELS])
    outputs = head(encoder.maps(image)[LEVELS])
    assert [output.shape for output in outputs] == [(2, 3, grid, grid, 6) for grid in grids]
    boxes, scores = head.decode(outputs, side)
    assert boxes.shape == (2, 3 * sum(grid**2 for grid in grids), 4)
    assert boxes.isfinite().all()
    assert scores.shape == boxes.shape[:2]


def test_the_maps_of_a_convolutional_network_stay_as_they_are():
    maps = [torch.rand(1, 4, 8, 8), torch.rand(1, 8, 4, 4), torch.rand(1, 16, 2, 2)]
    assert all(a is b for a, b in zip(pyramid(maps, (8, 16, 32)), maps, strict=True))


@pytest.fixture(scope="module")
def head():
    return YOLOHead((4, 8, 16), (8, 16, 32)).eval()


def test_decoding_equals_a_loop(head):
    outputs = [torch.randn(2, 3, grid, grid + 1, 6) for grid in (4, 2, 1)]
    boxes, scores = head.decode(outputs, 208)
    k = 0
    for output, anchors in zip(outputs, ANCHORS, strict=True):
        _, _, rows, columns, _ = output.shape
        for a, (width, height) in enumerate(anchors):
            for row in range(rows):
                for column in range(columns):
                    x, y, w, h, confidence, _ = output[1, a, row, column].tolist()
                    x = (column + 1 / (1 + math.exp(-x))) * 208 / columns
                    y = (row + 1 / (1 + math.exp(-y))) * 208 / rows
                    w, h = width / 2 * math.exp(w), height / 2 * math.exp(h)  # 208 is half of 416
                    expected = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                    assert boxes[1, k].tolist() == pytest.approx(expected, abs=1e-3)
                    assert scores[1, k].item() == pytest.approx(1 / (1 + math.exp(-confidence)))
                    k += 1
    assert k == boxes.shape[1]


def test_targets_decode_to_their_objects(head):
    """What the loss wants of the head is what decoding makes the objects of."""
    corner = torch.tensor([[0.05, 0.1], [0.35, 0.3], [0.6, 0.55], [0.2, 0.0], [0.01, 0.7]])
    box = torch.cat([corner, corner + torch.tensor([[0.07, 0.3]])], 1)
    image = torch.tensor([0, 0, 0, 1, 1])
    outputs = [torch.full((2, 3, grid, grid, 6), -9.0) for grid in (28, 14, 7)]
    for output, anchors in zip(outputs, head.anchors, strict=True):
        place, centre, size, _ = assign(box, image, anchors, output.shape)
        output[place] = torch.cat([centre.logit(), size, torch.full((len(size), 2), 9.0)], 1)
    boxes, scores = head.decode(outputs, 224)
    for i in (0, 1):
        found = boxes[i][scores[i] > 0.5]
        for true in box[image == i] * 224:
            assert ((found - true).abs().amax(1) < 0.01).sum() == 3  # one a level


def test_any_output_is_finite(head):
    boxes, scores = head.decode([torch.full((1, 3, 2, 2, 6), 1e4)] * 3, 224)
    assert boxes.isfinite().all()
    assert scores.isfinite().all()
    ((kept, score),) = suppress(boxes, scores, 0.01, 0.5, 100)
    assert 0 < len(kept) == len(score) <= 36


def slow_suppress(boxes, scores, confidence, overlap, limit):
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        x1, y1, x2, y2 = boxes[i]
        covered = scores[i] < confidence
        for j in kept:
            u1, v1, u2, v2 = boxes[j]
            common = max(0, min(x2, u2) - max(x1, u1)) * max(0, min(y2, v2) - max(y1, v1))
            covered |= common > overlap * ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - common)
        if not covered:
            kept.append(i)
    return kept[:limit]


@pytest.mark.parametrize("seed", range(5))
def test_suppression_equals_a_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(3, 60, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + 2 + torch.rand(3, 60, 2, generator=generator) * 20], -1)
    scores = torch.rand(3, 60, generator=generator)
    scores[1] *= 0.1  # of one image nothing is kept
    results = suppress(boxes, scores, 0.2, 0.5, 12)
    for i, (box, score) in enumerate(results):
        kept = slow_suppress(boxes[i].tolist(), scores[i].tolist(), 0.2, 0.5, 12)
        torch.testing.assert_close(box, boxes[i][kept])
        torch.testing.assert_close(score, scores[i][kept])
    assert len(results[1][0]) == 0
