"""The images of a prepared folder that a run reads, with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from medvlp.data.subset import Subset
from medvlp.errors import UserError
from medvlp.prepared import LABEL_PREFIX, SPLIT_PREFIX, Prepared
from medvlp.types import NOT_MENTIONED, PRESENT, find_label

Rows = npt.NDArray[np.int64]
Targets = Literal["mask", "box"]


class Selection(NamedTuple):
    """The images of some splits that a run reads.

    Attributes:
        table: Their part of the index.
        label: Their labels, int8 (N, L).
        unannotated: Number of images dropped because they have no annotation.
    """

    table: pa.Table
    label: npt.NDArray[np.int8]
    unannotated: int


def select(
    prepared: Prepared,
    splits: Sequence[str],
    variant: str | None,
    targets: Targets | None,
    subset: Subset | None,
    columns: Sequence[str] = (),
    left_out: Rows | None = None,
) -> Selection:
    """Select images; the arguments are those of `PreparedDataset`.

    Args:
        prepared: The prepared folder.
        splits: Splits to read.
        variant: The way the data is split.
        targets: Annotations that images must have.
        subset: Which of the images to keep.
        columns: Columns of the index that the table holds beside `row` and `image_id`.
        left_out: Rows of images.npy to leave out of those chosen.

    Raises:
        UserError: If no image is in these splits, none has targets, or all are left out.
    """
    label_columns = [LABEL_PREFIX + name for name in prepared.labels]
    names = ["row", "image_id", *columns, *label_columns, *(["boxes"] if targets else [])]
    table = prepared.of_splits(splits, names, variant)
    if not len(table):
        column = SPLIT_PREFIX + variant if variant else "split"
        splits_there = ", ".join(sorted(filter(None, prepared.index[column].unique().to_pylist())))
        raise UserError(f"splits={list(splits)} of root='{prepared.root}' have no image; splits there: {splits_there}.")
    unannotated = 0
    if targets:
        mask = table["boxes"].is_valid()
        unannotated = len(table) - pc.sum(mask).as_py()
        table = table.filter(mask)
        if not len(table) or (targets == "mask" and prepared.masks is None):
            raise UserError(
                f"targets='{targets}', but the images of root='{prepared.root}' have none: its data set has labels."
            )
    label = _labels(table, label_columns)
    if subset is not None:
        chosen = subset.choose(table["image_id"].to_pylist(), (label == PRESENT).any(1))
        table, label = table.take(pa.array(chosen)), label[chosen]
    if left_out is not None and len(left_out):
        # Last: the leak audit knows the images that were chosen, and no others must take their places.
        kept = ~np.isin(table["row"].to_numpy(), left_out)
        table, label = table.filter(pa.array(kept)), label[kept]
        if not len(table):
            raise UserError(
                f"all training images of root='{prepared.root}' are those of patients and images in known test sets: "
                "pass --data.leave_out_known_tests false, or train on other splits."
            )
    return Selection(table, label, unannotated)


def joined(label: npt.NDArray[np.int8], own: Sequence[str], names: Sequence[str]) -> npt.NDArray[np.int8]:
    """Return labels (N, L) of a folder as the columns of other names, in any case."""
    values = np.full((len(label), len(names)), NOT_MENTIONED, np.int8)
    for column, name in enumerate(own):
        if (known := find_label(name, names)) is not None:
            values[:, names.index(known)] = label[:, column]
    return values


def _labels(table: pa.Table, columns: Sequence[str]) -> npt.NDArray[np.int8]:
    """Return label columns as one array (N, L)."""
    labels = [table[column].fill_null(NOT_MENTIONED).to_numpy() for column in columns]
    return np.stack(labels, 1) if labels else np.empty((len(table), 0), np.int8)
