"""SIIM-ACR Pneumothorax Segmentation: chest radiographs with masks of pneumothoraces.

https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation, 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Annotation
from medvlp.prepare.named_masks import outline
from medvlp.prepare.object_table import ObjectTable
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, mgca_split, scaled
from medvlp.prepared import Resize
from medvlp.run_lengths import EMPTY

HOW = (
    "Download it from https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation and give the folder that holds "
    "train-rle.csv and 'dicom-images-train', or stage_2_train.csv and the images of stage 1, in 'dicom-images-train' "
    "and 'dicom-images-test'. 'medvlp phantom --layouts siim' writes a synthetic stand-in."
)
# Two names of one table. In stage 2 the test images of stage 1 came to the training images.
TABLES = ("train-rle", "stage_2_train")
FOLDERS = ("dicom-images-train", "dicom-images-test", "stage_2_images", "stage_2_train_images")
LABEL = "Pneumothorax"
IMAGES, REST = 12_047, 2 * 1_807


def siim(
    root: Path,
    out: Path,
    annotation_size: int | None = None,
    size: int = 256,
    resize: Resize = "pad",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare SIIM-ACR Pneumothorax: images, labels and masks.

    The same command resumes an interrupted run.

    Args:
        root: Folder with train-rle.csv and 'dicom-images-train', of DICOM, png or jpg, with or without folders for
            studies and series. With stage_2_train.csv, the images may lie in 'dicom-images-test' and 'stage_2_images',
            too.
        out: Folder to write, the --data.root of training.
        annotation_size: Side of the annotated images in pixels, if the images in root have another size; 1024 for the
            original ones.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    prepare(
        Siim(root, annotation_size), out, Options(size, resize, ["FRONTAL"], leave_out=parse_flags(leave_out)), workers
    )


class Siim(ObjectTable[str]):
    """The files of SIIM-ACR. Its table does not name patients: each image counts as one."""

    name, how = "siim", HOW
    table_names, folder_names, columns, label = TABLES, FOLDERS, ("ImageId", "EncodedPixels"), LABEL
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
        """Find all files; see `ObjectTable`."""
        super().__init__(root, annotation_size)
        self.annotations = RunLengths(annotation_size)

    def read_object(self, fields: Sequence[str]) -> str | None:
        """Return the run-length code of a row; None if it stands for no pneumothorax. See `ObjectTable`."""
        code = fields[0].strip()
        if not code:
            raise LeftOutError("unreadable row: EncodedPixels")
        return None if code == EMPTY else code

    def annotation(self, objects: Sequence[str]) -> str:
        """Return the run-length codes of an image, separated by semicolons."""
        return ";".join(objects)

    def split_images(self, images: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the split of each image by each variant; see `ObjectTable`."""
        return {"images": mgca_split(images, scaled(REST, IMAGES, len(images)))}


@dataclass(frozen=True)
class RunLengths:
    """The reader of run-length codes separated by semicolons; see `medvlp.prepare.annotations.AnnotationSource`.

    Attributes:
        side: Side in pixels of the annotated images, which are squares; None for the size of the images at hand.
    """

    side: int | None
    masks: bool = True

    def read(self, text: str, height: int, width: int) -> Annotation:
        """Return the mask, and a box around the part of each code; see `AnnotationSource`."""
        return outline(filter(None, text.split(";")), LABEL, self.side, height, width)
