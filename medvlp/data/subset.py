"""The subset of the training images in a run with few labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medvlp.errors import UserError


@dataclass(frozen=True)
class Subset:
    """A choice of training images that depends on their names alone, not on their order.

    The papers draw with the generator of the run, so that 1 % need not be part of 10 %; here it is.

    Attributes:
        fraction: Share of the images, rounded down as in the papers, but at least one.
        seed: Another seed chooses others.
        balance: Choose from all images with a finding and as many without (MGCA's SIIM).

    Raises:
        UserError: If the fraction is none.
    """

    fraction: float = 1.0
    seed: int = 0
    balance: bool = False

    def __post_init__(self) -> None:
        """Check the fraction."""
        if not 0 < self.fraction <= 1:
            raise UserError(f"fraction={self.fraction}: a share of the images must be above 0 and at most 1.")

    def choose(self, image_id: Sequence[str], positive: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return the positions of the chosen images, ascending.

        Args:
            image_id: Their N names.
            positive: Which have a finding, bool (N,).

        Raises:
            UserError: If none has one, and they are to be balanced.
        """
        keys = [hashlib.sha256(f"{self.seed} {name}".encode()).digest() for name in image_id]
        order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
        if self.balance:
            if not positive.any():
                raise UserError(
                    "balance=True, but no training image has a label that is present: pass --data.balance false."
                )
            mask = positive[order]
            order = order[mask | (np.cumsum(~mask) <= mask.sum())]
        # 0.29 of 100 is 28.999999999999996.
        count = max(1, int(self.fraction * len(order) + 1e-6))
        return np.sort(order[:count])
