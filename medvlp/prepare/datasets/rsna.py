"""RSNA Pneumonia Detection Challenge, stage 2: chest radiographs with boxes around possible pneumonia.

Its images are of NIH ChestX-ray14, several of one patient among them, though the table calls each of them a patient.
The file of mappings was not seen: its fields are those that public code reads.

Shih et al., Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations of Possible
Pneumonia, Radiology: Artificial Intelligence 1(1), 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from medvlp.errors import LeftOutError, NotFoundError
from medvlp.prepare.annotations import Box
from medvlp.prepare.annotations.boxes import Boxes, boxes_text, read_corners
from medvlp.prepare.annotations.object_table import ObjectTable
from medvlp.prepare.layouts.nih_images import read_patients
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, by_patient, mgca_split, scaled
from medvlp.prepare.study import Skip, Study
from medvlp.prepared import Resize

HOW = (
    "Download it from https://www.kaggle.com/c/rsna-pneumonia-detection-challenge/data (free registration) and give "
    "the folder that holds stage_2_train_labels.csv and 'stage_2_train_images'. "
    "'medvlp phantom --layouts rsna' writes a synthetic stand-in."
)
HOW_MAPPINGS = (
    "Download pneumonia-challenge-dataset-mappings_2018.json from "
    "https://www.rsna.org/artificial-intelligence/ai-image-challenge/rsna-pneumonia-detection-challenge-2018 "
    "and give this file."
)
TABLE = "stage_2_train_labels"
COLUMNS = ["patientId", "x", "y", "width", "height", "Target"]
FOLDER = "stage_2_train_images"
LABEL = "Pneumonia"
IMAGES = 26_684
# Number of images outside train, by variant; half of them are test.
TEST = 5_337
REST = {"mgca_16010": 2 * TEST, "70_15_15": 2 * 4_003}
PATIENTS = SplitVariant(
    "the sizes of mgca_16010, but all images of a patient of NIH ChestX-ray14 or none: 5,337 of 26,684 are test and as "
    "many of the rest validate, by sha256 of the patient"
)


def rsna(
    root: Path,
    out: Path,
    annotation_size: int | None = None,
    mappings: Path | None = None,
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
        mappings: pneumonia-challenge-dataset-mappings_2018.json of the RSNA, which names each image in NIH
            ChestX-ray14. Then the patients are those of 'medvlp prepare nih', and the splits have a variant by patient.
            Without it each image counts as a patient.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    data = Rsna(root, annotation_size, mappings)
    prepare(data, out, Options(size, resize, ["FRONTAL"], leave_out=parse_flags(leave_out)), workers)


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

    def __init__(self, root: Path, annotation_size: int | None, mappings: Path | None = None) -> None:
        """Find all files; see `ObjectTable`.

        Args:
            root: Folder of the data set.
            annotation_size: Side in pixels of the annotated images; None for the size of the images in root.
            mappings: The names of the images in NIH ChestX-ray14; None if they are not known.

        Raises:
            NotFoundError: If a file or folder is missing.
            UserError: If annotation_size is below 1.
        """
        super().__init__(root, annotation_size)
        self.annotations = Boxes(masks=True, side=annotation_size)
        self.mappings = mappings
        self.patients: Mapping[str, str] = {}
        if mappings is not None:
            if not mappings.is_file():
                raise NotFoundError(f"--mappings='{mappings}' is not there. {HOW_MAPPINGS}")
            self.options["patients"] = "nih"
            self.splits = {**self.splits, "patients": PATIENTS}

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, in the order of the table; see `ObjectTable`."""
        if self.mappings is not None:
            self.patients = read_patients(self.mappings, skip)
        yield from super().studies(skip)

    def patient(self, image_id: str) -> str:
        """Return the patient in NIH ChestX-ray14; without mappings, the image; see `ObjectTable`."""
        if self.mappings is None:
            return image_id
        if image_id not in self.patients:
            raise LeftOutError("not in the mappings: its patient is unknown")
        return self.patients[image_id]

    def read_object(self, fields: Sequence[str]) -> Box | None:
        """Return the box of a row; see `ObjectTable`.

        Args:
            fields: x, y, width, height and Target of the row. Target 0 stands for no box.
        """
        *numbers, target = fields
        if target == "0" and not any(numbers):
            return None
        if target != "1":
            raise LeftOutError("unreadable row: box or Target")
        try:
            return Box(LABEL, *read_corners(numbers, sized=True))
        except ValueError:
            raise LeftOutError("unreadable row: box or Target") from None

    def annotation(self, objects: Sequence[Box]) -> str:
        """Return the boxes of an image as text."""
        return boxes_text(objects)

    def split_images(self, images: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the split of each image by each variant; see `ObjectTable`."""
        # MGCA splits the patients as pandas' groupby leaves them, sorted; the table has another order.
        names = sorted(images)
        variants = {variant: mgca_split(names, scaled(rest, IMAGES, len(names))) for variant, rest in REST.items()}
        if self.mappings is not None:
            variants["patients"] = self._split_patients(names)
        return variants

    def _split_patients(self, names: Sequence[str]) -> dict[str, str]:
        """Return the split of each image by whole patients; empty for an image of an unknown one."""
        split_of = {name: "train" if name in self.patients else "" for name in names}
        for split in ("test", "validate"):
            rest = {name: self.patients[name] for name in names if split_of[name] == "train"}
            for name in by_patient(rest, scaled(TEST, IMAGES, len(names)), f"rsna {split}"):
                split_of[name] = split
        return split_of
