"""The raw layout of COVIDx CXR, version 9A."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2

from medvlp.phantom.drawn import drawn, frontal
from medvlp.phantom.files import Table, write
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.reports import Report
from medvlp.phantom.world import DEVICES, Finding, Study, named

ROOT = "covidx"
COLUMNS = ("patient", "file", "class", "source")
Diagnosis = Literal["normal", "pneumonia", "COVID-19"]


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder and begin the two lists."""
    write_mark(out / ROOT)
    lists = {name: out / ROOT / f"{name}_COVIDx9A.txt" for name in ("train", "test")}
    return {name: Table(path, COLUMNS, header=False, delimiter=" ") for name, path in lists.items()}


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the frontal images of a study with a diagnosis, and return their rows."""
    split = "test" if study.split == "test" else "train"
    rows: list[dict[str, object]] = []
    for shot, image in frontal(pictures):
        if (kind := diagnosis(drawn(study, image))) is not None:
            name = f"{shot.dicom_id}.png"
            _, png = cv2.imencode(".png", image.pixels)
            write(out / ROOT / split / name, png.tobytes())
            rows.append(dict(zip(COLUMNS, (study.subject_id, name, kind, "phantom"), strict=True)))
    return {split: rows}


def diagnosis(findings: tuple[Finding, ...]) -> Diagnosis | None:
    """Return the class of an image with these findings; None if it is none of the three."""
    if all(f.name in DEVICES for f in findings):
        return "normal"
    consolidation = named(findings, "consolidation")
    if consolidation is None:
        return None
    return "COVID-19" if consolidation.side == "bilateral" else "pneumonia"
