"""Prepared folders as batches: the data module, datasets, transforms, regions and preprocessing.

It reads what `medvlp.prepare` has written, and knows no model.
"""

from medvlp.data.datamodule import CXRDataModule
from medvlp.data.dataset import PreparedDataset, collate
from medvlp.data.transforms import Augmentation

__all__ = ["Augmentation", "CXRDataModule", "PreparedDataset", "collate"]
