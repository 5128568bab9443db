"""The raw layout of MS-CXR 1.1.0, with the images of the layout of MIMIC-CXR-JPG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medvlp.phantom.drawn import drawn, each_side, frontal
from medvlp.phantom.files import Table
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.layouts.mimic_cxr import folder
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Finding, Study, named

ROOT = "ms-cxr/1.1.0"
COLUMNS = (
    "dicom_id",
    "category_name",
    "label_text",
    "path",
    "x",
    "y",
    "w",
    "h",
    "image_width",
    "image_height",
    "split",
)
# Category of MS-CXR, and drawn finding, by finding of a sentence.
_CATEGORIES = {
    "pleural effusion": ("Pleural Effusion", "pleural effusion"),
    "pneumothorax": ("Pneumothorax", "pneumothorax"),
    "consolidation": ("Consolidation", "consolidation"),
    "opacity": ("Lung Opacity", "consolidation"),
    "atelectasis": ("Atelectasis", "atelectasis"),
    "edema": ("Edema", "edema"),
    "cardiomegaly": ("Cardiomegaly", "cardiomegaly"),
}
# Patients of train have no phrases, so that all phrases can be in a test.
_SPLITS = {"validate": "val", "test": "test"}


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder and begin the table."""
    write_mark(out / ROOT)
    return {"boxes": Table(out / ROOT / "MS_CXR_Local_Alignment_v1.1.0.csv", COLUMNS)}


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Return the rows of a study, one for each box of each phrase of its report in each frontal image."""
    rows: list[dict[str, object]] = []
    if study.split not in _SPLITS:
        return {"boxes": rows}
    for shot, image in frontal(pictures):
        height, width = image.pixels.shape
        about: dict[str, object] = {
            "dicom_id": shot.dicom_id,
            "path": f"{folder(study)}/{shot.dicom_id}.jpg",
            "image_width": width,
            "image_height": height,
            "split": _SPLITS[study.split],
        }
        for phrase, (category, f) in dict(phrases(report, drawn(study, image))).items():
            row = about | {"category_name": category, "label_text": phrase}
            rows += [row | {"x": x1, "y": y1, "w": x2 - x1, "h": y2 - y1} for x1, y1, x2, y2 in each_side(f, image)]
    return {"boxes": rows}


def phrases(report: Report, findings: tuple[Finding, ...]) -> Iterator[tuple[str, tuple[str, Finding]]]:
    """Yield each sentence that states one of the findings, without its full stop, its category, and the finding.

    Only the first finding of a sentence counts: another one, such as pneumonia, interprets the first.
    """
    for sentence in report.sentences:
        for triplet in sentence.triplets[:1]:
            category, name = _CATEGORIES.get(triplet.finding, ("", ""))
            f = named(findings, name)
            if f is not None and triplet.existence == "present":
                yield sentence.text.rstrip("."), (category, f)
