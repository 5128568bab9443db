"""Bootstrap over the samples of a test set: each resample is a vector of sample weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float64]
Weighted = Callable[[Weights], float]
"""A metric as a function of the weights (n,) of the samples; NaN if it is undefined."""

SAMPLES = 1000
LEVEL = 0.95


class Counted(NamedTuple):
    """Coverage of a metric: the parts that it counts, of all parts.

    Attributes:
        n: Number of counted parts.
        of: Number of all parts.
        what: Plural noun for the parts, such as `labels`.
    """

    n: int
    of: int
    what: str


@dataclass(frozen=True)
class Statistic:
    """A metric of a test set.

    Attributes:
        value: Value on the test set itself.
        replicates: Value on each bootstrap sample, NaN if it is undefined there; None without a bootstrap.
        counted: Coverage of the metric; None if it cannot leave anything out.
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
        """Return the mean of metrics of one test set; in a bootstrap sample, the mean of those defined there."""
        replicates = np.stack([part.replicates for part in parts if part.replicates is not None])
        defined = np.isfinite(replicates)
        total = np.where(defined, replicates, 0).sum(0)
        counts = defined.sum(0)
        means = np.divide(total, counts, out=np.full(len(total), np.nan), where=counts > 0)
        return cls(float(np.mean([part.value for part in parts])), means)

    def counting(self, n: int, of: int, what: str) -> Statistic:
        """Return a copy with the given coverage; see `Counted`."""
        return replace(self, counted=Counted(int(n), int(of), what))


def weights(n: int, samples: int = SAMPLES, seed: int = 0) -> Iterator[Weights]:
    """Yield bootstrap samples: the number of draws of each sample, float (n,), when n are drawn with replacement.

    Equal n and seed give equal weights, so that replicates of several runs on one test set can be averaged.
    """
    generator = np.random.default_rng(seed)
    for _ in range(samples):
        yield np.bincount(generator.integers(n, size=n), minlength=n).astype(np.float64)


def bootstrap(metric: Weighted, n: int, samples: int = SAMPLES, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return a metric of n samples on each bootstrap sample, float (samples,).

    Args:
        metric: The metric as a function of sample weights.
        n: Number of samples.
        samples: Number of bootstrap samples.
        seed: Seed of the weights.
    """
    return np.array([metric(w) for w in weights(n, samples, seed)])


def interval(replicates: npt.NDArray[np.float64], level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of bootstrap replicates; two NaNs if no replicate is defined."""
    defined = replicates[np.isfinite(replicates)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_of(values: npt.ArrayLike) -> Weighted:
    """Return the mean of the finite values (n,) of samples as a function of the sample weights."""
    array = np.asarray(values, np.float64)
    mask = np.isfinite(array)
    filled = np.where(mask, array, 0)

    def weighted(weights: Weights) -> float:
        total = weights @ mask
        return float(weights @ filled / total) if total else np.nan

    return weighted


def median_of(values: npt.ArrayLike) -> Weighted:
    """Return the median of sample values (n,) as a function of the sample weights; weights of 1 give numpy's median."""
    array = np.asarray(values, np.float64)
    order = np.argsort(array, kind="stable")

    def weighted(weights: Weights) -> float:
        below = np.cumsum(weights[order])
        half = below[-1] / 2
        lower, upper = (min(np.searchsorted(below, half, side), len(array) - 1) for side in ("left", "right"))
        return float((array[order[lower]] + array[order[upper]]) / 2)

    return weighted
