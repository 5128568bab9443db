"""Metrics as functions of sample weights, so that the bootstrap can resample them without a loop over samples.

Metrics take arrays or tensors, and import no task.
"""

from medvlp.metrics.bootstrap import Statistic
from medvlp.metrics.recall import class_precision, retrieval
from medvlp.metrics.roc import auroc, label_auroc

__all__ = ["Statistic", "auroc", "class_precision", "label_auroc", "retrieval"]
