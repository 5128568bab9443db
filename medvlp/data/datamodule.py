"""The one LightningDataModule: it reads every folder of `medvlp prepare`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader, Dataset

from medvlp.data.dataset import PreparedDataset, Transform, ViewSource, collate
from medvlp.data.features import FeatureDataset, FeatureStore, as_it_is
from medvlp.data.folders import FolderDataModule
from medvlp.data.mixed import MixedDataset, training_sampler
from medvlp.data.regions import RegionList
from medvlp.data.roots import Roots
from medvlp.data.sampler import EpochSampler
from medvlp.data.selection import Rows, Targets
from medvlp.data.subset import Subset
from medvlp.data.transforms import Augmentation, EvaluationTransform, Framing, TrainTransform
from medvlp.data.views import check_paired
from medvlp.errors import UserError
from medvlp.prepared import TEXT


class CXRDataModule(FolderDataModule):
    """Chest radiographs with reports and labels from prepared folders, by default MIMIC-CXR's.

    Args:
        root: The prepared folder, or its URL, such as s3://bucket/folder; see `medvlp.storage.mirror`. Several of them,
            for pre-training: a list, of which an epoch reads every image once, or the weight of each,
            `{data/mimic_cxr: 1.0, data/chexpert_plus: 0.5}`; see `Roots`.
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
        text_cache: Folder of the cached embeddings of frozen text encoders; by default inside the (first) prepared
            folder.
        regions: Load the anatomical regions that a report mentions, with their boxes and sentences. ASG's region
            alignment needs them.
        region_list: The regions, `29`, `23`, or a YAML file of merged regions; see `RegionList`.
        split: Name of the split variant, one of those that `medvlp prepare` has listed; by default the first.
        fraction: Share of the training images of each folder to train on; validation and test stay complete. See
            `Subset`.
        subset_seed: Seed of the choice; another seed chooses other images.
        balance: Train on all images with a label that is present, and on as many without (MGCA's SIIM).
        targets: Annotations to load, `mask` or `box`. Images that were never annotated are dropped: they would count
            as empty.
        drop_last: Drop the last incomplete batch of a training epoch.
        view_source: Source of the training views after the first: `image` for the image itself, `study` for other
            images of the same study, such as a lateral one, as far as the training images hold any (CXR-CLIP).
        known_tests: Prepared folders whose test images must not be trained on; see `medvlp.data.audit`. By default all
            that lie beside those of `root`.
        leave_out_known_tests: Whether to leave out the training images of patients and images in known test sets;
            otherwise they are only counted.

    Attributes:
        roots: The prepared folders.
        share: The choice of training images.
        left_out: Rows of images.npy of each folder that are not trained on, by its number; none before the audit.

    Raises:
        UserError: If `view_source` is `study` without a second view, or with regions or targets.
    """

    def __init__(
        self,
        root: dict[str, float] | list[str] | Path = Path("data/mimic_cxr"),
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
        known_tests: Sequence[Path] | None = None,
        leave_out_known_tests: bool = False,
    ) -> None:
        super().__init__()
        self.roots, self.batch_size, self.views = Roots(root), batch_size, views
        self.crop, self.resize = crop, resize
        self.augmentation = augmentation or Augmentation()
        self.splits = {"train": train_splits, "validate": validation_splits, "test": test_splits}
        self.num_workers, self.seed = num_workers, seed
        self.text_cache = text_cache or self.roots.paths[0] / TEXT
        self.regions = RegionList(region_list) if regions else None
        self.split, self.targets, self.drop_last = split, targets, drop_last
        self.share = Subset(fraction, subset_seed, balance)
        self.known_tests, self.leave_out_known_tests = known_tests, leave_out_known_tests
        self.left_out: dict[int, Rows] = {}
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

    def leave_out(self, rows: Sequence[Rows]) -> None:
        """Do not train on these rows of images.npy, given for each folder."""
        self.left_out = dict(enumerate(rows))

    def datasets(self, name: str) -> list[PreparedDataset]:
        """Return the data sets of `train`, `validate` or `test`, one for each of `sources`.

        Raises:
            UserError: If the resized images are smaller than the crop, no image is in the splits, or folders hold
                images of different sizes that are not resized.
        """
        sizes = {prepared.size: prepared.root for prepared in self.roots.open()}
        if len(sizes) > 1 and not self.framing.resize:
            raise UserError(
                f"root: the images of {' and '.join(f'{root} have {size}' for size, root in sizes.items())} pixels a "
                f"side: give them one size, --data.resize {min(sizes)}."
            )
        datasets: list[PreparedDataset] = []
        for number in self.sources(name):
            dataset = self._dataset(name, number)
            dataset.source, dataset.first = number, sum(map(len, datasets))
            datasets.append(dataset)
        return datasets

    def dataset(self, name: str) -> PreparedDataset:
        """Return the data set of `train`, `validate` or `test`, or of its first folder.

        Raises:
            UserError: See `datasets`.
        """
        return self.datasets(name)[0]

    def _dataset(self, name: str, number: int) -> PreparedDataset:
        root, several = self.roots.paths[number], len(self.roots) > 1
        training = name == "train"
        augmented = training and self.features is None
        crop, resize = self.framing.crop, self.framing.resize
        transform: Transform = (
            TrainTransform(crop, self.augmentation, resize) if augmented else EvaluationTransform(crop, resize)
        )
        dataset = PreparedDataset(
            root,
            self.splits[name],
            transform,
            self.views if augmented else 1,
            # Images of the same number in two folders are not turned alike.
            int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0]) if several else self.seed,
            self.regions,
            self.split,
            self.targets,
            self.share if training else None,
            getattr(self._task, "reads_sentences", False),
            self.view_source if augmented else "image",
            self.left_out.get(number) if training else None,
            self.labels if several else None,
        )
        side = resize or dataset.prepared.size
        if side < crop:
            place = f"resize={side} makes images of" if resize else f"the images in root='{root}' have"
            raise UserError(
                f"crop={crop}, but {place} {side} pixels a side. "
                f"Pass --data.crop {side}, or prepare with a larger --size."
            )
        if training and side > dataset.prepared.size:
            rank_zero_warn(
                f"resize={side} enlarges the images in root='{root}', which have {dataset.prepared.size} pixels a "
                "side. Pass --data.resize null with a --data.crop that fits, or prepare with a larger --size."
            )
        return dataset

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled batches of `views` views; `drop_last` drops the last incomplete batch.

        Raises:
            UserError: If `regions` is true and no training image has a region with a sentence, `view_source` is
                `study` and no study has two images, or no batch is full.
        """
        datasets = self.datasets("train")
        if self.regions is not None and not any(
            len(dataset.spoken(i).region.region_id) for dataset in datasets for i in range(len(dataset))
        ):
            raise UserError(
                f"regions=True, but in root='{self.roots}' no report of a training image mentions a region that "
                "has a box in it."
            )
        if self.view_source == "study":
            check_paired([dataset.study for dataset in datasets if dataset.study], self.roots)
        sampler = training_sampler(self.roots, [len(dataset) for dataset in datasets], self.seed)
        if self.drop_last and len(sampler) < self.batch_size:
            raise UserError(
                f"batch_size={self.batch_size}, but training has {len(sampler)} images per process: no batch would be "
                "full. Pass a smaller --data.batch_size, or --data.drop_last false."
            )
        # The Trainer sets the epoch only after the loader's workers have begun to fetch.
        (sampler.epoch, images), self._start = self._start, (0, 0)
        sampler.skip = images // sampler.num_replicas
        return self._loader(datasets, sampler, self.drop_last)

    @property
    def overfits(self) -> bool:
        """Whether the run learns a few batches by heart: the same views of the same images in each epoch."""
        return bool(self.trainer and self.trainer.overfit_batches)  # type: ignore[attr-defined]  # set by a connector

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Return all validation images, one view, of several folders a loader each, see `sources`.

        If the run overfits, it is one loader of the first training view of its images.
        """
        if not self.overfits:
            return self._evaluation("validate")
        datasets = self.datasets("train")
        for dataset in datasets:
            dataset.views = 1
        return self._loader(datasets, EpochSampler(sum(map(len, datasets)), shuffle=False), self.drop_last)

    def test_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Return all test images, one view, of several folders a loader each, see `sources`."""
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

    def _evaluation(self, name: str) -> DataLoader[Any] | list[DataLoader[Any]]:
        loaders = [
            self._loader([dataset], EpochSampler(len(dataset), shuffle=False), drop_last=False)
            for dataset in self.datasets(name)
        ]
        return loaders if len(self.roots) > 1 else loaders[0]

    def _loader(self, datasets: Sequence[PreparedDataset], sampler: EpochSampler, drop_last: bool) -> DataLoader[Any]:
        if unannotated := sum(dataset.unannotated for dataset in datasets):
            rank_zero_info(
                f"{unannotated:,} images without annotations are left out; {sum(map(len, datasets)):,} images remain."
            )
        samples = datasets[0] if len(datasets) == 1 else MixedDataset(datasets)
        dataset: Dataset[Any] = FeatureDataset(datasets[0], self.features) if self.features else samples
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
