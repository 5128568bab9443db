"""RSNA Pneumonia Detection Challenge, stage 2: chest radiographs with boxes around possible pneumonia.

Shih et al., Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations of Possible
Pneumonia, Radiology: Artificial Intelligence 1(1), 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Box
from medvlp.prepare.boxes import Boxes, boxes_text
from medvlp.prepare.object_table import ObjectTable
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, mgca_split, scaled
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
# Number of images outside train, by variant; half of them are test.
REST = {"mgca_16010": 2 * 5_337, "70_15_15": 2 * 4_003}


def rsna(
    root: Path,
    out: Path,
    annotation_size: int | None = None,
    size: int = 256,
    resize: Resize = "pad",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare RSNA Pneumonia: images, labels, boxes, and the masks that they fill.

    The same command resumes an interrupted run.

    Args:
        root: Folder with stage_2_train_labels.csv and 'stage_2_train_images', of DICOM, png or jpg.
        out: Folder to write, the --data.root of training.
        annotation_size: Side of the annotated images in pixels, if the images in root have another size; 1024 for the
            original ones.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    prepare(
        Rsna(root, annotation_size), out, Options(size, resize, ["FRONTAL"], leave_out=parse_flags(leave_out)), workers
    )


class Rsna(ObjectTable[Box]):
    """The files of RSNA Pneumonia."""

    name, how = "rsna", HOW
    table_names, folder_names, columns, label = (TABLE,), (FOLDER,), COLUMNS, LABEL
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
        """Find all files; see `ObjectTable`."""
        super().__init__(root, annotation_size)
        self.annotations = Boxes(masks=True, side=annotation_size)

    def read_object(self, fields: Sequence[str]) -> Box | None:
        """Return the box of a row; see `ObjectTable`.

        Args:
            fields: x, y, width, height and Target of the row. Target 0 stands for no box.
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

    def annotation(self, objects: Sequence[Box]) -> str:
        """Return the boxes of an image as text."""
        return boxes_text(objects)

    def split_images(self, images: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the split of each image by each variant; see `ObjectTable`."""
        # MGCA splits the patients as pandas' groupby leaves them, sorted; the table has another order.
        names = sorted(images)
        return {variant: mgca_split(names, scaled(rest, IMAGES, len(names))) for variant, rest in REST.items()}
