"""Area under the receiver operating characteristic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from medvlp.metrics.bootstrap import Weighted, Weights
from medvlp.types import PRESENT, UNCERTAIN


def auroc(score: npt.ArrayLike, target: npt.ArrayLike, known: npt.ArrayLike = True) -> Weighted:
    """Return the AUROC of n samples as a function of their weights (n,); equal scores count half.

    The scores are sorted once, so that each bootstrap sample costs a single pass over them.

    Args:
        score: Scores (n,) on any scale; only their order matters.
        target: Whether each sample is positive, (n,) of 0 and 1.
        known: Whether each sample counts, bool (n,).

    Returns:
        The function; its value is NaN if the total weight of positives or of negatives is 0.

    Example:
        >>> area = auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        >>> area(np.ones(4))
        0.75
    """
    scores, positive = np.asarray(score, np.float64), np.asarray(target, np.bool_)
    order = np.argsort(scores, kind="stable")
    order = order[np.broadcast_to(np.asarray(known, np.bool_), scores.shape)[order]]
    positive = positive[order]
    # The last sample of each run of equal scores.
    ends = np.flatnonzero(np.diff(scores[order], append=np.inf))

    def weighted(weights: Weights) -> float:
        sorted_weights = weights[order]
        above = np.cumsum(np.where(positive, sorted_weights, 0))[ends]
        below = np.cumsum(np.where(positive, 0, sorted_weights))[ends]
        total = above[-1] * below[-1] if len(ends) else 0
        if not total:
            return np.nan
        # Trapezoids between the thresholds.
        return float(np.sum(np.diff(above, prepend=0) * (below + np.concatenate([[0], below[:-1]]))) / 2 / total)

    return weighted


def label_auroc(scores: Tensor, label: Tensor, names: Sequence[str]) -> dict[str, float]:
    """AUROC of each label and their mean, `macro`. Unmentioned labels count as absent, uncertain ones are left out.

    Args:
        scores: Between 0 and 1, (N, L).
        label: int8 (N, L), see `medvlp.types`.
        names: The L labels.

    Returns:
        The AUROC by name, without labels that lack a positive or a negative; empty if all labels lack one.
    """
    aurocs: dict[str, float] = {}
    for i, name in enumerate(names):
        mask = label[:, i] != UNCERTAIN
        target = (label[mask, i] == PRESENT).long()
        if 0 < target.sum() < len(target):
            aurocs[name] = float(binary_auroc(scores[mask, i].double(), target))
    if aurocs:
        aurocs["macro"] = sum(aurocs.values()) / len(aurocs)
    return aurocs
