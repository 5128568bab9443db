"""Lists that say for each image its split in each fold of a cross-validation."""

from __future__ import annotations

from pathlib import Path

from medvlp.prepare.study import Skip
from medvlp.prepare.tables import read_table

SPLITS = {"train": "train", "val": "validate", "valid": "validate", "validation": "validate", "test": "test"}


def read_folds(path: Path, count: int, skip: Skip) -> dict[str, list[str]]:
    """Return the split of each image by each fold; empty in a fold that does not name it.

    Args:
        path: Table with UID, Fold (from 0) and Split, one row for each image and fold.
        count: Number of folds.
        skip: Called for each row that cannot be used.
    """
    splits: dict[str, list[str]] = {}
    for place, (uid, fold, split) in read_table(path, ["UID", "Fold", "Split"], skip):
        number = int(fold) if fold.isdecimal() else count
        if not uid or number >= count or split not in SPLITS:
            skip(place, "unreadable row: UID, Fold or Split")
            continue
        of_image = splits.setdefault(uid, [""] * count)
        if of_image[number]:
            skip(place, "duplicate id")
        else:
            of_image[number] = SPLITS[split]
    return splits
