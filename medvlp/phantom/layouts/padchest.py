"""The raw layout of PadChest."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from medvlp.phantom.files import Table, write
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.reports import Report
from medvlp.phantom.world import FindingName, Shot, Study, stream

ROOT = "padchest"
# The first column is the number of the row.
COLUMNS = (
    "",
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "ViewPosition_DICOM",
    "Projection",
    "MethodProjection",
    "Pediatric",
    "ReportID",
    "Report",
    "MethodLabel",
    "Labels",
)
NAMES: dict[FindingName, str] = {
    "pleural effusion": "pleural effusion",
    "pneumothorax": "pneumothorax",
    "consolidation": "consolidation",
    "atelectasis": "laminar atelectasis",
    "edema": "pulmonary edema",
    "cardiomegaly": "cardiomegaly",
    "nodule": "nodule",
    "endotracheal tube": "endotracheal tube",
    "enteric tube": "NSG tube",
    "central line": "central venous catheter",
    "pacemaker": "pacemaker",
    "sternotomy wires": "sternotomy",
}


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder and begin the table."""
    write_mark(out / ROOT)
    return {"labels": Table(out / ROOT / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", COLUMNS)}


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the images of a study and return their rows."""
    rows: list[dict[str, object]] = []
    rng = stream(study.key, 71)
    method = "Physician" if rng.random() < 0.4 else "RNN_model"
    labels = labels_of(study, rng.random())
    for shot, image in pictures:
        name, number = image_name(shot), shot.key % 3
        _, png = cv2.imencode(".png", wide(image.pixels, shot))
        write(out / ROOT / "images" / str(number) / name, png.tobytes())
        lateral = shot.view == "LATERAL"
        rows.append(
            {
                "": shot.key,
                "ImageID": name,
                "ImageDir": number,
                "StudyDate_DICOM": study.date,
                "StudyID": study.study_id,
                "PatientID": study.subject_id,
                "PatientBirth": study.date // 10_000 - study.body.age,
                "PatientSex_DICOM": "F" if study.body.female else "M",
                "ViewPosition_DICOM": "LATERAL" if lateral else "POSTEROANTERIOR",
                "Projection": "L" if lateral else shot.view,
                "MethodProjection": "Manual review of DICOM fields",
                "Pediatric": "No",
                "ReportID": study.study_id,
                "Report": "sin hallazg patolog .",
                "MethodLabel": method,
                "Labels": labels,
            }
        )
    return {"labels": rows}


def labels_of(study: Study, share: float) -> str:
    """Return the list of labels as the table has it: with a blank before all but the first, and at times useless."""
    if share < 0.03:
        return ""
    names = [NAMES[f.name] for f in study.findings] or ["normal"]
    names += ["suboptimal study"] if share < 0.07 else []
    return str(["exclude"] if share > 0.97 else [names[0], *(f" {name}" for name in names[1:])])


def image_name(shot: Shot) -> str:
    """Return the name of the file of an image."""
    return f"{int(shot.dicom_id.replace('-', '')[:32], 16)}_{shot.key % 1000:03d}.png"


def wide(pixels: npt.NDArray[np.uint8], shot: Shot) -> npt.NDArray[np.uint16]:
    """Return the pixels with 16 bits, of which they use a part."""
    return np.asarray(300 + shot.key % 500 + pixels.astype(np.int32) * 14, np.uint16)
