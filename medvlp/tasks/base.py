"""Base of all tasks: optimiser, schedule, and the callbacks that watch over every run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from medvlp.data import CXRDataModule
from medvlp.data.features import FeatureStore
from medvlp.data.transforms import Framing
from medvlp.errors import UserError
from medvlp.tasks.divergence import StopOnDivergence
from medvlp.tasks.overfit import Overfit
from medvlp.tasks.precision import set_precision
from medvlp.tasks.schedule import ResumedSchedule, check_end
from medvlp.tasks.sync import replace_torch_sync

READ: dict[TrainerFn | None, list[str]] = {
    TrainerFn.FITTING: ["train", "validate"],
    TrainerFn.VALIDATING: ["validate"],
    TrainerFn.TESTING: ["test"],
}
"""The data sets that each of the Trainer's verbs reads."""


class BaseTask(L.LightningModule, ABC):
    """A task with AdamW, linear warm-up and a cosine to zero over all steps of the run.

    Args:
        optimizer: Optimiser of the trainable parameters.
        warmup: Share of the steps in which the learning rate rises linearly.
        schedule: A scheduler of torch to use instead, stepped after every optimiser step.

    Attributes:
        schedule_steps: Optimiser steps that the cosine spans; None before training, and with another schedule.
        stored_features: Features that the data module is to give in place of images; None for images.
    """

    stored_features: FeatureStore | None = None

    def __init__(
        self,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=2e-4, weight_decay=0.05),
        warmup: float = 0.0,
        schedule: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.optimizer, self.warmup, self.schedule = optimizer, warmup, schedule
        self.schedule_steps: int | None = None

    @property
    def framing(self) -> Framing | None:
        """How the data module is to scale and cut images; None leaves it to the data module's options."""
        return None

    @property
    def datamodule(self) -> CXRDataModule:
        """The data of the run."""
        data: CXRDataModule = self.trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
        return data

    def configure_callbacks(self) -> list[L.Callback]:
        """Add the callbacks that watch over every run to those that the config names."""
        # The first hook that knows the Trainer.
        set_precision(self.trainer)
        replace_torch_sync(self.trainer)
        overfits = self.trainer.overfit_batches > 0  # type: ignore[attr-defined]  # set by a connector
        return [StopOnDivergence(), ResumedSchedule(), *([Overfit()] if overfits else [])]

    def overfit_quality(self, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        """Return how well a run with `overfit_batches` has learned its images: shares by name, 1 is perfect.

        Args:
            metrics: What its last validation has logged.
        """
        return {}

    @abstractmethod
    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Evaluate one test batch."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the learning rate."""
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make optimiser and schedule."""
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        if self.schedule is not None:
            scheduler: Any = self.schedule(optimizer)
            check_end(scheduler, self.trainer)
        else:
            steps = self.trainer.estimated_stepping_batches
            if steps == math.inf:
                raise UserError(
                    "max_epochs=-1 without max_steps, but the cosine ends with the run: pass --trainer.max_epochs or "
                    "--trainer.max_steps, or a --model.schedule of its own."
                )
            self.schedule_steps = total = max(1, int(steps))
            rise = int(self.warmup * total)

            def factor(step: int) -> float:
                if step < rise:
                    return (step + 1) / rise
                return (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total - rise)))) / 2

            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
