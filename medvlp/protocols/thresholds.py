"""Decision thresholds that maximise a criterion on given scores."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from medvlp.metrics.decision import Measure, f1, mcc
from medvlp.protocols.protocol import Threshold
from medvlp.types import PRESENT, UNCERTAIN

Criterion = Literal["f1", "mcc"]
MEASURES: dict[Criterion, Measure] = {"f1": f1, "mcc": mcc}
CRITERIA: dict[Threshold, Criterion] = {"validation": "f1", "oracle-f1": "f1", "oracle-mcc": "mcc"}


def best_threshold(
    score: npt.ArrayLike, target: npt.ArrayLike, criterion: Criterion = "f1", known: npt.ArrayLike = True
) -> float:
    """Return the threshold, the lowest score of a positive decision, that maximises a criterion.

    F1 is MedKLIP's criterion, and Matthews' correlation is KAD's. Both papers choose on the test images themselves, an
    oracle. A threshold for practical use must be chosen on validation images.

    Args:
        score: Scores (n,).
        target: Whether each sample is positive, (n,) of 0 and 1.
        criterion: Criterion to maximise.
        known: Whether each sample counts, bool (n,).

    Returns:
        One of the scores, the lowest if several are best; NaN if positives or negatives are missing.
    """
    scores, positive = np.asarray(score, np.float64), np.asarray(target, np.bool_)
    counted = np.broadcast_to(np.asarray(known, np.bool_), scores.shape)
    # MedKLIP's code searches with >= like this, but then computes accuracy with >.
    order = np.argsort(-scores[counted], kind="stable")
    scores, positive = scores[counted][order], positive[counted][order]
    if positive.all() or not positive.any():
        return float("nan")
    # A threshold includes all equal scores, so it can lie only at the last of each run.
    ends = np.flatnonzero(np.diff(scores, append=-np.inf))
    tp = np.cumsum(positive)[ends].astype(np.float64)
    fp = ends + 1 - tp
    values = MEASURES[criterion](tp, fp, tp[-1] - tp, fp[-1] - fp)
    return float(scores[ends[np.flatnonzero(values == values.max())[-1]]])


def find_thresholds(rule: Threshold, scores: Tensor, label: Tensor) -> list[float]:
    """Return the best threshold of each label. Unmentioned labels count as absent, uncertain ones are left out.

    Args:
        rule: `threshold` of a protocol, except `none`.
        scores: Scores (N, L) of validation images for the rule `validation`, otherwise of the test images.
        label: int8 (N, L), see `medvlp.types`.

    Returns:
        L thresholds; NaN if a label lacks positives or negatives.
    """
    criterion = CRITERIA[rule]
    columns = zip(scores.T.cpu().numpy(), label.T.cpu().numpy(), strict=True)
    return [best_threshold(s, target == PRESENT, criterion, target != UNCERTAIN) for s, target in columns]
