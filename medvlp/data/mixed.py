"""The images of several prepared folders as one data set, and the order in which a run samples them."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import Dataset

from medvlp.data.dataset import PreparedDataset, Sample
from medvlp.data.roots import Roots
from medvlp.data.sampler import EpochSampler


class MixedDataset(Dataset[Sample]):
    """Several data sets, one behind the other.

    Args:
        parts: The data sets, with the same labels.
    """

    def __init__(self, parts: Sequence[PreparedDataset]) -> None:
        self.parts = parts
        self._first = [0, *accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        """Return the number of images."""
        return self._first[-1]

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Return sample i, or sample i as epoch e sees it: the key is i or (e, i)."""
        epoch, i = key if isinstance(key, tuple) else (0, key)
        number = bisect(self._first, i) - 1
        return self.parts[number][epoch, i - self._first[number]]


class MixedSampler(EpochSampler):
    """Samples several data sets, each a fixed number of times an epoch, in an order that mixes them.

    A data set is read in passes, each of all its images in an order of its own. A pass goes on where the epoch before
    ended, so that no image is read a second time before all have been read. The key of a sample is (pass, index): an
    image that comes twice in an epoch has other views.

    Args:
        sizes: Number of images of each data set.
        counts: Number of samples of each in an epoch.
        seed: Seed of all orders.
    """

    def __init__(self, sizes: Sequence[int], counts: Sequence[int], seed: int = 0) -> None:
        super().__init__(sum(counts), shuffle=True, seed=seed)
        self._sizes, self._counts = sizes, counts

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield this process's samples."""
        passes, index = self._drawn(self.epoch)
        for _, position in super().__iter__():
            yield int(passes[position]), int(index[position])

    def _drawn(self, epoch: int) -> tuple[Any, Any]:
        """Return the pass and the index of each sample of an epoch, by data set."""
        passes, index, first = [], [], 0
        for number, (size, count) in enumerate(zip(self._sizes, self._counts, strict=True)):
            run = np.arange(epoch * count, (epoch + 1) * count) // size
            begun = int(run[0])
            orders = [
                np.random.default_rng((self.seed, number, one)).permutation(size) for one in range(begun, run[-1] + 1)
            ]
            start = epoch * count - begun * size
            passes.append(run)
            index.append(first + np.concatenate(orders)[start : start + count])
            first += size
        return np.concatenate(passes), np.concatenate(index)


def training_sampler(roots: Roots, sizes: Sequence[int], seed: int) -> EpochSampler:
    """Return the sampler of a run's training images, and report the shares of several folders.

    Args:
        roots: The folders.
        sizes: Number of training images of each.
        seed: Seed of the order.

    Raises:
        UserError: If a folder would have no sample.
    """
    if len(roots) == 1:
        return EpochSampler(sizes[0], shuffle=True, seed=seed)
    counts = roots.counts(sizes)
    for path, size, count in zip(roots.paths, sizes, counts, strict=True):
        rank_zero_info(
            f"{count / sum(counts):.1%} of the samples are from '{path}': {count:,} an epoch, so that each of its "
            f"{size:,} training images is read {count / size:.3g} times."
        )
    return MixedSampler(sizes, counts, seed)
