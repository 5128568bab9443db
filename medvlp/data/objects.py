"""The objects that annotators drew in some images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


class ObjectBoxes:
    """Boxes of the objects in some images.

    Args:
        column: The column `boxes` of an index, as `medvlp.prepared` describes it, without nulls.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        lists = column.combine_chunks()
        self._offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())])
        values = lists.flatten()
        self._box = np.stack([values.field(key).to_numpy() for key in ("x1", "y1", "x2", "y2")], 1)

    def of(self, i: int) -> npt.NDArray[np.float32]:
        """Return the boxes (n, 4) of image i in pixels of the stored image; empty ones are left out."""
        box = self._box[self._offsets[i] : self._offsets[i + 1]]
        return box[(box[:, 0] < box[:, 2]) & (box[:, 1] < box[:, 3])]
