"""NIH ChestX-ray14: chest radiographs with 14 findings mined from their reports, and boxes in 880 of them.

Wang et al., ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised Classification and
Localization of Common Thorax Diseases, CVPR 2017, https://arxiv.org/abs/1705.02315.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from medvlp.errors import UserError
from medvlp.prepare.annotations import Box
from medvlp.prepare.annotations.boxes import Boxes, boxes_text, read_corners
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import find_images, missing, path_of, real_paths
from medvlp.prepare.layouts.nih_images import SIDE, image_folders
from medvlp.prepare.order import number_at_end
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options, parse_views
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, by_patient, scaled, shuffled, split_by_variant
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import find_table, read_lines, require_table
from medvlp.prepared import Resize

HOW = (
    "Download it from https://nihcc.app.box.com/v/ChestXray-NIHCC and give the folder that holds "
    "Data_Entry_2017_v2020.csv, BBox_List_2017.csv, train_val_list.txt, test_list.txt and the images, in 'images' or "
    "in 'images_001/images' and so on. Kaggle's copy, with Data_Entry_2017.csv, will do. 'medvlp phantom --layouts "
    "nih' writes a synthetic stand-in."
)
# Two versions of one table. In Kaggle's copy each line, including the header, ends with a comma.
TABLE, EARLIER = "Data_Entry_2017_v2020", "Data_Entry_2017"
# Labels by their word in the table, in the order of KAD. CheXpert's spelling, if it has the finding.
FINDINGS = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Effusion": "Pleural Effusion",
    "Infiltration": "Infiltration",
    "Mass": "Mass",
    "Nodule": "Nodule",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Emphysema": "Emphysema",
    "Fibrosis": "Fibrosis",
    "Pleural_Thickening": "Pleural Thickening",
    "Hernia": "Hernia",
    "No Finding": "No Finding",
}
# The table of boxes has another word for one of them.
BOXED = {**FINDINGS, "Infiltrate": "Infiltration"}
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h]"
TRAIN, VALIDATE, TEST = 77_872, 8_652, 25_596
SIZES = {"train": TRAIN, "validate": VALIDATE, "test": TEST}
SPLITS: Mapping[str, SplitVariant] = {
    # KAD draws validate by image, and its lists are not public.
    "kad": SplitVariant(
        "test_list.txt is test; of train_val_list.txt, a tenth of the images are validate, as many as in KAD's "
        "split but not the same ones: train_test_split of the sorted names, seed 0",
        SIZES,
    ),
    "patients": SplitVariant(
        "test_list.txt is test; of train_val_list.txt, as many images as in KAD's split are validate, all those of "
        "a patient or none, by sha256 of the patient",
        SIZES,
    ),
}


def nih(
    root: Path,
    out: Path,
    size: int = 256,
    resize: Resize = "pad",
    views: str = "PA,AP",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare NIH ChestX-ray14: images, labels and boxes.

    The same command resumes an interrupted run.

    Args:
        root: Folder with Data_Entry_2017_v2020.csv (or, in Kaggle's copy, Data_Entry_2017.csv, an earlier version of
            the labels), BBox_List_2017.csv, train_val_list.txt, test_list.txt and the images, in 'images' or in
            'images_001/images' and so on.
        out: Folder to write, the --data.root of training.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        views: PA, AP, or both separated by a comma.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    data = Nih(root)
    if note := data.note:
        print(note)
    prepare(data, out, Options(size, resize, parse_views(views), leave_out=parse_flags(leave_out)), workers)


class Row(NamedTuple):
    """An image in the table."""

    image_id: str
    patient: str
    view: str
    labels: list[int | None]


class Nih(DataSet):
    """The files of NIH ChestX-ray14."""

    annotations = Boxes(masks=False, side=SIDE)
    splits = SPLITS
    documented = TRAIN + VALIDATE + TEST

    def __init__(self, root: Path) -> None:
        """Find all files.

        Args:
            root: Folder of the data set.

        Raises:
            NotFoundError: If a file or folder is missing.
        """
        self.images = root
        earlier = find_table(root, EARLIER) if find_table(root, TABLE) is None else None
        self.table = earlier or require_table(root, TABLE, HOW)
        self.boxes = require_table(root, "BBox_List_2017", HOW)
        self.lists = {name: require_table(root, f"{name}_list", HOW, ".txt") for name in ("test", "train_val")}
        self.folders = image_folders(root)
        if not self.folders:
            raise missing(root, "no folder of images", HOW)
        self.real_images = real_paths(root, *self.folders)
        self.labels = list(FINDINGS.values())
        self.options = identity("nih", root)
        if earlier is not None:
            self.options["table"] = f"{EARLIER}.csv"

    @property
    def note(self) -> str:
        """A note about the version of the labels; empty for the latest one."""
        if "table" not in self.options:
            return ""
        return (
            f"The labels are those of {self.options['table']}, an earlier version than {TABLE}.csv. Manifest and "
            "results state it: figures on the two versions are not comparable."
        )

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, by name."""
        list_of = self._read_lists(skip)
        rows = self._read_rows(list_of, skip)
        boxes = self._read_boxes({row.image_id for row in rows}, skip)
        patients = {row.image_id: row.patient for row in rows if list_of[row.image_id] == "train_val"}
        count = scaled(VALIDATE, TRAIN + VALIDATE, len(patients))
        _, kad = shuffled(sorted(patients), [len(patients) - count, count])
        validate = {"kad": set(kad), "patients": by_patient(patients, count, "nih")}
        paths = find_images(self.images, *self.folders)
        for image_id, patient, view, labels in rows:
            split_of = split_by_variant(image_id, validate, test=list_of[image_id] == "test")
            path = path_of(paths, image_id, f"images/{image_id}")
            annotation = boxes_text(boxes[image_id]) if image_id in boxes else None
            picture = Picture(image_id, view, path, annotation=annotation)
            # The follow-up number.
            order = number_at_end(image_id.rpartition(".")[0])
            yield Study(image_id, patient, split_of.pop("kad"), [picture], labels, other_splits=split_of, order=order)

    def _read_lists(self, skip: Skip) -> dict[str, str]:
        """Return the list of each image; an image in both lists belongs to test."""
        list_of: dict[str, str] = {}
        for name, path in self.lists.items():
            for place, image_id in read_lines(path):
                if image_id in list_of:
                    skip(place, "duplicate id")
                else:
                    list_of[image_id] = name
        return list_of

    def _read_rows(self, list_of: Mapping[str, str], skip: Skip) -> list[Row]:
        """Return all images, sorted by name."""
        rows: dict[str, Row] = {}
        labels_of: dict[str, list[int | None]] = {}
        # The last two names of the header contain commas and so give two fields each; those before them are whole.
        columns = ["Image Index", "Finding Labels", "Patient ID", "View Position"]
        for place, (image_id, findings, patient, view) in self.counted_rows(self.table, columns, skip):
            words = findings.split("|")
            if not (image_id and patient):
                skip(place, "unreadable row: Image Index or Patient ID")
            elif others := [word for word in words if word not in FINDINGS]:
                skip(place, f"unreadable row: finding '{others[0]}'")
            elif image_id in rows:
                skip(place, "duplicate id")
            elif image_id not in list_of:
                skip(image_id, "not in the split table")
            else:
                # Findings that were not mined from the report count as absent, as in all work with these labels.
                labels = labels_of.setdefault(findings, [int(word in words) for word in FINDINGS])
                rows[image_id] = Row(image_id, patient, view, labels)
        for image_id in list_of:
            if image_id not in rows:
                skip(image_id, "not in the label table")
        return [rows[image_id] for image_id in sorted(rows)]

    def _read_boxes(self, images: set[str], skip: Skip) -> dict[str, list[Box]]:
        """Return the boxes of each image with any."""
        # A csv reader would reject it: the header has nine fields, and the rows have six.
        lines = read_lines(self.boxes)
        _, header = next(lines, ("", ""))
        if not header.startswith(BOX_HEADER):
            raise UserError(f"'{self.boxes}' does not begin with '{BOX_HEADER}', but with '{header[:60]}'.")
        boxes: dict[str, list[Box]] = {}
        for place, line in lines:
            image_id, *fields = line.rstrip(",").split(",")
            try:
                box = parse_box(fields)
            except ValueError as error:
                skip(place, f"unreadable row: {error}")
                continue
            if image_id not in images:
                skip(place, "box of an unknown image")
            elif box in boxes.setdefault(image_id, []):
                skip(place, "duplicate id")
            else:
                boxes[image_id].append(box)
        return boxes


def parse_box(fields: list[str]) -> Box:
    """Return a row of BBox_List_2017.csv as a box in pixels of the published image.

    Args:
        fields: Finding, left, top, width and height.

    Raises:
        ValueError: If they are not a box of one of BOXED; the message says why.
    """
    if len(fields) != 5:
        raise ValueError(f"{1 + len(fields)} fields, not 6")
    finding = fields[0]
    if finding not in BOXED:
        raise ValueError(f"finding '{finding}'")
    return Box(BOXED[finding], *read_corners(fields[1:], sized=True))
