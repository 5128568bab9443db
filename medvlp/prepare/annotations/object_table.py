"""Data sets of one image folder and one table of drawn objects: RSNA Pneumonia and SIIM-ACR Pneumothorax."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import annotated_side
from medvlp.prepare.annotations.objects import group_objects
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import find_images, real_paths, require_folder
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import find_table, read_table, require_table

Item = TypeVar("Item")


class ObjectTable(DataSet, Generic[Item]):
    """The files of such a data set. An image is a study of its own, and has one label.

    Attributes:
        name: The data set in the manifest.
        how: How to get the data, for errors.
        table_names: Names of the table, without suffix, the usual one first. If there are several, the last one that
            names an image has its objects. Other tables than the usual one are noted in the manifest.
        folder_names: Names of the image folders, the usual one first. One of them is enough.
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
        usual, *_ = self.table_names
        names = [name for name in self.table_names if find_table(root, name)] or [usual]
        self.tables = [require_table(root, name, self.how) for name in names]
        require_folder(root, self.folder_names, self.how)
        self.folders = [root / name for name in self.folder_names if (root / name).is_dir()]
        self.images = root
        self.real_images = real_paths(root, *self.folders)
        self.options = identity(self.name, root, annotation_size=annotated_side(annotation_size))
        if names != [usual]:
            self.options["table"] = ", ".join(f"{name}.csv" for name in names)
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

    def patient(self, image_id: str) -> str:
        """Return the patient of an image: by default each image counts as one.

        Raises:
            LeftOutError: If it should be known and is not.
        """
        return image_id

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, in the order of the table."""
        objects_of = self._read_tables(skip)
        self.rows = len(objects_of)
        variants = self.split_images([*objects_of])
        paths = find_images(self.images, *self.folders)
        default, *_ = self.splits
        for image_id, objects in objects_of.items():
            # The expected name of a file that is not there is reported as missing.
            path = paths.pop(image_id, f"{self.folders[0].name}/{image_id}.dcm")
            if objects is None:
                continue
            try:
                patient = self.patient(image_id)
            except LeftOutError as error:
                skip(image_id, str(error))
                continue
            picture = Picture(image_id, "FRONTAL", path, annotation=self.annotation(objects))
            split_of = {variant: splits[image_id] for variant, splits in variants.items()}
            labels: list[int | None] = [int(bool(objects))]
            yield Study(image_id, patient, split_of.pop(default), [picture], labels, other_splits=split_of)
        for image_id in paths:
            skip(image_id, "not in the label table")

    def _read_tables(self, skip: Skip) -> dict[str, list[Item] | None]:
        """Return the objects of each image, None for an unusable one, in the order of the tables."""
        objects_of: dict[str, list[Item] | None] = {}
        for table in self.tables:
            grouped = group_objects(read_table(table, self.columns, skip), self.read_object, skip)
            left_out = {image_id for image_id, objects in objects_of.items() if objects is None}
            objects_of |= grouped | dict.fromkeys(left_out & grouped.keys())
        return objects_of
