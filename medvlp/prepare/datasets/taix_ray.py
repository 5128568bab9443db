"""TAIX-Ray: bedside chest radiographs of intensive care, with findings graded by radiologists in the report.

Truhn et al., A comprehensive bedside chest radiography dataset with structured, itemized and graded radiologic reports,
Scientific Data 13:632, 2026, https://doi.org/10.1038/s41597-026-07271-7. The images and grades lie in the parquet files
of the download, or unpacked by the script in the authors' README (mueller-franzes/TAIX-Ray), from which the columns are
known; no file of it has been seen, nor the names of the parquet files, which may be any in the folder.

A label is present from grade 1, as in the authors' code, or from another one; the index keeps no grades. A negative or
missing grade, which public code calls not assessable, is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from medvlp.errors import LeftOutError, UserError
from medvlp.prepare.archives.parquet import ParquetArchive, find_parquet
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import find_images, real_paths, require_folder
from medvlp.prepare.layouts.taix_labels import GRADES, LABELS, labels_of, read_grades
from medvlp.prepare.order import moment
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.split_tables import read_folds
from medvlp.prepare.splits import SplitVariant
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import find_table, require_table
from medvlp.prepared import Resize

HOW = (
    "Accept the terms at https://huggingface.co/datasets/TLAIM/TAIX-Ray, run 'hf download TLAIM/TAIX-Ray --repo-type "
    "dataset --local-dir TAIX-Ray' and give that folder, which holds split.csv and the parquet files of one size of "
    "images; or run the script under 'Option B' there, which writes 'data' and 'metadata'. 'medvlp phantom --layouts "
    "taix_ray' writes a synthetic stand-in."
)


def taix_ray(
    root: Path,
    out: Path,
    present: int = 1,
    size: int = 256,
    resize: Resize = "pad",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare TAIX-Ray: images and labels, of both sides and of each.

    The same command resumes an interrupted run.

    Args:
        root: Folder with split.csv and parquet files, which are read as a stream; or with 'data' (UID.png) and
            'metadata' (annotation.csv and split.csv).
        out: Folder to write, the --data.root of training.
        present: Lowest grade that counts as present: 1 includes borderline and questionable, as in the authors' code.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    prepare(TaixRay(root, present), out, Options(size, resize, ["AP"], leave_out=parse_flags(leave_out)), workers)


class TaixRay(DataSet):
    """The files of TAIX-Ray. Each image is a study."""

    documented = 215_381

    def __init__(self, root: Path, present: int) -> None:
        """Find all files; raises UserError if one is missing or `present` is no grade."""
        if not 1 <= present <= min(GRADES.values()):
            raise UserError(f"--present={present} must be a grade from 1 to {min(GRADES.values())}.")
        self.images, self.present, self.labels = root, present, [*LABELS]
        metadata = root / "metadata" if (root / "metadata").is_dir() else root
        self.folds = require_table(metadata, "split", HOW)
        # The README writes one name, the authors' code reads the other.
        tables = filter(None, (find_table(metadata, name) for name in ("annotations", "annotation")))
        if table := next(tables, None):
            self.tables, self.folder = [table], require_folder(root, ["data", "data_png_resize_512"], HOW)
        else:
            self.tables, self.folder = find_parquet(root, "metadata/annotation.csv", HOW), root / "data"
            self.archive = ParquetArchive(self.tables, "UID", "Image", "data/{}.png")
        self.real_images = real_paths(root, self.folder)
        rule = "split.csv, fold {}: whole patients, a fifth of them test, a fifth of the others validate"
        self.splits = {f"fold_{fold}": SplitVariant(rule.format(fold)) for fold in range(5)}
        self.options = identity("taix_ray", root, present=present)

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, in the order of the table."""
        split_of = read_folds(self.folds, len(self.splits), skip)
        paths = {} if self.archive else find_images(self.images, self.folder)
        ids: set[str] = set()
        columns = ["UID", "PatientID", *GRADES]
        rows_of = (self.counted_rows(table, columns, skip, ["StudyDate"]) for table in self.tables)
        for place, (uid, patient, *fields, date) in chain.from_iterable(rows_of):
            try:
                grades = read_grades(fields)
            except LeftOutError as error:
                skip(place, str(error))
                continue
            if not (uid and patient):
                skip(place, "unreadable row: UID or PatientID")
            elif uid in ids:
                skip(place, "duplicate id")
            elif uid not in split_of:
                skip(uid, "not in the split table")
            else:
                ids.add(uid)
                picture = Picture(uid, "AP", paths.get(uid, f"{self.folder.name}/{uid}.png"))
                labels = labels_of(grades, self.present)
                splits = dict(zip(self.splits, split_of[uid], strict=True))
                yield Study(uid, patient, splits["fold_0"], [picture], labels, other_splits=splits, order=moment(date))
