"""The raw layout of CheXpert-v1.0-small."""

from __future__ import annotations

from pathlib import Path

import cv2

from medvlp.phantom.files import Table, write
from medvlp.phantom.labels import COLUMN, chexpert
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.reports import Report
from medvlp.phantom.world import DEVICES, Finding, Study
from medvlp.prepared import CHEXPERT_LABELS

ROOT = "CheXpert-v1.0-small"
LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS)
OPACITIES = frozenset({"atelectasis", "consolidation", "edema", "nodule"})


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder and begin the two tables."""
    write_mark(out / ROOT)
    return {name: Table(out / ROOT / f"{name}.csv", COLUMNS) for name in ("train", "valid")}


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the images of a study and return their rows; patients of the test split are in valid.csv.

    As in CheXpert, the labels of train.csv are those of the reports, and the labels of valid.csv those of the images.
    """
    folder = "valid" if study.split == "test" else "train"
    labels = observed(study.findings) if folder == "valid" else chexpert(report.sentences)
    rows: list[dict[str, object]] = []
    for number, (shot, image) in enumerate(pictures, 1):
        kind = "Lateral" if shot.view == "LATERAL" else "Frontal"
        place = f"{folder}/patient{study.subject_id}/study{study.order}/view{number}_{kind.lower()}.jpg"
        _, jpg = cv2.imencode(".jpg", image.pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
        write(out / ROOT / place, jpg.tobytes())
        about: dict[str, object] = {
            "Path": f"{ROOT}/{place}",
            "Sex": "Female" if study.body.female else "Male",
            "Age": study.body.age,
            "Frontal/Lateral": kind,
            "AP/PA": "" if kind == "Lateral" else shot.view,
        }
        rows.append({**about, **labels})
    return {folder: rows}


def observed(findings: tuple[Finding, ...]) -> dict[str, str]:
    """Return the labels of a radiologist for visible findings: 1.0 or 0.0 in every column."""
    names = {f.name for f in findings}
    present = {COLUMN[name] for name in names}
    present |= {"Lung Opacity"} if names & OPACITIES else set()
    present |= {"Enlarged Cardiomediastinum"} if "cardiomegaly" in names else set()
    present |= {"Pneumonia"} if any(f.infectious for f in findings) else set()
    present |= {"No Finding"} if names <= DEVICES else set()
    return {name: "1.0" if name in present else "0.0" for name in CHEXPERT_LABELS}
