"""The raw layout of PadChest-GR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2

from medvlp.phantom.drawn import drawn, each_side, frontal
from medvlp.phantom.files import Listing, Table, write
from medvlp.phantom.images import Image
from medvlp.phantom.json_files import JsonList
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.layouts.ms_cxr import phrases
from medvlp.phantom.layouts.padchest import NAMES, image_name, wide
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Finding, FindingName, Study

ROOT = "padchest-gr"
COLUMNS = (
    "StudyID",
    "ImageID",
    "label",
    "boxes_count",
    "extra_boxes_count",
    "sentence_en",
    "sentence_es",
    "study_is_benchmark",
    "split",
    "PatientID",
)
SPANISH: dict[FindingName, str] = {
    "pleural effusion": "Derrame pleural",
    "pneumothorax": "Neumot\u00f3rax",
    "consolidation": "Consolidaci\u00f3n",
    "atelectasis": "Atelectasia laminar",
    "edema": "Edema pulmonar",
    "cardiomegaly": "Cardiomegalia",
    "nodule": "N\u00f3dulo",
}
SIDES = {"right": " derecho", "left": " izquierdo", "bilateral": " bilateral", None: ""}
NORMAL = ("The study shows no other findings", "El estudio no muestra otros hallazgos")
SPLITS = {"train": "train", "validate": "validation", "test": "test"}


def begin(out: Path) -> dict[str, Listing]:
    """Mark the folder and begin the file of sentences and the table."""
    write_mark(out / ROOT)
    return {
        "reports": JsonList(out / ROOT / "grounded_reports_20240819.json"),
        "table": Table(out / ROOT / "master_table.csv", COLUMNS),
    }


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the first frontal image of a study, and return its entry and the rows of its sentences."""
    (shot, image), *_ = frontal(pictures)
    _, png = cv2.imencode(".png", wide(image.pixels, shot))
    write(out / ROOT / "PadChest_GR" / image_name(shot), png.tobytes())
    found = dict(phrases(report, drawn(study, image)))
    findings = [finding(phrase, f, image) for phrase, (_, f) in found.items()]
    findings.append({"sentence_en": f"{NORMAL[0]}.", "sentence_es": f"{NORMAL[1]}.", "abnormal": False})
    ids: dict[str, object] = {"StudyID": str(study.study_id), "ImageID": image_name(shot)}
    rows = [
        {
            **ids,
            "label": ", ".join(map(str, item.get("labels", ["Normal"]))),
            "boxes_count": len(item.get("boxes", [])),
            "extra_boxes_count": 0,
            "sentence_en": item["sentence_en"],
            "sentence_es": item["sentence_es"],
            "study_is_benchmark": True,
            "split": SPLITS[study.split],
            "PatientID": study.subject_id,
        }
        for item in findings
    ]
    entry = {**ids, "PreviousStudyID": None, "PreviousImageID": None, "findings": findings}
    return {"reports": [entry], "table": rows}


def finding(phrase: str, f: Finding, image: Image) -> dict[str, Any]:
    """Return the finding of a sentence: both languages, labels, and boxes as shares of the image."""
    height, width = image.pixels.shape
    boxes = [[x1 / width, y1 / height, x2 / width, y2 / height] for x1, y1, x2, y2 in each_side(f, image)]
    return {
        "sentence_en": f"{phrase}.",
        "sentence_es": f"{SPANISH[f.name]}{SIDES[f.side]}.",
        "abnormal": True,
        "boxes": boxes,
        "extra_boxes": [],
        "labels": [NAMES[f.name]],
        "locations": [],
        "progression": None,
    }
