"""Callbacks that Lightning lacks: throughput of training, and the results of a test."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
import pyarrow as pa
import pyarrow.parquet as pq
import timm
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from medvlp import __version__
from medvlp.data import CXRDataModule
from medvlp.errors import UserError
from medvlp.metrics.bootstrap import interval
from medvlp.models.published import fingerprint, names_published, origin
from medvlp.prepared import Prepared
from medvlp.tasks import DownstreamTask, PerImageTask

# End of the profiler's name for the fetch of a training batch; it begins with the name of a class.
FETCH = "train_dataloader_next"


class Throughput(Callback):
    """Logs the throughput of training, and the share of time that it waits for data.

    Every `log_every_n_steps` steps, it logs over the batches of as many steps:

    - `time/images_per_second`: Number of studies per second in training, over all ranks. A study with several views
      counts once, as it is one row of `batch["image"]` (B, ...).
    - `time/data_wait`: Share of the time, between 0 and 1, that the first rank waits because the loader has no batch
      ready. Other time between two batches is not part of it, such as the wait for a GPU to finish.
    - of several prepared folders, `time/NAME/images_per_second` and `train/NAME/share`: those of the studies from the
      folder NAME, and their share of the samples of the first rank.

    The window excludes validation and the time between epochs. Nothing here synchronises with a GPU. The host can run
    ahead of it by the length of the launch queue only, less than a step of most models. Over a window, the times of
    host and GPU therefore agree.

    Args:
        warn_above: Value of `time/data_wait` above which a warning is printed, once.
        warn_after: Number of batches before the first possible warning.
    """

    def __init__(self, warn_above: float = 0.3, warn_after: int = 200) -> None:
        self.warn_above = warn_above
        self.warn_after = warn_after
        self.warned = False
        self.batches_seen = 0
        self.every_n_steps = 0
        self.logged_step = 0
        self.began = 0.0
        self.fetch_began = 0.0
        self.fetching = 0.0
        self.window: deque[tuple[float, float, int]] = deque()
        self.names: Sequence[str] = ()
        self.folders: deque[torch.Tensor] = deque()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with an empty window, and hook into the profiler to time the fetches of batches."""
        self.every_n_steps = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a connector
        self.window = deque(maxlen=self.every_n_steps * trainer.accumulate_grad_batches)
        self.folders = deque(maxlen=self.window.maxlen)
        data = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
        self.names = data.roots.names if isinstance(data, CXRDataModule) else ()
        self.logged_step = trainer.global_step
        # The Trainer has no hook around a fetch, but reports it to its profiler.
        self.teardown(trainer, pl_module, "fit")  # hooks of a run that failed
        profiler: Any = trainer.profiler  # type: ignore[attr-defined]  # set by a connector
        start, stop = profiler.start, profiler.stop

        def start_timed(action: str) -> None:
            start(action)
            if action.endswith(FETCH):
                self.fetch_began = time.perf_counter()

        def stop_timed(action: str) -> None:
            if action.endswith(FETCH):
                self.fetching += time.perf_counter() - self.fetch_began
            stop(action)

        profiler.start, profiler.stop = start_timed, stop_timed

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove the hooks from the profiler."""
        for name in ("start", "stop"):
            vars(trainer.profiler).pop(name, None)  # type: ignore[attr-defined]  # set by a connector

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the clock for the first batch of the epoch."""
        self.began, self.fetching = time.perf_counter(), 0.0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the clock after validation between two batches."""
        self.began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the times of the batch to the window, and log the window at its last step."""
        ended = time.perf_counter()
        images = len(batch["image"]) * trainer.world_size
        self.window.append((self.fetching, ended - self.began, images))
        if len(self.names) > 1:
            # Counted where the batch is, and read when the Trainer logs: no wait for a GPU.
            numbers = torch.arange(len(self.names), device=batch["source"].device)
            self.folders.append((batch["source"][:, None] == numbers).sum(0))
        self.began, self.fetching = ended, 0.0
        self.batches_seen += 1
        # With gradient accumulation, several batches end with the same step.
        step = trainer.global_step
        if step == self.logged_step or step % self.every_n_steps:
            return
        self.logged_step = step
        waited, elapsed, count = (sum(column) for column in zip(*self.window, strict=True))
        data_wait = waited / elapsed
        times = {"time/images_per_second": count / elapsed, "time/data_wait": data_wait}
        pl_module.log_dict(times, rank_zero_only=True)
        if self.folders:
            counts = torch.stack(list(self.folders)).sum(0)
            for name, share in zip(self.names, counts / counts.sum(), strict=True):
                pl_module.log(f"train/{name}/share", share, rank_zero_only=True)
                pl_module.log(f"time/{name}/images_per_second", share * count / elapsed, rank_zero_only=True)
        if data_wait > self.warn_above and self.batches_seen >= self.warn_after and not self.warned:
            self.warned = True
            rank_zero_warn(f"Training spends {data_wait:.0%} of its time waiting for data: raise --data.num_workers.")


