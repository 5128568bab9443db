"""Object-CXR: chest radiographs with foreign objects, annotated as rectangles, ellipses and polygons.

JF Healthcare, Object-CXR: Automatic Detection of Foreign Objects on Chest X-rays, MIDL 2020 challenge.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Annotation, Box, shapes
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import find_images, real_paths, require_folder
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, scaled, shuffled, split_by_variant
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import require_table
from medvlp.prepared import Resize

HOW = (
    "Object-CXR has train.csv, dev.csv and the folders 'train' and 'dev'; it was at https://jfhealthcare.github.io/"
    "object-CXR and is on https://academictorrents.com. 'medvlp phantom --layouts object_cxr' writes a synthetic "
    "stand-in."
)
LABEL = "Foreign Object"
RECTANGLE, ELLIPSE, POLYGON = "0", "1", "2"
# Greatest coordinate: larger than any radiograph, and safe for the arithmetic.
FARTHEST = 1e6
TRAIN, TEST = 8_000, 1_000
# Number of images of train.csv in validate, by variant.
VALIDATE = {"mgca": 1_600, "official_code": 800}


def object_cxr(
    root: Path,
    out: Path,
    size: int = 256,
    resize: Resize = "squash",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare Object-CXR: images, and boxes and masks of foreign objects.

    The same command resumes an interrupted run.

    Args:
        root: Folder with train.csv, dev.csv, 'train' and 'dev'.
        out: Folder to write, the --data.root of training.
        size: Side of the prepared images in pixels.
        resize: Squash, as MGCA does, or keep the aspect ratio and pad with black, or keep it and crop to the square.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    prepare(ObjectCxr(root), out, Options(size, resize, ["FRONTAL"], leave_out=parse_flags(leave_out)), workers)


class ObjectCxr(DataSet):
    """The files of Object-CXR."""

    documented = TRAIN + TEST
    splits: Mapping[str, SplitVariant] = {
        "mgca": SplitVariant(
            "dev.csv is test; of train.csv, 20 % are validate, the sizes that G2D and IMITATE report of MGCA's split: "
            "train_test_split in the order of the table, seed 0",
            {"train": 6_400, "validate": 1_600, "test": 1_000},
        ),
        "official_code": SplitVariant(
            "as mgca, with 10 % validate, as in MGCA's code", {"train": 7_200, "validate": 800, "test": 1_000}
        ),
    }

    def __init__(self, root: Path) -> None:
        """Find all files.

        Args:
            root: Folder of the data set.

        Raises:
            NotFoundError: If a file or folder is missing.
        """
        self.images = root
        self.tables = {part: require_table(root, part, HOW) for part in ("train", "dev")}
        self.folders = {part: require_folder(root, [part, f"{part}_image"], HOW) for part in self.tables}
        self.real_images = real_paths(root, *self.folders.values())
        self.annotations = Shapes()
        self.options = identity("object_cxr", root)
        self.labels = [LABEL]

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, those of dev.csv and then those of train.csv, in their order."""
        # dev.csv is read first: an image in both tables belongs to test.
        dev = self._read_rows("dev", {}, skip)
        train = self._read_rows("train", dev, skip)
        validate = {}
        for variant, documented in VALIDATE.items():
            count = scaled(documented, TRAIN, len(train))
            validate[variant] = set(shuffled([*train], [len(train) - count, count])[1])
        for part, rows in (("dev", dev), ("train", train)):
            paths = find_images(self.images, self.folders[part])
            for image_id, annotation in rows.items():
                stem, _ = os.path.splitext(image_id)
                # The expected name of a file that is not there is reported as missing.
                path = paths.pop(stem, f"{self.folders[part].name}/{image_id}")
                split_of = split_by_variant(image_id, validate, test=part == "dev")
                picture = Picture(image_id, "FRONTAL", path, annotation=annotation)
                labels: list[int | None] = [int(bool(annotation.strip("; ")))]
                yield Study(image_id, image_id, split_of.pop("mgca"), [picture], labels, other_splits=split_of)
            for stem in paths:
                skip(f"{part}/{stem}", "not in the label table")

    def _read_rows(self, part: str, others: Mapping[str, str], skip: Skip) -> dict[str, str]:
        """Return the annotations of a table by image, without the images in `others`."""
        annotations: dict[str, str] = {}
        columns = ["image_name", "annotation"]
        for place, (image_id, annotation) in self.counted_rows(self.tables[part], columns, skip):
            if not image_id:
                skip(place, "unreadable row: image_name")
            elif image_id in annotations or image_id in others:
                skip(place, "duplicate id")
            else:
                annotations[image_id] = annotation
        return annotations


class Shapes:
    """The reader of shapes; see `medvlp.prepare.annotations.contract.AnnotationSource`."""

    masks = True

    def read(self, text: str, height: int, width: int) -> Annotation:
        """Return the mask of all shapes, and the box around each; see `AnnotationSource`.

        Args:
            text: Shapes, separated by semicolons, as type and coordinates: `0 x1 y1 x2 y2` is a rectangle, `1 x1 y1 x2
                y2` the ellipse in it, `2 x1 y1 x2 y2 ...` a polygon.
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """
        mask = np.zeros((height, width), np.bool_)
        boxes: list[Box] = []
        for item in filter(None, map(str.split, text.split(";"))):
            kind, *fields = item
            try:
                points = np.array(fields, np.float64).reshape(-1, 2)
            except ValueError:
                raise LeftOutError("unreadable shape") from None
            if not len(points) or not (np.abs(points) < FARTHEST).all():
                raise LeftOutError("unreadable shape")
            # Deviation: MGCA uses a larger box around a polygon, symmetric to a point inside it.
            x1, y1, x2, y2 = (float(value) for value in (*points.min(axis=0), *points.max(axis=0)))
            if kind == POLYGON:
                shapes.polygon(mask, points)
            elif kind in (RECTANGLE, ELLIPSE) and len(points) == 2:
                draw = shapes.rectangle if kind == RECTANGLE else shapes.ellipse
                draw(mask, x1, y1, x2, y2)
            else:
                raise LeftOutError("unreadable shape")
            boxes.append(Box(LABEL, x1, y1, x2, y2))
        return Annotation(boxes, mask)
