"""VinDr-CXR: 18,000 radiographs with 28 findings, 22 of them with boxes, by radiologists.

Nguyen et al., VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations, Scientific Data 9, 2022,
https://arxiv.org/abs/2012.15029. Three of 17 radiologists read each image of train, five agreed on one reading of each
image of test. In train a finding is present if two of three see it, and boxes around the same thing are fused to one,
as is usual; boxes of findings that one reader alone sees are left out, as their labels are absent. Images and tables
were not seen: their names are those that public code reads. No patient is named: each image counts as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medvlp.prepare.annotations.boxes import Boxes, boxes_text
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import find_images, real_paths, require_folder
from medvlp.prepare.layouts.vindr_tables import CHALLENGE, LABELS, NO_FINDING, Readings, read_boxes, read_labels
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, by_patient, scaled
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import find_table, require_table
from medvlp.prepared import Resize

HOW = (
    "Download it from https://physionet.org/content/vindr-cxr (credentialed access) and give the folder that holds "
    "'annotations', 'train' and 'test'; or https://www.kaggle.com/c/vinbigdata-chest-xray-abnormalities-detection, the "
    "folder with train.csv and 'train'. 'medvlp phantom --layouts vindr' writes a synthetic stand-in."
)
KINDS = ("image_labels", "annotations")
TRAIN, VALIDATE, TEST = 15_000, 3_000, 3_000
RULE = "test is test; 20 % of the images of train are validate, by sha256 of the image"


def vindr(
    root: Path, out: Path, size: int = 256, resize: Resize = "pad", leave_out: str = "", workers: int | None = None
) -> None:
    """Prepare VinDr-CXR: images, labels and boxes.

    The same command resumes an interrupted run.

    Args:
        root: Folder of PhysioNet's download, with 'annotations', 'train' and 'test', or of Kaggle's challenge, with
            train.csv and 'train', which has 14 of the findings, and test images without labels.
        out: Folder to write, the --data.root of training.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    prepare(Vindr(root), out, Options(size, resize, ["PA"], leave_out=parse_flags(leave_out)), workers)


class Vindr(DataSet):
    """The files of VinDr-CXR."""

    labels = tuple(LABELS.values())
    annotations = Boxes(masks=False, advice="the boxes are of the original images")

    def __init__(self, root: Path) -> None:
        """Find all files.

        Args:
            root: Folder of the data set.

        Raises:
            NotFoundError: If a file or folder is missing.
        """
        self.images = root
        tables = root / "annotations" if (root / "annotations").is_dir() else root
        self.challenge = find_table(tables, "image_labels_train") is None and find_table(root, "train") is not None
        self.parts = ("train",) if self.challenge else ("test", "train")
        names = ("train",) if self.challenge else (f"{kind}_{part}" for kind in KINDS for part in self.parts)
        self.tables = {name: require_table(tables, name, HOW) for name in names}
        self.folders = {part: require_folder(root, [part], HOW) for part in self.parts}
        self.real_images = real_paths(root, *self.folders.values())
        self.options = identity("vindr", root)
        tested = 0 if self.challenge else TEST
        self.documented = TRAIN + tested
        sizes = {"train": TRAIN - VALIDATE, "validate": VALIDATE, "test": tested}
        self.splits = {"official": SplitVariant(RULE, sizes)}
        self.findings = {*CHALLENGE, NO_FINDING} if self.challenge else {*LABELS}
        if self.challenge:
            self.options["table"] = "train.csv"

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, those of test and then those of train, in the order of the tables."""
        readings = {part: self._read(part, skip) for part in self.parts}
        self.rows = sum(map(len, readings.values()))
        # An image in both parts belongs to test.
        train = {image_id: image_id for image_id in readings["train"] if image_id not in readings.get("test", {})}
        validate = by_patient(train, scaled(VALIDATE, TRAIN, len(train)), "vindr")
        for part in self.parts:
            paths = find_images(self.images, self.folders[part])
            for image_id, reading in readings[part].items():
                path = paths.pop(image_id, f"{part}/{image_id}.dicom")
                if part == "train" and image_id not in train:
                    skip(f"{part}/{image_id}", "duplicate id")
                elif not reading.usable:
                    skip(image_id, "a row of it is unreadable")
                else:
                    split = part if part == "test" else "validate" if image_id in validate else "train"
                    labels = [reading.label(f) if f in self.findings else None for f in LABELS]
                    picture = Picture(image_id, "PA", path, annotation=boxes_text(reading.labelled_boxes()))
                    yield Study(image_id, image_id, split, [picture], labels)
            for name in paths:
                skip(f"{part}/{name}", "not in the label table")

    def _read(self, part: str, skip: Skip) -> Readings:
        readings: Readings = {}
        if self.challenge:
            read_boxes(self.tables["train"], False, readings, skip, labels=True)
        else:
            read_labels(self.tables[f"image_labels_{part}"], part == "test", readings, skip)
            read_boxes(self.tables[f"annotations_{part}"], part == "test", readings, skip)
        return readings
