"""The files of Open-I: those of the National Library of Medicine, or Kaggle's tables."""

from __future__ import annotations

import hashlib
import itertools
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from medvlp.errors import NotFoundError
from medvlp.prepare.below import images_below
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.files import real_paths, require_folder
from medvlp.prepare.layouts.ecgen import find_reports, read_reports
from medvlp.prepare.layouts.open_i_labels import LABELS, find_labels
from medvlp.prepare.regions import RegionSource, region_options
from medvlp.prepare.reports import read_report
from medvlp.prepare.splits import SPLITS, SplitVariant, hash_rule, hash_split
from medvlp.prepare.study import Picture, Report, Skip, Study
from medvlp.prepare.tables import find_table, read_table, require_table
from medvlp.prepare.views import ByScreening
from medvlp.prepared import SYNTHETIC

HOW = (
    "Download NLMCXR_reports.tgz and NLMCXR_png.tgz from https://openi.nlm.nih.gov/imgs/collections/ (no account), put "
    "the first into a folder and unpack the second there, as 'make open-i' does; or take the csv layout: "
    "indiana_reports.csv, indiana_projections.csv and a folder of images, for example "
    "'raddar/chest-xrays-indiana-university' on Kaggle. 'medvlp phantom --layouts open_i' writes a synthetic stand-in."
)
IMAGES = "NLMCXR_png.tgz"
# An image in the XML files, CXR1_1_IM-0001-3001 or CXR2_IM-0652-1001, is 1_IM-0001-3001 and 2_IM-0652-1001 elsewhere.
NAME = re.compile(r"CXR(\d+)_(?:\1_)?(.+)")


class Row(NamedTuple):
    """An image. The fields before the view give the order in the index: numbers come first, by value.

    Attributes:
        number: Whether the uid is no number, and the number.
        uid: The study.
        name: Unique name.
        view: As `Picture.view`.
        path: File relative to the image root.
    """

    number: tuple[int, int]
    uid: str
    name: str
    view: str | None
    path: str


