"""Prepared folders as batches."""

from medvlp.data.datamodule import CXRDataModule
from medvlp.data.dataset import PreparedDataset, collate
from medvlp.data.transforms import Augmentation

__all__ = ["Augmentation", "CXRDataModule", "PreparedDataset", "collate"]
