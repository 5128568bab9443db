"""Names of metrics, and their means over seeds as tables show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medvlp.metrics.bootstrap import interval

# This is the order of the tables. The name of a metric of one label has a slash.
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
# Decimal places of the metrics that are no shares, and so are not in percent.
NO_SHARES = {"i2t_median_rank": 1, "t2i_median_rank": 1, "cnr": 2, "cnr_signed": 2}


@dataclass(frozen=True)
class Score:
    """A metric over seeds, in percent if it is a share.

    Attributes:
        mean: Mean over the seeds.
        std: Sample standard deviation over the seeds; None for one seed.
        n: Number of seeds.
        low: Lower end of the bootstrap interval of the mean over the test set; None if a seed has no bootstrap.
        high: Upper end of that interval, likewise.
        digits: Number of decimal places to show.
        left: Coverage of the metric if it leaves something out, such as `4 of 5 labels`; otherwise None.
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
        """The score as text: `87.1 ± 0.4 (3) [86.2, 88.0]`; for one seed `87.1 [86.2, 88.0]`."""
        d = self.digits
        spread = "" if self.std is None else f" ± {self.std:.{d}f} ({self.n})"
        bounds = "" if self.low is None or self.high is None else f" [{self.low:.{d}f}, {self.high:.{d}f}]"
        return f"{self.mean:.{d}f}{spread}{bounds}"

    def __str__(self) -> str:
        """Return the figure, followed by its coverage if the metric leaves something out."""
        return f"{self.figure}, {self.left}" if self.left else self.figure


def metric_name(metric: str) -> str:
    """Return the name of a metric in tables."""
    return METRICS.get(metric, metric)


def score_of(metric: str, entries: Sequence[Mapping[str, Any]], replicates: Sequence[Any]) -> Score:
    """Return the mean of a metric over seeds.

    Args:
        metric: Its name.
        entries: Entry of the metric in the results.json of each seed.
        replicates: Bootstrap replicates of the metric for each seed, (samples,); None if there are none.
    """
    values = [entry["value"] for entry in entries]
    digits = NO_SHARES.get(metric.partition("/")[0])
    scale = 100 if digits is None else 1
    low = high = None
    if all(part is not None for part in replicates):
        # All seeds use the same bootstrap samples, so this is the interval of the mean over the seeds.
        low, high = (scale * bound for bound in interval(np.mean(replicates, axis=0)))
    std = scale * float(np.std(values, ddof=1)) if len(values) > 1 else None
    left = dict.fromkeys(filter(None, map(left_of, entries)))
    mean = scale * float(np.mean(values))
    return Score(mean, std, len(values), low, high, 1 if digits is None else digits, " or ".join(left) or None)


def left_of(entry: Mapping[str, Any]) -> str | None:
    """Return the coverage of a metric, such as `4 of 5 labels`; None if it is complete or unknown."""
    counted = entry.get("counted")
    if counted is None or counted["n"] == counted["of"]:
        return None
    return f"{counted['n']:,} of {counted['of']:,} {counted['what']}"
