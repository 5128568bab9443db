"""COVIDx: chest radiographs with one of three classes, normal, pneumonia and COVID-19.

Wang, Lin and Wong, COVID-Net: a tailored deep convolutional neural network design for detection of COVID-19 cases from
chest X-ray images, Scientific Reports 10, 2020, https://arxiv.org/abs/2003.09871.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from medvlp.errors import NotFoundError
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.files import require_folder
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, shuffled, split_by_variant
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import read_lines
from medvlp.prepared import SYNTHETIC, Resize

TRAIN_LIST, TEST_LIST = "train_COVIDx9A.txt", "test_COVIDx9A.txt"
HOW = (
    f"Download 'andyczhao/covidx-cxr2' from Kaggle, put {TRAIN_LIST} and {TEST_LIST} of "
    "https://github.com/lindawangg/COVID-Net/tree/master/labels beside its folders 'train' and 'test', and give the "
    "folder that holds them. 'medvlp phantom --layouts covidx' writes a synthetic stand-in."
)
# Labels by their word in the lists, in the order of MGCA.
CLASSES = {"normal": "Normal", "pneumonia": "Pneumonia", "COVID-19": "COVID-19"}
# Number of lines of the two lists.
LINES = 30_130 + 400
VALIDATE = {"mgca": 0.2, "asg": 0.1}


def covidx(
    root: Path,
    out: Path,
    train_list: str = TRAIN_LIST,
    test_list: str = TEST_LIST,
    size: int = 256,
    resize: Resize = "pad",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare COVIDx: images and classes.

    The same command resumes an interrupted run.

    Args:
        root: Folder with the two lists and the images in 'train' and 'test'.
        out: Folder to write, the --data.root of training.
        train_list: List of the training images, a file in root. Another version of it gives other splits.
        test_list: List of the test images, a file in root.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    data = CovidX(root, train_list, test_list)
    prepare(data, out, Options(size, resize, ["FRONTAL"], leave_out=parse_flags(leave_out)), workers)


class Line(NamedTuple):
    """An image in a list."""

    image_id: str
    patient: str
    word: str
    path: str


class CovidX(DataSet):
    """The files of COVIDx."""

    def __init__(self, root: Path, train_list: str, test_list: str) -> None:
        """Find all files.

        Args:
            root: Folder of the data set.
            train_list: File name of the training list in root.
            test_list: File name of the test list in root.

        Raises:
            NotFoundError: If a file or folder is missing.
        """
        require_folder(root, ["train"], HOW)
        self.lists = {"train": root / train_list, "test": root / test_list}
        for split, path in self.lists.items():
            if not path.is_file():
                raise NotFoundError(f"--{split}_list='{path.name}' is not in --root='{root}'. {HOW}")
        self.images = root
        self.real_images = [os.path.realpath(root / name) for name in ("", "train", "test")]
        self.labels = list(CLASSES.values())
        is_published = (train_list, test_list) == (TRAIN_LIST, TEST_LIST)
        self.documented = LINES if is_published else None
        self.splits = {
            "mgca": SplitVariant(
                "test list is test; of the training list, 20 % of the images are validate: train_test_split of its "
                "lines, seed 0, as by MGCA (whose sizes are of the 29,986 images it had files of)",
                {"train": 23_988, "validate": 5_998, "test": 400} if is_published else {},
            ),
            "asg": SplitVariant("as mgca, with 10 % validate, as ASG says"),
        }
        self.options = {
            "dataset": "covidx",
            "lists": [path.name for path in self.lists.values()],
            "synthetic": (root / SYNTHETIC).is_file(),
        }

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, those of the test list and then those of the training list, in their order."""
        # The test list is read first: an image in both lists belongs to test.
        test = self._read_list("test", {}, skip)
        train = self._read_list("train", test, skip)
        validate = {}
        for variant, share in VALIDATE.items():
            count = math.ceil(share * len(train))  # As train_test_split rounds.
            validate[variant] = set(shuffled(list(train), [len(train) - count, count])[1])
        for image_id, patient, word, path in (*test.values(), *train.values()):
            split_of = split_by_variant(image_id, validate, test=image_id in test)
            pictures = [Picture(image_id, "FRONTAL", path)]
            labels: list[int | None] = [int(word == name) for name in CLASSES]
            yield Study(image_id, patient, split_of.pop("mgca"), pictures, labels, other_splits=split_of)

    def _read_list(self, split: str, others: dict[str, Line], skip: Skip) -> dict[str, Line]:
        """Return the images of a list by name, without those in `others`."""
        lines: dict[str, Line] = {}
        for place, line in read_lines(self.lists[split]):
            self.rows += 1
            # From the end: names of patients in older versions have blanks, such as 'COVID 1'.
            fields = line.rsplit(maxsplit=3)
            if len(fields) != 4:
                skip(place, f"unreadable row: {len(fields)} fields, not 4")
                continue
            patient, image_id, word, _ = fields
            if word not in CLASSES:
                skip(place, f"unreadable row: class '{word}'")
            elif image_id in lines or image_id in others:
                skip(place, "duplicate id")
            else:
                lines[image_id] = Line(image_id, patient, word, f"{split}/{image_id}")
        return lines
