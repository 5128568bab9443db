"""The raw layout of CheXpert Plus, with images of PNG."""

from __future__ import annotations

from pathlib import Path

import cv2

from medvlp.phantom.files import Listing, Table, write
from medvlp.phantom.json_files import JsonLines
from medvlp.phantom.labels import chexpert
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Study, stream

ROOT = "chexpert_plus"
COLUMNS = (
    "path_to_image",
    "path_to_dcm",
    "frontal_lateral",
    "ap_pa",
    "deid_patient_id",
    "patient_report_date_order",
    "report",
    "section_findings",
    "section_impression",
    "age",
    "sex",
    "split",
)
# Share of the reports that have Findings; in the original about a quarter.
_WITH_FINDINGS = 0.3


def begin(out: Path) -> dict[str, Listing]:
    """Mark the folder and begin the table and the labels."""
    write_mark(out / ROOT)
    return {
        "table": Table(out / ROOT / "df_chexpert_plus_240401.csv", COLUMNS),
        "labels": JsonLines(out / ROOT / "chexbert_labels" / "impression_fixed.json"),
    }


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the images of a study and return its rows; patients and images are named as in the layout of CheXpert."""
    folder = "valid" if study.split == "test" else "train"
    has_findings = stream(study.key, 71).random() < _WITH_FINDINGS
    findings, impression = (_section(report, name) for name in ("findings", "impression"))
    # A report without Impression keeps its Findings.
    findings = findings if has_findings or not impression else ""
    values = {name: float(value) if value else None for name, value in chexpert(report.sentences).items()}
    rows: list[dict[str, object]] = []
    labels: list[dict[str, object]] = []
    for number, (shot, image) in enumerate(pictures, 1):
        view = "Lateral" if shot.view == "LATERAL" else "Frontal"
        place = f"{folder}/patient{study.subject_id}/study{study.order}/view{number}_{view.lower()}"
        _, png = cv2.imencode(".png", image.pixels)
        write(out / ROOT / "PNG" / "PNG" / f"{place}.png", png.tobytes())
        fields = (
            f"{place}.jpg",
            f"{place}.dcm",
            view,
            "" if view == "Lateral" else shot.view,
            f"patient{study.subject_id}",
            study.order,
            " ".join(report.text.split()),
            findings,
            impression,
            study.body.age,
            "Female" if study.body.female else "Male",
            folder,
        )
        rows.append(dict(zip(COLUMNS, fields, strict=True)))
        labels.append({"path_to_image": f"{place}.jpg", **values})
    return {"table": rows, "labels": labels}


def _section(report: Report, name: str) -> str:
    return " ".join(sentence.text for sentence in report.sentences if sentence.section == name)