class SaveResults(Callback):
    """Writes the results of a test, and the settings that a comparison of results needs.

    - `predictions.parquet`: one row for each test image, or for each phrase of an image;
    - `bootstrap.parquet`: the metrics on the bootstrap samples of the test images, one column per metric;
    - `subset.csv`: `image_id` of the training images, none in a zero-shot test;
    - `results.json`: written last and atomically, so that its presence marks a finished run.

    Args:
        benchmark: Name of the benchmark.
        folder: Folder to write to; by default the Trainer's `default_root_dir`.
    """

    def __init__(self, benchmark: str, folder: Path | None = None) -> None:
        self.benchmark = benchmark
        self.folder = folder
        self.subset: dict[str, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the description of the training images, which checkpoints store."""
        self.subset = describe_subset(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the description of the training images."""
        return self.subset

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the training images of the config with those of the checkpoint.

        Raises:
            UserError: If the checkpoint was trained on other images: its results would be filed under a wrong label
                fraction.
        """
        self.subset = describe_subset(pl_module)
        if not trainer.ckpt_path:
            return
        callbacks = torch.load(trainer.ckpt_path, "cpu", weights_only=True, mmap=True).get("callbacks", {})
        trained = callbacks.get(self.state_key, self.subset)
        if trained["subset_sha256"] != self.subset["subset_sha256"]:
            raise UserError(
                f"--ckpt_path '{trainer.ckpt_path}' was trained with data.fraction={trained['fraction']} and "
                f"data.subset_seed={trained['subset_seed']} on {trained['n_train']} images, the config says "
                f"{self.subset['fraction']} and {self.subset['subset_seed']}, {self.subset['n_train']} images: test it "
                "with the settings of its training."
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files, on the first process only."""
        if not trainer.is_global_zero or not isinstance(pl_module, PerImageTask) or pl_module.predictions is None:
            return
        loader: Any = trainer.test_dataloaders
        folder = self.folder or Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").unlink(missing_ok=True)
        pq.write_table(pl_module.predictions, folder / "predictions.parquet")
        statistics = pl_module.statistics
        replicates = {name: s.replicates for name, s in statistics.items() if s.replicates is not None}
        pq.write_table(pa.table(replicates), folder / "bootstrap.parquet")
        with (folder / "subset.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["image_id"], *([name] for name in training_images(pl_module))])
        bounds = {name: interval(array) for name, array in replicates.items()}
        content = {
            "benchmark": self.benchmark,
            "task": type(pl_module).__name__,
            "how": pl_module.how,
            "protocol": describe_protocol(trainer, pl_module),
            "weights_sha256": fingerprint(pl_module.weights),
            "weights_origin": origin(pl_module.weights) if names_published(pl_module.weights) else None,
            "encoder_sha256": pl_module.encoder_sha256,
            "data": describe_data(pl_module),
            "seed": int(os.environ.get("PL_GLOBAL_SEED", "0")),
            **self.subset,
            "n_test": len(loader.dataset),
            "metrics": {
                name: dict(zip(("value", "low", "high"), (s.value, *bounds.get(name, (None, None))), strict=True))
                | ({"counted": s.counted._asdict()} if s.counted else {})
                for name, s in statistics.items()
            },
            "left_out": pl_module.left_out,
            "notes": pl_module.notes,
            "versions": {
                "medvlp": __version__,
                "torch": torch.__version__,
                "lightning": lightning.__version__,
                "timm": timm.__version__,
            },
        }
        unfinished = folder / "results.json.tmp"
        unfinished.write_text(json.dumps(content, indent=2, default=str) + "\n")
        unfinished.replace(folder / "results.json")


def training_images(task: LightningModule) -> list[str]:
    """Return the names of a task's training images; an empty list if the task only evaluates."""
    return task.datamodule.subset if isinstance(task, DownstreamTask) else []


def describe_subset(task: LightningModule) -> dict[str, Any]:
    """Return a description of the training images: fraction, seed, number of images, and a hash of their names."""
    names = training_images(task)
    digest = hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()
    fraction, seed = 0.0, 0
    if isinstance(task, DownstreamTask):
        fraction, seed = task.datamodule.share.fraction, task.datamodule.share.seed
    return {"fraction": fraction, "subset_seed": seed, "subset_sha256": digest, "n_train": len(names)}


def describe_protocol(trainer: Trainer, task: PerImageTask) -> dict[str, Any]:
    """Return the settings of the task and of training, except the data, label fraction and subset seed."""
    data = task.datamodule
    settings = {
        **task.settings,
        "crop": data.framing.crop,
        "resize": data.framing.resize,
        "precision": str(trainer.precision),
    }
    if not isinstance(task, DownstreamTask):
        return settings
    early = [c for c in trainer.callbacks if isinstance(c, EarlyStopping)]  # type: ignore[attr-defined]
    return {
        **settings,
        "batch_size": data.batch_size,
        "balance": data.share.balance,
        "augmentation": None if task.cache_features else asdict(data.augmentation),
        "max_epochs": trainer.max_epochs,
        "patience": early[0].patience if early else None,
    }


def describe_data(task: PerImageTask) -> dict[str, Any]:
    """Return a description of the data: folder, hashes, options of preparation, and split."""
    data = task.datamodule
    prepared = Prepared.open(data.root)
    name = data.split or next(iter(prepared.split_variants))
    variant = prepared.split_variants[name]
    return {
        "root": str(Path(data.root).resolve()),
        "split": name,
        "split_sha256": variant["sha256"],
        "rule": variant["rule"],
        "counts": variant["counts"],
        "documented": variant["documented"],
        "synthetic": prepared.synthetic,
        "sha256": prepared.manifest["sha256"],
        "options": prepared.manifest["options"],
    }
