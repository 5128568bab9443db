"""SIIM-ACR Pneumothorax Segmentation: chest radiographs with masks of pneumothoraces.

Kaggle hands out stage_2_train.csv, whose 12,047 images are those of both folders of stage 1. Mirrors have these folders
with train-rle.csv, which names all of them or only the 10,675 labelled ones of 'dicom-images-train'. A copy in png has
masks in png. Its tables and stage_2_train.csv were not seen: their columns are those that public code reads.

https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation, 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from medvlp.errors import UserError
from medvlp.prepare.annotations.masks import MaskFiles
from medvlp.prepare.annotations.named_masks import NamedMasks, read_code
from medvlp.prepare.annotations.object_table import ObjectTable
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import real_paths, require_folder
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, mgca_split, scaled
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import require_table
from medvlp.prepared import Resize

HOW = (
    "Download it from https://www.kaggle.com/c/siim-acr-pneumothorax-segmentation and give the folder that holds "
    "train-rle.csv or stage_2_train.csv and the images, in 'dicom-images-train' and 'dicom-images-test' or in "
    "'stage_2_images'; or the copy in png, https://www.kaggle.com/datasets/vbookshelf/pneumothorax-chest-xray-images-"
    "and-masks, the folder that holds 'png_images'. 'medvlp phantom --layouts siim' writes a synthetic stand-in."
)
# Tables of stage 1 and, with the test images of stage 1 among its images, of stage 2.
TABLES = ("train-rle", "stage_2_train")
FOLDERS = ("dicom-images-train", "dicom-images-test", "stage_2_images", "stage_2_train_images")
# Folders and tables of the copy in png.
PNG_IMAGES, PNG_MASKS = "png_images", "png_masks"
PNG_TABLES = ("stage_1_train_images", "stage_1_test_images")
PNG_COLUMNS = ("new_filename", "ImageId", "has_pneumo")
LABEL = "Pneumothorax"
IMAGES, REST = 12_047, 2 * 1_807
SPLITS: Mapping[str, SplitVariant] = {
    # MGCA splits the rows of the table, so that images with several rows are in several splits.
    "images": SplitVariant(
        "as MGCA, but by image: train_test_split of the unique ImageIds in the order of the table, seed 0, 3,614 of "
        "12,047 being test and validate, and those again in half",
        {"train": 8_433, "validate": 1_807, "test": 1_807},
    )
}


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
        root: Folder with train-rle.csv, stage_2_train.csv or both, and the images, of DICOM, png or jpg, with or
            without folders for studies and series, in 'dicom-images-train', 'dicom-images-test', 'stage_2_images' or
            several of them. Or the copy in png, with 'png_images', 'png_masks' and two tables.
        out: Folder to write, the --data.root of training.
        annotation_size: Side of the annotated images in pixels, if the images in root have another size; 1024 for the
            original ones.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    is_png = (root / PNG_IMAGES).is_dir()
    if is_png and annotation_size is not None:
        raise UserError(f"--annotation_size does not go with '{PNG_IMAGES}', whose masks are images: leave it out.")
    data: DataSet = SiimPng(root) if is_png else Siim(root, annotation_size)
    prepare(data, out, Options(size, resize, ["FRONTAL"], leave_out=parse_flags(leave_out)), workers)


class Siim(ObjectTable[str]):
    """The files of SIIM-ACR. Its table does not name patients: each image counts as one."""

    name, how = "siim", HOW
    table_names, folder_names, columns, label = TABLES, FOLDERS, ("ImageId", "EncodedPixels"), LABEL
    documented = IMAGES
    splits = SPLITS

    def __init__(self, root: Path, annotation_size: int | None) -> None:
        """Find all files; see `ObjectTable`."""
        super().__init__(root, annotation_size)
        self.annotations = NamedMasks(annotation_size)

    def read_object(self, fields: Sequence[str]) -> str | None:
        """Return the run-length code of a row; None if it stands for no pneumothorax. See `ObjectTable`."""
        return read_code(fields)

    def annotation(self, objects: Sequence[str]) -> str:
        """Return the run-length codes of an image as text."""
        return NamedMasks.write({LABEL: objects})

    def split_images(self, images: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the split of each image by each variant; see `ObjectTable`."""
        return {"images": _split(images)}


class SiimPng(DataSet):
    """The files of the copy in png. An image is named by its ImageId, as in the tables of the challenge."""

    labels = (LABEL,)
    documented = IMAGES
    splits = SPLITS

    def __init__(self, root: Path) -> None:
        """Find all files.

        Args:
            root: Folder of the copy.

        Raises:
            NotFoundError: If a file or folder is missing.
        """
        self.images = root
        self.tables = [require_table(root, name, HOW) for name in PNG_TABLES]
        folders = [require_folder(root, [name], HOW) for name in (PNG_IMAGES, PNG_MASKS)]
        self.real_images = real_paths(root, *folders)
        self.annotations = MaskFiles(root, self.real_images, LABEL)
        self.options = identity("siim", root, masks=PNG_MASKS)

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, in the order of the tables."""
        rows: dict[str, tuple[str, str]] = {}
        for table in self.tables:
            for place, (name, image_id, present) in self.counted_rows(table, PNG_COLUMNS, skip):
                if not (name and image_id) or present not in ("0", "1"):
                    skip(place, "unreadable row: new_filename, ImageId or has_pneumo")
                elif image_id in rows:
                    skip(place, "duplicate id")
                else:
                    rows[image_id] = (name, present)
        split_of = _split([*rows])
        for image_id, (name, present) in rows.items():
            mask = f"{present} {PNG_MASKS}/{name}"
            picture = Picture(image_id, "FRONTAL", f"{PNG_IMAGES}/{name}", annotation=mask)
            yield Study(image_id, image_id, split_of[image_id], [picture], [int(present)])


def _split(images: Sequence[str]) -> dict[str, str]:
    return mgca_split(images, scaled(REST, IMAGES, len(images)))
