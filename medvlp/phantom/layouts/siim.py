"""The raw layout of the SIIM-ACR Pneumothorax Segmentation challenge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from medvlp.phantom.dicom import dicom, uids
from medvlp.phantom.drawn import frontal
from medvlp.phantom.files import Table, write
from medvlp.phantom.layouts import Pictures, Rows, write_mark
from medvlp.phantom.reports import Report
from medvlp.phantom.world import Study, stream
from medvlp.run_lengths import EMPTY, encode

ROOT = "siim"
# The folders of stage 1. The table is a later one, with both.
IMAGES, TEST_IMAGES = "dicom-images-train", "dicom-images-test"
# The blank is in the original.
COLUMNS = ("ImageId", " EncodedPixels")
_IN_TWO = 0.25


def begin(out: Path) -> dict[str, Table]:
    """Mark the folder and begin the table."""
    write_mark(out / ROOT)
    return {"rle": Table(out / ROOT / "train-rle.csv", COLUMNS)}


def write_study(out: Path, study: Study, pictures: Pictures, report: Report) -> Rows:
    """Write the frontal images of a study and return their rows: one for each outlined part."""
    rows: list[dict[str, object]] = []
    for shot, image in frontal(pictures):
        number = int(shot.dicom_id.replace("-", "")[:32], 16)
        study_uid, series_uid, name = uids(number)
        data = dicom(study, shot, image.pixels, f"{number:032x}", number)
        folder = TEST_IMAGES if study.split == "test" else IMAGES
        write(out / ROOT / folder / study_uid / series_uid / f"{name}.dcm", data)
        mask = image.masks.get("pneumothorax", np.zeros(image.pixels.shape, bool))
        parts = _halves(mask) if stream(shot.key, 67).random() < _IN_TWO else [mask]
        texts = [encode(part) for part in parts if part.any()] or [EMPTY]
        rows += [{"ImageId": name, " EncodedPixels": text} for text in texts]
    return {"rle": rows}


def _halves(mask: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """Return the parts of a mask above and below the middle of its rows."""
    filled = np.flatnonzero(mask.any(axis=1))
    upper = np.arange(len(mask))[:, None] < (filled.mean() if len(filled) else 0)
    return [mask & upper, mask & ~upper]
