"""Figures of the methods in a test, and their paired differences to the baseline."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medvlp.benchmarks.results import BOOTSTRAP, PREDICTIONS, Cell
from medvlp.benchmarks.scores import NO_SHARES, Score, metric_name, score_of
from medvlp.metrics.bootstrap import Statistic, interval

TARGET = "target/"
MACRO = "auroc"
# What predictions say of the truth of a test case; the other columns are the model's.
CASES = ("image_id", "name", "phrase", "pixels_true", "truth")
# Of ranks: the lower the better.
LOWER = ("i2t_median_rank", "t2i_median_rank")

Replicates = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Difference of a metric between a method and the baseline, paired over test cases and seeds.

    Attributes:
        mean: Mean over the seeds, in percent if the metric is a share.
        low: Lower end of the 95 % bootstrap interval of the mean over the test cases.
        high: Upper end, likewise.
        seeds: The difference of each seed.
        digits: Number of decimal places to show.
        lower: Whether the lower of two values of the metric is the better.
    """

    mean: float
    low: float
    high: float
    seeds: Mapping[int, float]
    digits: int
    lower: bool

    @property
    def separated(self) -> bool:
        """Whether the interval does not hold 0, and all seeds lie on the same side."""
        return not self.low <= 0 <= self.high and self.agreed

    @property
    def agreed(self) -> bool:
        """Whether the differences of all seeds have one sign."""
        signs = {np.sign(value) for value in self.seeds.values()}
        return len(signs) == 1

    @property
    def verdict(self) -> str:
        """What the difference says: `better`, `worse`, `not separated`, or `not separated: seeds disagree`."""
        if not self.separated:
            return "not separated" if self.low <= 0 <= self.high else "not separated: seeds disagree"
        return "better" if (self.mean < 0) == self.lower else "worse"

    def __str__(self) -> str:
        """Return the difference as text: `+1.2 [0.3, 2.1] better`."""
        d = self.digits
        return f"{self.mean:+.{d}f} [{self.low:.{d}f}, {self.high:.{d}f}] {self.verdict}"


@dataclass(frozen=True)
class Figure:
    """One metric of one method in one test.

    Attributes:
        score: Mean, spread and interval over the seeds.
        seeds: The value of each seed, in percent if the metric is a share.
        difference: Difference to the baseline; None for the baseline itself, or if the two cannot be paired.
    """

    score: Score
    seeds: Mapping[int, float]
    difference: Difference | None


@dataclass(frozen=True)
class Sample:
    """The metrics of one method and seed in a test.

    Attributes:
        statistics: The metrics with their bootstrap replicates; `auroc` is the mean over the `labels`.
        labels: Labels that have enough cases, with their number of cases; None if the test has no labels.
        cases: Hash of the test cases and their truth: replicates can be paired where it is equal.
        left_out: What no metric counts, with reasons, but for labels without cases.
    """

    statistics: Mapping[str, Statistic]
    labels: Mapping[str, int] | None
    cases: str
    left_out: Mapping[str, str]


def read_sample(cell: Cell, min_cases: int) -> Sample:
    """Read the metrics of a cell.

    Args:
        cell: The cell.
        min_cases: Number of test images with a label from which it counts in the mean.
    """
    table, predictions = pq.read_table(cell.folder / BOOTSTRAP), pq.read_table(cell.folder / PREDICTIONS)
    metrics = cell.content["metrics"]
    statistics = {
        name: Statistic(entry["value"], table[name].to_numpy())
        for name, entry in metrics.items()
        if name in table.column_names
    }
    for name, entry in metrics.items():
        if name in statistics and "counted" in entry:
            statistics[name] = statistics[name].counting(**entry["counted"])
    labels = None
    if MACRO in statistics:
        labels = frequent(predictions, min_cases)
        parts = [statistics[f"{MACRO}/{name}"] for name in labels if f"{MACRO}/{name}" in statistics]
        del statistics[MACRO]
        if parts:
            total = sum(name.startswith(TARGET) for name in predictions.column_names)
            statistics[MACRO] = Statistic.mean(parts).counting(len(parts), total, "labels")
    known = {*predictions.column_names}
    left_out = {what: why for what, why in cell.content["left_out"].items() if TARGET + what not in known}
    return Sample(statistics, labels, cases_of(cell, predictions), left_out)


