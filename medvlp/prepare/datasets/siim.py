"""SIIM-ACR Pneumothorax Segmentation: chest radiographs with masks of pneumothoraces.

https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation, 2019.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medvlp.errors import LeftOutError, NotFoundError, UserError
from medvlp.prepare.annotations import Annotation, Box
from medvlp.prepare.files import find_images
from medvlp.prepare.objects import group_objects
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.splits import SplitVariant, mgca_split, scaled
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import read_table, require_table
from medvlp.prepared import Resize
from medvlp.run_lengths import EMPTY, decode

HOW = (
    "Download it from https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation and give the folder that holds "
    "train-rle.csv and 'dicom-images-train'. 'medvlp phantom --layouts siim' writes a synthetic stand-in."
)
TABLE = "train-rle"
FOLDER = "dicom-images-train"
LABEL = "Pneumothorax"
IMAGES, REST = 12_047, 2 * 1_807


def siim(
    root: Path,
    out: Path,
    annotation_size: int | None = None,
    size: int = 256,
    resize: Resize = "pad",
    workers: int | None = None,
) -> None:
    """Prepare SIIM-ACR Pneumothorax: images, labels and masks to one folder.

    Can be interrupted at any moment; the same command goes on where it stopped.

    Args:
        root: Folder with train-rle.csv and 'dicom-images-train', of DICOM, png or jpg, in folders of their studies and
            series or not.
        out: Folder to write; it is what --data.root of training means.
        annotation_size: Side in pixels of the images that were annotated, 1024 for the original ones, if those at hand
            are copies of another size.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, or squash.
        workers: Number of processes; one a CPU core if not given.
    """
    prepare(Siim(root, annotation_size), out, Options(size, resize, ["FRONTAL"]), workers)


class Siim:
    """The files of SIIM-ACR, as `medvlp.prepare.dataset.DataSet`."""

    regions = None
    documented = IMAGES
    splits: Mapping[str, SplitVariant] = {
        # MGCA splits the rows of the table, so that images with several rows are in several splits.
        "images": SplitVariant(
            "as MGCA, but by image: train_test_split of the unique ImageIds in the order of the table, seed 0, 3,614 "
            "of 12,047 being test and validate, and those again in half",
            {"train": 8_433, "validate": 1_807, "test": 1_807},
        )
    }

    def __init__(self, root: Path, annotation_size: int | None) -> None:
        """Find everything that will be read.

        Args:
            root: Folder of the data set.
            annotation_size: Side of the images that were annotated; None for that of the images in root.

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
        self.annotations = RunLengths(annotation_size)
        self.options: dict[str, object] = {
            "dataset": "siim",
            "annotation_size": annotation_size,
            "synthetic": (root / SYNTHETIC).is_file(),
        }
        self.labels = [LABEL]
        self.rows = 0

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, in the order of the table."""
        codes = group_objects(read_table(self.table, ["ImageId", "EncodedPixels"], skip), read_code, skip)
        self.rows = len(codes)
        split_of = mgca_split([*codes], scaled(REST, IMAGES, len(codes)))
        paths = find_images(self.images, self.images / FOLDER)
        for image_id, found in codes.items():
            # Where there is no file, the name that it should have is reported as missing.
            path = paths.pop(image_id, f"{FOLDER}/{image_id}.dcm")
            if found is not None:
                picture = Picture(image_id, "FRONTAL", path, annotation=";".join(found))
                # The table does not say which images are of one patient.
                yield Study(image_id, image_id, split_of[image_id], [picture], [int(bool(found))])
        for image_id in paths:
            skip(image_id, "not in the label table")


def read_code(fields: Sequence[str]) -> str | None:
    """Return the run-length code of a row, or None if it says that there is no pneumothorax.

    Raises:
        LeftOutError: If it is empty.
    """
    code = fields[0].strip()
    if not code:
        raise LeftOutError("unreadable row: EncodedPixels")
    return None if code == EMPTY else code


@dataclass(frozen=True)
class RunLengths:
    """Reads run-length codes separated by semicolons, as `medvlp.prepare.annotations.AnnotationSource`.

    Attributes:
        side: Side in pixels of the square images that were annotated, if those at hand are copies of another size.
    """

    side: int | None
    masks: bool = True

    def read(self, text: str, height: int, width: int) -> Annotation:
        """Return the mask, and a box around the part that each code gives; see `AnnotationSource`."""
        rows, columns = (height, width) if self.side is None else (self.side, self.side)
        mask = np.zeros((rows, columns), np.bool_)
        boxes: list[Box] = []
        for code in filter(None, text.split(";")):
            try:
                part = decode(code, rows, columns)
            except ValueError as error:
                raise LeftOutError(f"unreadable run-length code: {error}") from None
            ys, xs = (np.flatnonzero(part.any(axis)) for axis in (1, 0))
            if not len(xs):
                raise LeftOutError("unreadable run-length code: no pixels")
            mask |= part
            x1, x2, y1, y2 = xs[0] * width, (xs[-1] + 1) * width, ys[0] * height, (ys[-1] + 1) * height
            boxes.append(Box(LABEL, float(x1 / columns), float(y1 / rows), float(x2 / columns), float(y2 / rows)))
        return Annotation(boxes, mask)
