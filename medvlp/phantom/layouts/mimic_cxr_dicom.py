"""The raw layout of MIMIC-CXR 2.1.0: DICOM files and reports in one tree, and the lists of both."""

from __future__ import annotations

from pathlib import Path

from medvlp.phantom.dicom import dicom
from medvlp.phantom.files import Table, write
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.layouts.mimic_cxr import folder
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Study

ROOT = "mimic-cxr/2.1.0"


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder and begin the two lists."""
    write_mark(out / ROOT)
    ids = ("subject_id", "study_id")
    return {
        "records": Table(out / ROOT / "cxr-record-list.csv.gz", (*ids, "dicom_id", "path")),
        "studies": Table(out / ROOT / "cxr-study-list.csv.gz", (*ids, "path")),
    }


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the images and the report of a study, and return its rows."""
    place = folder(study)
    ids: dict[str, object] = {"subject_id": study.subject_id, "study_id": study.study_id}
    records = []
    for shot, image in pictures:
        path = f"{place}/{shot.dicom_id}.dcm"
        number = int(shot.dicom_id.replace("-", "")[:32], 16)
        write(out / ROOT / path, dicom(study, shot, image.pixels, str(study.subject_id), number))
        records.append({**ids, "dicom_id": shot.dicom_id, "path": path})
    write(out / ROOT / f"{place}.txt", report.text.encode())
    return {"records": records, "studies": [{**ids, "path": f"{place}.txt"}]}
