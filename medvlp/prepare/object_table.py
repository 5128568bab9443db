"""Data sets of one image folder and one table of drawn objects: RSNA Pneumonia and SIIM-ACR Pneumothorax."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from medvlp.errors import UserError
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.files import find_images, require_folder
from medvlp.prepare.objects import group_objects
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import find_table, read_table, require_table
from medvlp.prepared import SYNTHETIC

Item = TypeVar("Item")


class ObjectTable(DataSet, Generic[Item]):
    """The files of such a data set. An image is a study and a patient of its own, and has one label.

    Attributes:
        name: The data set in the manifest.
        how: How to get the data, for errors.
        table_names: Names of the table, without suffix, the usual one first. Another one is noted in the manifest.
        folder_names: Names of the image folder, the usual one first. Another table has images in several of them.
        columns: Columns of the table; the first names the image.
        label: Name of the label: present if the image has an object.
    """

    name: ClassVar[str]
    how: ClassVar[str]
    table_names: ClassVar[Sequence[str]]
    folder_names: ClassVar[Sequence[str]]
    columns: ClassVar[Sequence[str]]
    label: ClassVar[str]

    def __init__(self, root: Path, annotation_size: int | None) -> None:
        """Find all files.

        Args:
            root: Folder of the data set.
            annotation_size: Side in pixels of the annotated images; None for the size of the images in root.

        Raises:
            NotFoundError: If the table or the image folder is missing.
            UserError: If annotation_size is below 1.
        """
        usual, *others = self.table_names
        name = next((name for name in self.table_names if find_table(root, name)), usual)
        self.table = require_table(root, name, self.how)
        folder = require_folder(root, self.folder_names, self.how)
        more = [root / other for other in self.folder_names if (root / other).is_dir()] if name in others else []
        self.folders = [folder, *(other for other in more if other != folder)]
        if annotation_size is not None and annotation_size < 1:
            raise UserError(f"--annotation_size={annotation_size} must be at least 1.")
        self.images = root
        self.real_images = [os.path.realpath(path) for path in (root, *self.folders)]
        self.options = {
            "dataset": self.name,
            "annotation_size": annotation_size,
            "synthetic": (root / SYNTHETIC).is_file(),
        }
        if name in others:
            self.options["table"] = f"{name}.csv"
        self.labels = [self.label]

    @abstractmethod
    def read_object(self, fields: Sequence[str]) -> Item | None:
        """Return the object of a row; None if the row states that the image has none.

        Args:
            fields: The row without the image.

        Raises:
            LeftOutError: If the row cannot be read.
        """

    @abstractmethod
    def annotation(self, objects: Sequence[Item]) -> str:
        """Return the objects of an image as `annotations` reads them."""

    @abstractmethod
    def split_images(self, images: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """Return the split of each image by each variant.

        Args:
            images: Names in the order of the table.
        """

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, in the order of the table."""
        objects_of = group_objects(read_table(self.table, self.columns, skip), self.read_object, skip)
        self.rows = len(objects_of)
        variants = self.split_images([*objects_of])
        paths = find_images(self.images, *self.folders)
        default, *_ = self.splits
        for image_id, objects in objects_of.items():
            # The expected name of a file that is not there is reported as missing.
            path = paths.pop(image_id, f"{self.folders[0].name}/{image_id}.dcm")
            if objects is None:
                continue
            picture = Picture(image_id, "FRONTAL", path, annotation=self.annotation(objects))
            split_of = {variant: splits[image_id] for variant, splits in variants.items()}
            labels: list[int | None] = [int(bool(objects))]
            yield Study(image_id, image_id, split_of.pop(default), [picture], labels, other_splits=split_of)
        for image_id in paths:
            skip(image_id, "not in the label table")
