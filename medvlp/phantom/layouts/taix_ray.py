"""The raw layout of TAIX-Ray, as the authors' script unpacks it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np

from medvlp.phantom.drawn import drawn, frontal
from medvlp.phantom.files import Table, write
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Finding, Study

ROOT = "taix_ray"
_SIDED = {
    "PleuralEffusion": frozenset({"pleural effusion"}),
    "PulmonaryOpacities": frozenset({"consolidation", "nodule"}),
    "Atelectasis": frozenset({"atelectasis"}),
}
COLUMNS = (
    "UID",
    "PatientID",
    "PhysicianID",
    "StudyDate",
    "Age",
    "Sex",
    "HeartSize",
    "PulmonaryCongestion",
    *(f"{name}_{side}" for name in _SIDED for side in ("Right", "Left")),
)
_FOLDS = 5
_WORDS = {"train": "train", "validate": "val", "test": "test"}
# Grades above 1, questionable, which the phantom has not.
_GRADES = {"mild": 2, "moderate": 3, "severe": 4}


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder and begin the two tables."""
    write_mark(out / ROOT)
    metadata = out / ROOT / "metadata"
    return {
        "annotation": Table(metadata / "annotation.csv", COLUMNS),
        "split": Table(metadata / "split.csv", ("UID", "PatientID", "Fold", "Split")),
    }


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the frontal images of a study in 16 bits and return their rows. Fold 0 has the splits of other layouts."""
    rows: list[dict[str, object]] = []
    splits: list[dict[str, object]] = []
    patient = hashlib.sha256(str(study.subject_id).encode()).hexdigest()
    for shot, image in frontal(pictures):
        uid = hashlib.sha256(shot.dicom_id.encode()).hexdigest()
        _, png = cv2.imencode(".png", image.pixels.astype(np.uint16) * 16 + 300)
        write(out / ROOT / "data" / f"{uid}.png", png.tobytes())
        values = (uid, patient, "1", study.date, study.body.age, "F" if study.body.female else "M")
        grades = _grades(drawn(study, image))
        rows.append(dict(zip(COLUMNS, (*values, *(grades.get(name, 0) for name in COLUMNS[6:])), strict=True)))
        for fold in range(_FOLDS):
            other = ("test", "val", "train", "train", "train")[(study.subject_id + fold) % _FOLDS]
            split = other if fold else _WORDS[study.split]
            splits.append({"UID": uid, "PatientID": patient, "Fold": fold, "Split": split})
    return {"annotation": rows, "split": splits}


def _grades(findings: tuple[Finding, ...]) -> dict[str, int]:
    """Return the grades of findings by column."""
    grades: dict[str, int] = {}
    for f in findings:
        if f.name == "cardiomegaly":
            grades["HeartSize"] = _GRADES[f.severity] - 1
        elif f.name == "edema":
            grades["PulmonaryCongestion"] = _GRADES[f.severity]
        for column, names in _SIDED.items():
            for side in f.sides if f.name in names else ():
                name = f"{column}_{side.capitalize()}"
                grades[name] = max(grades.get(name, 0), _GRADES[f.severity])
    return grades
