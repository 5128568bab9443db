"""CheXpert: chest radiographs with labels of a rule-based labeler, and its test set with labels of radiologists.

Irvin et al., CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison, AAAI 2019,
https://arxiv.org/abs/1901.07031. The official test set, 500 studies of as many patients, came out with CheXlocalize:
`medvlp.prepare.datasets.chexlocalize` prepares it alone, with its masks. Its test_labels.csv has been described to us,
not seen: Path (test/patient64741/study1/view1_frontal.jpg) and the 14 labels, without sex, age and view.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from medvlp.errors import UserError
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import require_folder
from medvlp.prepare.five_by_200 import CLASSES, EACH
from medvlp.prepare.layouts.chexpert_images import patient_folders
from medvlp.prepare.layouts.chexpert_table import FRONTAL, LABELS, Row, draw_5x200, first_frontal, read_rows
from medvlp.prepare.order import number_at_end
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, by_patient, scaled
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import find_table, require_table
from medvlp.prepared import Resize

HOW = (
    "Download CheXpert-v1.0 or CheXpert-v1.0-small from https://stanfordaimi.azurewebsites.net (free registration) and "
    "give the folder that holds train.csv, valid.csv, 'train' and 'valid', or the unpacked folders 'CheXpert-v1.0 "
    "batch 1 (validate & csv)', 'CheXpert-v1.0 batch 2 (train 1)' and so on. For the official test set, put or link "
    "test_labels.csv and the folder 'test' of CheXlocalize beside train.csv. "
    "'medvlp phantom --layouts chexpert' writes a synthetic stand-in."
)
FOLDERS = ("CheXpert-v1.0", "CheXpert-v1.0-small")
# The full-size download has four archives: one with the tables and 'valid', and three with patients of 'train'.
DOWNLOAD = "chexpertchestxrays-u20210408"
BATCHES = "CheXpert-v1.0 batch *"
# Folders of test_labels.csv and 'test', for the root itself, or with the whole download of CheXlocalize in it.
TESTS = ("", "CheXpert", "chexlocalize/CheXpert")
# Number of rows of train.csv and valid.csv, and of frontal images of train.csv in validate.
ROWS, VALIDATE = 223_414 + 234, 5_000
# Number of rows of test_labels.csv, of the frontal ones among them, and of studies.
TEST_ROWS, TEST_FRONTAL, TEST_STUDIES = 668, 518, 500
SPLITS: Mapping[str, SplitVariant] = {
    "patients": SplitVariant(
        "valid.csv is test; of train.csv, whole patients with 5,000 of 191,027 frontal images, by sha256 of the "
        "patient, are validate, and the 5x200 images, drawn as by MGCA, are in no split",
        {"train": FRONTAL - VALIDATE - EACH * len(CLASSES), "validate": VALIDATE, "test": 202},
    ),
    # MGCA draws validate by image, and by a bug keeps some of these images in train, too.
    "reported": SplitVariant(
        "as patients, but with the 5x200 images: the sizes that MGCA, IMITATE and G2D report",
        {"train": FRONTAL - VALIDATE, "validate": VALIDATE, "test": 202},
    ),
    "5x200": SplitVariant(
        "the 5x200 images are test; train and validate are those of patients, without all images of these patients"
    ),
}
# Where there is a test_labels.csv. In the other variants its images are in no split.
OFFICIAL: Mapping[str, SplitVariant] = {
    "official": SplitVariant(
        "test_labels.csv is test, valid.csv is validate, train.csv is train: 500 patients with labels of radiologists, "
        "on which zero-shot results are reported (which of their images, few say)",
        {"train": FRONTAL, "validate": 202, "test": TEST_FRONTAL},
    ),
    "official_studies": SplitVariant(
        "as official, but the first frontal image of each study alone is test: one a patient",
        {"train": FRONTAL, "validate": 202, "test": TEST_STUDIES},
    ),
}


def chexpert(
    root: Path,
    out: Path,
    size: int = 256,
    resize: Resize = "pad",
    views: str = "FRONTAL",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare CheXpert: images and labels.

    The same command resumes an interrupted run.

    Args:
        root: CheXpert-v1.0 or CheXpert-v1.0-small, or the folder around it, or the folder around the four unpacked
            batches of the full-size download.
        out: Folder to write, the --data.root of training.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        views: FRONTAL, LATERAL, or both separated by a comma.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    prepare(CheXpert(root), out, Options(size, resize, parse_views(views), leave_out=parse_flags(leave_out)), workers)


class CheXpert(DataSet):
    """The files of CheXpert.

    An image is named by its path in the tables without the first folder: train/patient00001/study1/view1_frontal.jpg.
    """

    labels = LABELS
    splits = SPLITS
    documented = ROWS

    def __init__(self, root: Path) -> None:
        """Find all files.

        Args:
            root: Folder of the data set, or the one around it.

        Raises:
            NotFoundError: If a file or folder is missing.
            UserError: If root holds two copies.
        """
        below = [root / name for name in FOLDERS if (root / name).is_dir()]
        if len(below) > 1:
            raise UserError(f"--root='{root}' holds two copies of CheXpert: give '{below[0]}' or '{below[1]}'.")
        self.images = below[0] if below else root
        around = next((path for path in (root, root / DOWNLOAD) if not below and any(path.glob(BATCHES))), None)
        batches = sorted(path for path in around.glob(BATCHES) if path.is_dir()) if around else []
        self.images = around if around and batches else self.images
        tables = {"train": "train", "valid": "valid"}
        with_tables = next((path for path in batches if find_table(path, "train")), self.images)
        self.tables = {part: require_table(with_tables, name, HOW) for part, name in tables.items()}
        if not batches:
            require_folder(self.images, ["train"], HOW)
        places = {"train": ["train", BATCHES, f"{BATCHES}/train"], "valid": ["valid", f"{BATCHES}/valid"]}
        self.options = identity("chexpert", self.images)
        place = next((place for place in TESTS if find_table(self.images / place, "test_labels")), None)
        if place is not None:
            self.tables["test"] = require_table(self.images / place, "test_labels", HOW)
            places["test"] = [require_folder(self.images / place, ["test"], HOW).relative_to(self.images).as_posix()]
            self.splits, self.documented = {**SPLITS, **OFFICIAL}, ROWS + TEST_ROWS
            self.options["test"] = "test_labels.csv"
        self.folders = patient_folders(self.images, places)
        self.real_images = self.folders.real_folders

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, in the order of train.csv, then of valid.csv, then of test_labels.csv."""
        ids: set[str] = set()
        train = list(read_rows(self.counted_rows, self.tables["train"], ids, skip))
        patient_of = {row.image_id: row.patient for row in train if row.view == "FRONTAL"}
        drawn = draw_5x200(train)
        apart = {patient_of[image] for image in drawn}
        rest = {image: patient for image, patient in patient_of.items() if image not in drawn}
        count = scaled(VALIDATE, FRONTAL, len(patient_of))
        # Lateral images go with their patient.
        validate = {rest[image] for image in by_patient(rest, count, "chexpert")}
        reported = {patient_of[image] for image in by_patient(patient_of, count, "chexpert")}
        for row in train:
            split = "validate" if row.patient in validate else "train"
            other = "validate" if row.patient in reported else "train"
            if row.image_id in drawn:
                yield self._study(row, "5x200", other, "test", "train")
            else:
                yield self._study(row, split, other, "" if row.patient in apart else split, "train")
        for row in read_rows(self.counted_rows, self.tables["valid"], ids, skip):
            yield self._study(row, "test", "test", "", "validate")
        if "test" in self.tables:
            test = read_rows(self.counted_rows, self.tables["test"], ids, skip, view_column=False)
            for row, is_first in first_frontal(test):
                yield self._study(row, "", "", "", "test", "test" if is_first else "")

    def _study(
        self, row: Row, split: str, reported: str, drawn: str, official: str, studies: str | None = None
    ) -> Study:
        """Return an image as a study, as images of one study can be in different splits of 5x200.

        Args:
            row: The image.
            split: Its split by the variant patients.
            reported: By reported.
            drawn: By 5x200.
            official: By official.
            studies: By official_studies; None for the same.
        """
        splits = {"reported": reported, "5x200": drawn, "official": official}
        splits["official_studies"] = official if studies is None else studies
        picture = Picture(row.image_id, row.view, self.folders.path_of(row.image_id))
        order = number_at_end(row.study)
        return Study(row.study, row.patient, split, [picture], row.values, other_splits=splits, order=order)
