"""Bootstrap over the samples of a test set, as weights of the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float64]
Weighted = Callable[[Weights], float]
"""A metric as a function of the weights (n,) of the samples, NaN where it is not defined."""

SAMPLES = 1000
LEVEL = 0.95


class Counted(NamedTuple):
    """How much of what was asked for a metric is of.

    Attributes:
        n: What it counts.
        of: What was asked for.
        what: Things that are counted, such as `labels`.
    """

    n: int
    of: int
    what: str


@dataclass(frozen=True)
class Statistic:
    """A metric of a test set.

    Attributes:
        value: On the test set itself.
        replicates: On each bootstrap sample of it, NaN where it is not defined; None where it was not resampled.
        counted: How much of what was asked for it is of; None where nothing can be left out.
    """

    value: float
    replicates: npt.NDArray[np.float64] | None = None
    counted: Counted | None = None

    @classmethod
    def of(cls, metric: Weighted, n: int, samples: int = SAMPLES) -> Statistic:
        """Compute a metric of n samples and its bootstrap.

        The seed of the bootstrap is 0, so that all metrics of a test set use the same resamples.

        Example:
            >>> accuracy = Statistic.of(mean_of([1, 0, 1, 1]), n=4)
            >>> accuracy.value, interval(accuracy.replicates)
            (0.75, (0.25, 1.0))
        """
        return cls(metric(np.ones(n)), bootstrap(metric, n, samples))

    @classmethod
    def mean(cls, parts: list[Statistic]) -> Statistic:
        """Return the mean of metrics over one test set, in each bootstrap sample of those that are defined there."""
        replicates = np.stack([part.replicates for part in parts if part.replicates is not None])
        defined = np.isfinite(replicates)
        total = np.where(defined, replicates, 0).sum(0)
        counts = defined.sum(0)
        means = np.divide(total, counts, out=np.full(len(total), np.nan), where=counts > 0)
        return cls(float(np.mean([part.value for part in parts])), means)

    def counting(self, n: int, of: int, what: str) -> Statistic:
        """Return the same with a note of how much it counts; see `Counted`."""
        return replace(self, counted=Counted(int(n), int(of), what))


def weights(n: int, samples: int = SAMPLES, seed: int = 0) -> Iterator[Weights]:
    """Yield how often each of n samples is drawn, drawing n with replacement: float (n,) each.

    The same n and seed give the same weights, so that replicates of several runs on one test set can be averaged.
    """
    generator = np.random.default_rng(seed)
    for _ in range(samples):
        yield np.bincount(generator.integers(n, size=n), minlength=n).astype(np.float64)


def bootstrap(metric: Weighted, n: int, samples: int = SAMPLES, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return a metric of n samples on each of many bootstrap samples, float (samples,).

    Args:
        metric: The metric of weighted samples.
        n: Number of samples.
        samples: Number of bootstrap samples.
        seed: Seed of the weights.
    """
    return np.array([metric(w) for w in weights(n, samples, seed)])


def interval(replicates: npt.NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of bootstrap replicates; NaN twice where none is defined."""
    defined = replicates[np.isfinite(replicates)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_of(values: npt.ArrayLike) -> Weighted:
    """Return the mean of the values (n,) of samples as a function of their weights; NaN values do not count."""
    array = np.asarray(values, np.float64)
    known = np.isfinite(array)
    filled = np.where(known, array, 0)

    def weighted(weights: Weights) -> float:
        total = weights @ known
        return float(weights @ filled / total) if total else np.nan

    return weighted


def median_of(values: npt.ArrayLike) -> Weighted:
    """Return the median of the values (n,) of samples as a function of their weights, as numpy's for weights of 1."""
    array = np.asarray(values, np.float64)
    order = np.argsort(array, kind="stable")

    def weighted(weights: Weights) -> float:
        below = np.cumsum(weights[order])
        half = below[-1] / 2
        lower, upper = (min(np.searchsorted(below, half, side), len(array) - 1) for side in ("left", "right"))
        return float((array[order[lower]] + array[order[upper]]) / 2)

    return weighted
