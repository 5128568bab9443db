"""CheXpert Plus: the images of CheXpert with their reports.

Chambon et al., CheXpert Plus: Augmenting a Large Chest X-ray Dataset with Text Radiology Reports, Patient Demographics
and Additional Image Formats, 2024, https://arxiv.org/abs/2405.19538. The layout has been described to us, not seen.

Which rows: all 223,462 of the table, one an image; images of a study share its report. Which text: the columns
section_findings and section_impression. Most rows have no Findings (57,805 have two words or more), and nearly all an
Impression (223,292), so either is enough; without both, an image is left out and counted. Which split: that of the
table, train and valid. It has no test: the variant patients sets some apart; the official one has no public reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal

from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.layouts.chexpert_images import find_folders
from medvlp.prepare.layouts.chexpert_reports import TABLE, TEXT, ReportTable, find_files, read_labels
from medvlp.prepare.layouts.chexpert_table import LABELS, draw_5x200, read_rows
from medvlp.prepare.order import number_at_end
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.regions import Regions, RegionSource, finder, region_options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, by_patient, scaled
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import read_table
from medvlp.prepared import Resize

Labels = Literal["impression", "findings", "report", "none"]
HOW = (
    "Download CheXpert Plus from https://stanfordaimi.azurewebsites.net/datasets/5158c524-d3ab-4e02-96e9-6ee9efc110a1 "
    f"(free registration) and give the folder that holds {TABLE}, 'chexbert_labels' and 'PNG' or 'DICOM'; the JPEGs of "
    "CheXpert will do. 'medvlp phantom --layouts chexpert_plus' writes a synthetic stand-in."
)
# Number of images of train and valid, and of those of train in the test split of patients.
TRAIN, VALID, TEST = 223_228, 234, 5_000
RULES = {
    "official": "train is train, valid is validate, as in the table",
    "patients": "as official, but whole patients with 5,000 of 223,228 images of train, by sha256 of them, are test",
    "5x200": "the images of CheXpert 5x200 are test; train and validate are the official ones without their patients",
}


def chexpert_plus(
    root: Path,
    out: Path,
    images: Path | None = None,
    labels: Labels = "impression",
    train_csv: Path | None = None,
    regions: Regions = "automatic",
    size: int = 256,
    resize: Resize = "pad",
    views: str = "FRONTAL",
    min_words: int = 3,
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare CheXpert Plus: images, reports, labels and anatomical regions.

    The same command resumes an interrupted run.

    Args:
        root: Folder with df_chexpert_plus_240401.csv or another version, and 'chexbert_labels'.
        out: Folder to write, the --data.root of training.
        images: Folder of the images, of PNG or DICOM, or of CheXpert with its JPEGs; by default root.
        labels: Section whose labels by CheXbert to use, or none.
        train_csv: train.csv of CheXpert, for the split variant 5x200, which is not there without it.
        regions: Find the anatomical regions in frontal images, or none.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        views: FRONTAL, LATERAL, or both separated by a comma.
        min_words: Least number of words in a report, counted as by MGCA.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    data = CheXpertPlus(root, images, labels, train_csv, finder(regions))
    prepare(data, out, Options(size, resize, parse_views(views), min_words, leave_out=parse_flags(leave_out)), workers)


class CheXpertPlus(DataSet):
    """The files of CheXpert Plus. Images and patients are named as in CheXpert."""

    documented = TRAIN + VALID

    def __init__(
        self, root: Path, images: Path | None, labels: Labels, train_csv: Path | None, regions: RegionSource | None
    ) -> None:
        """Find all files; see `chexpert_plus`. Raises NotFoundError if a file or folder is missing."""
        self.table, self.label_file = find_files(root, labels, train_csv, HOW)
        self.images, self.train_csv, self.regions = images or root, train_csv, regions
        self.folders = find_folders(self.images, ["train", "valid"], HOW, "images" if images else "root")
        self.real_images = self.folders.real_folders
        self.splits = {name: SplitVariant(rule) for name, rule in RULES.items() if train_csv or name != "5x200"}
        self.labels = [] if labels == "none" else LABELS
        settings = {"table": self.table.name.removesuffix(".gz"), "labels": labels, "text": TEXT}
        self.options = identity("chexpert_plus", root, **settings, images=self.folders.suffix) | region_options(regions)

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies in the order of the table."""
        table = ReportTable(self, self.table, skip)
        values = read_labels(self.label_file, skip) if self.labels else {}
        patients = {image: study.patient for study in table for image, _ in study.images if study.split == "train"}
        apart = by_patient(patients, scaled(TEST, TRAIN, len(patients)), "chexpert_plus")
        drawn = draw_5x200([*read_rows(read_table, self.train_csv, set(), skip)]) if self.train_csv else set()
        of_drawn = {image.split("/")[1] for image in drawn}
        for study in table:
            alone = "" if study.patient in of_drawn else study.split
            # Images of one study can be in different splits of 5x200.
            for is_drawn, images in groupby(study.images, lambda image: image[0] in drawn):
                pictures = [Picture(name, view, self.folders.path_of(name)) for name, view in images]
                first = pictures[0].image_id
                labels = values.get(first, [None] * len(self.labels))
                other = {"patients": "test" if first in apart else study.split, "5x200": "test" if is_drawn else alone}
                report, order = partial(table.read, study), number_at_end(study.name)
                yield Study(study.name, study.patient, study.split, pictures, labels, report, other, order)
