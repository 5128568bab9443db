"""Open-I (Indiana University chest X-rays) in the csv layout of Kaggle.

Demner-Fushman et al., Preparing a collection of radiology examinations for distribution and retrieval, Journal of the
American Medical Informatics Association 23(2), 2016.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from medvlp.errors import NotFoundError
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.files import require_folder
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.regions import Automatic, Regions, RegionSource
from medvlp.prepare.reports import read_report
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SPLITS, SplitVariant
from medvlp.prepare.study import Picture, Report, Skip, Study
from medvlp.prepare.tables import read_table, require_table
from medvlp.prepared import Resize

HOW = (
    "Open-I's csv layout has indiana_reports.csv, indiana_projections.csv and a folder of images; it is, for example, "
    "'raddar/chest-xrays-indiana-university' on Kaggle."
)
# Shares of the default split: of a few thousand studies the test set needs a fifth.
TRAIN, VALIDATE = 0.7, 0.1

# Headings of the human coding (column Problems) for each label. CheXpert's spelling, else that of NIH ChestX-ray14.
LABELS: dict[str, frozenset[str]] = {
    "Atelectasis": frozenset({"Pulmonary Atelectasis"}),
    "Calcified Granuloma": frozenset({"Calcified Granuloma"}),
    "Cardiomegaly": frozenset({"Cardiomegaly"}),
    "Consolidation": frozenset({"Consolidation"}),
    "Edema": frozenset({"Pulmonary Edema"}),
    "Emphysema": frozenset({"Emphysema", "Pulmonary Emphysema", "Bullous Emphysema"}),
    "Fibrosis": frozenset({"Fibrosis", "Pulmonary Fibrosis"}),
    "Fracture": frozenset({"Fractures, Bone"}),
    "Hernia": frozenset({"Hernia, Hiatal", "Hernia, Diaphragmatic"}),
    "Infiltration": frozenset({"Infiltrate"}),
    "Lung Opacity": frozenset({"Opacity", "Airspace Disease", "Infiltrate", "Consolidation"}),
    "Mass": frozenset({"Mass"}),
    "No Finding": frozenset({"normal"}),
    "Nodule": frozenset({"Nodule"}),
    "Pleural Effusion": frozenset({"Pleural Effusion", "Hydropneumothorax"}),
    "Pleural Thickening": frozenset({"Thickening/pleura"}),
    "Pneumonia": frozenset({"Pneumonia"}),
    "Pneumothorax": frozenset({"Pneumothorax", "Hydropneumothorax"}),
    "Support Devices": frozenset(
        {"Catheters, Indwelling", "Implanted Medical Device", "Medical Device", "Stents", "Tube, Inserted"}
    ),
}
UNCODED = "No Indexing"


def open_i(
    root: Path,
    out: Path,
    split_file: Path | None = None,
    regions: Regions = "automatic",
    size: int = 256,
    resize: Resize = "pad",
    views: str = "FRONTAL",
    min_words: int = 3,
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare Open-I (Indiana University): images, reports and human labels.

    The same command resumes an interrupted run.

    Args:
        root: Folder with indiana_reports.csv, indiana_projections.csv and the images.
        out: Folder to write, the --data.root of training.
        split_file: csv with the columns uid and split (train, validate or test). Without it, studies are split
            70 : 10 : 20 by a hash of their uid.
        regions: Find the anatomical regions in frontal images, or none.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        views: FRONTAL, LATERAL, or both separated by a comma.
        min_words: Least number of words in a report, counted as by MGCA.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    data = OpenI(root, split_file, Automatic() if regions == "automatic" else None)
    prepare(data, out, Options(size, resize, parse_views(views), min_words, leave_out=parse_flags(leave_out)), workers)


class OpenI(DataSet):
    """The files of Open-I."""

    def __init__(self, root: Path, split_file: Path | None, regions: RegionSource | None) -> None:
        """Find all files.

        Args:
            root: Folder of the data set.
            split_file: csv with a split for each uid, or None for the split by hash.
            regions: Finder of the anatomical boxes; None if the preparation needs none.

        Raises:
            NotFoundError: If a file or folder is missing.
        """
        self.reports = require_table(root, "indiana_reports", HOW)
        self.projections = require_table(root, "indiana_projections", HOW)
        self.images = require_folder(root, ["images/images_normalized", "images"], HOW)
        self.real_images = [os.path.realpath(path) for path in (root, self.images)]
        self.split_file = split_file
        split = f"{TRAIN:.0%} train, {VALIDATE:.0%} validate by sha256 of the uid"
        if split_file is not None:
            if not split_file.is_file():
                raise NotFoundError(f"--split_file='{split_file}' is not there: a csv with columns uid and split.")
            split = f"sha256 {hashlib.sha256(split_file.read_bytes()).hexdigest()}"
        self.splits = {"hash" if split_file is None else "file": SplitVariant(split)}
        self.labels = list(LABELS)
        self.regions = regions
        self.options = {
            "dataset": "open_i",
            "split": split,
            "regions": regions.name if regions else "none",
        }

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies by number, and their images by name."""
        reports = self._read_reports(skip)
        split_of = self._read_split(skip)
        rows = []
        names = set()
        columns = ["uid", "filename", "projection"]
        for place, (uid, name, projection) in self.counted_rows(self.projections, columns, skip):
            if not (uid and name):
                skip(place, "unreadable row: uid or filename")
            elif name in names:
                skip(place, "duplicate id")
            elif uid not in reports:
                skip(name, "no report")
            elif split_of(uid) is None:
                skip(name, "not in the split table")
            else:
                names.add(name)
                # Numbers come first, by value.
                number = (0, int(uid)) if uid.isdecimal() else (1, 0)
                rows.append((number, uid, name, projection.strip().upper()))
        for uid, images in itertools.groupby(sorted(rows), lambda row: row[1]):
            split = split_of(uid)
            assert split is not None
            report, labels = reports[uid]
            # The collection does not name patients: each study counts as one.
            pictures = [Picture(name, view, name) for *_, name, view in images]
            yield Study(uid, uid, split, pictures, labels, report=partial(replace, report))

    def _read_reports(self, skip: Skip) -> dict[str, tuple[Report, list[int | None]]]:
        reports = {}
        columns = ["uid", "MeSH", "Problems", "findings", "impression"]
        for place, (uid, mesh, problems, findings, impression) in read_table(self.reports, columns, skip):
            if uid in reports:
                skip(place, "duplicate id")
                continue
            # The columns may hold whole reports.
            report = read_report({"findings": findings, "impression": impression})
            reports[uid] = report, find_labels(mesh, problems)
        return reports

    def _read_split(self, skip: Skip) -> Callable[[str], str | None]:
        if self.split_file is None:
            return hash_split
        splits: dict[str, str] = {}
        for place, (uid, split) in read_table(self.split_file, ["uid", "split"], skip):
            if split not in SPLITS:
                skip(place, f"unreadable row: split '{split}'")
            elif splits.setdefault(uid, split) != split:
                skip(place, "duplicate id")
        return splits.get


def hash_split(uid: str) -> str:
    """Return the split of a study, which does not depend on the other studies."""
    share = int(hashlib.sha256(uid.encode()).hexdigest()[:8], 16) / 16**8
    return "train" if share < TRAIN else "validate" if share < TRAIN + VALIDATE else "test"


def find_labels(mesh: str, problems: str) -> list[int | None]:
    """Return a value for each of LABELS from the human coding of a study.

    The coders noted every abnormality: a finding without a heading is absent, 0. A study without a coding has None.

    Args:
        mesh: Headings with their qualifiers, `Opacity/lung/base/left;...`.
        problems: Headings alone, `Opacity;...`.
    """
    headings = {heading.strip() for heading in problems.split(";")}
    # A heading such as Thickening needs its first qualifier, the place.
    headings |= {"/".join(part.strip() for part in term.split("/")[:2]) for term in mesh.split(";")}
    if UNCODED in headings or not headings - {""}:
        return [None] * len(LABELS)
    return [int(not headings.isdisjoint(terms)) for terms in LABELS.values()]
