"""Thresholds at which decisions are best on given scores."""

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
    """Return the score from which on samples should be called positive, so that a criterion is highest.

    F1 is MedKLIP's criterion, Matthews' correlation KAD's. Both choose on the test images themselves, an oracle; a
    threshold for use is chosen on validation images.

    Args:
        score: Scores (n,).
        target: Which samples are positive, (n,) of 0 and 1.
        criterion: What is to be highest.
        known: Which samples count, bool (n,).

    Returns:
        One of the scores, the lowest of several that are as good; NaN where positives or negatives are missing.
    """
    scores, positive = np.asarray(score, np.float64), np.asarray(target, np.bool_)
    counted = np.broadcast_to(np.asarray(known, np.bool_), scores.shape)
    # MedKLIP's code finds the threshold so, but then takes accuracy from what is above it, without what is at it.
    order = np.argsort(-scores[counted], kind="stable")
    scores, positive = scores[counted][order], positive[counted][order]
    if positive.all() or not positive.any():
        return float("nan")
    # What is called positive down to the last of each run of equal scores.
    ends = np.flatnonzero(np.diff(scores, append=-np.inf))
    tp = np.cumsum(positive)[ends].astype(np.float64)
    fp = ends + 1 - tp
    values = MEASURES[criterion](tp, fp, tp[-1] - tp, fp[-1] - fp)
    return float(scores[ends[np.flatnonzero(values == values.max())[-1]]])


def find_thresholds(rule: Threshold, scores: Tensor, label: Tensor) -> list[float]:
    """Return the best threshold of each label; a label not mentioned is absent, an uncertain one is left out.

    Args:
        rule: A protocol's, but `none`.
        scores: (N, L), of validation images for the rule `validation`, else of the test images.
        label: int8 (N, L), see `medvlp.types`.

    Returns:
        L of them; NaN where a label lacks positives or negatives.
    """
    criterion = CRITERIA[rule]
    columns = zip(scores.T.cpu().numpy(), label.T.cpu().numpy(), strict=True)
    return [best_threshold(s, target == PRESENT, criterion, target != UNCERTAIN) for s, target in columns]
