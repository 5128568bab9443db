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
from medvlp.tasks.parameter_groups import Layers, check_rates, check_schedule, make_groups, rates_by_part, set_rates
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
        image_lr: Highest learning rate of the image encoder; None for that of the optimiser.
        text_lr: That of the text encoder.
        head_lr: That of all else: heads, decoders, temperatures.
        layer_decay: Learning rate of each layer of an encoder, as a share of that of the next layer. The last layer has
            the encoder's own rate. BEiT and MAE use 0.65 to 0.75 for fine-tuning. None for one rate.
        exclude_bias_and_norm: Whether weight decay leaves alone biases, norms, tokens, position embeddings and
            temperatures. The released codes of both papers shrink them, too.

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
        image_lr: float | None = None,
        text_lr: float | None = None,
        head_lr: float | None = None,
        layer_decay: float | None = None,
        exclude_bias_and_norm: bool = False,
    ) -> None:
        super().__init__()
        self.optimizer, self.warmup, self.schedule = optimizer, warmup, schedule
        self.rates = {"image": image_lr, "text": text_lr, "head": head_lr}
        self.layer_decay, self.exclude_bias_and_norm = layer_decay, exclude_bias_and_norm
        self.schedule_steps: int | None = None
        self._resumed_groups: list[int] | None = None

    @property
    def framing(self) -> Framing | None:
        """How the data module is to scale and cut images; None leaves it to the data module's options."""
        return None

    @property
    def datamodule(self) -> CXRDataModule:
        """The data of the run."""
        data: CXRDataModule = self.trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
        return data

    @property
    def encoder_layers(self) -> dict[str, Layers]:
        """The parameters of the encoders, `image` and `text`, by layer from input to output; by default none."""
        return {}

    @property
    def parts(self) -> dict[str, Layers]:
        """All parameters by part of the model: those of its encoders by layer, and `head`, the rest."""
        encoders = self.encoder_layers
        inside = {parameter for layers in encoders.values() for layer in layers for parameter in layer}
        return {"head": [[parameter for parameter in self.parameters() if parameter not in inside]], **encoders}

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
        """Log the learning rate, and that of each part of the model where they differ."""
        optimizer = self.trainer.optimizers[0]
        self.log("train/lr", optimizer.param_groups[0]["lr"])
        for part, rate in rates_by_part(optimizer).items():
            self.log(f"train/lr/{part}", rate)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the parameter groups of a run that is resumed."""
        for state in checkpoint.get("optimizer_states", [])[:1]:
            self._resumed_groups = [len(group["params"]) for group in state["param_groups"]]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make optimiser and schedule.

        Raises:
            UserError: If an option of a learning rate has no effect, or the parameter groups of a resumed run differ.
        """
        optimizer = self._make_optimizer()
        if self.schedule is not None:
            before = [group["lr"] for group in optimizer.param_groups]
            scheduler: Any = self.schedule(optimizer)
            check_schedule(optimizer, before, scheduler)
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

    def _make_optimizer(self) -> torch.optim.Optimizer:
        check_rates(self.parts, self.rates)
        if self.exclude_bias_and_norm or any(rate is not None for rate in (self.layer_decay, *self.rates.values())):
            named = self.named_parameters()
            optimizer = self.optimizer(make_groups(named, self.parts, self.layer_decay, self.exclude_bias_and_norm))
            set_rates(optimizer, self.rates)
        else:
            optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        groups = [len(group["params"]) for group in optimizer.param_groups]
        if self.trainer.ckpt_path and self._resumed_groups not in (None, groups):
            raise UserError(
                f"--ckpt_path '{self.trainer.ckpt_path}' was trained with other parameters, or other groups of them: "
                "resume with its image_lr, text_lr, head_lr, layer_decay, exclude_bias_and_norm and trained layers, as "
                "in the config.yaml beside its checkpoints. To change them, start a new run from it: --model.weights."
            )
        return optimizer
