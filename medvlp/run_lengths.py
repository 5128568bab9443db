"""Run-length codes of masks, as in SIIM-ACR: column by column, each offset counted from the end of the last run."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

# What SIIM-ACR writes for an image without a mask; the leading space of some copies is stripped.
EMPTY = "-1"
PAIRS = re.compile(r"\s*([0-9]{1,9}\s+[0-9]{1,9}(\s+|$))+")


def encode(mask: npt.NDArray[np.bool_]) -> str:
    """Return the code of a mask, bool (height, width): `offset length offset length ...`, or -1 for an empty one.

    Example:
        >>> encode(np.array([[False, True], [True, True]]))
        '1 3'
    """
    flat = np.concatenate([[False], mask.ravel("F"), [False]])
    # Starts and ends of the runs, in turn: their distances are the code.
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return " ".join(map(str, np.diff(edges, prepend=0))) or EMPTY


def decode(text: str, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the mask of a code, bool (height, width).

    Args:
        text: `offset length offset length ...`, or -1 for an empty mask.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Raises:
        ValueError: If it is no such code, or reaches beyond the image.

    Example:
        >>> decode("1 3", height=2, width=2).astype(int)
        array([[0, 1],
               [1, 1]])
    """
    mask = np.zeros(height * width, np.bool_)
    if text.strip() != EMPTY:
        if not PAIRS.fullmatch(text):
            raise ValueError("no pairs of offset and length")
        runs = np.array(text.split(), np.int64)
        if runs.sum() > mask.size:
            raise ValueError(f"ends at pixel {runs.sum()} of {mask.size}")
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        mask[: len(inside)] = inside
    return mask.reshape(height, width, order="F")
