"""F1, Matthews' correlation and accuracy of decisions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from medvlp.metrics.bootstrap import Weighted, Weights

Counts = npt.NDArray[np.float64]
Measure = Callable[[Counts, Counts, Counts, Counts], Counts]
"""A function of true positives, false positives, false negatives and true negatives, of equal shapes."""


def f1(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> Counts:
    """Return 2 TP / (2 TP + FP + FN); NaN if no sample is positive."""
    return _divide(2 * tp, (tp + fn > 0) * (2 * tp + fp + fn), np.nan)


def mcc(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> Counts:
    """Return Matthews' correlation; 0 if all decisions are the same, NaN if all samples are of one class."""
    defined = (tp + fn > 0) & (fp + tn > 0)
    norm = np.sqrt(tp + fp) * np.sqrt(fn + tn) * np.sqrt(tp + fn) * np.sqrt(fp + tn)
    values: Counts = np.where(defined, _divide(tp * tn - fp * fn, norm, 0.0), np.nan)
    return values


def accuracy(tp: Counts, fp: Counts, fn: Counts, tn: Counts) -> Counts:
    """Return the share of right decisions."""
    return _divide(tp + tn, tp + fp + fn + tn, np.nan)


def decided(measure: Measure, decision: npt.ArrayLike, target: npt.ArrayLike, known: npt.ArrayLike = True) -> Weighted:
    """Return a measure of n decisions as a function of the weights (n,) of the samples.

    Args:
        measure: `f1`, `mcc` or `accuracy`.
        decision: Whether each sample is decided as positive, (n,) of 0 and 1.
        target: Whether each sample is positive, likewise.
        known: Whether each sample counts, bool (n,).
    """
    yes, true = np.asarray(decision, np.bool_), np.asarray(target, np.bool_)
    cells = np.stack([yes & true, yes & ~true, ~yes & true, ~yes & ~true]) & np.asarray(known, np.bool_)

    def weighted(weights: Weights) -> float:
        return float(measure(*(cells @ weights)))

    return weighted


def share(right: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]) -> Weighted:
    """Return the share of right samples among the known ones, both bool (n,), as a function of the weights (n,)."""

    def weighted(weights: Weights) -> float:
        total = weights @ known
        return float(weights @ (right & known) / total) if total else np.nan

    return weighted


def _divide(part: Counts, whole: Counts, otherwise: float) -> Counts:
    quotient: Counts = np.divide(part, whole, out=np.full(np.shape(whole), otherwise), where=np.asarray(whole) > 0)
    return quotient
