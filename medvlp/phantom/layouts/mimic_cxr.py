"""The raw layout of MIMIC-CXR-JPG 2.1.0, whose tables have the names of 2.0.0, and MIMIC-CXR's reports."""

from __future__ import annotations

from pathlib import Path

import cv2

from medvlp.phantom.files import Table, write
from medvlp.phantom.images import Image
from medvlp.phantom.labels import chexpert
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.layouts.chest_imagenome import write_graph
from medvlp.phantom.layouts.chexpert import observed
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Shot, Study
from medvlp.prepared import CHEXPERT_LABELS

IMAGES = "mimic-cxr-jpg/2.0.0"
REPORTS = "mimic-cxr-reports"
METADATA = (
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)
SPLIT = ("dicom_id", "study_id", "subject_id", "split")
LABELS = ("subject_id", "study_id", *CHEXPERT_LABELS)
# Names of the labels in the table of radiologists; that of an absence of findings is none of them.
EXPERT = {
    name: "Airspace Opacity" if name == "Lung Opacity" else name for name in CHEXPERT_LABELS if name != "No Finding"
}


def folder(study: Study) -> str:
    """Return the folder of a study relative to the root, such as files/p10/p10000032/s50414267."""
    subject = str(study.subject_id)
    return f"files/p{subject[:2]}/p{subject}/s{study.study_id}"


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder of images and begin the four tables."""
    write_mark(out / IMAGES)
    columns = {"metadata": METADATA, "split": SPLIT, "chexpert": LABELS}
    tables = {name: Table(out / IMAGES / f"mimic-cxr-2.0.0-{name}.csv.gz", header) for name, header in columns.items()}
    expert = Table(out / IMAGES / "mimic-cxr-2.1.0-test-set-labeled.csv", ("study_id", *EXPERT.values()))
    return {**tables, "expert": expert}


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the files of a study, scene graphs too, and return its rows of the four tables."""
    place = folder(study)
    for shot, image in pictures:
        _, jpg = cv2.imencode(".jpg", image.pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
        write(out / IMAGES / place / f"{shot.dicom_id}.jpg", jpg.tobytes())
        write_graph(out, study, shot, image, report)
    write(out / REPORTS / f"{place}.txt", report.text.encode())
    ids: dict[str, object] = {"subject_id": study.subject_id, "study_id": study.study_id}
    return {
        "metadata": [ids | _metadata(study, shot, image) for shot, image in pictures],
        "split": [ids | {"dicom_id": shot.dicom_id, "split": study.split} for shot, _ in pictures],
        "chexpert": [ids | chexpert(report.sentences)],
        "expert": [expert(study, report)] if study.split == "test" and study.key % 2 else [],
    }


def expert(study: Study, report: Report) -> dict[str, object]:
    """Return the row of a radiologist, who labels what the report says, and corrects it by the image."""
    seen, said = observed(study.findings), chexpert(report.sentences)
    values = {column: seen[name] if said[name] or seen[name] == "1.0" else "" for name, column in EXPERT.items()}
    return {"study_id": study.study_id, **values}


def _metadata(study: Study, shot: Shot, image: Image) -> dict[str, object]:
    portable = shot.view == "AP"
    rows, columns = image.pixels.shape
    return {
        "dicom_id": shot.dicom_id,
        "PerformedProcedureStepDescription": "CHEST (PORTABLE AP)" if portable else "CHEST (PA AND LAT)",
        "ViewPosition": shot.view,
        "Rows": rows,
        "Columns": columns,
        "StudyDate": study.date,
        "StudyTime": f"{study.time:06d}.{shot.key % 1000:03d}",
        "ProcedureCodeSequence_CodeMeaning": "CHEST (PORTABLE AP)" if portable else "CHEST (PA AND LAT)",
        "ViewCodeSequence_CodeMeaning": {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral"}[
            shot.view
        ],
        "PatientOrientationCodeSequence_CodeMeaning": "Recumbent" if portable else "Erect",
    }
