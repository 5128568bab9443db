"""The raw layout of CheXlocalize."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from medvlp.phantom.files import Listing, Table, write
from medvlp.phantom.images import Image
from medvlp.phantom.json_files import JsonObject
from medvlp.phantom.labels import COLUMN
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.layouts.chexpert import LABELS, OPACITIES, observed
from medvlp.phantom.reports import Report
from medvlp.phantom.world import FINDINGS, Study
from medvlp.run_lengths import encode_coco

ROOT = "chexlocalize"
COLUMNS = ("Path", *LABELS)
# Drawn findings by their class in the masks, in the order of the original.
_CLASSES: dict[str, frozenset[str]] = {
    "Enlarged Cardiomediastinum": frozenset({"cardiomegaly"}),
    "Cardiomegaly": frozenset({"cardiomegaly"}),
    "Lung Lesion": frozenset({"nodule"}),
    "Airspace Opacity": OPACITIES,
    "Edema": frozenset({"edema"}),
    "Consolidation": frozenset({"consolidation"}),
    "Atelectasis": frozenset({"atelectasis"}),
    "Pneumothorax": frozenset({"pneumothorax"}),
    "Pleural Effusion": frozenset({"pleural effusion"}),
    "Support Devices": frozenset(name for name in FINDINGS if COLUMN[name] == "Support Devices"),
}


def begin(out: Path) -> dict[str, Listing]:
    """Mark the folder and begin its tables and masks."""
    write_mark(out / ROOT)
    tables = {part: Table(out / ROOT / "CheXpert" / f"{part}_labels.csv", COLUMNS) for part in ("val", "test")}
    return tables | {
        f"masks_{part}": JsonObject(out / ROOT / "CheXlocalize" / f"gt_segmentations_{part}.json") for part in tables
    }


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the images of a study and return their rows and masks, if its patient is one to test on.

    All of these patients are in valid.csv of the layout of CheXpert, and in no table for training.
    """
    if study.split != "test":
        return {}
    part = "val" if study.subject_id % 2 else "test"
    rows: list[dict[str, object]] = []
    masks: list[dict[str, object]] = []
    for number, (shot, image) in enumerate(pictures, 1):
        view = "lateral" if shot.view == "LATERAL" else "frontal"
        name = f"view{number}_{view}"
        place = f"{part}/patient{study.subject_id}/study{study.order}/{name}.jpg"
        _, jpg = cv2.imencode(".jpg", image.pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
        write(out / ROOT / "CheXpert" / place, jpg.tobytes())
        rows.append({"Path": place, **observed(study.findings)})
        if codes := _codes(image):
            masks.append({f"patient{study.subject_id}_study{study.order}_{name}": codes})
    return {part: rows, f"masks_{part}": masks}


def _codes(image: Image) -> dict[str, object]:
    """Return the masks of an image by class, those without pixels included; empty if none has any."""
    height, width = image.pixels.shape
    codes: dict[str, object] = {}
    has_pixels = False
    for name, findings in _CLASSES.items():
        mask = np.zeros((height, width), bool)
        for finding in findings & image.masks.keys():
            mask |= image.masks[finding]
        has_pixels |= bool(mask.any())
        codes[name] = {"size": [height, width], "counts": encode_coco(mask)}
    return codes if has_pixels else {}
