"""The raw layout of CANDID-PTX. The drawn tubes and lines stand for chest tubes; the phantom has no fractures."""

from __future__ import annotations

from pathlib import Path

from medvlp.phantom.dicom import dicom, uids
from medvlp.phantom.drawn import frontal
from medvlp.phantom.files import Table, write
from medvlp.phantom.images import Image
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Study
from medvlp.run_lengths import EMPTY, encode

ROOT = "candid-ptx"
IMAGES = "dataset"
REPORTS = ("filename", "SOPInstanceUID", "StudyInstanceUID", "EncodedPixels", "Report")
OBJECTS = ("anon_SOPUID", "annotation_ref", "mask_rle")
_TUBES = ("endotracheal tube", "enteric tube", "central line")


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder and begin the three tables."""
    root = out / ROOT
    write_mark(root)
    return {
        "reports": Table(root / "Pneumothorax_reports.csv", REPORTS),
        "tubes": Table(root / "chest_tube.csv", OBJECTS),
        "fractures": Table(root / "acute_rib_fracture.csv", OBJECTS),
    }


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the frontal images of a study and return their rows: one of the report, and one for each tube or line."""
    rows: dict[str, list[dict[str, object]]] = {"reports": [], "tubes": []}
    text = " ".join(sentence.text for sentence in report.sentences if sentence.section != "other")
    for order, (shot, image) in enumerate(frontal(pictures)):
        number = int(shot.dicom_id.replace("-", "")[:32], 16)
        study_uid, _, name = uids(number)
        # The files have no suffix.
        write(out / ROOT / IMAGES / name, dicom(study, shot, image.pixels, f"{number:032x}", number))
        rows["reports"].append(
            {
                "filename": f"P{study.subject_id}_{study.order}_{order}",
                "SOPInstanceUID": name,
                "StudyInstanceUID": study_uid,
                "EncodedPixels": _code(image, "pneumothorax"),
                "Report": text,
            }
        )
        codes = [(tube, _code(image, tube)) for tube in _TUBES]
        rows["tubes"] += [
            {"anon_SOPUID": name, "annotation_ref": tube, "mask_rle": code} for tube, code in codes if code != EMPTY
        ]
    return rows


def _code(image: Image, name: str) -> str:
    """Return the run-length code of a finding."""
    mask = image.masks.get(name)
    return EMPTY if mask is None else encode(mask)
