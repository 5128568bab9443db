"""The truth about a study: drawn findings, triplets, boxes and masks, in a folder that training never reads."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from medvlp.phantom.drawn import bounds
from medvlp.phantom.files import write
from medvlp.phantom.images import Image
from medvlp.phantom.labels import chexpert
from medvlp.phantom.layouts.mimic_cxr import folder
from medvlp.phantom.reports import Report
from medvlp.phantom.world import FINDINGS, Shot, Study

TRUTH = "truth"
# Bit i of a pixel of a mask file is set if the pixel belongs to structure i.
BITS: tuple[str, ...] = ("right lung", "left lung", "lungs", "heart", *FINDINGS)


def write_masks(out: Path, study: Study, shot: Shot, image: Image) -> None:
    """Write the masks of an image as one 16-bit PNG."""
    bits = np.zeros(image.pixels.shape, np.uint16)
    for name, mask in image.masks.items():
        bits |= mask.astype(np.uint16) << BITS.index(name)
    _, png = cv2.imencode(".png", bits)
    write(out / TRUTH / "masks" / folder(study) / f"{shot.dicom_id}.png", png.tobytes())


def read_mask(path: Path, name: str) -> npt.NDArray[np.bool_]:
    """Return one structure of a mask file as a boolean array (rows, columns)."""
    bits = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    return np.asarray((bits >> BITS.index(name)) & 1, bool)


def image_line(study: Study, shot: Shot, image: Image) -> str:
    """Return the line of an image in images.jsonl: its findings, boxes and regions."""
    rows, columns = image.pixels.shape
    findings = []
    for f in study.findings:
        # A lateral view hides many findings, and collimation some.
        mask = image.masks.get(f.name)
        box = None if mask is None else bounds(mask)
        findings.append({**asdict(f), "drawn": box is not None, "box": box})
    record = {
        "dicom_id": shot.dicom_id,
        "study_id": study.study_id,
        "subject_id": study.subject_id,
        "split": study.split,
        "view": shot.view,
        "rows": rows,
        "columns": columns,
        "heart_ratio": None if image.heart_ratio is None else round(image.heart_ratio, 4),
        "findings": findings,
        "labels": {name: any(f["name"] == name and f["drawn"] for f in findings) for name in FINDINGS},
        "regions": image.regions,
    }
    return json.dumps(record)


def report_line(study: Study, report: Report) -> str:
    """Return the line of a study in reports.jsonl: the sentences of its report with their triplets."""
    drawn = {f.name for f in study.findings}
    sentences: list[dict[str, Any]] = [
        {
            "section": s.section,
            "start": s.start,
            "end": s.end,
            "sentence": s.text,
            "triplets": [asdict(t) | {"drawn": t.finding in drawn} for t in s.triplets],
        }
        for s in report.sentences
    ]
    record = {
        "study_id": study.study_id,
        "subject_id": study.subject_id,
        "order": study.order,
        "findings": [asdict(f) for f in study.findings],
        "chexpert": {name: float(v) for name, v in chexpert(report.sentences).items() if v},
        "sentences": sentences,
    }
    return json.dumps(record)
