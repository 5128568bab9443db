"""MS-CXR: phrases of reports with boxes by radiologists, in images of MIMIC-CXR.

Boecking et al., Making the Most of Text Semantics to Improve Biomedical Vision-Language Processing, ECCV 2022,
https://arxiv.org/abs/2204.09817; https://physionet.org/content/ms-cxr/.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations import Box
from medvlp.prepare.annotations.boxes import Boxes, boxes_text, read_corners
from medvlp.prepare.annotations.objects import group_objects
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import real_paths, require_folder
from medvlp.prepare.layouts.mimic_tables import folder
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.split_tables import read_splits
from medvlp.prepare.splits import SplitVariant
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import read_table, require_table, require_version
from medvlp.prepared import Resize

TABLE = "MS_CXR_Local_Alignment_v*.csv"
METADATA = "mimic-cxr-2.0.0-metadata"
STAND_IN = "'medvlp phantom --layouts ms_cxr' writes a synthetic stand-in of both."
HOW = {
    "root": "Download MS-CXR from https://physionet.org/content/ms-cxr/ (credentialed access) and give the folder that "
    f"holds {TABLE}. {STAND_IN}",
    "images": "Download MIMIC-CXR-JPG 2.0.0 from https://physionet.org/content/mimic-cxr-jpg/2.0.0/ (credentialed "
    f"access) and give the folder that holds {METADATA}.csv and 'files'. {STAND_IN}",
}
COLUMNS = ["dicom_id", "category_name", "label_text", "x", "y", "w", "h", "image_width", "image_height"]
CATEGORIES = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Lung Opacity",
    "Pleural Effusion",
    "Pneumonia",
    "Pneumothorax",
]


def ms_cxr(
    root: Path,
    images: Path,
    out: Path,
    size: int = 256,
    resize: Resize = "pad",
    views: str = "PA,AP",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare MS-CXR: images with phrases, and the boxes of the phrases.

    The same command resumes an interrupted run.

    Args:
        root: Folder with MS_CXR_Local_Alignment_v1.1.0.csv or another version, or the folder around it. The last of
            several versions counts.
        images: Folder of MIMIC-CXR-JPG 2.0.0, with its metadata table and 'files', which needs the images of MS-CXR
            alone.
        out: Folder to write, the --data.root of training.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        views: Values of ViewPosition to keep, separated by commas.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    prepare(
        MsCxr(root, images), out, Options(size, resize, parse_views(views), leave_out=parse_flags(leave_out)), workers
    )


class MsCxr(DataSet):
    """The table of MS-CXR and the images of MIMIC-CXR-JPG.

    A label with a boxed phrase is present. The others are unknown, not absent.
    """

    labels = CATEGORIES
    # Boxes are shares of the image: its size in the table may differ from that of the file.
    annotations = Boxes(masks=False, side=1)
    splits: Mapping[str, SplitVariant] = {
        # The first version with them is 1.1.0.
        "official": SplitVariant("the split of the table, by patient; where a version has none, all images are test"),
        "all": SplitVariant("all images are test, as BioViL and MaCo measure"),
    }

    def __init__(self, root: Path, images: Path) -> None:
        """Find all files.

        Args:
            root: Folder of the table.
            images: Folder of MIMIC-CXR-JPG.

        Raises:
            NotFoundError: If a file or folder is missing.
        """
        # PhysioNet has a folder for each version.
        self.table = require_version(root, [TABLE, f"*/{TABLE}"], HOW["root"])
        self.images = images
        self.metadata = require_table(images, METADATA, HOW["images"], argument="images")
        files = require_folder(images, ["files"], HOW["images"], "images")
        self.real_images = real_paths(images, files)
        self.options = identity("ms_cxr", images, table=self.table.name.removesuffix(".gz"))

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, in the order of the table."""
        boxes_of = group_objects(read_table(self.table, COLUMNS, skip), read_box, skip)
        self.rows = len(boxes_of)
        splits = read_splits(self.table, "dicom_id", skip) or dict.fromkeys(boxes_of, "test")
        metadata = self._read_metadata(boxes_of)
        for image_id, boxes in boxes_of.items():
            if image_id not in metadata:
                skip(image_id, "not in the metadata table")
            elif boxes:
                subject, study, view = metadata[image_id]
                path = f"files/{folder(subject)}s{study}/{image_id}.jpg"
                names = {box.name for box in boxes}
                yield Study(
                    study_id=str(study),
                    subject_id=str(subject),
                    split=splits.get(image_id, ""),
                    pictures=[Picture(image_id, view, path, annotation=boxes_text(boxes))],
                    labels=[1 if name in names else None for name in CATEGORIES],
                    other_splits={"all": "test"},
                )

    def _read_metadata(self, images: Mapping[str, object]) -> dict[str, tuple[int, int, str]]:
        """Return subject, study and view of these images."""
        metadata = {}
        columns = ["dicom_id", "subject_id", "study_id", "ViewPosition"]
        for _, (image_id, subject, study, view) in read_table(self.metadata, columns, lambda *_: None):
            if image_id in images and subject.isdecimal() and study.isdecimal():
                metadata[image_id] = (int(subject), int(study), view)
        return metadata


def read_box(fields: Sequence[str]) -> Box:
    """Return the box of a row, in shares of its image.

    Args:
        fields: Fields of COLUMNS without the first.

    Raises:
        LeftOutError: If they are not the box of a phrase of one of CATEGORIES.
    """
    name, phrase, *texts = fields
    try:
        x1, y1, x2, y2 = read_corners(texts[:4], sized=True)
        columns, rows = map(float, texts[4:])
    except ValueError:
        raise LeftOutError("unreadable row: box or size") from None
    if not (0 < columns < math.inf and 0 < rows < math.inf):
        raise LeftOutError("unreadable row: box or size")
    if name not in CATEGORIES:
        raise LeftOutError(f"unreadable row: category '{name}'")
    if not phrase.strip():
        raise LeftOutError("unreadable row: no label_text")
    return Box(name, x1 / columns, y1 / rows, x2 / columns, y2 / rows, phrase.strip())
