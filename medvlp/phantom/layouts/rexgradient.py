"""The raw layout of ReXGradient-160K, unpacked."""

from __future__ import annotations

from pathlib import Path

import cv2

from medvlp.phantom.dicom import uids
from medvlp.phantom.files import write
from medvlp.phantom.json_files import JsonObject
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Study, stream

ROOT = "rexgradient"
IMAGES = "deid_png"
_FILES = {"train": "train", "validate": "valid", "test": "test"}
# Spellings of a view, the first one being as common as all others together.
_VIEWS = {
    "PA": ("PA", "POSTERO_ANTERIOR"),
    "AP": ("AP", "ANTERO_POSTERIOR"),
    "LATERAL": ("LATERAL", "LL"),
}
_NO_VIEW, _NO_COMPARISON = 0.02, 0.5


def begin(out: Path) -> dict[str, JsonObject]:
    """Mark the folder and begin the three files of metadata."""
    write_mark(out / ROOT)
    return {
        split: JsonObject(out / ROOT / "metadata" / f"{name}_metadata_view_position.json")
        for split, name in _FILES.items()
    }


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the images of a study and return its entry."""
    rng = stream(study.key, 71)
    patient, accession = (
        f"GRDN{int(stream(key, 79).integers(1 << 40)):012X}" for key in (study.subject_id, study.study_id)
    )
    paths, views = [], []
    for shot, image in pictures:
        study_uid, series_uid, image_uid = uids(int(shot.dicom_id.replace("-", "")[:32], 16))
        place = f"{IMAGES}/{patient}/{accession}/studies/{study_uid}/series/{series_uid}/instances/{image_uid}.png"
        _, png = cv2.imencode(".png", image.pixels)
        write(out / ROOT / place, png.tobytes())
        paths.append(f"../{place}")
        views.append(None if rng.random() < _NO_VIEW else _VIEWS[shot.view][int(rng.random() < 0.5)])
    texts = {
        name: " ".join(sentence.text for sentence in report.sentences if sentence.section == name.lower()) or "None"
        for name in ("Findings", "Impression")
    }
    entry = {
        "PatientID": patient,
        "AccessionNumber": accession,
        "PatientSex": "F" if study.body.female else "M",
        "PatientAge": f"{study.body.age:03d}Y",
        "StudyDate": study.date,
        "Indication": "Cough.",
        "Comparison": "None" if rng.random() < _NO_COMPARISON else "Prior radiograph.",
        **texts,
        "ImagePath": paths,
        "ImageViewPosition": views,
        "ImageShape": [list(image.pixels.shape) for _, image in pictures],
        "ImageModality": ["DX"] * len(paths),
        "ImageBodyPart": ["CHEST"] * len(paths),
    }
    return {study.split: [{f"{patient}_{accession}": entry}]}
