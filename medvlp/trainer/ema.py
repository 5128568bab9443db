"""Exponential moving average of the weights, which validation and checkpoints use in place of the weights of a step."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn

from medvlp.errors import UserError


class EMA(Callback):
    """Averages the weights over the steps: average = d average + (1 - d) weights, after each optimiser step.

    Validation, heat maps, `best.ckpt` and `last.ckpt` use the average, and so does everything that reads these
    checkpoints. A resumed run goes on with the weights of its last step, which the state of this callback holds, as an
    uninterrupted run would. At the end of training the model has the average.

    The running statistics of batch norms are averaged like weights, with the same d. Frozen weights, counters and other
    integers stay as they are. Averages are fp32, whatever the precision of the weights.

    Lightning's `EMAWeightAveraging` does not suit these tasks. It ends before `on_validation_epoch_end` of a task,
    which would compare images of the average with texts of the last step. It also copies the task before its image
    encoder is fitted to the size of the data, with the stored embeddings of all texts.

    Args:
        decay: Greatest d. In the first steps d is (1 + n) / (10 + n) after n averages, so that the average forgets the
            weights that training starts from.

    Raises:
        UserError: If `decay` is not between 0 and 1.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise UserError(f"EMA decay={decay}: pass a share between 0 and 1, such as 0.999.")
        self.decay = decay
        self._count = self._step = 0
        # Names in the state dict of each tensor; shared weights have several.
        self._names: list[list[str]] = []
        self._live: list[Tensor] = []
        self._average: list[Tensor] = []
        # The weights of the last step, while the model has the average.
        self._aside: list[Tensor] = []
        self._loaded: dict[str, Any] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Move behind all callbacks but those that write checkpoints: others still see the average after validation."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
        others = [c for c in callbacks if c is not self and not isinstance(c, Checkpoint)]
        writers = [c for c in callbacks if isinstance(c, Checkpoint)]
        trainer.callbacks = [*others, self, *writers]  # type: ignore[attr-defined]  # set by a connector

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse checkpoints without the state of callbacks, which would hold the weights of the last step.

        Raises:
            UserError: If a `ModelCheckpoint` has `save_weights_only`.
        """
        if any(getattr(writer, "save_weights_only", False) for writer in trainer.checkpoint_callbacks):
            raise UserError(
                "ModelCheckpoint has save_weights_only=true, and would write the weights of the last step in place of "
                "the average of EMA: leave it out."
            )

    @torch.no_grad()
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the weights, or go on from the average in the checkpoint."""
        tensors: dict[Tensor, list[str]] = {}
        for name, tensor in pl_module.state_dict(keep_vars=True).items():
            # Extra state need not be tensors.
            number = isinstance(tensor, Tensor) and tensor.is_floating_point()
            if number and (tensor.requires_grad or not isinstance(tensor, nn.Parameter)):
                tensors.setdefault(tensor, []).append(name)
        self._live, self._names, self._aside = list(tensors), list(tensors.values()), []
        self._average = [tensor.detach().clone().float() for tensor in self._live]
        self._count, self._step = 0, trainer.global_step
        if self._loaded is not None:
            self._count = self._loaded["count"]
            for live, average, (name, *_) in zip(self._live, self._average, self._names, strict=True):
                average.copy_(self._loaded["average"][name])
                live.copy_(self._loaded["weights"][name])
            self._loaded = None
        elif trainer.ckpt_path:
            rank_zero_info("The checkpoint holds no average of the weights: EMA starts from its weights.")

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average, after the last batch of an optimiser step."""
        if trainer.global_step == self._step:
            return
        decay = min(self.decay, (1 + self._count) / (10 + self._count))
        torch._foreach_lerp_(self._average, [tensor.detach().float() for tensor in self._live], 1 - decay)
        self._count, self._step = self._count + 1, trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the model."""
        self._put_average()

    @torch.no_grad()
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights of the last step back into the model."""
        if trainer.state.fn == TrainerFn.FITTING and self._aside:
            torch._foreach_copy_(self._live, self._aside)
            self._aside = []

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the model."""
        self._put_average()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the last step, and the number of averages so far; empty before training."""
        weights = self._aside or [tensor.detach() for tensor in self._live]
        named = {name: weight for names, weight in zip(self._names, weights, strict=True) for name in names}
        return {"weights": named, "count": self._count} if named else {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the average in the place of the weights."""
        averages = zip(self._names, self._average, strict=True)
        checkpoint["state_dict"] |= {name: average for names, average in averages for name in names}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the average and the weights of the last step for the start of training."""
        if state := checkpoint.get("callbacks", {}).get(self.state_key):
            self._loaded = {**state, "average": {name: checkpoint["state_dict"][name] for name in state["weights"]}}

    @torch.no_grad()
    def _put_average(self) -> None:
        if self._live and not self._aside:
            self._aside = [tensor.detach().clone() for tensor in self._live]
            torch._foreach_copy_(self._live, self._average)
