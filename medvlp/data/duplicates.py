"""Copies of an image in other prepared folders, whatever their size, encoding, fitting and brightness.

Radiographs look alike, so that the usual hashes of 64 bits take different patients for the same image. Here an image is
first described by the ranks of a few grey values, which any rising curve of grey values leaves as they are. Candidates
are images whose ranks correlate, found in a tree over the first principal components. They are then compared in finer
detail without their coarse structure, which two radiographs of one patient do not share, but two copies do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from medvlp.data.features import FeatureStore
from medvlp.prepared import IMAGES, INDEX, Geometry, Prepared

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Sides of the coarse and of the fine image, in pixels.
COARSE, FINE = 16, 64
# Least correlations of two copies: of the ranks of the coarse images, and of the detail of the fine ones.
ALIKE, SAME = 0.97, 0.82
# Width in pixels of the fine image of what is not detail.
BLUR = 3.0
COMPONENTS = 16
# Images from which the principal components are computed, and images that are described or compared at once.
SAMPLE, CHUNK = 20_000, 4096


class Descriptions:
    """Coarse images of a prepared folder, each computed once and kept in the folder, or elsewhere if it is read-only.

    Args:
        prepared: The folder.
        elsewhere: Where to keep them if the folder cannot be written to.
    """

    def __init__(self, prepared: Prepared, elsewhere: Path) -> None:
        self.prepared = prepared
        root = prepared.root if os.access(prepared.root, os.W_OK) else elsewhere
        settings = {"description": 1, "side": COARSE, "images": prepared.manifest["sha256"].get(IMAGES)}
        advice = "pass --data.known_tests '[]', which compares no images with other folders"
        self._store = FeatureStore(root, settings, len(prepared.images), advice)
        index = pq.read_table(prepared.root / INDEX, columns=["row", "height", "width"])
        self._sides = np.zeros((len(prepared.images), 2), np.int64)
        self._sides[index["row"].to_numpy()] = np.stack([index["height"].to_numpy(), index["width"].to_numpy()], 1)

    def of(self, rows: Rows) -> Floats:
        """Return the descriptions (M, D) of rows of images.npy: their scalar products are correlations of ranks.

        A constant image has the description zero, which is like no other.
        """
        self._store.fill(rows, self._describe, CHUNK)
        described = np.empty((len(rows), COARSE**2), np.float32)
        for start in range(0, len(rows), CHUNK):
            stored = self._store.read(rows[start : start + CHUNK])[0]
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


def candidates(first: Floats, second: Floats) -> Rows:
    """Return the pairs of descriptions that correlate by `ALIKE` or more, int64 (K, 2), positions in both.

    The distance of two descriptions is never less than that of their first principal components, so that the tree
    loses no pair, and few are left to compare in full.
    """
    kept = [np.flatnonzero(np.any(one, 1)) for one in (first, second)]
    if not all(map(len, kept)):
        return np.empty((0, 2), np.int64)
    sample = np.concatenate([one[k[:: max(1, len(k) // SAMPLE)]] for one, k in zip((first, second), kept, strict=True)])
    components = np.linalg.eigh(np.cov(sample, rowvar=False))[1][:, -COMPONENTS:].astype(np.float32)
    # A little more than the distance of the least alike, for rounding errors.
    radius = float(np.sqrt(2 * (1 - ALIKE))) * 1.001
    tree = cKDTree((first @ components)[kept[0]])
    pairs: list[Rows] = []
    for start in range(0, len(kept[1]), CHUNK):
        chunk = kept[1][start : start + CHUNK]
        near: Any = tree.query_ball_point(second[chunk] @ components, radius)
        right = np.repeat(chunk, [len(found) for found in near])
        left = kept[0][np.concatenate([np.asarray(found, np.int64) for found in near])]
        alike = np.einsum("nd,nd->n", first[left], second[right]) >= ALIKE
        pairs.append(np.stack([left[alike], right[alike]], 1))
    return np.concatenate(pairs)


def copies(first: Descriptions, second: Descriptions, rows: Sequence[Rows]) -> Rows:
    """Return the pairs of images that are copies of each other, int64 (K, 2), rows of images.npy in both folders.

    Args:
        first: A folder.
        second: Another one.
        rows: The rows to compare in each.
    """
    pairs = candidates(first.of(rows[0]), second.of(rows[1]))
    found = np.stack([rows[0][pairs[:, 0]], rows[1][pairs[:, 1]]], 1)
    same = [first.detail(left) @ second.detail(right) >= SAME for left, right in found.tolist()]
    return found[np.array(same, np.bool_)]
