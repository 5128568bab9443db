"""Which test images are shown, and how truth and prediction are drawn over them."""

import re

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torchvision.ops import box_iou

from medvlp.benchmarks.cases import choose, outline
from medvlp.metrics import average_precision
from medvlp.run_lengths import encode


def names(cases):
    return [case.image_id for case in cases]


def test_classification_shows_confident_errors_and_hits():
    target = [1, 1, 1, 0, 0, 0]
    score = [0.99, 0.6, 0.01, 0.98, 0.3, 0.02]
    predictions = pa.table({"image_id": list("abcdef"), "target/Edema": target, "score/Edema": score})
    worst, best = choose(predictions)
    assert names(worst) == ["c", "d"]
    assert names(best) == ["a", "b"]
    assert worst[0].caption == "Edema present, score 0.01"
    assert worst[1].caption == "Edema absent, score 0.98"


def test_classification_shows_several_labels():
    rng = np.random.default_rng(0)
    columns = {"image_id": [str(i) for i in range(200)]}
    for label in ("A", "B", "C"):
        columns |= {f"target/{label}": rng.integers(0, 2, 200), f"score/{label}": rng.random(200)}
    # Scores of a rare finding may all be low, without being wrong.
    columns["score/C"] = columns["score/C"] * 0.01
    for cases in choose(pa.table(columns)):
        assert sorted(case.caption[0] for case in cases) == ["A", "A", "B", "B", "C", "C"]
        assert len(set(names(cases))) == 6


def test_classification_without_negatives_or_known_targets():
    target = pa.array([1, 1, None], pa.int8())
    predictions = pa.table({"image_id": list("abc"), "target/A": target, "score/A": [0.1, 0.2, 0.3]})
    assert choose(predictions) == ([], [])


def test_segmentation_is_ordered_by_dice():
    masks = np.zeros((5, 8, 8), bool)
    masks[0, :4, :4] = masks[1, 4:, 4:] = masks[2, :6, :6] = masks[4, 2:3, 2:3] = True
    table = pa.table(
        {
            "image_id": list("abcde"),
            "dice": [0.9, 0.5, 0.0, 1.0, 0.0],
            "pixels_true": [16, 16, 0, 0, 1],
            "pixels_predicted": [16, 16, 36, 0, 0],
            "mask": [encode(mask) for mask in masks],
        }
    )
    worst, best = choose(table)
    # Of two images with a Dice of 0, the larger error; a rightly empty image is no success to look at.
    assert names(worst) == ["c", "e"]
    assert names(best) == ["a", "b"]
    drawn = best[0].overlay(masks[1])
    assert drawn.count("<path") == 2
    assert 'class="truth"' in drawn


def test_detection_is_ordered_by_hits_and_false_alarms():
    def box(x, score=None):
        corners = {"x1": x, "y1": x, "x2": x + 10.0, "y2": x + 10.0}
        return corners | ({} if score is None else {"score": score})

    rows = [
        ("hit", [box(0.0, 0.9)], [box(0.0)]),
        ("missed", [box(50.0, 0.2)], [box(0.0)]),
        ("false alarm", [box(0.0, 0.8)], []),
        ("half", [box(0.0, 0.9)], [box(0.0), box(50.0)]),
        ("quiet", [], []),
        ("nothing found", [], [box(0.0)]),
    ]
    table = pa.Table.from_pylist([dict(zip(("image_id", "boxes", "truth"), row, strict=True)) for row in rows])
    worst, best = choose(table)
    assert names(worst) == ["nothing found", "false alarm", "missed"]
    assert names(best) == ["hit", "half"]
    assert worst[0].caption == "1 object, no box"
    assert best[1].caption == "2 objects, surest box 0.90"
    assert best[1].overlay(None).count("<rect") == 3


boxes = st.lists(
    st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(1, 50), st.floats(1, 50)), min_size=1, max_size=5
).map(lambda rows: np.array([[x, y, x + w, y + h] for x, y, w, h in rows]))


@given(boxes, boxes)
def test_overlaps(a, b):
    expected = box_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert average_precision.box_iou(a, b) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)))
def test_outline_passes_through_pixels_of_the_mask(mask):
    path = outline(mask, "truth")
    points = [tuple(map(float, p)) for p in re.findall(r"([\d.]+) ([\d.]+)", path.split('d="')[1])]
    assert bool(points) == mask.any()
    assert all(mask[int(y), int(x)] for x, y in points)
