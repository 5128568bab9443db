"""Callbacks of the Trainer that Lightning lacks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor


class Throughput(Callback):
    """Logs how fast training goes, and how much of that time it waits for data.

    Every `log_every_n_steps` steps, over the batches of as many steps:

    - `time/images_per_second`: studies trained on per second by all ranks together. A study seen in several views
      counts once, as it is one row of `batch["image"]` (B, ...).
    - `time/data_wait`: share of the time, between 0 and 1, from the end of a batch to the start of the next.

    Validation and what happens between epochs is left out. Nothing here synchronises with a GPU: the host can run
    ahead of it by no more than the length of its launch queue, less than a step of most models, so over a window the
    clock of the host is the clock of the GPU.

    Args:
        warn_above: Value of `time/data_wait` above which a warning is given, once.
        warn_after: Number of batches before the warning can come.
    """

    def __init__(self, warn_above: float = 0.3, warn_after: int = 200) -> None:
        self.warn_above = warn_above
        self.warn_after = warn_after
        self.warned = False
        self.batches_seen = 0
        self.every_n_steps = 0
        self.logged_step = 0
        self.waiting_since = 0.0
        self.started = 0.0
        self.window: deque[tuple[float, float, int]] = deque()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start with an empty window."""
        self.every_n_steps = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a connector
        self.window = deque(maxlen=self.every_n_steps * trainer.accumulate_grad_batches)
        self.logged_step = trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to wait for the first batch of the epoch."""
        self.waiting_since = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to wait anew, where validation came between two batches."""
        self.waiting_since = time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """End the wait."""
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the times of the batch, and log those of the window when it is due."""
        ended = time.perf_counter()
        images = len(batch["image"]) * trainer.world_size
        self.window.append((self.started - self.waiting_since, ended - self.waiting_since, images))
        self.waiting_since = ended
        self.batches_seen += 1
        # With accumulation, several batches end with the same step.
        step = trainer.global_step
        if step == self.logged_step or step % self.every_n_steps:
            return
        self.logged_step = step
        waited, elapsed, seen = (sum(column) for column in zip(*self.window, strict=True))
        data_wait = waited / elapsed
        pl_module.log_dict({"time/images_per_second": seen / elapsed, "time/data_wait": data_wait}, rank_zero_only=True)
        if data_wait > self.warn_above and self.batches_seen >= self.warn_after and not self.warned:
            self.warned = True
            rank_zero_warn(f"Training spends {data_wait:.0%} of its time waiting for data: raise --data.num_workers.")


class SavePredictions(BasePredictionWriter):
    """Writes what `medvlp predict` computes to parquet, one row an image, batch by batch.

    The columns are `image_id` and the outputs of the task, such as embeddings. Each process writes its own file,
    `predictions-RANK.parquet`.

    Args:
        folder: Where to write.
    """

    def __init__(self, folder: Path = Path("runs/predictions")) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder
        self.writer: pq.ParquetWriter | None = None

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: dict[str, Tensor],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Append a batch: `index` (B,) numbers its samples, all else are outputs (B, D)."""
        loader: Any = trainer.predict_dataloaders
        image_id = loader.dataset.image_id.take(prediction["index"].tolist())
        outputs = {key: value.float().tolist() for key, value in prediction.items() if key != "index"}
        table = pa.table({"image_id": image_id, **outputs})
        if self.writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.writer = pq.ParquetWriter(self.folder / f"predictions-{trainer.global_rank}.parquet", table.schema)
        self.writer.write_table(table)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the file."""
        if self.writer is not None:
            self.writer.close()
            rank_zero_info(f"Predictions are in {self.folder}.")
