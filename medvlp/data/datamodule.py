"""The one LightningDataModule: it reads every folder of `medvlp prepare`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader, Dataset

from medvlp.data.dataset import PreparedDataset, Targets, Transform, ViewSource, collate, select
from medvlp.data.features import FeatureDataset, FeatureStore, as_it_is
from medvlp.data.regions import RegionList
from medvlp.data.reports import ReportDataModule
from medvlp.data.sampler import EpochSampler
from medvlp.data.subset import Subset
from medvlp.data.transforms import Augmentation, EvaluationTransform, Framing, TrainTransform
from medvlp.errors import UserError
from medvlp.prepared import TEXT, Prepared, local_root
from medvlp.types import find_label


class CXRDataModule(ReportDataModule):
    """Chest radiographs with reports and labels from a prepared folder, by default MIMIC-CXR's.

    Args:
        root: The prepared folder, or its URL, such as s3://bucket/folder; see `medvlp.storage.mirror`.
        batch_size: Number of studies B in a batch of one process (IMITATE: 128).
        crop: Side of the crop that encoders see, in pixels (IMITATE: 224 of 256).
        resize: Side to which stored images are resized before the crop, in pixels; by default they are not resized.
        views: Number of views V of an image in training (IMITATE: 2). Evaluation has one view, the centre crop.
        augmentation: The random transforms of the training views.
        train_splits: Splits to train on. The official code trains on all of them.
        validation_splits: Splits to validate on.
        test_splits: Splits to test on.
        num_workers: Number of loader processes for each training process.
        seed: Seed of order and views.
        text_cache: Folder of the cached embeddings of frozen text encoders; by default inside the prepared folder.
        regions: Load the anatomical regions that a report mentions, with their boxes and sentences. ASG's region
            alignment needs them.
        region_list: The regions, `29`, `23`, or a YAML file of merged regions; see `RegionList`.
        split: Name of the split variant, one of those that `medvlp prepare` has listed; by default the first.
        fraction: Share of the training images to train on; validation and test stay complete. See `Subset`.
        subset_seed: Seed of the choice; another seed chooses other images.
        balance: Train on all images with a label that is present, and on as many without (MGCA's SIIM).
        targets: Annotations to load, `mask` or `box`. Images that were never annotated are dropped: they would count
            as empty.
        drop_last: Drop the last incomplete batch of a training epoch.
        view_source: Source of the training views after the first: `image` for the image itself, `study` for other
            images of the same study, such as a lateral one, as far as the training images hold any (CXR-CLIP).

    Attributes:
        share: The choice of training images.

    Raises:
        UserError: If `view_source` is `study` without a second view, or with regions or targets.
    """

    def __init__(
        self,
        root: Path = Path("data/mimic_cxr"),
        batch_size: int = 128,
        crop: int = 224,
        resize: int | None = None,
        views: int = 2,
        augmentation: Augmentation | None = None,
        train_splits: Sequence[str] = ("train",),
        validation_splits: Sequence[str] = ("validate",),
        test_splits: Sequence[str] = ("test",),
        num_workers: int = 8,
        seed: int = 0,
        text_cache: Path | None = None,
        regions: bool = False,
        region_list: Literal["29", "23"] | Path = "29",
        split: str | None = None,
        fraction: float = 1.0,
        subset_seed: int = 0,
        balance: bool = False,
        targets: Targets | None = None,
        drop_last: bool = True,
        view_source: ViewSource = "image",
    ) -> None:
        super().__init__()
        self.root, self.batch_size, self.views = local_root(root), batch_size, views
        self.crop, self.resize = crop, resize
        self.augmentation = augmentation or Augmentation()
        self.splits = {"train": train_splits, "validate": validation_splits, "test": test_splits}
        self.num_workers, self.seed = num_workers, seed
        self.text_cache = text_cache or self.root / TEXT
        self.regions = RegionList(region_list) if regions else None
        self.split, self.targets, self.drop_last = split, targets, drop_last
        self.share = Subset(fraction, subset_seed, balance)
        self.view_source = view_source
        if view_source == "study" and (views < 2 or regions or targets):
            wrong = "the only view is the image itself: pass --data.views 2"
            boxes = f"the boxes and masks of {'regions' if regions else 'targets'} belong to one image: leave them out"
            raise UserError(f"view_source='study', but {wrong if views < 2 else boxes}, or pass view_source=image.")
        self._start = (0, 0)

    @property
    def framing(self) -> Framing:
        """The scaling and cropping of images: the task's own, else that of `resize` and `crop`."""
        return getattr(self._task, "framing", None) or Framing(self.resize, self.crop)

    @property
    def features(self) -> FeatureStore | None:
        """Stored features of evaluation views that the task reads instead of images; None for images."""
        return getattr(self._task, "stored_features", None)

    @cached_property
    def labels(self) -> list[str]:
        """Names of the labels."""
        return Prepared.open(self.root).labels

    def find_labels(self, names: Sequence[str], option: str) -> list[str]:
        """Return labels as the data spells them; names match in any case.

        Args:
            names: The names.
            option: The option that holds the names, for the error.

        Raises:
            UserError: If the data has no such label, or a label is named twice.
        """
        labels = []
        for name in names:
            label = find_label(name, self.labels)
            if label is None or label in labels:
                wrong = f"names '{name}' twice" if label else f"but the data in root='{self.root}' has no '{name}'"
                raise UserError(f"{option}={list(names)}, {wrong}; it has: {', '.join(self.labels) or 'none'}.")
            labels.append(label)
        return labels

    def rows(self, name: str) -> npt.NDArray[np.int64]:
        """Return the rows in images.npy of `train`, `validate` or `test`."""
        rows: npt.NDArray[np.int64] = self._index([name], ["row"])["row"].to_numpy()
        return rows

    @property
    def subset(self) -> list[str]:
        """Names of the images to train on."""
        prepared = Prepared.open(self.root)
        chosen = select(prepared, self.splits["train"], self.split, self.targets, self.share)
        names: list[str] = chosen.table["image_id"].to_pylist()
        return names

    def dataset(self, name: str) -> PreparedDataset:
        """Return the data set of `train`, `validate` or `test`.

        Raises:
            UserError: If the resized images are smaller than the crop, or no image is in the splits.
        """
        training = name == "train"
        augmented = training and self.features is None
        crop, resize = self.framing.crop, self.framing.resize
        transform: Transform = (
            TrainTransform(crop, self.augmentation, resize) if augmented else EvaluationTransform(crop, resize)
        )
        dataset = PreparedDataset(
            self.root,
            self.splits[name],
            transform,
            self.views if augmented else 1,
            self.seed,
            self.regions,
            self.split,
            self.targets,
            self.share if training else None,
            getattr(self._task, "reads_sentences", False),
            self.view_source if augmented else "image",
        )
        side = resize or dataset.prepared.size
        if side < crop:
            place = f"resize={side} makes images of" if resize else f"the images in root='{self.root}' have"
            raise UserError(
                f"crop={crop}, but {place} {side} pixels a side. "
                f"Pass --data.crop {side}, or prepare with a larger --size."
            )
        if training and side > dataset.prepared.size:
            rank_zero_warn(
                f"resize={side} enlarges the images in root='{self.root}', which have {dataset.prepared.size} pixels a "
                "side. Pass --data.resize null with a --data.crop that fits, or prepare with a larger --size."
            )
        return dataset

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled batches of `views` views; `drop_last` drops the last incomplete batch.

        Raises:
            UserError: If `regions` is true and no training image has a region with a sentence, `view_source` is
                `study` and no study has two images, or no batch is full.
        """
        dataset = self.dataset("train")
        if self.regions is not None and not any(len(dataset.spoken(i).region.region_id) for i in range(len(dataset))):
            raise UserError(
                f"regions=True, but in root='{self.root}' no report of a training image mentions a region that "
                "has a box in it."
            )
        if dataset.study is not None:
            if not dataset.study.paired:
                raise UserError(
                    f"view_source='study', but no study of the training images of root='{self.root}' has two images: "
                    "prepare it with all --views, such as FRONTAL,LATERAL of Open-I, or pass view_source=image."
                )
            rank_zero_info(f"{dataset.study.paired:,} of {len(dataset):,} images have another one of their study.")
        sampler = EpochSampler(len(dataset), shuffle=True, seed=self.seed)
        if self.drop_last and len(sampler) < self.batch_size:
            raise UserError(
                f"batch_size={self.batch_size}, but training has {len(sampler)} images per process: no batch would be "
                "full. Pass a smaller --data.batch_size, or --data.drop_last false."
            )
        # The Trainer sets the epoch only after the loader's workers have begun to fetch.
        (sampler.epoch, images), self._start = self._start, (0, 0)
        sampler.skip = images // sampler.num_replicas
        return self._loader(dataset, sampler, self.drop_last)

    @property
    def overfits(self) -> bool:
        """Whether the run learns a few batches by heart: the same views of the same images in each epoch."""
        return bool(self.trainer and self.trainer.overfit_batches)  # type: ignore[attr-defined]  # set by a connector

    def val_dataloader(self) -> DataLoader[Any]:
        """Return all validation images, one view; if the run overfits, the first training view of its images."""
        if not self.overfits:
            return self._evaluation("validate")
        dataset = self.dataset("train")
        dataset.views = 1
        return self._loader(dataset, EpochSampler(len(dataset), shuffle=False), self.drop_last)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return all test images, one view."""
        return self._evaluation("test")

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the number of its samples that all processes have trained on, for the checkpoint."""
        if self.trainer is None:
            return {}
        loop = self.trainer.fit_loop
        epoch, batches = loop.epoch_progress.current.ready - 1, loop.epoch_loop.batch_progress
        # Callbacks may save in the middle of a step, or before the Trainer counts the last batch or epoch as completed.
        if batches.is_last_batch and batches.current.processed == batches.current.ready:  # type: ignore[attr-defined]
            return {"epoch": epoch + 1, "samples": 0}
        done: int = batches.current.processed  # type: ignore[attr-defined]  # Lightning annotates its base class
        return {"epoch": epoch, "samples": done * self.batch_size * self.trainer.world_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue inside the epoch, after the last sample before the checkpoint."""
        self._start = (state_dict.get("epoch", 0), state_dict.get("samples", 0))
        # The Trainer warns because it expects this state in the loader, not in the data module.
        warnings.filterwarnings("ignore", ".*dataloader is not resumable")

    @property
    def _task(self) -> L.LightningModule | None:
        """The task of the run; None outside a run."""
        return self.trainer.lightning_module if self.trainer else None

    def _evaluation(self, name: str) -> DataLoader[Any]:
        dataset = self.dataset(name)
        return self._loader(dataset, EpochSampler(len(dataset), shuffle=False), drop_last=False)

    def _loader(self, samples: PreparedDataset, sampler: EpochSampler, drop_last: bool) -> DataLoader[Any]:
        if samples.unannotated:
            rank_zero_info(
                f"{samples.unannotated:,} images without annotations are left out; {len(samples):,} images remain."
            )
        dataset: Dataset[Any] = FeatureDataset(samples, self.features) if self.features else samples
        # Stored features take longer to send between processes than to read.
        workers = 0 if self.features else self.num_workers
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=as_it_is if self.features else collate,
            pin_memory=torch.cuda.is_available(),
            drop_last=drop_last,
            persistent_workers=workers > 0,
        )
