"""CheXpert: chest radiographs with labels of a rule-based labeler.

Irvin et al., CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison, AAAI 2019,
https://arxiv.org/abs/1901.07031.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from medvlp.errors import UserError
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.datasets.mimic_cxr import LABEL_BYTES, LABEL_VALUES
from medvlp.prepare.files import require_folder
from medvlp.prepare.five_by_200 import CLASSES, EACH, candidates, draw
from medvlp.prepare.order import number_at_end
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, by_patient, scaled
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import find_table, require_table
from medvlp.prepared import CHEXPERT_LABELS, SYNTHETIC, Resize

HOW = (
    "Download CheXpert-v1.0 or CheXpert-v1.0-small from https://stanfordaimi.azurewebsites.net (free registration) and "
    "give the folder that holds train.csv, valid.csv, 'train' and 'valid', or the unpacked folders 'CheXpert-v1.0 "
    "batch 1 (validate & csv)', 'CheXpert-v1.0 batch 2 (train 1)' and so on. "
    "'medvlp phantom --layouts chexpert' writes a synthetic stand-in."
)
FOLDERS = ("CheXpert-v1.0", "CheXpert-v1.0-small")
# The full-size download has four archives: one with the tables and 'valid', and three with patients of 'train'.
DOWNLOAD = "chexpertchestxrays-u20210408"
BATCHES = "CheXpert-v1.0 batch *"
LABELS = list(CHEXPERT_LABELS)
# Number of rows of train.csv and valid.csv, of frontal images of train.csv, and of those among them in validate.
ROWS, FRONTAL, VALIDATE = 223_414 + 234, 191_027, 5_000
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


class Row(NamedTuple):
    """An image in a table. Its labels are positions in LABEL_VALUES."""

    image_id: str
    patient: str
    study: str
    view: str
    labels: bytes

    @property
    def values(self) -> list[int | None]:
        """The labels as in the index."""
        return [LABEL_VALUES[value] for value in self.labels]


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
        self.batches = sorted(path for path in around.glob(BATCHES) if path.is_dir()) if around else []
        self.images = around if around and self.batches else self.images
        tables = {"train": "train", "test": "valid"}
        with_tables = next((path for path in self.batches if find_table(path, "train")), self.images)
        self.tables = {split: require_table(with_tables, name, HOW) for split, name in tables.items()}
        if not self.batches:
            require_folder(self.images, ["train"], HOW)
        folders = [self.images / name for name in ("", "train", "valid")] + self.batches
        self.real_images = [os.path.realpath(folder) for folder in folders]
        self.options = {"dataset": "chexpert", "synthetic": (self.images / SYNTHETIC).is_file()}

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, those of train.csv and then those of valid.csv, in the order of the tables."""
        ids: set[str] = set()
        path_of = self._locator()
        train = list(self._read_rows("train", ids, skip))
        patient_of = {row.image_id: row.patient for row in train if row.view == "FRONTAL"}
        frontal = ((row.image_id, row.values) for row in train if row.view == "FRONTAL")
        drawn = draw(candidates(frontal, LABELS), scaled(EACH, FRONTAL, len(patient_of)))
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
                yield _study(row, path_of, "5x200", {"reported": other, "5x200": "test"})
            else:
                yield _study(row, path_of, split, {"reported": other, "5x200": "" if row.patient in apart else split})
        for row in self._read_rows("test", ids, skip):
            yield _study(row, path_of, "test", {"reported": "test", "5x200": ""})

    def _locator(self) -> Callable[[str], str]:
        """Return a function from the name of an image to its path below `images`."""
        folder_of: dict[str, str] = {}
        for batch in self.batches:
            for split, below in (("train", ""), ("train", "train/"), ("valid", "valid/")):
                names = os.listdir(batch / below) if (batch / below).is_dir() else []
                patients = (name for name in names if name.startswith("patient"))
                folder_of |= {f"{split}/{patient}": f"{batch.name}/{below}{patient}" for patient in patients}

        def path_of(image_id: str) -> str:
            patient = "/".join(image_id.split("/")[:2])
            return folder_of.get(patient, patient) + image_id[len(patient) :]

        return path_of

    def _read_rows(self, split: str, ids: set[str], skip: Skip) -> Iterator[Row]:
        columns = ["Path", "Frontal/Lateral", *LABELS]
        for place, (path, view, *fields) in self.counted_rows(self.tables[split], columns, skip):
            _, _, image_id = path.partition("/")
            parts = image_id.split("/")
            try:
                labels = bytes([LABEL_BYTES[field] for field in fields])
            except KeyError as error:
                skip(place, f"unreadable row: label {error}")
                continue
            if len(parts) < 3 or not all(parts):
                skip(place, "unreadable row: Path")
            elif image_id in ids:
                skip(place, "duplicate id")
            else:
                ids.add(image_id)
                *_, patient, study, _ = parts
                yield Row(image_id, patient, f"{patient}/{study}", view.upper(), labels)


def _study(row: Row, path_of: Callable[[str], str], split: str, other_splits: Mapping[str, str]) -> Study:
    # Images of one study can be in different splits of 5x200.
    return Study(
        study_id=row.study,
        subject_id=row.patient,
        split=split,
        pictures=[Picture(row.image_id, row.view, path_of(row.image_id))],
        labels=row.values,
        other_splits=other_splits,
        order=number_at_end(row.study),
    )
