"""Base of tasks whose test yields one row per image, and bootstrap intervals from these rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch.distributed as dist
from torch import Tensor

from medvlp.distributed import world_size
from medvlp.metrics.bootstrap import Statistic
from medvlp.models import ImageEncoder
from medvlp.prepared import Prepared
from medvlp.tasks.base import BaseTask
from medvlp.tasks.parameter_groups import RATES
from medvlp.tasks.seen import seen_in_training
from medvlp.types import Batch


class PerImageTask(BaseTask):
    """Collects one row per test image, and computes metrics from the rows.

    Attributes:
        encoder: The image encoder.
        encoder_sha256: Its digest, which results store.
        weights: Source of the encoder.
        predictions: After a test, one row for each image in the order of the data: `image_id` and its columns.
            `compute_metrics` may put others in their place.
        statistics: After a test, the metrics.
        left_out: After a test, the parts that no metric could count, with reasons.
        notes: After a test, remarks to print beside the metrics.
    """

    encoder: ImageEncoder
    encoder_sha256: str
    weights: str
    # No test of pytest's.
    __test__ = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.left_out: dict[str, str] = {}
        self.notes: list[str] = []
        self.statistics: dict[str, Statistic] = {}
        self.predictions: pa.Table | None = None
        self._rows: list[pa.Table] = []

    @property
    @abstractmethod
    def how(self) -> str:
        """How the encoder was used, in a few words for tables."""

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that was chosen of the task: what a figure must be stored with."""
        chosen = {name: value for name, value in self.hparams.items() if not name.startswith("_")}
        # Where they are off, the protocol is that of results from before these options.
        return {name: value for name, value in chosen.items() if value or name not in RATES}

    @classmethod
    def check_data(cls, prepared: Prepared, options: Mapping[str, Any]) -> None:
        """Refuse data whose results would go under a wrong name, before anything is computed.

        Args:
            prepared: What is to be tested on.
            options: Those of the task, by name.

        Raises:
            UnsuitableDataError: If it is none that the test is about.
        """

    @property
    @abstractmethod
    def trained_on(self) -> Mapping[str, Any] | None:
        """What the encoder was pre-trained on; see `medvlp.tasks.seen.seen_in_training`."""

    def on_test_start(self) -> None:
        """Report whether pre-training has seen the test patients."""
        self.notes = seen_in_training(self.datamodule, self.trained_on)

    def add_rows(self, batch: Batch, columns: Mapping[str, Any]) -> None:
        """Add one row per sample, for the end of the epoch.

        Args:
            batch: The batch.
            columns: By name, one value for each sample: a tensor or an array (B,), a list of B, or, where the type of
                nested values cannot be told from them, an array of pyarrow.
        """
        values = {name: v.detach().cpu().numpy() if isinstance(v, Tensor) else v for name, v in columns.items()}
        self._rows.append(pa.table({"index": batch["index"].cpu().numpy(), **values}))

    def gather_rows(self) -> pa.Table:
        """Return the rows of all processes, each image once, in the order of `index`, and clear them."""
        tables, self._rows = self._rows, []
        if world_size() > 1:
            gathered: list[Any] = [None] * world_size()
            dist.all_gather_object(gathered, tables)
            tables = [table for part in gathered for table in part]
        rows = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
        # Processes share out padded orders, so that a sample may come twice.
        _, first = np.unique(rows["index"].to_numpy(), return_index=True)
        return rows.take(pa.array(first))

    @abstractmethod
    def compute_metrics(self, rows: pa.Table) -> dict[str, Statistic]:
        """Return the metrics of a test from one row for each image, `predictions`."""

    def on_test_epoch_end(self) -> None:
        """Log the metrics of all test images."""
        rows = self.gather_rows()
        loader: Any = self.trainer.test_dataloaders
        ids = loader.dataset.image_id.take(rows["index"].combine_chunks())
        self.predictions = rows.drop_columns(["index"]).add_column(0, "image_id", ids)
        self.left_out = {}
        self.statistics = self.compute_metrics(self.predictions)
        # Equal on all processes, each of which has all rows.
        self.log_dict({f"test/{name}": statistic.value for name, statistic in self.statistics.items()}, sync_dist=True)
