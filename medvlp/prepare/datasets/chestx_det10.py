"""ChestX-Det10: 3,543 radiographs of NIH ChestX-ray14 with boxes of ten findings, drawn by three radiologists.

Liu, Lian and Yu, ChestX-Det10: Chest X-ray Dataset on Detection of Thoracic Abnormalities, 2020,
https://arxiv.org/abs/2006.10550. The folders of images were not seen. An image of a name unknown in ChestX-ray14 counts
as a patient: some copies have such names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from medvlp.prepare.annotations.box_lists import read_box_lists
from medvlp.prepare.annotations.boxes import Boxes, boxes_text
from medvlp.prepare.dataset import DataSet, identity
from medvlp.prepare.files import find_images, path_of, real_paths, require_folder
from medvlp.prepare.layouts.nih_images import SIDE, image_folders, patient_of
from medvlp.prepare.pipeline import prepare
from medvlp.prepare.plan import Options
from medvlp.prepare.screening import parse_flags
from medvlp.prepare.splits import SplitVariant, by_patient, scaled
from medvlp.prepare.study import Picture, Skip, Study
from medvlp.prepare.tables import require_table
from medvlp.prepared import Resize

HOW = (
    "Download train.json and test.json from https://github.com/Deepwise-AILab/ChestX-Det10-Dataset and give the folder "
    "that holds them. The images are those of NIH ChestX-ray14: give their folder by --images, or lay them into "
    "'train_data' and 'test_data'. 'medvlp phantom --layouts chestx_det10' writes a synthetic stand-in."
)
# Labels by their word in the lists. CheXpert's spelling, if it has the finding.
FINDINGS = {"Atelectasis": "Atelectasis", "Calcification": "Calcification", "Consolidation": "Consolidation"}
FINDINGS |= {"Effusion": "Pleural Effusion", "Emphysema": "Emphysema", "Fibrosis": "Fibrosis", "Fracture": "Fracture"}
FINDINGS |= {"Mass": "Mass", "Nodule": "Nodule", "Pneumothorax": "Pneumothorax"}
FOLDERS = ("test_data", "train_data")
TRAIN, VALIDATE, TEST = 3_001, 300, 542


def chestx_det10(
    root: Path,
    out: Path,
    images: Path | None = None,
    size: int = 256,
    resize: Resize = "pad",
    leave_out: str = "",
    workers: int | None = None,
) -> None:
    """Prepare ChestX-Det10: images, labels and boxes.

    The same command resumes an interrupted run.

    Args:
        root: Folder with train.json and test.json.
        out: Folder to write, the --data.root of training.
        images: Folder of NIH ChestX-ray14, or another one that has the images in it or below it. Without it they are in
            'train_data' and 'test_data' in root.
        size: Side of the prepared images in pixels.
        resize: Keep the aspect ratio and pad with black, squash, or keep it and crop to the square.
        leave_out: Flags whose images are left out, separated by commas, such as lateral,inverted; by default none.
        workers: Number of processes; one per CPU core if not given.
    """
    options = Options(size, resize, ["FRONTAL"], leave_out=parse_flags(leave_out))
    prepare(ChestXDet10(root, images), out, options, workers)


class ChestXDet10(DataSet):
    """The files of ChestX-Det10."""

    labels = tuple(FINDINGS.values())
    annotations = Boxes(masks=False, side=SIDE)
    documented = TRAIN + TEST
    splits: Mapping[str, SplitVariant] = {
        "official": SplitVariant(
            "test.json is test; of train.json, 300 of 3,001 images, all those of a patient or none, are validate, by "
            "sha256 of the patient",
            {"train": TRAIN - VALIDATE, "validate": VALIDATE, "test": TEST},
        ),
        "patients": SplitVariant("as official, and images of train.json of patients of test.json are in no split"),
    }

    def __init__(self, root: Path, images: Path | None = None) -> None:
        """Find all files.

        Args:
            root: Folder of the lists.
            images: Folder of the images; None if they are in root.

        Raises:
            NotFoundError: If a file or folder is missing.
        """
        # test.json comes first: an image in both lists belongs to test.
        self.lists = {part: require_table(root, part, HOW, ".json") for part in ("test", "train")}
        self.images = images or root
        if images is None:
            require_folder(root, FOLDERS, HOW)
            self.folders = [root / name for name in FOLDERS if (root / name).is_dir()]
        else:
            self.folders = image_folders(require_folder(images, [""], HOW, "images")) or [images]
        self.real_images = real_paths(self.images, *self.folders)
        self.options = identity("chestx_det10", self.images)

    def studies(self, skip: Skip) -> Iterator[Study]:
        """Yield each image as a study, those of test.json and then those of train.json, in their order."""
        boxes_of, split_of = read_box_lists(self.lists, FINDINGS, skip)
        self.rows = len(boxes_of)
        patients = {name: patient_of(name) or name for name in boxes_of}
        tested = {patients[name] for name, split in split_of.items() if split == "test"}
        train = {name: patients[name] for name, split in split_of.items() if split == "train"}
        split_of |= dict.fromkeys(by_patient(train, scaled(VALIDATE, TRAIN, len(train)), "chestx_det10"), "validate")
        paths = find_images(self.images, *self.folders)
        for name, boxes in boxes_of.items():
            if boxes is not None:
                patient, split = patients[name], split_of[name]
                path = path_of(paths, name, f"{FOLDERS[split != 'test']}/{name}")
                labels: list[int | None] = [int(label in {box.name for box in boxes}) for label in self.labels]
                picture = Picture(name, "FRONTAL", path, annotation=boxes_text(boxes))
                apart = {"patients": "" if split != "test" and patient in tested else split}
                yield Study(name, patient, split, [picture], labels, other_splits=apart)
