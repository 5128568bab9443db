"""Metrics that torchmetrics lacks."""

from medvlp.metrics.auroc import auroc, label_auroc
from medvlp.metrics.bootstrap import Statistic
from medvlp.metrics.recall import class_precision, retrieval

__all__ = ["Statistic", "auroc", "class_precision", "label_auroc", "retrieval"]
