"""PadChest: 160,861 images with the findings of their reports, a quarter of them read by physicians.

Bustos et al., PadChest: A large chest x-ray image dataset with multi-label annotated reports, Medical Image Analysis
66, 2020, https://arxiv.org/abs/1901.07441. The reports are no training text: they are Spanish words without endings.
The table is read as the makers and public code describe it; the files were not seen. The images have 16 bits; see
`medvlp.prepare.pixels.scale_to_bytes`. Some are said to be negatives: the screening flags those that it recognises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from medvlp.prepare.below import images_below
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import path_of
from medvlp.prepare.layouts.padchest_labels import PHYSICIAN, Labels, choose_labels, value_of, words
from medvlp.prepare.order import moment
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, hash_rule, hash_split
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import require_version
from medvlp.prepared import Resize

TABLE = "PADCHEST_chest_x_ray_images_labels_160K*.csv"
HOW = (
    "Ask for PadChest at https://bimcv.cipf.es/bimcv-projects/padchest/ (a form, no fee), unpack its archives, and "
    f"give the folder that holds {TABLE} and the images. "
    "'medvlp phantom --layouts padchest' writes a synthetic stand-in."
)
COLUMNS = ["ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "MethodLabel", "Labels"]
DATE = "StudyDate_DICOM"
# Words that say that an image is not to be used.
UNFIT = frozenset({"exclude", "suboptimal study"})
VIEWS = {"L": "LATERAL"}


def padchest(
    root: Path,
    out: Path,
    labels: Labels = "all",
    size: int = 256,
    resize: Resize = "pad",
    views: str = "PA,AP,AP_HORIZONTAL",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare PadChest: images and labels of up to 192 findings.

    The same command resumes an interrupted run. The split `physician` is the test set of CARZero and RadZero. Its
    39,053 images are of all views: --views PA,AP,AP_HORIZONTAL,LATERAL,COSTAL.

    Args:
        root: Folder with PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv and the images in any folders below.
        out: Folder to write, the --data.root of training.
        labels: All findings, those of the images that physicians labelled, or the 20 of these with the fewest images.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        views: Values of Projection to keep, separated by commas; LATERAL for L.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    options = Options(size, resize, parse_views(views), leave_out=parse_flags(leave_out))
    prepare(PadChest(root, labels), out, options, workers)


class PadChest(DataSet):
    """The files of PadChest."""

    documented = 160_861
    splits: Mapping[str, SplitVariant] = {
        "hash": SplitVariant(f"{hash_rule('patient')}, without images labelled exclude or suboptimal study"),
        "physician": SplitVariant(
            "all images that physicians labelled are test, as CARZero and RadZero measure",
            {"train": 0, "validate": 0, "test": 39_053},
        ),
    }

    def __init__(self, root: Path, labels: Labels) -> None:
        """Find all files, and the labels in the table.

        Args:
            root: Folder of the data set.
            labels: As in `choose_labels`.

        Raises:
            NotFoundError: If a file or folder is missing.
        """
        self.table, self.images = require_version(root, [TABLE], HOW), root
        self.paths, self.real_images = images_below(root, HOW, ["*.zip", "*/*.zip"], "Unpack all of them.")
        self.labels = choose_labels(self.table, labels)
        self.options = identity("padchest", root, labels=labels)

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, in the order of the table."""
        ids = set()
        for place, row in self.counted_rows(self.table, COLUMNS, skip, [DATE]):
            image_id, folder, study, patient, view, method, text, date = row
            if not (image_id and study and patient):
                skip(place, "unreadable row: ImageID, StudyID or PatientID")
            elif image_id in ids:
                skip(place, "duplicate id")
            else:
                ids.add(image_id)
                if not (found := words(text)):
                    skip(image_id, "no labels")
                    continue
                path = path_of(self.paths, image_id, f"{folder}/{image_id}")
                view = view.strip().upper()
                yield Study(
                    study_id=study,
                    subject_id=patient,
                    split="" if UNFIT & {*found} else hash_split(patient),
                    pictures=[Picture(image_id, VIEWS.get(view, view), path)],
                    labels=[value_of(name, found) for name in self.labels],
                    other_splits={"physician": "test" if method.strip().lower() == PHYSICIAN else ""},
                    order=moment(date),
                )
