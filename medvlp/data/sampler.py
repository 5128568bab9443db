"""The order of samples: a function of seed and epoch, shared out over processes, resumable inside an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DistributedSampler

from medvlp.distributed import rank, world_size


class EpochSampler(DistributedSampler[Any]):
    """Yields (epoch, index), so that a data set can make its randomness a function of the epoch.

    It is a DistributedSampler, so the Trainer does not replace it, and tells it the epoch.

    Args:
        length: Number of samples.
        shuffle: Whether each epoch has its own order.
        seed: Seed of the orders.

    Attributes:
        skip: Samples of this process to leave out of the next pass: those that a resumed run has seen.
    """

    def __init__(self, length: int, shuffle: bool, seed: int = 0) -> None:
        super().__init__(range(length), num_replicas=world_size(), rank=rank(), shuffle=shuffle, seed=seed)  # type: ignore[arg-type]
        self.skip = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield this process's samples."""
        epoch, skip, self.skip = self.epoch, self.skip, 0
        for index in islice(super().__iter__(), skip, None):
            yield epoch, index
