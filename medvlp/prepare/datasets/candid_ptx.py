"""CANDID-PTX: chest radiographs with reports, and masks of pneumothoraces, chest tubes and acute rib fractures.

Feng et al., Curation of the CANDID-PTX Dataset with Free-Text Reports, Radiology: Artificial Intelligence 3(6), 2021,
https://doi.org/10.1148/ryai.2021210136. The annotators looked at every image for all three. The layout is known from
public code that reads it: run-length codes as in SIIM-ACR, of 1,024 x 1,024 pixels, one a row; -1 for none. No file of
it was seen, and the names of the image folder and of the table of fractures differ between the sources.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from medvlp.prepare.annotations import annotated_side
from medvlp.prepare.annotations.named_masks import NamedMasks
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import find_images, real_paths, require_folder
from medvlp.prepare.layouts.candid_tables import LABELS, Tables
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.regions import Regions, RegionSource, finder, region_options
from medvlp.prepare.reports import read_report
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, hash_rule, hash_split
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.words import read_text
from medvlp.prepared import Resize

HOW = (
    "Ask for CANDID-PTX as https://doi.org/10.1148/ryai.2021210136 describes, and give the folder that holds "
    "Pneumothorax_reports.csv, chest_tube.csv, acute_rib_fracture.csv and the folder of images, 'dataset'. "
    "'medvlp phantom --layouts candid_ptx' writes a synthetic stand-in."
)
FOLDERS = ("dataset", "dataset1/dataset", "dataset1", "chest_radiographs", "images")


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
    data = CandidPtx(root, annotation_size, finder(regions))
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
        self.tables = Tables(root, HOW)
        self.folder = require_folder(root, FOLDERS, HOW)
        self.images = root
        self.real_images = real_paths(root, self.folder)
        self.splits = {"hash": SplitVariant(hash_rule("patient"))}
        self.regions = regions
        self.annotations = NamedMasks(annotated_side(annotation_size))
        self.options = identity("candid_ptx", root, annotation_size=annotation_size) | region_options(regions)

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies in the order of the table of reports."""
        content = self.tables.read(skip)
        images, *others = content.codes.values()
        self.rows = len(images)
        paths = find_images(self.images, self.folder)
        for study, uids in content.studies().items():
            first = content.facts[uids[0]]
            report = partial(replace, read_report({"impression": read_text(first.report)}))
            for uid in uids:
                objects = content.codes_of(uid)
                # The expected name of a file that is not there is reported as missing.
                path = paths.get(uid, f"{self.folder.relative_to(self.images)}/{uid}")
                picture = Picture(uid, "FRONTAL", path, annotation=NamedMasks.write(objects))
                labels: list[int | None] = [int(bool(of_label)) for of_label in objects.values()]
                # The labels are those of an image: each is yielded alone.
                yield Study(study, first.patient, hash_split(first.patient), [picture], labels, report=report)
        for uid in dict.fromkeys(itertools.chain(paths, *others)):
            if uid not in images:
                skip(uid, "not in the table of reports")
