"""Checks of learning-rate schedules: their length, and their continuation in a resumed run."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR

from medvlp.errors import UserError


def check_end(scheduler: LRScheduler, trainer: Trainer) -> None:
    """Compare the number of steps in a scheduler of torch with that of the run, and warn if they differ.

    Args:
        scheduler: The scheduler, stepped after every optimiser step.
        trainer: The Trainer of the run.

    Raises:
        UserError: If the run has steps for which the scheduler has no learning rate.
    """
    if isinstance(scheduler, CosineAnnealingLR):
        option, end = "T_max", scheduler.T_max
    elif isinstance(scheduler, OneCycleLR):
        option, end = "total_steps", scheduler.total_steps
    else:
        return
    steps = trainer.estimated_stepping_batches
    if steps == math.inf:
        return
    mismatch = f"schedule {type(scheduler).__name__} has {option}={end}, but the run has {steps:.0f} steps"
    mend = (
        f"Pass --model.schedule.init_args.{option} {steps:.0f}, or no schedule: a cosine over all steps is the default."
    )
    if end < steps and isinstance(scheduler, OneCycleLR):
        raise UserError(f"{mismatch}, and it has no learning rate for the rest. {mend}")
    if end < steps:
        rank_zero_warn(f"{mismatch}: the learning rate rises again after step {end}. {mend}")
    if end > steps:
        rank_zero_warn(f"{mismatch}: the learning rate stops on its way. {mend}")


class ResumedSchedule(Callback):
    """Warns if a resumed run has another schedule than its checkpoint, or no steps left to train.

    The cosine of `BaseTask` spans all steps of a run, so that a run of another length has other learning rates at the
    same steps. Checkpoints store the number of steps.
    """

    def __init__(self) -> None:
        self._steps: int | None = None
        self._steps_before: int | None = None
        self._trained = False

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps that the schedule spans."""
        return {"steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read the number of steps in the checkpoint's schedule."""
        self._steps_before = state_dict["steps"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the last learning rate of the checkpoint with that of the schedule at the same step."""
        scheduler: Any = trainer.lr_scheduler_configs[0].scheduler if trainer.lr_scheduler_configs else None
        self._steps = getattr(pl_module, "schedule_steps", None)
        if not trainer.ckpt_path or self._steps is None or not isinstance(scheduler, LambdaLR):
            return
        step, before = scheduler.last_epoch, self._steps_before
        base = scheduler.base_lrs[0]
        was, now = scheduler.optimizer.param_groups[0]["lr"], base * scheduler.lr_lambdas[0](step)
        other = before not in (None, self._steps)
        if other or not math.isclose(was, now, rel_tol=1e-6, abs_tol=1e-9 * base):
            rank_zero_warn(
                f"the learning rate of step {step} was {was:.4g} and goes on at {now:.4g}, since the schedule now ends "
                f"at step {self._steps}{f' instead of {before}' if other else ', and ended elsewhere'}. It spans all "
                "steps of a run, which max_epochs, max_steps, the amount of data, batch_size, devices and "
                "accumulate_grad_batches decide: resume with those of the run before, or start a new run from its "
                "weights."
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record that the run has trained at least one batch."""
        self._trained = True

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if a resumed run has trained no batch."""
        if trainer.ckpt_path and not self._trained:
            rank_zero_warn(
                f"nothing is left to train: --ckpt_path '{trainer.ckpt_path}' is at step {trainer.global_step}, and "
                f"the run ends there or before: max_epochs={trainer.max_epochs}, max_steps={trainer.max_steps}. "
                "Raise them to train on; the learning rate then follows a longer schedule."
            )
