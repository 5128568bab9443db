"""CheXlocalize: CheXpert's validation and official test set, with masks by radiologists of ten findings.

Saporta et al., Benchmarking saliency methods for chest X-ray interpretation, Nature Machine Intelligence 4, 2022,
https://doi.org/10.1038/s42256-022-00536-x. The authors' sample has been seen, valid.csv and gt_segmentations_val.json;
val_labels.csv and test_labels.csv were described to us. Contours, points and the other radiologists are not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from medvlp.errors import UserError, suggestion
from medvlp.prepare.annotations.coco_masks import CocoMasks
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.entries import read_entries
from medvlp.prepare.files import missing, require_folder
from medvlp.prepare.layouts.chexpert_images import patient_folders
from medvlp.prepare.layouts.chexpert_table import LABELS, OTHER_NAME, first_frontal, read_rows
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import find_table, require_table
from medvlp.prepared import Resize

HOW = (
    "Download the folders 'CheXpert' and 'CheXlocalize' of https://stanfordaimi.azurewebsites.net/datasets/"
    "23c56a0d-15de-405b-87c8-99c30138950c (free registration) and give the folder that holds both. "
    "'medvlp phantom --layouts chexlocalize' writes a synthetic stand-in."
)
# Findings with masks.
OUTLINED = [name for name in LABELS if name not in ("Fracture", "No Finding", "Pleural Other", "Pneumonia")]
WORDS = {**{name: name for name in OUTLINED}, OTHER_NAME: "Lung Opacity"}
SPLITS: Mapping[str, SplitVariant] = {
    "official": SplitVariant(
        "the 200 patients of CheXpert's validation set are validate, the 500 of its test set are test",
        {"train": 0, "validate": 202, "test": 518},
    ),
    "studies": SplitVariant(
        "as official, but the first frontal image of each study alone is test: one a patient",
        {"train": 0, "validate": 202, "test": 500},
    ),
}


def chexlocalize(
    root: Path,
    out: Path,
    finding: str | None = None,
    size: int = 256,
    resize: Resize = "pad",
    views: str = "FRONTAL",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare CheXlocalize: CheXpert's validation and test images, labels, boxes and masks.

    The same command resumes an interrupted run.

    Args:
        root: Folder with 'CheXpert' (val_labels.csv, test_labels.csv, 'val' and 'test') and 'CheXlocalize'
            (gt_segmentations_val.json and gt_segmentations_test.json).
        out: Folder to write, the --data.root of training.
        finding: Finding whose pixels the masks are, such as 'Pleural Effusion'. By default those of all ten together.
            Boxes are of all ten in either case.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        views: FRONTAL, LATERAL, or both separated by a comma.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    data = CheXlocalize(root, finding)
    prepare(data, out, Options(size, resize, parse_views(views), leave_out=parse_flags(leave_out)), workers)


class CheXlocalize(DataSet):
    """The files of CheXlocalize. Images and patients are named as in CheXpert."""

    labels = LABELS
    splits = SPLITS
    documented = 234 + 668

    def __init__(self, root: Path, finding: str | None) -> None:
        """Find all files; raises UserError if one is missing, or there are no masks of this finding."""
        if finding not in (None, *OUTLINED):
            known = suggestion(str(finding), OUTLINED) or f" There are: {', '.join(OUTLINED)}."
            raise UserError(f"--finding='{finding}' has no masks.{known}")
        self.images = root
        labelled = require_folder(root, ["CheXpert", "CheXpert-v1.0"], HOW)
        drawn = require_folder(root, ["CheXlocalize"], HOW)
        valid = "valid" if find_table(labelled, "valid") else "val_labels"
        tables = {"validate": valid, "test": "test_labels"}
        self.tables = {split: require_table(labelled, name, HOW) for split, name in tables.items()}
        self.masks = {"validate": drawn / "gt_segmentations_val.json", "test": drawn / "gt_segmentations_test.json"}
        for path in self.masks.values():
            if not path.is_file():
                raise missing(drawn, f"no {path.name}", HOW)
        self.folders = patient_folders(root, {"valid": ["*/val", "*/valid"], "test": ["*/test"]})
        self.real_images = self.folders.real_folders
        self.annotations = CocoMasks(WORDS, finding)
        self.options = identity("chexlocalize", root, finding=finding or "all")

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, in the order of the tables, those of validate first."""
        ids: set[str] = set()
        for split, table in self.tables.items():
            masks = dict(read_entries(self.masks[split]))
            for row, is_first in first_frontal(read_rows(self.counted_rows, table, ids, skip, view_column=False)):
                code = masks.pop(row.image_id.partition("/")[2].rpartition(".")[0].replace("/", "_"), None)
                # Only images with one of the findings have masks: without it, no mask means that there is nothing.
                positive = any(row.values[LABELS.index(name)] == 1 for name in OUTLINED)
                annotation = None if code is None and positive else json.dumps(code or {})
                picture = Picture(row.image_id, row.view, self.folders.path_of(row.image_id), annotation=annotation)
                other = {"studies": split if is_first or split != "test" else ""}
                yield Study(row.study, row.patient, split, [picture], row.values, other_splits=other)
            for name in masks:
                skip(f"{self.masks[split].name}:{name}", "masks of an unknown image")
