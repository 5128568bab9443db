"""The metadata of ReXGradient-160K: a JSON object for each split, with an entry for each study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from medvlp.errors import LeftOutError
from medvlp.prepare.annotations.objects import DUPLICATE
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.entries import read_entries
from medvlp.prepare.files import missing, require_folder
from medvlp.prepare.study import Picture, Skip
from medvlp.prepare.words import read_view

# Beginnings of the names of the files.
SPLITS = {"train": "train", "validate": "valid", "test": "test"}


def find_metadata(root: Path, how: str) -> dict[str, Path]:
    """Return the file of each split.

    Args:
        root: Folder of the data set. Its content may lie in `download`, too.
        how: How to get the data, for the error.

    Raises:
        NotFoundError: If one is missing.
    """
    folder = require_folder(root, ["metadata", "download/metadata"], how)
    paths = {split: folder / f"{name}_metadata_view_position.json" for split, name in SPLITS.items()}
    absent = next((path for path in paths.values() if not path.is_file()), None)
    if absent:
        raise missing(root, f"no '{absent.relative_to(root)}'", how)
    return paths


def read_metadata(
    data: DataSet, paths: Mapping[str, Path], skip: Skip
) -> Iterator[tuple[str, str, dict[str, Any], list[Picture]]]:
    """Yield split, name, entry and images of each study, in the order of the files.

    Args:
        data: The data set, whose `rows` are counted.
        paths: The file of each split.
        skip: Called for each study and image that cannot be used.

    Raises:
        UserError: If a file cannot be read to its end.
    """
    studies: set[str] = set()
    images: set[str] = set()
    for split, path in paths.items():
        for study_id, entry in read_entries(path):
            place = f"{path.name}:{study_id}"
            try:
                pictures = read_pictures(entry)
            except LeftOutError as error:
                data.rows += 1
                skip(place, str(error))
                continue
            data.rows += len(pictures)
            new = []
            for picture in pictures:
                if study_id in studies or picture.image_id in images:
                    skip(f"{place}/{picture.image_id}", DUPLICATE)
                else:
                    images.add(picture.image_id)
                    new.append(picture)
            studies.add(study_id)
            yield split, study_id, entry, new


def read_pictures(entry: Any) -> list[Picture]:
    """Return the images of a study.

    Args:
        entry: Its entry in the metadata.

    Raises:
        LeftOutError: If it is not one.
    """
    if not isinstance(entry, dict) or not entry.get("PatientID"):
        raise LeftOutError("unreadable row: PatientID")
    paths = entry.get("ImagePath")
    if not isinstance(paths, list) or not all(path and isinstance(path, str) for path in paths):
        raise LeftOutError("unreadable row: ImagePath")
    views = entry.get("ImageViewPosition") or [None] * len(paths)
    if not isinstance(views, list) or len(views) != len(paths):
        raise LeftOutError("unreadable row: ImageViewPosition is not as long as ImagePath")
    # The paths start from the folder of the metadata.
    places = [path.removeprefix("../").removeprefix("./") for path in paths]
    views = [read_view(str(view or "")) for view in views]
    return [Picture(PurePosixPath(path).stem, view, path) for path, view in zip(places, views, strict=True)]