def frequent(predictions: pa.Table, min_cases: int) -> dict[str, int]:
    """Return the labels that are present in at least `min_cases` test images, with this number."""
    names = [name for name in predictions.column_names if name.startswith(TARGET)]
    counts = {name.removeprefix(TARGET): pc.sum(predictions[name].cast(pa.int64())).as_py() or 0 for name in names}
    return {name: count for name, count in counts.items() if count >= min_cases}


def cases_of(cell: Cell, predictions: pa.Table) -> str:
    """Return a hash of the test cases, their order and their truth."""
    names = [name for name in predictions.column_names if name in CASES or name.startswith(TARGET)]
    digest = hashlib.sha256(cell.preparation_hash.encode())
    for name in sorted(names):
        digest.update(f"{name}{predictions[name].to_pylist()}".encode())
    return digest.hexdigest()


def figures(
    samples: Mapping[str, Mapping[int, Sample]], baseline: str
) -> tuple[dict[str, dict[str, Figure]], list[str]]:
    """Return the figures of each method by metric, and notes.

    All samples of a test have the same bootstrap samples of its cases, so that the difference of two replicates is
    that of a paired bootstrap.

    Args:
        samples: The samples of each method by seed.
        baseline: Name of the method that the others are compared with.
    """
    base = samples.get(baseline, {})
    found: dict[str, dict[str, Figure]] = {}
    notes = []
    for method, seeds in samples.items():
        paired = {seed for seed in seeds if seed in base} if method != baseline else set()
        if strange := [seed for seed in sorted(paired) if seeds[seed].cases != base[seed].cases]:
            notes.append(f"{method} was tested on other cases than {baseline} (seed {strange[0]}): not compared.")
            paired = set()
        if paired and paired != {*seeds} | {*base}:
            words = " and ".join(map(str, sorted(paired)))
            notes.append(f"{method} is compared with {baseline} by seed {words} alone: the others are not finished.")
        found[method] = {}
        for metric in dict.fromkeys(name for sample in seeds.values() for name in sample.statistics):
            having = {s: sample.statistics[metric] for s, sample in seeds.items() if metric in sample.statistics}
            other = {s: base[s].statistics[metric] for s in paired if metric in base[s].statistics}
            pairs = {s: (having[s], other[s]) for s in sorted(having) if s in other}
            if uneven := next((pair for pair in pairs.values() if _counted(pair[0]) != _counted(pair[1])), None):
                counts = " and ".join(map(_counted, uneven))
                notes.append(f"{metric_name(metric)} of {method} and {baseline} count different cases: {counts}.")
            found[method][metric] = Figure(
                _score(metric, list(having.values())),
                {s: _scale(metric) * statistic.value for s, statistic in having.items()},
                difference(metric, pairs) if pairs else None,
            )
    return found, notes


def difference(metric: str, pairs: Mapping[int, tuple[Statistic, Statistic]]) -> Difference:
    """Return the difference of two methods: the mean over the seeds, with its paired bootstrap interval.

    Args:
        metric: Name of the metric.
        pairs: The statistics of the method and of the baseline by seed.
    """
    scale = _scale(metric)
    seeds = {seed: scale * (method.value - base.value) for seed, (method, base) in pairs.items()}
    replicates = np.mean([_replicates(method) - _replicates(base) for method, base in pairs.values()], axis=0)
    low, high = (scale * bound for bound in interval(replicates))
    name = metric.partition("/")[0]
    return Difference(float(np.mean([*seeds.values()])), low, high, seeds, NO_SHARES.get(name, 1), name in LOWER)


def _score(metric: str, statistics: Sequence[Statistic]) -> Score:
    entries = [{"value": s.value, "counted": s.counted._asdict() if s.counted else None} for s in statistics]
    return score_of(metric, entries, [_replicates(s) for s in statistics])


def _counted(statistic: Statistic) -> str:
    return f"{statistic.counted.n:,} of {statistic.counted.of:,} {statistic.counted.what}" if statistic.counted else ""


def _replicates(statistic: Statistic) -> Replicates:
    assert statistic.replicates is not None  # read_sample leaves out the others
    return statistic.replicates


def _scale(metric: str) -> float:
    return 1.0 if metric.partition("/")[0] in NO_SHARES else 100.0
