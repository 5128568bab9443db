"""Metrics by name, and their means over seeds as tables show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medvlp.metrics.bootstrap import interval

# In the order of the tables. A metric of one label has a slash in its name.
METRICS = {
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "pointing": "pointing",
    "pointing_chance": "by chance",
    "dice": "Dice, mean over images",
    "dice_positive": "Dice, images with a mask",
    "dice_legacy": "Dice, mean of batch means, as published",
    "map": "mAP, all images",
    "map_legacy": "mAP as published, without images that lack a box or a prediction",
    "f1": "F1",
    "mcc": "MCC",
    "label_accuracy": "accuracy of labels",
    **{
        f"{way}_{metric}": metric.replace("_", " ")
        for way in ("i2t", "t2i")
        for metric in ("R@1", "R@5", "R@10", "median_rank", "P@5", "P@10", "P@100")
    },
    "cnr": "CNR",
    "cnr_signed": "CNR, signed",
    "miou": "mIoU",
    "recall": "recall",
    "iou": "IoU",
}
# Those that are no shares, and not given in percent, and their decimal places.
NO_SHARES = {"i2t_median_rank": 1, "t2i_median_rank": 1, "cnr": 2, "cnr_signed": 2}


@dataclass(frozen=True)
class Score:
    """A metric over seeds, in percent if it is a share.

    Attributes:
        mean: Over the seeds.
        std: Their sample standard deviation; None for one seed.
        n: Number of seeds.
        low: Lower end of the bootstrap interval of the mean over the test set; None where it was not resampled.
        high: Upper end.
        digits: Decimal places that are shown.
        left: What it is of, where something was left out: `4 of 5 labels`.
    """

    mean: float
    std: float | None
    n: int
    low: float | None
    high: float | None
    digits: int = 1
    left: str | None = None

    @property
    def figure(self) -> str:
        """`87.1 ± 0.4 (3) [86.2, 88.0]`, of one seed `87.1 [86.2, 88.0]`."""
        d = self.digits
        spread = "" if self.std is None else f" ± {self.std:.{d}f} ({self.n})"
        bounds = "" if self.low is None or self.high is None else f" [{self.low:.{d}f}, {self.high:.{d}f}]"
        return f"{self.mean:.{d}f}{spread}{bounds}"

    def __str__(self) -> str:
        """Return the figure, and behind it what it is of, where something was left out."""
        return f"{self.figure}, {self.left}" if self.left else self.figure


def metric_name(metric: str) -> str:
    """Return what a metric is called in tables."""
    return METRICS.get(metric, metric)


def score_of(metric: str, entries: Sequence[Mapping[str, Any]], replicates: Sequence[Any]) -> Score:
    """Return the mean of a metric over seeds.

    Args:
        metric: Its name.
        entries: What the results.json of each seed says of it.
        replicates: Its bootstrap replicates of each seed, (samples,); None where there are none.
    """
    values = [entry["value"] for entry in entries]
    digits = NO_SHARES.get(metric.partition("/")[0])
    scale = 100 if digits is None else 1
    low = high = None
    if all(part is not None for part in replicates):
        # The seeds share their bootstrap samples, so that this is the interval of the mean over the seeds.
        low, high = (scale * bound for bound in interval(np.mean(replicates, axis=0)))
    std = scale * float(np.std(values, ddof=1)) if len(values) > 1 else None
    left = dict.fromkeys(filter(None, map(left_of, entries)))
    mean = scale * float(np.mean(values))
    return Score(mean, std, len(values), low, high, 1 if digits is None else digits, " or ".join(left) or None)


def left_of(entry: Mapping[str, Any]) -> str | None:
    """Return what a metric is of, such as `4 of 5 labels`; None where nothing was left out, or nobody has counted."""
    counted = entry.get("counted")
    if counted is None or counted["n"] == counted["of"]:
        return None
    return f"{counted['n']:,} of {counted['of']:,} {counted['what']}"
