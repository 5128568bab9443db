"""The annotated objects in some images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


class Object(NamedTuple):
    """An annotated object.

    Attributes:
        name: Name of the object.
        phrase: The phrase of the report for the object; None if annotators boxed no phrases.
        box: Its box (4,), in pixels of the stored image.
    """

    name: str
    phrase: str | None
    box: npt.NDArray[np.float32]


class ObjectBoxes:
    """The objects in some images.

    Args:
        column: The column `boxes` of an index, as `medvlp.prepared` describes it, without nulls.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        lists = column.combine_chunks()
        self._offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())])
        self._values = lists.flatten()
        self._box = np.stack([self._values.field(key).to_numpy() for key in ("x1", "y1", "x2", "y2")], 1)

    def of(self, i: int) -> npt.NDArray[np.float32]:
        """Return the boxes (n, 4) of image i in pixels of the stored image; empty ones are left out."""
        return self._box[self._rows(i)]

    def named(self, i: int) -> list[Object]:
        """Return the objects of image i, in the order of their boxes in `of`."""
        rows = self._rows(i)
        values = self._values.take(pa.array(rows))
        names, phrases = (values.field(key).to_pylist() for key in ("name", "phrase"))
        return [Object(*described) for described in zip(names, phrases, self._box[rows], strict=True)]

    def _rows(self, i: int) -> npt.NDArray[np.int64]:
        """Return the rows of the boxes of image i; empty boxes are left out."""
        first, last = self._offsets[i : i + 2]
        x1, y1, x2, y2 = self._box[first:last].T
        rows: npt.NDArray[np.int64] = np.arange(first, last)[(x1 < x2) & (y1 < y2)]
        return rows