class OpenI(DataSet):
    """The files of Open-I, in either layout."""

    def __init__(self, root: Path, split_file: Path | None, regions: RegionSource | None) -> None:
        """Find the table of splits.

        Args:
            root: Folder of the data set.
            split_file: csv with a split for each uid, or None for the split by hash.
            regions: Finder of the anatomical boxes; None if the preparation needs none.

        Raises:
            NotFoundError: If a file or folder is missing.
        """
        self.split_file = split_file
        split = hash_rule("uid")
        if split_file is not None:
            if not split_file.is_file():
                raise NotFoundError(f"--split_file='{split_file}' is not there: a csv with columns uid and split.")
            split = f"sha256 {hashlib.sha256(split_file.read_bytes()).hexdigest()}"
        self.splits = {"hash" if split_file is None else "file": SplitVariant(split)}
        self.labels = list(LABELS)
        self.regions = regions
        self.options = {"dataset": "open_i", "split": split, **region_options(regions)}
        if (root / SYNTHETIC).is_file():
            self.options["synthetic"] = True

    @abstractmethod
    def read(self, skip: Skip) -> tuple[Mapping[str, tuple[Report, list[int | None]]], Sequence[Row]]:
        """Return the reports and labels of the studies by uid, and the images of studies with a report."""

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield the studies by number, and their images by name."""
        reports, rows = self.read(skip)
        split_of = self._read_split(skip)
        for uid, images in itertools.groupby(sorted(rows), lambda row: row.uid):
            pictures = [Picture(row.name, row.view, row.path) for row in images]
            split = split_of(uid)
            if split is None:
                for picture in pictures:
                    skip(picture.image_id, "not in the split table")
                continue
            report, labels = reports[uid]
            # The collection does not name patients: each study counts as one.
            yield Study(uid, uid, split, pictures, labels, report=partial(replace, report))

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


class Tables(OpenI):
    """The csv layout of Kaggle, which knows the projections."""

    def __init__(self, root: Path, split_file: Path | None, regions: RegionSource | None) -> None:
        """Find all files; see `OpenI`."""
        super().__init__(root, split_file, regions)
        self.reports = require_table(root, "indiana_reports", HOW)
        self.projections = require_table(root, "indiana_projections", HOW)
        self.images = require_folder(root, ["images/images_normalized", "images"], HOW)
        self.real_images = real_paths(root, self.images)

    def read(self, skip: Skip) -> tuple[Mapping[str, tuple[Report, list[int | None]]], Sequence[Row]]:
        """Read both tables; see `OpenI.read`."""
        reports = {}
        columns = ["uid", "MeSH", "Problems", "findings", "impression"]
        for place, (uid, mesh, problems, findings, impression) in read_table(self.reports, columns, skip):
            if uid in reports:
                skip(place, "duplicate id")
                continue
            # The columns may hold whole reports.
            report = read_report({"findings": findings, "impression": impression})
            reports[uid] = report, find_labels(mesh, problems)
        rows: dict[str, Row] = {}
        columns = ["uid", "filename", "projection"]
        for place, (uid, name, projection) in self.counted_rows(self.projections, columns, skip):
            if not (uid and name):
                skip(place, "unreadable row: uid or filename")
            elif name in rows:
                skip(place, "duplicate id")
            elif uid not in reports:
                skip(name, "no report")
            else:
                number = (0, int(uid)) if uid.isdecimal() else (1, 0)
                rows[name] = Row(number, uid, name, projection.strip().upper(), name)
        return reports, [*rows.values()]


class Official(OpenI):
    """The XML files and the PNG or DICOM files of the National Library of Medicine. The screening tells the views."""

    documented = 7470
    view_teller = ByScreening()

    def __init__(self, root: Path, reports: Path, split_file: Path | None, regions: RegionSource | None) -> None:
        """Find all files; see `OpenI`.

        Args:
            root: Folder of the data set, with images in it or in any folder below.
            reports: Folder or archive of the XML files.
            split_file: As in `OpenI`.
            regions: As in `OpenI`.
        """
        super().__init__(root, split_file, regions)
        self.reports, self.images = reports, root
        unpack = f"Unpack it: mkdir '{root / 'NLMCXR_png'}' && tar -xzf '{root / IMAGES}' -C '{root / 'NLMCXR_png'}'."
        images, self.real_images = images_below(root, HOW, [IMAGES], unpack)
        self.paths: dict[str, str] = {}
        for stem, path in images.items():
            # Originals before copies.
            if plain(stem) not in self.paths or path.lower().endswith(".dcm"):
                self.paths[plain(stem)] = path
        self.options["layout"] = "official"

    def read(self, skip: Skip) -> tuple[Mapping[str, tuple[Report, list[int | None]]], Sequence[Row]]:
        """Read the XML files; see `OpenI.read`. An image that none of them names counts as an image without report."""
        reports: dict[str, tuple[Report, list[int | None]]] = {}
        rows: dict[str, Row] = {}
        left = dict(self.paths)
        for file, ecgen in read_reports(self.reports, skip):
            if ecgen.uid in reports:
                skip(file, "duplicate id")
                continue
            sections = {name: ecgen.sections.get(name, "") for name in ("findings", "impression")}
            report = read_report(sections, ecgen.utf8)
            headings = [term.split("/")[0] for term in ecgen.coding]
            reports[ecgen.uid] = report, find_labels(";".join(ecgen.coding), ";".join(headings))
            if not ecgen.images:
                skip(file, "report without an image")
            for name in ecgen.images:
                self.rows += 1
                if not name or name in rows:
                    skip(name or file, "duplicate id" if name else "unreadable row: an image without a name")
                    continue
                path = left.pop(plain(name), f"{name}.png")
                rows[name] = Row((0, int(ecgen.uid)), ecgen.uid, name, None, path)
        for path in left.values():
            self.rows += 1
            skip(path, "no report")
        return reports, [*rows.values()]


def plain(name: str) -> str:
    """Return the name of an image that all layouts share, from its name in the XML files or that of a file."""
    match = NAME.fullmatch(name.removesuffix(".dcm"))
    return f"{match[1]}_{match[2]}" if match else name.removesuffix(".dcm")


def open_files(root: Path, split_file: Path | None, regions: RegionSource | None) -> OpenI:
    """Return the files of Open-I in the layout that a folder has; the csv layout if it has both or none."""
    reports = None if find_table(root, "indiana_reports") else find_reports(root)
    return Official(root, reports, split_file, regions) if reports else Tables(root, split_file, regions)
