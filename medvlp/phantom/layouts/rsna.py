"""The raw layout of the RSNA Pneumonia Detection Challenge, stage 2, and the names of its images in ChestX-ray14."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

from medvlp.phantom.dicom import dicom, uids
from medvlp.phantom.drawn import drawn, outlined
from medvlp.phantom.files import Listing, Table, write
from medvlp.phantom.images import Box, Image
from medvlp.phantom.json_files import JsonList
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.layouts.nih import named_images
from medvlp.phantom.reports import Report
from medvlp.phantom.world import DEVICES, Shot, Study

ROOT = "rsna"
IMAGES = "stage_2_train_images"
LABELS = ("patientId", "x", "y", "width", "height", "Target")
CLASSES = ("patientId", "class")
MAPPINGS = "pneumonia-challenge-dataset-mappings_2018.json"


def begin(out: Path) -> Mapping[str, Listing]:
    """Mark the folder and begin the two tables and the list of names."""
    root = out / ROOT
    write_mark(root)
    return {
        "labels": Table(root / "stage_2_train_labels.csv", LABELS),
        "classes": Table(root / "stage_2_detailed_class_info.csv", CLASSES),
        "mappings": JsonList(root / MAPPINGS),
    }


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the frontal images of a study, each with its own patient, and return their rows: one for each box."""
    rows: dict[str, list[dict[str, object]]] = {"labels": [], "classes": [], "mappings": []}
    for name, (shot, image) in named_images(study, pictures):
        number = uuid.UUID(shot.dicom_id.replace("-", "")[:32])
        patient = str(number)
        data = dicom(study, shot, image.pixels, patient, number.int)
        write(out / ROOT / IMAGES / f"{patient}.dcm", data)
        boxes = opacities(shot, image)
        for x1, y1, x2, y2 in boxes:
            box = {"x": float(x1), "y": float(y1), "width": float(x2 - x1), "height": float(y2 - y1)}
            rows["labels"].append({"patientId": patient, **box, "Target": 1})
        if not boxes:
            rows["labels"].append({"patientId": patient, "Target": 0})
        normal = all(f.name in DEVICES for f in drawn(study, image))
        kind = "Lung Opacity" if boxes else "Normal" if normal else "No Lung Opacity / Not Normal"
        rows["classes"] += [{"patientId": patient, "class": kind}] * max(len(boxes), 1)
        keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        names: dict[str, object] = {"subset_img_id": patient, "img_id": name}
        rows["mappings"].append({**names, **dict(zip(keys, uids(number.int), strict=True))})
    return rows


def opacities(shot: Shot, image: Image) -> list[Box]:
    """Return the boxes of possible pneumonia: the parts of the consolidation."""
    mask = image.masks.get("consolidation")
    return [] if mask is None else outlined(mask, shot)
