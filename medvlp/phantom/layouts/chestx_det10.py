"""The raw layout of ChestX-Det10, with the images of the layout of NIH ChestX-ray14."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2

from medvlp.phantom.drawn import drawn, each_side
from medvlp.phantom.files import write
from medvlp.phantom.json_files import JsonList
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.layouts.nih import label, named_images
from medvlp.phantom.reports import Report
from medvlp.phantom.world import DEVICES, Study

ROOT = "chestx-det10"
# Findings of the data set that the phantom has, by their label in ChestX-ray14.
_FINDINGS = {name: name for name in ("Atelectasis", "Consolidation", "Effusion", "Mass", "Nodule", "Pneumothorax")}
_FINDINGS |= {"Infiltration": "Consolidation", "Pneumonia": "Consolidation"}
_FRAME = 1024


def begin(out: Path) -> Mapping[str, JsonList]:
    """Mark the folder and begin the two lists."""
    write_mark(out / ROOT)
    return {part: JsonList(out / ROOT / f"{part}.json") for part in ("train", "test")}


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the frontal images of a study and return their entries."""
    part = "test" if study.split == "test" else "train"
    rows: list[dict[str, object]] = []
    for name, (_, image) in named_images(study, pictures):
        side = max(image.pixels.shape)
        _, png = cv2.imencode(".png", cv2.resize(image.pixels, (side, side), interpolation=cv2.INTER_LINEAR))
        write(out / ROOT / f"{part}_data" / name, png.tobytes())
        height, width = image.pixels.shape
        x, y = _FRAME / width, _FRAME / height
        found = [(_FINDINGS.get(label(f)), f) for f in drawn(study, image) if f.name not in DEVICES]
        boxes = [(word, box) for word, f in found if word for box in each_side(f, image)]
        corners = [[round(x1 * x), round(y1 * y), round(x2 * x), round(y2 * y)] for _, (x1, y1, x2, y2) in boxes]
        rows.append({"file_name": name, "syms": [word for word, _ in boxes], "boxes": corners})
    return {part: rows}
