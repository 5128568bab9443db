"""CANDID-PTX: chest radiographs with reports, and masks of pneumothoraces, chest tubes and acute rib fractures.

Feng et al., Curation of the CANDID-PTX Dataset with Free-Text Reports, Radiology: Artificial Intelligence 3(6), 2021,
https://doi.org/10.1148/ryai.2021210136. The annotators looked at every image for all three. The layout is known from
public code that reads it: run-length codes as in SIIM-ACR, of 1,024 x 1,024 pixels, one a row; -1 for none. No file of
it was seen, and the names of the image folder and of the table of fractures differ between the sources.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from medvlp.errors import UserError
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.files import find_images, require_folder
from medvlp.prepare.named_masks import NamedMasks, read_code, read_codes
from medvlp.prepare.objects import CONTRADICTION, group_objects
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.regions import Automatic, Regions, RegionSource
from medvlp.prepare.reports import read_report
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import TRAIN, VALIDATE, SplitVariant, hash_split
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import find_table, present_columns, read_table, require_table
from medvlp.prepare.words import read_text
from medvlp.prepared import SYNTHETIC, Resize

HOW = (
    "Ask for CANDID-PTX as https://doi.org/10.1148/ryai.2021210136 describes, and give the folder that holds "
    "Pneumothorax_reports.csv, chest_tube.csv, acute_rib_fracture.csv and the folder of images, 'dataset'. "
    "'medvlp phantom --layouts candid_ptx' writes a synthetic stand-in."
)
FOLDERS = ("dataset", "dataset1/dataset", "dataset1", "chest_radiographs", "images")
REPORTS = "Pneumothorax_reports"
# Columns of it that some copies may lack.
EXTRA = ("StudyInstanceUID", "filename")
# Names of the table of each other label.
TABLES = {"Chest Tube": ("chest_tube",), "Rib Fracture": ("acute_rib_fracture", "Rib_fracture_mask_rle")}
LABELS = ("Pneumothorax", *TABLES)


class Facts(NamedTuple):
    """The facts about an image beside its objects."""

    report: str
    study: str
    patient: str


def candid_ptx(
    root: Path,
    out: Path,
    annotation_size: int | None = None,
    regions: Regions = "automatic",
    size: int = 256,
    resize: Resize = "pad",
    min_words: int = 3,
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare CANDID-PTX: images, reports, labels, boxes, and masks of pneumothoraces.

    The same command resumes an interrupted run.

    Args:
        root: Folder with Pneumothorax_reports.csv, chest_tube.csv, acute_rib_fracture.csv and the images in 'dataset',
            of DICOM, png or jpg.
        out: Folder to write, the --data.root of training.
        annotation_size: Side of the annotated images in pixels, if the images in root have another size; 1024 for the
            original ones.
        regions: Find the anatomical regions, or none.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        min_words: Least number of words in a report, counted as by MGCA.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    data = CandidPtx(root, annotation_size, Automatic() if regions == "automatic" else None)
    prepare(data, out, Options(size, resize, ["FRONTAL"], min_words, leave_out=parse_flags(leave_out)), workers)


class CandidPtx(DataSet):
    """The files of CANDID-PTX."""

    documented = 19_237
    labels = LABELS

    def __init__(self, root: Path, annotation_size: int | None, regions: RegionSource | None) -> None:
        """Find all files.

        Args:
            root: Folder of the data set.
            annotation_size: Side in pixels of the annotated images; None for the size of the images in root.
            regions: Finder of the anatomical boxes; None if the preparation needs none.

        Raises:
            NotFoundError: If a table or the image folder is missing.
            UserError: If annotation_size is below 1.
        """
        if annotation_size is not None and annotation_size < 1:
            raise UserError(f"--annotation_size={annotation_size} must be at least 1.")
        self.reports = require_table(root, REPORTS, HOW)
        self.objects = {}
        for label, names in TABLES.items():
            name = next((name for name in names if find_table(root, name)), names[0])
            self.objects[label] = require_table(root, name, HOW)
        self.folder = require_folder(root, FOLDERS, HOW)
        self.images = root
        self.real_images = [os.path.realpath(path) for path in (root, self.folder)]
        self.splits = {"hash": SplitVariant(f"{TRAIN:.0%} train, {VALIDATE:.0%} validate by sha256 of the patient")}
        self.regions = regions
        self.annotations = NamedMasks(annotation_size)
        self.options = {
            "dataset": "candid_ptx",
            "annotation_size": annotation_size,
            "synthetic": (root / SYNTHETIC).is_file(),
            "regions": regions.name if regions else "none",
        }

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies in the order of the table of reports."""
        facts: dict[str, Facts] = {}
        codes = {LABELS[0]: group_objects(self._read_reports(facts, skip), read_code, skip)}
        codes |= {label: read_codes(table, skip) for label, table in self.objects.items()}
        images = codes[LABELS[0]]
        self.rows = len(images)
        studies: dict[str, list[str]] = {}
        for uid in images:
            if all(of_label.get(uid, []) is not None for of_label in codes.values()):
                # Images of a study with different reports are studies of their own.
                study = facts[uid].study
                alike = study and facts[studies.get(study, [uid])[0]].report == facts[uid].report
                studies.setdefault(study if alike else uid, []).append(uid)
        paths = find_images(self.images, self.folder)
        for study, uids in studies.items():
            first = facts[uids[0]]
            report = partial(replace, read_report({"impression": read_text(first.report)}))
            for uid in uids:
                objects = {label: of_label.get(uid) or [] for label, of_label in codes.items()}
                # The expected name of a file that is not there is reported as missing.
                path = paths.get(uid, f"{self.folder.relative_to(self.images)}/{uid}")
                picture = Picture(uid, "FRONTAL", path, annotation=NamedMasks.write(objects))
                labels: list[int | None] = [int(bool(of_label)) for of_label in objects.values()]
                # The labels are those of an image: each is yielded alone.
                yield Study(study, first.patient, hash_split(first.patient), [picture], labels, report=report)
        for uid in dict.fromkeys(itertools.chain(paths, *codes.values())):
            if uid not in images:
                skip(uid, "not in the table of reports")

    def _read_reports(self, facts: dict[str, Facts], skip: Skip) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield image, code and fault of each row. `facts` gets the facts of each image."""
        extra = present_columns(self.reports, EXTRA)
        columns = ["SOPInstanceUID", "EncodedPixels", "Report", *extra]
        for place, (uid, code, report, *more) in read_table(self.reports, columns, skip):
            fields = dict(zip(extra, more, strict=True))
            # Files are named by their patient, P000001_... Without this column each image counts as one.
            patient = fields.get("filename", "").partition("_")[0] or uid
            fact = Facts(report, fields.get("StudyInstanceUID", ""), patient)
            same = facts.setdefault(uid, fact) == fact
            yield place, (uid, code, "" if same else CONTRADICTION)
