"""Run-length codes of masks, column by column: those of SIIM-ACR, and those of COCO.

SIIM-ACR writes each offset counted from the end of the last run, and the length of the run. COCO writes the lengths of
all runs, the first one outside of the mask, as a list of numbers or, as the library pycocotools does, as a text: each
length less the one before the last, in groups of five bits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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
    if text.strip() == EMPTY:
        return np.zeros((height, width), np.bool_)
    if not PAIRS.fullmatch(text):
        raise ValueError("no pairs of offset and length")
    runs = [int(word) for word in text.split()]
    rest = height * width - sum(runs)
    if rest < 0:
        raise ValueError(f"ends at pixel {sum(runs)} of {height * width}")
    return _mask([*runs, rest], height, width)


def encode_coco(mask: npt.NDArray[np.bool_]) -> str:
    """Return the text of a mask, bool (height, width), as pycocotools writes it.

    Example:
        >>> encode_coco(np.array([[False, True], [True, True]]))
        '13'
    """
    flat = mask.ravel("F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = [int(n) for n in np.diff(edges, prepend=0, append=len(flat))]
    lengths = [0, *lengths] if flat[:1].any() else lengths
    letters = []
    for i, length in enumerate(lengths):
        rest = length - (lengths[i - 2] if i > 2 else 0)
        more = True
        while more:
            group, rest = rest & 31, rest >> 5
            # The highest bit of the last group is the sign.
            more = rest != (-1 if group & 16 else 0)
            letters.append(chr(48 + (group | 32 if more else group)))
    return "".join(letters)


def decode_coco(counts: str | Sequence[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the mask of COCO's code, bool (height, width).

    Args:
        counts: The text, or the list of numbers.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Raises:
        ValueError: If it is no such code, or does not end with the image.

    Example:
        >>> decode_coco("13", height=2, width=2).astype(int)
        array([[0, 1],
               [1, 1]])
    """
    lengths = _lengths(counts) if isinstance(counts, str) else list(counts)
    if not all(isinstance(length, int) and length >= 0 for length in lengths):
        raise ValueError("no lengths of runs")
    if sum(lengths) != height * width:
        raise ValueError(f"ends at pixel {sum(lengths)} of {height * width}")
    return _mask(lengths, height, width)


def _mask(lengths: Sequence[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the mask of the lengths of all runs, the first one outside of it."""
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width, order="F")


def _lengths(text: str) -> list[int]:
    """Return the lengths of runs in a text of COCO."""
    lengths: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64:
            raise ValueError(f"no code of runs: '{letter}'")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("cut off")
    return lengths
