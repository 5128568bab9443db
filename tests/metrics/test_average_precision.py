"""Average precision against pycocotools, torchmetrics and repeated images."""

import contextlib
import io
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision

from medvlp.metrics.average_precision import (
    THRESHOLDS,
    average_precision,
    box_iou,
    legacy_average_precision,
)


def random_boxes(rng, n, side=64):
    # Quarters are exact in x1, y1, x2, y2 and in x, y, w, h alike.
    corner, extent = rng.integers(0, 2 * side, (n, 2)) / 4, rng.integers(1, 2 * side, (n, 2)) / 4
    return np.concatenate([corner, corner + extent], 1)


def random_images(rng, n=12, tied=False, distinct=False):
    """Boxes, scores and truth; about a fifth of the images lack detections, objects or both."""
    boxes, scores, truth = [], [], []
    for _ in range(n):
        lacking = rng.random(2) < 0.25
        true = random_boxes(rng, 0 if lacking[0] else rng.integers(1, 5))
        near = true[rng.integers(len(true), size=rng.integers(0, 8))] if len(true) else true
        near = near + rng.integers(-8, 9, near.shape) / 4
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 0.25)
        box = np.concatenate([near, random_boxes(rng, rng.integers(0, 4))])[: 0 if lacking[1] else None]
        levels = np.linspace(0.1, 0.9, 9 if tied else 10001)
        boxes.append(box)
        scores.append(rng.choice(levels, len(box), replace=not distinct or len(box) > len(levels)))
        truth.append(true)
    return boxes, scores, truth


def pycocotools_map(boxes, scores, truth, thresholds=THRESHOLDS):
    def rows(image, box):
        return [
            {"image_id": i, "category_id": 0, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            for i, b in zip(image, box, strict=True)
            for x1, y1, x2, y2 in b.tolist()
        ]

    images = range(len(truth))
    objects = [row | {"id": i + 1, "iscrowd": 0} for i, row in enumerate(rows(images, truth))]
    flat = np.concatenate(scores).tolist()
    found = [row | {"score": s} for row, s in zip(rows(images, boxes), flat, strict=True)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": i} for i in images],
            "annotations": objects,
            "categories": [{"id": 0}],
            "info": {},
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found) if found else COCO(), "bbox")
        evaluation.params.imgIds, evaluation.params.catIds = list(images), [0]
        evaluation.params.iouThrs = np.array(thresholds)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    return precision.mean() if (precision > -1).all() else float("nan")


def torchmetrics_map(boxes, scores, truth):
    metric = MeanAveragePrecision(
        iou_thresholds=list(THRESHOLDS), rec_thresholds=np.linspace(0, 1, 101).tolist(), backend="pycocotools"
    )
    metric.warn_on_many_detections = False
    found = [
        {"boxes": torch.tensor(b), "scores": torch.tensor(s), "labels": torch.zeros(len(b), dtype=torch.long)}
        for b, s in zip(boxes, scores, strict=True)
    ]
    true = [{"boxes": torch.tensor(t), "labels": torch.zeros(len(t), dtype=torch.long)} for t in truth]
    metric.update(found, true)
    return float(metric.compute()["map"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.booleans())
def test_equals_pycocotools(seed, n, tied):
    images = random_images(np.random.default_rng(seed), n, tied)
    expected = pycocotools_map(*images)
    assert average_precision(*images)(np.ones(n)) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(4))
def test_equals_torchmetrics(seed):
    images = random_images(np.random.default_rng(seed), tied=seed % 2 == 1)
    assert average_precision(*images)(np.ones(12)) == pytest.approx(torchmetrics_map(*images), abs=1e-7)


def test_only_the_best_hundred_of_an_image_count():
    rng = np.random.default_rng(0)
    truth = [random_boxes(rng, 30), random_boxes(rng, 2)]
    boxes = [np.concatenate([random_boxes(rng, 150), truth[0]]), truth[1]]
    scores = [rng.random(180), rng.random(2)]
    value = average_precision(boxes, scores, truth)(np.ones(2))
    assert value == pytest.approx(pycocotools_map(boxes, scores, truth), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([average_precision, legacy_average_precision]))
