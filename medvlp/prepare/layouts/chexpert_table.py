"""The label tables of CheXpert, of its official test set and of CheXlocalize, and the names of their images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from medvlp.prepare.five_by_200 import EACH, candidates, draw
from medvlp.prepare.splits import scaled
from medvlp.prepare.study import Skip
from medvlp.prepared import CHEXPERT_LABELS
from medvlp.tables import column_names, find_column

LABELS = list(CHEXPERT_LABELS)
# One byte per label: there are a quarter of a million images.
LABEL_BYTES = {"": 0, "-1.0": 1, "-1": 1, "0.0": 2, "0": 2, "1.0": 3, "1": 3}
LABEL_VALUES = (None, -1, 0, 1)
# Number of frontal images of train.csv.
FRONTAL = 191_027
OTHER_NAME = "Airspace Opacity"
VIEWS = ("FRONTAL", "LATERAL")
# First folders of an image's name, by those of the paths in the tables.
PARTS = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}


# Yields the place and the fields of each row of some columns of a table.
Reader = Callable[[Path, Sequence[str], Skip], Iterator[tuple[str, tuple[str, ...]]]]


class Row(NamedTuple):
    """An image in a table. Its labels are positions in LABEL_VALUES."""

    image_id: str
    patient: str
    study: str
    view: str
    labels: bytes

    @property
    def values(self) -> list[int | None]:
        """The labels as in the index."""
        return [LABEL_VALUES[value] for value in self.labels]


def read_rows(read: Reader, path: Path, ids: set[str], skip: Skip, view_column: bool = True) -> Iterator[Row]:
    """Yield the images of a table.

    Args:
        read: `read_table`, or `DataSet.counted_rows`.
        path: The table.
        ids: Names of the images in earlier tables, to be extended.
        skip: Called for each row that cannot be used.
        view_column: Whether the table has the column Frontal/Lateral. Otherwise the file name says the view, as in
            test_labels.csv, which has Path and labels alone.
    """
    names = column_names(path)
    # CheXlocalize and MIMIC-CXR-JPG 2.1.0 have another name for one of them.
    has_other = find_column(path, names, OTHER_NAME) is not None and find_column(path, names, "Lung Opacity") is None
    labels = [OTHER_NAME if has_other and name == "Lung Opacity" else name for name in LABELS]
    columns = ["Path", *(["Frontal/Lateral"] if view_column else []), *labels]
    for place, (name, *fields) in read(path, columns, skip):
        view = fields.pop(0).upper() if view_column else view_of(name)
        image_id = image_name(name)
        parts = image_id.split("/")
        try:
            values = bytes([LABEL_BYTES[field] for field in fields])
        except KeyError as error:
            skip(place, f"unreadable row: label {error}")
            continue
        if len(parts) < 3 or not all(parts):
            skip(place, "unreadable row: Path")
        elif image_id in ids:
            skip(place, "duplicate id")
        else:
            ids.add(image_id)
            *_, patient, study, _ = parts
            yield Row(image_id, patient, f"{patient}/{study}", view, values)


def image_name(path: str) -> str:
    """Return the name of an image, the same in all of CheXpert's tables: train/patient00001/study1/view1_frontal.jpg.

    Args:
        path: Its path in a table, with or without a folder such as CheXpert-v1.0 before it.
    """
    first, _, rest = path.partition("/")
    if first not in PARTS:
        first, _, rest = rest.partition("/")
    return f"{PARTS.get(first, first)}/{rest}" if rest else first


def view_of(path: str) -> str:
    """Return the view that a file name says, such as view1_frontal.jpg; empty if it says none."""
    name = path.rpartition("/")[2].upper()
    return next((view for view in VIEWS if view in name), "")


def first_frontal(rows: Iterable[Row]) -> Iterator[tuple[Row, bool]]:
    """Yield each image, and whether it is the first frontal one of its study."""
    studies: set[str] = set()
    for row in rows:
        is_first = row.view == "FRONTAL" and row.study not in studies
        if is_first:
            studies.add(row.study)
        yield row, is_first


def draw_5x200(rows: Sequence[Row]) -> set[str]:
    """Return the images of CheXpert 5x200, as MGCA draws them from the frontal images of train.csv.

    Args:
        rows: The images of train.csv, in its order.
    """
    frontal = [(row.image_id, row.values) for row in rows if row.view == "FRONTAL"]
    return draw(candidates(frontal, LABELS), scaled(EACH, FRONTAL, len(frontal)))
