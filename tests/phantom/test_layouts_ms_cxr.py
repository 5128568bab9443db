"""Phrases of MS-CXR's layout: said by the report, of what is drawn, and boxed where it is drawn."""

import csv
import json

import cv2
import numpy as np
import pytest

from medvlp.phantom.world import REGIONS
from medvlp.prepare.datasets.ms_cxr import CATEGORIES, ms_cxr
from medvlp.prepared import Prepared

pytestmark = pytest.mark.slow

DRAWN = {
    "Pleural Effusion": "pleural effusion",
    "Pneumothorax": "pneumothorax",
    "Consolidation": "consolidation",
    "Lung Opacity": "consolidation",
    "Atelectasis": "atelectasis",
    "Edema": "edema",
    "Cardiomegaly": "cardiomegaly",
}


def read(layouts):
    with open(layouts.root / "ms-cxr/1.1.0/MS_CXR_Local_Alignment_v1.1.0.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_phrases_are_of_the_report_and_of_what_is_drawn(layouts):
    rows = read(layouts)
    reports = map(json.loads, (layouts.root / "truth/reports.jsonl").read_text().splitlines())
    said = {r["study_id"]: {s["sentence"].rstrip("."): s["triplets"] for s in r["sentences"]} for r in reports}
    assert len({row["category_name"] for row in rows}) > 3
    for row in rows:
        image = layouts.images[row["dicom_id"]]
        assert image["split"] == {"val": "validate", "test": "test"}[row["split"]]
        assert DRAWN[row["category_name"]] in layouts.names(row["dicom_id"])
        first = said[image["study_id"]][row["label_text"]][0]
        assert first["existence"] == "present"
        assert set(first["regions"]) <= set(REGIONS)
        pixels = cv2.imread(str(layouts.root / "mimic-cxr-jpg/2.0.0" / row["path"]), cv2.IMREAD_UNCHANGED)
        assert pixels.shape == (int(row["image_height"]), int(row["image_width"]))


def test_boxes_of_a_phrase_are_the_bounds_of_what_is_drawn(layouts):
    phrases: dict[tuple[str, str], list[list[int]]] = {}
    for row in read(layouts):
        box = [int(row[key]) for key in "xywh"]
        phrases.setdefault((row["dicom_id"], row["label_text"], row["category_name"]), []).append(box)
    assert {len(boxes) for boxes in phrases.values()} == {1, 2}
    for (image, phrase, category), boxes in phrases.items():
        mask = layouts.mask(image, DRAWN[category])
        inside = np.zeros_like(mask)
        for x, y, w, h in boxes:
            part = mask[y : y + h, x : x + w]
            inside[y : y + h, x : x + w] = True
            # No smaller box would hold it.
            assert part.any(axis=0)[[0, -1]].all()
            assert part.any(axis=1)[[0, -1]].all()
        assert not (mask & ~inside).any()
        spine = layouts.images[image]["regions"]["spine"]
        middle = (spine[0] + spine[2]) / 2
        if len(boxes) == 2:
            (right, _, width, _), (left, *_) = boxes
            assert right + width <= middle + 1 <= left + 2
        elif category not in ("Cardiomegaly", "Edema"):
            # In the picture the patient's right is on the left.
            assert ("left" if boxes[0][0] >= middle - 1 else "right") in phrase.lower()


def test_the_layout_can_be_prepared(layouts, tmp_path):
    ms_cxr(layouts.root / "ms-cxr/1.1.0", layouts.root / "mimic-cxr-jpg/2.0.0", tmp_path / "p", size=48, workers=1)
    prepared = Prepared.open(tmp_path / "p")
    assert prepared.synthetic
    assert prepared.manifest["counts"]["skipped"] == {}
    assert prepared.manifest["counts"]["boxes"] == len(read(layouts))
    for row in prepared.index.to_pylist():
        assert {box["name"] for box in row["boxes"]} == {name for name in CATEGORIES if row[f"label/{name}"]}
