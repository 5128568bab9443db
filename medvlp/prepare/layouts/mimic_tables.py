"""The tables and folders of MIMIC-CXR: images, official split, labels by a machine and by radiologists.

MIMIC-CXR-JPG has mimic-cxr-2.0.0-metadata, -split, -chexpert and -negbio (.csv.gz), under these names in its version
2.1.0, too. That has mimic-cxr-2.1.0-test-set-labeled.csv as well: radiologists' labels, one row for each of 687
studies, with Airspace Opacity for CheXpert's Lung Opacity. MIMIC-CXR, of DICOM files, has cxr-record-list.csv.gz,
without views.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from medvlp.errors import UserError
from medvlp.prepare.dataset import DataSet
from medvlp.prepare.layouts.chexpert_table import LABEL_BYTES
from medvlp.prepare.order import moment
from medvlp.prepare.splits import SPLITS, hash_split
from medvlp.prepare.study import Skip
from medvlp.prepare.tables import column_names, read_table
from medvlp.tables import find_column

TABLE = "mimic-cxr-2.0.0-{}"
RADIOLOGISTS = "mimic-cxr-2.1.0-test-set-labeled"
RECORDS = "cxr-record-list"
# Columns with the moment of a study; dates are shifted, alike for all studies of a patient.
DATED = ("StudyDate", "StudyTime")
OTHER_NAMES = {"Lung Opacity": "Airspace Opacity"}

# Subject, study, split, image, view: in the order of the index.
Row = tuple[int, int, str, str, str | None]


def image_suffix(files: Path) -> str:
    """Return .jpg or .dcm, the suffix of the first image in the folder 'files'; .jpg if it has none."""
    for _, below, names in os.walk(files):
        below.sort()
        suffix = next((name[-4:].lower() for name in sorted(names) if name.lower().endswith((".jpg", ".dcm"))), None)
        if suffix:
            return suffix
    return ".jpg"


def folder(subject: int) -> str:
    """Return the folder of a patient below 'files', with a slash at its end."""
    return f"p{str(subject)[:2]}/p{subject}/"


def read_rows(
    data: DataSet, table: Path, has_views: bool, splits: dict[str, str] | None, skip: Skip
) -> tuple[list[Row], dict[int, int | None]]:
    """Return all images, sorted, and the order in time of each study, None where the table has no dates.

    Args:
        data: Counts the rows.
        table: The table of metadata, or the list of records.
        has_views: Whether it has a column of views.
        splits: Split of each image; None for a split of the patients by hash.
        skip: Called for each row that cannot be used.
    """
    rows: list[Row] = []
    orders: dict[int, int | None] = {}
    ids = set()
    columns = ["subject_id", "study_id", "dicom_id", *(["ViewPosition"] if has_views else [])]
    for place, (subject, study, image_id, *views, date, time) in data.counted_rows(table, columns, skip, DATED):
        if not (subject.isdecimal() and study.isdecimal() and image_id):
            skip(place, "unreadable row: subject_id, study_id or dicom_id")
        elif image_id in ids:
            skip(place, "duplicate id")
        elif splits is not None and image_id not in splits:
            skip(image_id, "not in the split table")
        else:
            ids.add(image_id)
            orders.setdefault(int(study), moment(date, time))
            split = sys.intern(hash_split(subject)) if splits is None else splits[image_id]
            rows.append((int(subject), int(study), split, image_id, sys.intern(views[0]) if views else None))
    # No two images have the same name, so that a view is never compared.
    return sorted(rows, key=lambda row: row[:4]), orders


def read_splits(table: Path, skip: Skip) -> dict[str, str]:
    """Return the official split of each image."""
    splits: dict[str, str] = {}
    for place, (image_id, split) in read_table(table, ["dicom_id", "split"], skip):
        if split not in SPLITS:
            skip(place, f"unreadable row: split '{split}'")
        elif splits.setdefault(image_id, sys.intern(split)) != split:
            skip(place, "duplicate id")
    return splits


def read_labels(table: Path, labels: Sequence[str], skip: Skip) -> dict[int, bytes]:
    """Return the labels of each study, as positions in LABEL_VALUES.

    Args:
        table: With a column of each label, or under its name in OTHER_NAMES. A label without a column is not mentioned.
        labels: Names of the labels.
        skip: Called for each row that cannot be used.

    Raises:
        UserError: If the table has none of the labels.
    """
    values: dict[int, bytes] = {}
    columns = [*_columns(table, labels)]
    read = [column for column in columns if column]
    if not read:
        raise UserError(f"'{table}' has no column of the labels {', '.join(labels)}. Download it again.")
    for place, (study, *fields) in read_table(table, ["study_id", *read], skip):
        try:
            known = dict(zip(read, (LABEL_BYTES[field.strip()] for field in fields), strict=True))
            number = int(study)
        except (KeyError, ValueError):
            skip(place, "unreadable row: a label or study_id")
            continue
        row = bytes(known.get(column, 0) for column in columns)
        if values.setdefault(number, row) is not row:
            skip(place, "duplicate id")
    return values


def _columns(table: Path, labels: Sequence[str]) -> Iterator[str]:
    """Yield the column of each label; empty if there is none."""
    names = column_names(table)
    for label in labels:
        candidates = (label, OTHER_NAMES.get(label, label))
        positions = (find_column(table, names, candidate) for candidate in candidates)
        yield next((names[position] for position in positions if position is not None), "")