def test_a_weight_repeats_an_image(seed, tied, metric):
    rng = np.random.default_rng(seed)
    # Scores tie across images; where they tie within one, its copies would take turns.
    images = random_images(rng, tied=tied, distinct=True)
    if any(len(set(s)) < len(s) for s in images[1]):
        return
    counts = rng.integers(0, 4, 12)
    repeated = [[part[i] for i in np.repeat(np.arange(12), counts)] for part in images]
    expected = metric(*repeated)(np.ones(counts.sum()))
    assert metric(*images)(counts.astype(float)) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_legacy_leaves_out_images_and_unsure_detections(seed):
    boxes, scores, truth = random_images(np.random.default_rng(seed))
    kept = [(b[s >= 0.5], s[s >= 0.5], t) for b, s, t in zip(boxes, scores, truth, strict=True)]
    kept = [image for image in kept if len(image[0]) and len(image[2])]
    expected = pycocotools_map(*zip(*kept, strict=True)) if kept else 0.0
    value = legacy_average_precision(boxes, scores, truth)(np.ones(len(boxes)))
    assert value == pytest.approx(expected, abs=1e-12)


NOTHING, ONE = np.zeros((0, 4)), np.array([[0.0, 0, 10, 10]])
SURE, NO_SCORE = np.array([0.9]), np.zeros(0)


@pytest.mark.parametrize(
    ("images", "value", "legacy"),
    [
        ([(ONE, SURE, ONE)], 1.0, 1.0),
        ([(ONE, SURE, ONE), (NOTHING, NO_SCORE, ONE)], 51 / 101, 1.0),  # recalls 0 to 0.5
        ([(ONE, SURE, ONE), (ONE, SURE + 0.05, NOTHING)], 0.5, 1.0),
        ([(ONE, SURE, ONE), (ONE, SURE - 0.05, NOTHING)], 1.0, 1.0),  # less sure than all that is right
        ([(ONE, SURE - 0.5, ONE)], 1.0, 0.0),
        ([(NOTHING, NO_SCORE, ONE)], 0.0, 0.0),
        ([(ONE, SURE, NOTHING), (NOTHING, NO_SCORE, NOTHING)], float("nan"), 0.0),
        ([], float("nan"), 0.0),
    ],
)
def test_cases_by_hand(images, value, legacy):
    parts = [[image[i] for image in images] for i in range(3)]
    ones = np.ones(len(images))
    assert average_precision(*parts)(ones) == pytest.approx(value, nan_ok=True)
    assert legacy_average_precision(*parts)(ones) == pytest.approx(legacy)


def test_boxes_without_area_overlap_nothing():
    flat = np.array([[2.0, 2, 2, 8], [5, 5, 5, 5], [0, 0, 10, 10]])
    overlap = box_iou(flat, flat)
    assert overlap.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert average_precision([flat], [np.array([0.9, 0.8, 0.7])], [flat[:1]])(np.ones(1)) == 0


def test_a_thousand_bootstrap_samples_of_rsna_take_seconds():
    """As many images as RSNA's test split, and as many objects; a fifth of the time that a user should wait."""
    rng = np.random.default_rng(0)
    n = 5337
    truth = [random_boxes(rng, 2 if i % 5 == 0 else 0) for i in range(n)]
    boxes = [np.concatenate([true + rng.normal(0, 2, true.shape), random_boxes(rng, 20)]) for true in truth]
    scores = [rng.random(len(box)) for box in boxes]
    start = time.process_time()
    value = average_precision(boxes, scores, truth)
    weights = rng.multinomial(n, np.full(n, 1 / n), 100).astype(float)
    replicates = [value(row) for row in weights]
    assert time.process_time() - start < 10
    assert np.std(replicates) > 0
