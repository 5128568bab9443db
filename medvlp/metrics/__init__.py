"""Metrics as functions of a weight a sample, so that the bootstrap can resample them without a loop.

They take arrays or tensors, and know no task.
"""

from medvlp.metrics.bootstrap import Statistic
from medvlp.metrics.recall import class_precision, retrieval
from medvlp.metrics.roc import auroc, label_auroc

__all__ = ["Statistic", "auroc", "class_precision", "label_auroc", "retrieval"]
