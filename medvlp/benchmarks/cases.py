"""The worst and the best test images of a cell, as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from medvlp.benchmarks.results import PREDICTIONS, Cell
from medvlp.data.transforms import EvaluationTransform
from medvlp.metrics.average_precision import box_iou
from medvlp.prepared import INDEX, Prepared
from medvlp.run_lengths import decode

COUNT = 6
# Boxes with a lower IoU mark different objects; this is the lowest threshold of the papers.
OVERLAP = 0.4
QUALITY = 82

Array = npt.NDArray[Any]
# Draws a case: from the annotated mask (crop, crop), None if there is none, to SVG shapes in pixels of the crop.
Overlay = Callable[[npt.NDArray[np.bool_] | None], str]


@dataclass(frozen=True)
class Case:
    """One test image.

    Attributes:
        image_id: Its name.
        caption: Text below the image: label and score, Dice, or number of objects.
        overlay: Function that draws truth and prediction.
    """

    image_id: str
    caption: str
    overlay: Overlay = lambda mask: ""


def choose(predictions: pa.Table) -> tuple[list[Case], list[Case]]:
    """Return the worst and the best images of a test; the columns of its predictions decide the kind of test."""
    if "mask" in predictions.column_names:
        return _segmentations(predictions)
    if {"boxes", "truth"} <= {*predictions.column_names}:
        return _detections(predictions)
    return _classifications(predictions)


def _ends(quality: Array, eligible: Array, case: Callable[[int], Case]) -> tuple[list[Case], list[Case]]:
    """Return the cases of lowest quality, and the eligible cases of highest quality; no case is in both lists."""
    order = np.argsort(quality, kind="stable")
    worst = order[: min(COUNT, len(order) // 2)]
    best = [i for i in order[::-1] if eligible[i] and i not in worst][:COUNT]
    return [case(int(i)) for i in worst], [case(int(i)) for i in best]


def _classifications(predictions: pa.Table) -> tuple[list[Case], list[Case]]:
    """Choose the images with the surest wrong and right scores, from as many labels as possible.

    Scores of different labels cannot be compared, so images are ranked by their error. The error of an image with a
    finding is the share of the images without it that score at least as high. The error of an image without the
    finding is the share of the images with it that score lower. Only images with a finding count as right: a correct
    negative shows nothing.
    """
    image_id = predictions["image_id"].to_pylist()
    labels = [name.removeprefix("target/") for name in predictions.column_names if name.startswith("target/")]
    errors: list[tuple[float, float, int, str, bool]] = []
    for label in labels:
        target = predictions[f"target/{label}"].to_numpy().astype(float)
        score = predictions[f"score/{label}"].to_numpy().astype(float)
        for present in (True, False):
            images, other = np.flatnonzero(target == present), np.sort(score[target == (not present)])
            if len(other):
                below = np.searchsorted(other, score[images]) / len(other)
                wrong = 1 - below if present else below
                ranked = zip(wrong, images, strict=True)
                errors += [(float(w), float(score[i]), int(i), label, present) for w, i in ranked]

    def pick(rows: Iterable[tuple[float, float, int, str, bool]]) -> list[Case]:
        chosen: dict[int, Case] = {}
        count = dict.fromkeys(labels, 0)
        for _, score, i, label, present in rows:
            if len(chosen) < COUNT and i not in chosen and count[label] < -(-COUNT // len(labels)):
                chosen[i] = Case(image_id[i], f"{label} {'present' if present else 'absent'}, score {score:.2f}")
                count[label] += 1
        return list(chosen.values())

    # Ties are broken by the score that is farthest on the wrong or right side.
    wrong = sorted((row for row in errors if row[0] > 0.5), key=lambda row: (-row[0], row[1] if row[4] else -row[1]))
    right = sorted((row for row in errors if row[0] < 0.5 and row[4]), key=lambda row: (row[0], -row[1]))
    return pick(wrong), pick(right)


def _segmentations(predictions: pa.Table) -> tuple[list[Case], list[Case]]:
    """Choose by Dice; of images with equal Dice, the one with larger areas is worse."""
    columns = ("image_id", "dice", "pixels_true", "pixels_predicted", "mask")
    image_id, dice, true, predicted, mask = (predictions[name].to_pylist() for name in columns)

    def case(i: int) -> Case:
        def overlay(truth: npt.NDArray[np.bool_] | None) -> str:
            assert truth is not None
            drawn = decode(mask[i], *truth.shape)
            return outline(truth, "truth") + outline(drawn, "predicted")

        return Case(image_id[i], f"Dice {dice[i]:.2f}", overlay)

    area = np.add(true, predicted)
    return _ends(np.array(dice) - 1e-6 * area / max(area.max(), 1), np.array(true) > 0, case)


def _detections(predictions: pa.Table) -> tuple[list[Case], list[Case]]:
    """Choose by quality: the mean of IoU times score over the objects, minus the highest score of a false box."""
    rows = predictions.select(["image_id", "boxes", "truth"]).to_pylist()
    boxes = [np.array([[*map(box.get, ("x1", "y1", "x2", "y2", "score"))] for box in row["boxes"]]) for row in rows]
    truth = [np.array([[*map(box.get, ("x1", "y1", "x2", "y2"))] for box in row["truth"]]) for row in rows]
    boxes = [predicted.reshape(-1, 5)[: len(true) + 2] for predicted, true in zip(boxes, truth, strict=True)]

    def quality(predicted: Array, true: Array) -> float:
        if not len(predicted):
            return -float(len(true) > 0)
        hit = box_iou(true.reshape(-1, 4), predicted[:, :4])
        false = predicted[:, 4][(hit < OVERLAP).all(0)].max(initial=0)
        return float((hit * predicted[:, 4]).max(1).mean() if len(true) else 0) - float(false)

    def case(i: int) -> Case:
        what = f"{len(truth[i])} {'object' if len(truth[i]) == 1 else 'objects'}"
        best = f"surest box {boxes[i][0, 4]:.2f}" if len(boxes[i]) else "no box"
        shapes = [rectangle(box, "truth") for box in truth[i]]
        shapes += [rectangle(box, "predicted", 0.35 + 0.65 * box[4]) for box in boxes[i]]
        return Case(rows[i]["image_id"], f"{what}, {best}", lambda _: "".join(shapes))

    qualities = np.array([quality(*pair) for pair in zip(boxes, truth, strict=True)])
    return _ends(qualities, np.array([len(true) > 0 for true in truth]), case)


def outline(mask: npt.NDArray[np.bool_], kind: str) -> str:
    """Return an SVG path around a mask."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    # Contours pass through the middles of the outermost pixels.
    paths = (" L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in contour[:, 0]) for contour in contours)
    return f'<path class="{kind}" d="{"".join(f"M{path}Z" for path in paths)}"/>'


def rectangle(box: Array, kind: str, opacity: float = 1) -> str:
    """Return an SVG rectangle for a box x1, y1, x2, y2."""
    x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {place} opacity="{opacity:.2f}"/>'


def figures(cell: Cell) -> tuple[list[str], list[str]] | None:
    """Return the pictures of the worst and the best cases as HTML; None if data or predictions are missing."""
    root, protocol = Path(cell.content["data"]["root"]), cell.content["protocol"]
    if not ((cell.folder / PREDICTIONS).is_file() and (root / INDEX).is_file()):
        return None
    prepared = Prepared.open(root)
    worst, best = choose(pq.read_table(cell.folder / PREDICTIONS))
    names = pa.array([case.image_id for case in [*worst, *best]], pa.string())
    condition = pc.is_in(pc.field("image_id"), names)
    table = pq.read_table(root / INDEX, columns=["image_id", "row"], filters=condition)
    rows = dict(zip(table["image_id"].to_pylist(), table["row"].to_pylist(), strict=True))
    transform = EvaluationTransform(protocol["crop"], protocol["resize"])

    def figure(case: Case) -> str:
        row = rows[case.image_id]
        mask = None if prepared.masks is None else prepared.masks[row]
        view = transform(prepared.images[row], np.zeros((0, 4), np.float32), 0, mask)
        shapes = case.overlay(None if view.mask is None else view.mask > 127)
        side = protocol["crop"]
        return (
            f'<figure><svg viewBox="0 0 {side} {side}" role="img" aria-label="{escape(case.caption)}">'
            f'<image width="{side}" height="{side}" href="{data_url(view.image)}"/>{shapes}</svg>'
            f"<figcaption>{escape(case.caption)}</figcaption></figure>"
        )

    return [figure(case) for case in worst], [figure(case) for case in best]


def data_url(image: npt.NDArray[np.uint8]) -> str:
    """Return a grey image (H, W) as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
