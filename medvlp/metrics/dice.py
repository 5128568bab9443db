"""Dice of masks for single images, and its means over a test set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medvlp.metrics.bootstrap import Weighted


def dice(predicted: Tensor, true: Tensor) -> Tensor:
    """Return the Dice of each image, 2 |P and T| / (|P| + |T|): 1 if both masks are empty, 0 if only one is.

    Args:
        predicted: P, bool (N, ...).
        true: T, bool of the same shape.

    Returns:
        Float64 (N,).
    """
    both = (predicted & true).flatten(1).sum(1)
    total = predicted.flatten(1).sum(1) + true.flatten(1).sum(1)
    return torch.where(total > 0, 2 * both.double() / total.clamp(min=1), 1.0)


def mean_dice(values: npt.NDArray[np.float64], share: npt.NDArray[np.generic] | None = None) -> Weighted:
    """Return the mean Dice as a function of the weights of the images.

    Args:
        values: Dice of each image, (N,).
        share: Further weight of each image in the mean, (N,). Zeros leave images out; by default all weights are 1.
    """
    counts = np.ones(len(values)) if share is None else share.astype(np.float64)

    def value(weights: npt.NDArray[np.float64]) -> float:
        counted = weights * counts
        return float(counted @ values / counted.sum()) if counted.any() else float("nan")

    return value


def legacy_share(count: int, batch_size: int) -> npt.NDArray[np.float64]:
    """Return the weights (count,) of the images in MGCA's metric, the mean of the batch means.

    Images of a smaller last batch have a larger weight.
    """
    batch = np.arange(count) // batch_size
    share: npt.NDArray[np.float64] = 1 / np.bincount(batch)[batch]
    return share
