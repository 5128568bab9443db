"""RSNA Pneumonia Detection Challenge, stage 2: chest radiographs with boxes around opacities that may be pneumonia.

Shih et al., Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations of Possible
Pneumonia, Radiology: Artificial Intelligence 1(1), 2019.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from medvlp.errors import LeftOutError, NotFoundError, UserError
from medvlp.prepare.annotations import Box
from medvlp.prepare.boxes import Boxes, boxes_text
from medvlp.prepare.files import find_images
from medvlp.prepare.objects import group_objects
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.splits import SplitVariant, mgca_split, scaled
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import read_table, require_table
from medvlp.prepared import Resize

HOW = (
    "Download it from https://www.kaggle.com/c/rsna-pneumonia-detection-challenge/data (free registration) and give "
    "the folder that holds stage_2_train_labels.csv and 'stage_2_train_images'. "
    "'medvlp phantom --layouts rsna' writes a synthetic stand-in."
)
TABLE = "stage_2_train_labels"
COLUMNS = ["patientId", "x", "y", "width", "height", "Target"]
FOLDER = "stage_2_train_images"
LABEL = "Pneumonia"
IMAGES = 26_684
# Images that are not trained on, by variant; half of them are test.
REST = {"mgca_16010": 2 * 5_337, "70_15_15": 2 * 4_003}


def rsna(
    root: Path,
    out: Path,
    annotation_size: int | None = None,
    size: int = 256,
    resize: Resize = "pad",
    workers: int | None = None,
) -> None:
    """Prepare RSNA Pneumonia: images, labels, boxes and the masks that they fill, to one folder.

    Can be interrupted at any moment; the same command goes on where it stopped.

    Args:
        root: Folder with stage_2_train_labels.csv and 'stage_2_train_images', of DICOM, png or jpg.
        out: Folder to write; it is what --data.root of training means.
        annotation_size: Side in pixels of the images that the boxes were drawn in, 1024 for the original ones, if those
            at hand are copies of another size.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, or squash.
        workers: Number of processes; one a CPU core if not given.
    """
    prepare(Rsna(root, annotation_size), out, Options(size, resize, ["FRONTAL"]), workers)


class Rsna:
    """The files of RSNA Pneumonia, as `medvlp.prepare.dataset.DataSet`."""

    regions = None
    documented = IMAGES
    splits: Mapping[str, SplitVariant] = {
        "mgca_16010": SplitVariant(
            "as MGCA splits for detection: train_test_split of the sorted unique patientIds, seed 0, 10,674 of 26,684 "
            "being test and validate, and those again in half",
            {"train": 16_010, "validate": 5_337, "test": 5_337},
        ),
        "70_15_15": SplitVariant(
            "as mgca_16010, 8,006 of 26,684 being test and validate: MGCA's code for classification",
            {"train": 18_678, "validate": 4_003, "test": 4_003},
        ),
    }

    def __init__(self, root: Path, annotation_size: int | None) -> None:
        """Find everything that will be read.

        Args:
            root: Folder of the data set.
            annotation_size: Side of the images that the boxes were drawn in; None for that of the images in root.

        Raises:
            NotFoundError: If something is not there.
            UserError: If annotation_size is no size.
        """
        from medvlp.prepared import SYNTHETIC

        self.table = require_table(root, TABLE, HOW)
        if not (root / FOLDER).is_dir():
            raise NotFoundError(f"--root='{root}' holds no folder '{FOLDER}'. {HOW}")
        if annotation_size is not None and annotation_size < 1:
            raise UserError(f"--annotation_size={annotation_size} must be at least 1.")
        self.images = root
        self.real_images = [os.path.realpath(root), os.path.realpath(root / FOLDER)]
        self.annotations = Boxes(masks=True, side=annotation_size)
        self.options: dict[str, object] = {
            "dataset": "rsna",
            "annotation_size": annotation_size,
            "synthetic": (root / SYNTHETIC).is_file(),
        }
        self.labels = [LABEL]
        self.rows = 0

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, in the order of the table."""
        boxes = group_objects(read_table(self.table, COLUMNS, skip), read_box, skip)
        self.rows = len(boxes)
        # Sorted, as pandas' groupby leaves them to MGCA; the table itself is in another order.
        variants = {name: mgca_split(sorted(boxes), scaled(rest, IMAGES, len(boxes))) for name, rest in REST.items()}
        paths = find_images(self.images, self.images / FOLDER)
        for image_id, found in boxes.items():
            # Where there is no file, the name that it should have is reported as missing.
            path = paths.pop(image_id, f"{FOLDER}/{image_id}.dcm")
            if found is not None:
                picture = Picture(image_id, "FRONTAL", path, annotation=boxes_text(found))
                labels: list[int | None] = [int(bool(found))]
                split_of = {name: splits[image_id] for name, splits in variants.items()}
                yield Study(image_id, image_id, split_of.pop("mgca_16010"), [picture], labels, other_splits=split_of)
        for image_id in paths:
            skip(image_id, "not in the label table")


def read_box(fields: Sequence[str]) -> Box | None:
    """Return the box of a row's x, y, width, height and Target, or None if Target is 0.

    Raises:
        LeftOutError: If they are no box.
    """
    *numbers, target = fields
    if target == "0" and not any(numbers):
        return None
    try:
        x, y, width, height = map(float, numbers)
    except ValueError:
        x = y = width = height = math.nan
    if target != "1" or not (math.isfinite(x + y) and 0 < width < math.inf and 0 < height < math.inf):
        raise LeftOutError("unreadable row: box or Target")
    return Box(LABEL, x, y, x + width, y + height)
