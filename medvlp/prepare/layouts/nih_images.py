"""The images of NIH ChestX-ray14, which are in other data sets, too: their folders, their side and their patients.

A front end of such a data set gives an image the `subject_id` that `nih` gives it, so that the patients of prepared
folders can be compared: 1335 for 00001335_006.png.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from medvlp.prepare.json_lists import read_objects
from medvlp.prepare.study import Skip

# Side of the published images in pixels; boxes refer to it.
SIDE = 1024
NAME = re.compile(r"(\d{1,8})_\d+\.(?:png|jpe?g)", re.ASCII | re.IGNORECASE)


def image_folders(root: Path) -> list[Path]:
    """Return the folders of images in the folder of the data set."""
    return [path for path in (root / "images", *sorted(root.glob("images_*/images"))) if path.is_dir()]


def patient_of(image: object) -> str | None:
    """Return the patient of an image by its name in ChestX-ray14; None for another name."""
    found = NAME.fullmatch(image) if isinstance(image, str) else None
    return str(int(found[1])) if found else None


def read_patients(mappings: Path, skip: Skip) -> Mapping[str, str]:
    """Return the patient of each image of the RSNA challenge.

    Args:
        mappings: pneumonia-challenge-dataset-mappings_2018.json: a list of objects with `subset_img_id`, the name of an
            image in the challenge, and `img_id`, its name in ChestX-ray14.
        skip: Called for each entry that cannot be used.

    Raises:
        UserError: If the file cannot be read.
    """
    patients: dict[str, str] = {}
    contradictory: set[str] = set()
    for place, image, patient in _entries(mappings, skip):
        if patients.setdefault(image, patient) != patient:
            skip(place, "unreadable entry: another img_id than above")
            contradictory.add(image)
    return {image: patient for image, patient in patients.items() if image not in contradictory}


def _entries(mappings: Path, skip: Skip) -> Iterator[tuple[str, str, str]]:
    for place, entry in read_objects(mappings, skip):
        image, patient = entry.get("subset_img_id"), patient_of(entry.get("img_id"))
        if isinstance(image, str) and image and patient:
            yield place, image, patient
        else:
            skip(place, "unreadable entry: subset_img_id or img_id")
