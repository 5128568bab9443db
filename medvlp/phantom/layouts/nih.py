"""The raw layout of NIH ChestX-ray14."""

from __future__ import annotations

from pathlib import Path

import cv2

from medvlp.phantom.drawn import drawn, each_side, frontal
from medvlp.phantom.files import Table, write
from medvlp.phantom.findings import nodule_diameter
from medvlp.phantom.images import Image
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.reports import Report
from medvlp.phantom.world import DEVICES, Finding, Shot, Study, stream

ROOT = "nih"
# The commas in brackets separate fields, as in the original headers.
ENTRY = (
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
    "OriginalImage[Width",
    "Height]",
    "OriginalImagePixelSpacing[x",
    "y]",
)
BOXES = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", "")
_FRAME = 1024
_NAMES = {
    "pleural effusion": "Effusion",
    "pneumothorax": "Pneumothorax",
    "atelectasis": "Atelectasis",
    "edema": "Edema",
    "cardiomegaly": "Cardiomegaly",
}
# Findings with boxes, and their names in BBox_List_2017.csv.
_OUTLINED = {name: name for name in ("Atelectasis", "Cardiomegaly", "Effusion", "Mass", "Nodule", "Pneumonia")}
_OUTLINED |= {"Pneumothorax": "Pneumothorax", "Infiltration": "Infiltrate"}


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder and begin the two tables and the two lists."""
    root = out / ROOT
    write_mark(root)
    return {
        "entry": Table(root / "Data_Entry_2017_v2020.csv", ENTRY),
        "boxes": Table(root / "BBox_List_2017.csv", BOXES),
        "train": Table(root / "train_val_list.txt", ("Image Index",), header=False),
        "test": Table(root / "test_list.txt", ("Image Index",), header=False),
    }


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the frontal images of a study and return their rows.

    The phantom has no emphysema, fibrosis, pleural thickening and hernias.
    """
    test = study.split == "test"
    rows: dict[str, list[dict[str, object]]] = {"entry": [], "boxes": [], "train": [], "test": []}
    for name, (shot, image) in named_images(study, pictures):
        number = int(name[:-4].rpartition("_")[2])
        # All images of ChestX-ray14 are squares.
        side = max(image.pixels.shape)
        _, png = cv2.imencode(".png", cv2.resize(image.pixels, (side, side), interpolation=cv2.INTER_LINEAR))
        write(out / ROOT / "images" / name, png.tobytes())
        findings = [(label(f), f) for f in drawn(study, image) if f.name not in DEVICES]
        rows["entry"].append(_entry(study, shot, name, number, sorted(text for text, _ in findings)))
        rows["test" if test else "train"].append({"Image Index": name})
        if test and stream(shot.key, 61).random() < 0.5:
            for text, f in findings:
                if text in _OUTLINED:
                    rows["boxes"] += [
                        {"Image Index": name, "Finding Label": _OUTLINED[text]} | box for box in _boxes(f, image)
                    ]
    return rows


def named_images(study: Study, pictures: Pictures) -> list[tuple[str, tuple[Shot, Image]]]:
    """Return the frontal images of a study with their names, which begin with the patient."""
    numbered = enumerate(frontal(pictures), 2 * (study.order - 1))
    return [(f"{study.subject_id}_{number:03d}.png", picture) for number, picture in numbered]


def label(f: Finding) -> str:
    """Return the label of a finding in ChestX-ray14."""
    if f.name == "nodule":
        # A mass is a nodule of more than 3 cm.
        return "Mass" if nodule_diameter(f) > 3 else "Nodule"
    if f.name == "consolidation":
        return "Pneumonia" if f.infectious else "Infiltration" if f.severity == "mild" else "Consolidation"
    return _NAMES[f.name]


def _entry(study: Study, shot: Shot, name: str, number: int, labels: list[str]) -> dict[str, object]:
    spacing = 0.139 if shot.view == "AP" else 0.143
    wide, tall = shot.field
    values = (
        name,
        "|".join(labels) or "No Finding",
        number,
        study.subject_id,
        study.body.age,
        "F" if study.body.female else "M",
        shot.view,
        round(10 * wide / spacing),
        round(10 * tall / spacing),
        spacing,
        spacing,
    )
    return dict(zip(ENTRY, values, strict=True))


def _boxes(f: Finding, image: Image) -> list[dict[str, object]]:
    """Return the box of a finding; two boxes if it is bilateral."""
    rows, columns = image.pixels.shape
    x, y = _FRAME / columns, _FRAME / rows
    return [
        {"Bbox [x": box[0] * x, "y": box[1] * y, "w": (box[2] - box[0]) * x, "h]": (box[3] - box[1]) * y}
        for box in each_side(f, image)
    ]
