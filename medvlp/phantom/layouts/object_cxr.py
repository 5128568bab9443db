"""The raw layout of Object-CXR."""

from __future__ import annotations

from pathlib import Path

import cv2

from medvlp.phantom.drawn import frontal
from medvlp.phantom.files import Table, write
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.objects import ForeignObject, stamp
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Study

ROOT = "object-cxr"
COLUMNS = ("image_name", "annotation")


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder and begin the two tables."""
    write_mark(out / ROOT)
    return {name: Table(out / ROOT / f"{name}.csv", COLUMNS) for name in ("train", "dev")}


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the frontal images of a study, half of them with foreign objects, and return their rows."""
    split = "dev" if study.split == "test" else "train"
    rows: list[dict[str, object]] = []
    for shot, image in frontal(pictures):
        name = f"{shot.dicom_id}.jpg"
        pixels, objects = stamp(shot, image)
        _, jpg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
        write(out / ROOT / split / name, jpg.tobytes())
        rows.append({"image_name": name, "annotation": ";".join(map(annotation, objects))})
    return {split: rows}


def annotation(thing: ForeignObject) -> str:
    """Return the annotation of an object: 0 is a rectangle, 1 an ellipse by its bounds, 2 a polygon."""
    if thing.kind == "pin":
        return " ".join(map(str, (2, *thing.outline.ravel())))
    return " ".join(map(str, (0 if thing.kind == "clip" else 1, *thing.box)))
