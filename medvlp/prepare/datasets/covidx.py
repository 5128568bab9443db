"""COVIDx: chest radiographs with two classes, COVID-19 or not, or three, normal, pneumonia and COVID-19.

Wang, Lin and Wong, COVID-Net: a tailored deep convolutional neural network design for detection of COVID-19 cases from
chest X-ray images, Scientific Reports 10, 2020, https://arxiv.org/abs/2003.09871. COVIDx CXR-4: Wu et al., 2023,
https://arxiv.org/abs/2311.17677.

The lists of COVIDx 9A and CXR-3 were seen, and images and the lists of CXR-4 were not.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import real_paths, require_folder
from medvlp.prepare.layouts.covidx_lists import CLASSES, HOW, find_lists, words_of
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, by_patient, shuffled
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import read_lines
from medvlp.prepared import Resize

__all__ = ["CLASSES", "HOW", "CovidX", "covidx"]

FOLDERS = ("train", "val", "test")
VALIDATE = {"mgca": 0.2, "asg": 0.1}


def covidx(
    root: Path,
    out: Path,
    version: str = "",
    train_list: str = "",
    test_list: str = "",
    size: int = 256,
    resize: Resize = "pad",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare COVIDx: images and classes.

    The same command resumes an interrupted run.

    Args:
        root: Folder with the lists of one version, and the images in 'train', 'val' and 'test'.
        out: Folder to write, the --data.root of training.
        version: cxr3b (two classes, the sizes that MGCA, G2D and IMITATE report), cxr3a or v9a (three classes), or cxr4
            (two classes, with its own validation list). By default the one whose lists are in root.
        train_list: List of the training images, a file in root, in place of a version. It decides the classes.
        test_list: List of the test images, a file in root, in place of a version.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    data = CovidX(root, version, train_list, test_list)
    prepare(data, out, Options(size, resize, ["FRONTAL"], leave_out=parse_flags(leave_out)), workers)


class Line(NamedTuple):
    """An image in a list."""

    image_id: str
    patient: str
    word: str
    split: str


class CovidX(DataSet):
    """The files of COVIDx."""

    def __init__(self, root: Path, version: str = "", train_list: str = "", test_list: str = "") -> None:
        """Find all files.

        Args:
            root: Folder of the data set.
            version: A version, or empty for the one whose lists are in root.
            train_list: File name of the training list in root, or empty.
            test_list: File name of the test list in root, or empty.

        Raises:
            NotFoundError: If a file or folder is missing.
            UserError: If there is no such version, or root has the lists of several.
        """
        require_folder(root, ["train"], HOW)
        lists = find_lists(root, version, {"train": train_list, "test": test_list})
        self.lists = lists.paths
        self.images = root
        self.folders = [name for name in FOLDERS if (root / name).is_dir()]
        self.real_images = real_paths(root, *(root / name for name in self.folders))
        self.words = words_of(self.lists["train"])
        self.labels = list(self.words.values())
        self.documented = lists.images
        self.splits = _variants(lists.documented, "validate" in self.lists)
        self.options = identity("covidx", root, lists=[path.name for path in self.lists.values()])

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, those of the test list first, those of the training list last."""
        # An image in several lists belongs to the first of test, validate and train.
        lines: dict[str, Line] = {}
        for split in sorted(self.lists, key=("test", "validate", "train").index):
            self._read_list(split, lines, skip)
        variants = self._split(lines)
        default, *others = variants
        path_of = self._locator()
        for image_id, line in lines.items():
            labels: list[int | None] = [int(line.word == word) for word in self.words]
            pictures = [Picture(image_id, "FRONTAL", path_of(line))]
            other_splits = {name: variants[name][image_id] for name in others}
            yield Study(
                image_id, line.patient, variants[default][image_id], pictures, labels, other_splits=other_splits
            )

    def _split(self, lines: Mapping[str, Line]) -> dict[str, dict[str, str]]:
        """Return the split of each image by each variant."""
        listed = {image_id: line.split for image_id, line in lines.items()}
        if "validate" in self.lists:
            return {"official": listed}
        train = [image_id for image_id, split in listed.items() if split == "train"]
        # As train_test_split rounds.
        counts = {variant: math.ceil(share * len(train)) for variant, share in VALIDATE.items()}
        variants = {}
        for variant, count in counts.items():
            _, validate = shuffled(train, [len(train) - count, count])
            variants[variant] = listed | dict.fromkeys(validate, "validate")
        tested = {line.patient for line in lines.values() if line.split == "test"}
        patients = {image_id: lines[image_id].patient for image_id in train if lines[image_id].patient not in tested}
        held_out = by_patient(patients, math.ceil(VALIDATE["mgca"] * len(patients)), "covidx")
        by_image = listed | dict.fromkeys(train, "") | dict.fromkeys(patients, "train")
        return {**variants, "patients": by_image | dict.fromkeys(held_out, "validate")}

    def _locator(self) -> Callable[[Line], str]:
        """Return a function from an image to its path: in the folder of its list, or in another one that has it."""
        names = {folder: set(os.listdir(self.images / folder)) for folder in self.folders}

        def path_of(line: Line) -> str:
            own = "val" if line.split == "validate" else line.split
            folders = [own, *(name for name in self.folders if name != own)]
            # The expected name of a file that is not there is reported as missing.
            return f"{next((name for name in folders if line.image_id in names.get(name, ())), own)}/{line.image_id}"

        return path_of

    def _read_list(self, split: str, lines: dict[str, Line], skip: Skip) -> None:
        """Add the images of a list to those of other lists."""
        for place, text in read_lines(self.lists[split]):
            self.rows += 1
            # From the end: names of patients in older versions have blanks, such as 'COVID 1'.
            fields = text.rsplit(maxsplit=3)
            if len(fields) != 4:
                skip(place, f"unreadable row: {len(fields)} fields, not 4")
                continue
            patient, image_id, word, _ = fields
            if word not in self.words:
                skip(place, f"unreadable row: class '{word}'")
            elif image_id in lines:
                skip(place, "duplicate id")
            else:
                lines[image_id] = Line(image_id, patient, word, split)


def _variants(documented: Mapping[str, int], has_validation: bool) -> dict[str, SplitVariant]:
    if has_validation:
        return {"official": SplitVariant("the three lists of the version", documented)}
    return {
        "mgca": SplitVariant(
            "test list is test; of the training list, 20 % of the images are validate: train_test_split of its lines, "
            "seed 0, as by MGCA (its published sizes are those of the two-class list CXR-3B)",
            documented,
        ),
        "asg": SplitVariant("as mgca, with 10 % validate, as ASG says"),
        "patients": SplitVariant(
            "as mgca, but all images of a patient or none are validate, by sha256 of the patient, and training images "
            "of patients of the test list are in no split"
        ),
    }
