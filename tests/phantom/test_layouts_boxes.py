"""VinDr-CXR and ChestX-Det10 as the phantom writes them: names verbatim, boxes as drawn."""

import csv
import json
from collections import Counter

import cv2
import numpy as np
import pytest

from medvlp.phantom.layouts.vindr import BOXED, GLOBAL
from tests.phantom.test_layouts_dicom import read, seen

pytestmark = pytest.mark.slow

FINDINGS = {
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Consolidation": "consolidation",
    "Edema": "edema",
    "Nodule/Mass": "nodule",
    "Pleural effusion": "pleural effusion",
    "Pneumothorax": "pneumothorax",
}


def rows_of(path, columns):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(columns)
    return rows


def union(boxes, shape):
    mask = np.zeros(shape, bool)
    for x1, y1, x2, y2 in boxes:
        mask[round(y1) : round(y2), round(x1) : round(x2)] = True
    return mask


def test_the_consensus_of_vindr_is_what_is_drawn(layouts) -> None:
    folder = layouts.root / "vindr/annotations"
    corners = ("x_min", "y_min", "x_max", "y_max")
    in_test = [name.replace("Other diseases", "Other disease") for name in (*BOXED, *GLOBAL)]
    labels = {row["image_id"]: row for row in rows_of(folder / "image_labels_test.csv", ("image_id", *in_test))}
    boxes: dict[str, dict[str, list]] = {}
    for row in rows_of(folder / "annotations_test.csv", ("image_id", "class_name", *corners)):
        values = [float(row[name]) for name in corners if row[name]]
        assert len(values) == 4 * (row["class_name"] != "No finding")
        boxes.setdefault(row["image_id"], {}).setdefault(row["class_name"], []).append(values)
    truths = {name.replace("-", "")[:32]: t for name, t in layouts.images.items() if t["split"] == "test"}
    assert set(labels) == set(boxes) == set(truths) == {p.stem for p in (layouts.root / "vindr/test").iterdir()}
    for image_id, truth in truths.items():
        file = read(layouts.root / f"vindr/test/{image_id}.dicom")
        shape = (file.Rows, file.Columns)
        assert seen(file).shape == shape == (truth["rows"], truth["columns"])
        drawn = layouts.names(truth["dicom_id"])
        present = {name for name in FINDINGS if labels[image_id][name] == "1"}
        assert present == {name for name, word in FINDINGS.items() if word in drawn}
        assert (labels[image_id]["No finding"] == "1") == (not present) == (set(boxes[image_id]) == {"No finding"})
        for name in present:
            mask = layouts.mask(truth["dicom_id"], FINDINGS[name])
            assert not (mask & ~union(boxes[image_id][name], shape)).any()


def test_three_readers_of_vindr(layouts) -> None:
    folder = layouts.root / "vindr/annotations"
    labels = rows_of(folder / "image_labels_train.csv", ("image_id", "rad_id", *BOXED, *GLOBAL))
    readers = Counter(row["image_id"] for row in labels)
    assert set(readers.values()) == {3}
    assert len({(row["image_id"], row["rad_id"]) for row in labels}) == len(labels)
    assert {p.stem for p in (layouts.root / "vindr/train").iterdir()} == set(readers)
    names = {name.replace("-", "")[:32]: name for name, truth in layouts.images.items() if truth["split"] != "test"}
    assert set(names) == set(readers)
    found, missed = 0, 0
    for row in labels:
        drawn = {name for name, word in FINDINGS.items() if word in layouts.names(names[row["image_id"]])}
        reported = {name for name in FINDINGS if row[name] == "1"}
        assert reported <= drawn
        found, missed = found + len(reported), missed + len(drawn - reported)
    assert 0.05 < missed / (found + missed) < 0.3


def test_chestx_det10(layouts) -> None:
    root = layouts.root / "chestx-det10"
    patients, words = {}, Counter()
    for part in ("train", "test"):
        entries = json.loads((root / f"{part}.json").read_text())
        assert {entry["file_name"] for entry in entries} == {p.name for p in (root / f"{part}_data").iterdir()}
        for entry in entries:
            assert list(entry) == ["file_name", "syms", "boxes"]
            assert len(entry["syms"]) == len(entry["boxes"])
            words.update(entry["syms"])
            patients.setdefault(part, set()).add(entry["file_name"].partition("_")[0])
            image = cv2.imread(str(root / f"{part}_data/{entry['file_name']}"), cv2.IMREAD_UNCHANGED)
            assert image.shape[0] == image.shape[1]
            other = layouts.root / "nih/images" / entry["file_name"]
            assert other.read_bytes() == (root / f"{part}_data/{entry['file_name']}").read_bytes()
            for x1, y1, x2, y2 in entry["boxes"]:
                assert 0 <= x1 < x2 <= 1024
                assert 0 <= y1 < y2 <= 1024
    assert not patients["train"] & patients["test"]
    # Few studies hold a nodule that is drawn small enough to be no mass.
    assert {*words} - {"Nodule"} == {"Atelectasis", "Consolidation", "Effusion", "Mass", "Pneumothorax"}
