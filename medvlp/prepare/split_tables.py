"""Tables that say the split of each image or study, as the makers of a data set hand them out."""

from __future__ import annotations

from pathlib import Path

from medvlp.prepare.annotations.objects import DUPLICATE
from medvlp.prepare.study import Skip
from medvlp.prepare.tables import column_names, read_table

# Splits by their word in the tables.
OFFICIAL = {"train": "train", "test": "test"}
OFFICIAL |= dict.fromkeys(("val", "valid", "validation", "validate"), "validate")


def read_splits(path: Path, name: str, skip: Skip) -> dict[str, str]:
    """Return the split of each image; an empty dictionary if the table has no column of splits.

    Args:
        path: Table with a column `split`, perhaps with several rows for one image.
        name: Column with the image.
        skip: Called for each row whose split cannot be used. Whoever reads its other columns reports other faults.
    """
    splits: dict[str, str] = {}
    if "split" not in column_names(path):
        return splits
    for place, (image_id, word) in read_table(path, [name, "split"], lambda *_: None):
        if word not in OFFICIAL:
            skip(place, f"unreadable row: split '{word}'")
        elif splits.setdefault(image_id, OFFICIAL[word]) != OFFICIAL[word]:
            skip(place, "unreadable row: another split than above")
    return splits


def read_studies(path: Path, skip: Skip) -> dict[str, tuple[str, str]]:
    """Return the patient and the split of each study.

    Args:
        path: Table with StudyID, PatientID and split, and rows that differ in other columns for one study.
        skip: Called for each row that cannot be used.
    """
    splits: dict[str, tuple[str, str]] = {}
    wanted = ["StudyID", "PatientID", "split"]
    rows: set[tuple[str, ...]] = set()
    for place, (study, patient, word, *row) in read_table(path, [*wanted, *column_names(path)], skip):
        split = OFFICIAL.get(word.strip().lower())
        if not (study and patient and split):
            skip(place, f"unreadable row: StudyID, PatientID or split '{word}'")
        elif splits.setdefault(study, (patient, split)) != (patient, split):
            skip(place, "unreadable row: another patient or split than above")
        elif tuple(row) in rows:
            skip(place, DUPLICATE)
        rows.add(tuple(row))
    return splits


def read_folds(path: Path, count: int, skip: Skip) -> dict[str, list[str]]:
    """Return the split of each image by each fold of a cross-validation; empty in a fold that does not name it.

    Args:
        path: Table with UID, Fold (from 0) and Split, one row for each image and fold.
        count: Number of folds.
        skip: Called for each row that cannot be used.
    """
    splits: dict[str, list[str]] = {}
    for place, (uid, fold, word) in read_table(path, ["UID", "Fold", "Split"], skip):
        number = int(fold) if fold.isdecimal() else count
        if not uid or number >= count or word not in OFFICIAL:
            skip(place, "unreadable row: UID, Fold or Split")
            continue
        of_image = splits.setdefault(uid, [""] * count)
        if of_image[number]:
            skip(place, DUPLICATE)
        else:
            of_image[number] = OFFICIAL[word]
    return splits
