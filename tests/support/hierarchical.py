"""IMITATE's objective on features of chance."""

from types import SimpleNamespace

import torch

from medvlp.objectives import HierarchicalAlignment

WIDTHS = [8, 12, 16, 20]


def make(**options):
    torch.manual_seed(0)
    encoders = SimpleNamespace(width=24, widths=WIDTHS), SimpleNamespace(width=10)
    return HierarchicalAlignment(*encoders, **{"dim": 16, "grid": 4, **options})
