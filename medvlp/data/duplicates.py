"""Copies of an image in other prepared folders, whatever their size, encoding, fitting and brightness.

Radiographs look alike, so that the usual hashes of 64 bits take different patients for the same image. Here an image is
first described by the ranks of a few grey values, which any rising curve of grey values leaves as they are. Candidates
are images whose ranks correlate, among all pairs: 3 ms of one core for an image and 377,000 others. They are then
compared in finer detail without their coarse structure, which two radiographs of one patient do not share, but two
copies do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from torch import Tensor

from medvlp.data.features import FeatureStore, is_writable
from medvlp.prepared import IMAGES, INDEX, Geometry, Prepared

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Sides of the coarse and of the fine image, in pixels.
COARSE, FINE = 16, 64
# Least correlations of two copies: of the ranks of the coarse images, and of the detail of the fine ones.
ALIKE, SAME = 0.97, 0.82
# Width in pixels of the fine image of what is not detail.
BLUR = 3.0
# Images that are described, or compared with as many, at once.
CHUNK = 4096


class Descriptions:
    """Coarse images of a prepared folder, each computed once and kept in the folder, or elsewhere if it is read-only.

    Args:
        prepared: The folder.
        elsewhere: Where to keep them if the folder cannot be written to.
    """

    def __init__(self, prepared: Prepared, elsewhere: Path) -> None:
        self.prepared = prepared
        settings = {"description": 1, "side": COARSE, "images": prepared.manifest["sha256"].get(IMAGES)}
        advice = "pass --data.known_tests '[]': one folder is then compared with no other"
        self._stores = [FeatureStore(r, settings, len(prepared.images), advice) for r in (prepared.root, elsewhere)]
        index = pq.read_table(prepared.root / INDEX, columns=["row", "height", "width"])
        self._sides = np.zeros((len(prepared.images), 2), np.int64)
        self._sides[index["row"].to_numpy()] = np.stack([index["height"].to_numpy(), index["width"].to_numpy()], 1)

    def of(self, rows: Rows) -> Floats:
        """Return the descriptions (M, D) of rows of images.npy: their scalar products are correlations of ranks.

        A constant image has the description zero, which is like no other.
        """
        own, other = self._stores
        store = own if is_writable(own.folder) or not len(own.missing(rows)) else other
        store.fill(rows, self._describe, CHUNK)
        described = np.empty((len(rows), COARSE**2), np.float32)
        for start in range(0, len(rows), CHUNK):
            stored = store.read(rows[start : start + CHUNK])[0]
            described[start : start + CHUNK] = normalised(stored.float().numpy())
        return described

    def detail(self, row: int) -> Floats:
        """Return the detail of an image (FINE * FINE,): scalar products are correlations."""
        fine = cv2.resize(self._shown(row), (FINE, FINE), interpolation=cv2.INTER_AREA).astype(np.float32)
        rough = cv2.GaussianBlur(fine, (0, 0), BLUR)
        return normalised(np.reshape(fine - rough, (1, -1))).reshape(-1)

    def _describe(self, rows: Rows) -> list[Tensor]:
        return [torch.from_numpy(np.stack([ranks(self._shown(row)) for row in rows.tolist()]))]

    def _shown(self, row: int) -> npt.NDArray[np.uint8]:
        """Return what a prepared image shows, without what fills its square up."""
        image = self.prepared.images[row]
        fit = self.prepared.manifest["options"]["resize"]
        height, width = self._sides[row].tolist()
        left, top, right, bottom = Geometry.of(height, width, self.prepared.size, fit).filled
        return np.ascontiguousarray(image[top:bottom, left:right])


def ranks(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the rank of each pixel of the coarse image, from 0 to 255; equal grey values have their mean rank."""
    coarse = np.asarray(cv2.resize(image, (COARSE, COARSE), interpolation=cv2.INTER_AREA), np.uint8).reshape(-1)
    counts = np.bincount(coarse, minlength=256)
    middle = np.cumsum(counts) - (counts + 1) / 2
    return np.asarray(middle[coarse].round(), np.uint8)


def normalised(values: Floats) -> Floats:
    """Return rows (N, D) of mean 0 and length 1; constant rows become 0."""
    centred = values - values.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, length, out=np.zeros_like(centred), where=length > 0), np.float32)


def candidates(first: Floats, second: Floats) -> Iterator[Rows]:
    """Yield the pairs of descriptions that correlate by `ALIKE` or more, int64 (K, 2), positions in both.

    The pairs of `CHUNK` descriptions each come together: no more correlations are in memory at once.
    """
    for left, right in product(range(0, len(first), CHUNK), range(0, len(second), CHUNK)):
        pairs = np.argwhere(first[left : left + CHUNK] @ second[right : right + CHUNK].T >= ALIKE)
        if len(pairs):
            yield np.add(pairs, (left, right))


def copies(first: Descriptions, second: Descriptions, rows: Sequence[Rows]) -> Rows:
    """Return the pairs of images that are copies of each other, int64 (K, 2), rows of images.npy in both folders.

    Args:
        first: A folder.
        second: Another one.
        rows: The rows to compare in each.
    """
    found = [np.empty((0, 2), np.int64)]
    for pairs in candidates(first.of(rows[0]), second.of(rows[1])):
        detail = [cache(folder.detail) for folder in (first, second)]
        pairs = np.stack([rows[0][pairs[:, 0]], rows[1][pairs[:, 1]]], 1)
        same = [detail[0](left) @ detail[1](right) >= SAME for left, right in pairs.tolist()]
        found.append(pairs[np.array(same, np.bool_)])
    return np.concatenate(found)
