"""Average precision of detections of one class, as COCO defines it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medvlp.metrics.bootstrap import Weighted, Weights

# The papers' IoU thresholds; COCO's own are 0.5 to 0.95.
THRESHOLDS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
# COCO's settings: number of detections per image that count, and the recalls at which precision is read.
MAX_DETECTIONS = 100
RECALLS = np.linspace(0, 1, 101)
LEGACY_CONFIDENCE = 0.5


def average_precision(
    boxes: Sequence[npt.NDArray[np.floating]],
    scores: Sequence[npt.NDArray[np.floating]],
    truth: Sequence[npt.NDArray[np.floating]],
    thresholds: Sequence[float] = THRESHOLDS,
) -> Weighted:
    """Match the detections of N images, and return average precision as a function of the weights of the images.

    This is COCO's metric. Precision at each of 101 recalls is the best precision at that recall or a higher one. The
    result is its mean over the recalls, then over the IoU thresholds. It equals that of pycocotools' COCOeval; tied
    scores keep the order of the images. All images count. An object in an image without detections is missed, and a
    detection in an image without objects is wrong.

    Args:
        boxes: Detected boxes of each image, (n, 4): x1, y1, x2, y2.
        scores: Scores of the boxes, (n,); a surer detection has a higher score.
        truth: The true boxes of each image, (m, 4).
        thresholds: Lowest IoUs, above 0, of a right detection.

    Returns:
        A function of float weights (N,) that returns a value in [0, 1]. A weight is the number of copies of an image,
        and weights of 1 give the metric itself. The value is NaN if no image with a weight has an object.
    """
    matched = [match(*image, thresholds) for image in zip(boxes, scores, truth, strict=True)]
    score = np.concatenate([score for score, _ in matched] or [np.empty(0)])
    order = np.argsort(-score, kind="stable")
    image = np.repeat(np.arange(len(matched)), [len(score) for score, _ in matched])[order]
    right = np.concatenate([right for _, right in matched] or [np.empty((len(thresholds), 0), bool)], axis=1)[:, order]
    objects = np.array([len(image) for image in truth], float)
    # Precision peaks and recall rises at right detections only, so wrong detections are merely counted.
    hits = [np.flatnonzero(row) for row in right]
    image = image[: max((hit[-1] + 1 for hit in hits if len(hit)), default=0)]
    hit_images = [image[hit] for hit in hits]

    def value(weights: Weights) -> float:
        total = float(weights @ objects)
        if total == 0:
            return float("nan")
        detected = np.cumsum(weights[image])
        area = 0.0
        for hit, hit_image in zip(hits, hit_images, strict=True):
            true = np.cumsum(weights[hit_image])
            precision = true / np.maximum(detected[hit], np.finfo(float).tiny)
            best = np.maximum.accumulate(precision[::-1])[::-1]
            position = np.searchsorted(true / total, RECALLS)
            area += float(best[position[position < len(best)]].sum())
        return area / (len(hits) * len(RECALLS))

    return value


def legacy_average_precision(
    boxes: Sequence[npt.NDArray[np.floating]],
    scores: Sequence[npt.NDArray[np.floating]],
    truth: Sequence[npt.NDArray[np.floating]],
) -> Weighted:
    """Return `average_precision` as MGCA's code computes it, for comparison with published figures.

    Only images with a detection and an object count, and only detections with a confidence of at least 0.5. So
    detections in normal images are never wrong, and objects in images without a detection are never missed. This
    inflates the metric.

    Returns:
        A function of weights, like that of `average_precision`; 0 if no image counts.
    """
    sure = [score >= LEGACY_CONFIDENCE for score in scores]
    counted = [i for i, (keep, true) in enumerate(zip(sure, truth, strict=True)) if keep.any() and len(true)]
    value = average_precision(
        [boxes[i][sure[i]] for i in counted], [scores[i][sure[i]] for i in counted], [truth[i] for i in counted]
    )

    def legacy(weights: Weights) -> float:
        return value(weights[counted]) if weights[counted].any() else 0.0

    return legacy


def match(
    boxes: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    truth: npt.NDArray[np.floating],
    thresholds: Sequence[float] = THRESHOLDS,
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]:
    """Decide which detections of one image are right, at each of T thresholds.

    Detections choose in the order of their scores, the highest first. Each takes the free object with the highest IoU,
    if that reaches the threshold; of objects with equal IoU, the last.

    Returns:
        Scores (n,) of at most 100 detections, the highest first, and whether each is right, bool (T, n).
    """
    order = np.argsort(-scores, kind="stable")[:MAX_DETECTIONS]
    overlap, limits = box_iou(boxes[order], truth), np.array(thresholds)[:, None]
    right = np.zeros((len(limits), len(order)), bool)
    free = np.ones((len(limits), len(truth)), bool)
    for i in np.flatnonzero((overlap >= limits.min()).any(1)):
        # Reversed, because argmax returns the first of equals.
        candidate = np.where(free & (overlap[i] >= limits), overlap[i], 0.0)[:, ::-1]
        best = candidate.shape[1] - 1 - candidate.argmax(1)
        right[:, i] = candidate.any(1)
        free[right[:, i], best[right[:, i]]] = False
    return scores[order], right


def box_iou(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the intersection over union (n, m) of boxes (n, 4) and (m, 4); 0 for boxes without area."""
    # MGCA adds a pixel to each side before it suppresses or assigns boxes; this is an error for exclusive ends.
    a, b = a.astype(float)[:, None], b.astype(float)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    iou: npt.NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=common > 0)
    return iou
