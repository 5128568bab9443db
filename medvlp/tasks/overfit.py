"""Verdict of a run with `overfit_batches`: whether a configuration can learn a few batches by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from medvlp.distributed import gather_objects
from medvlp.errors import StoppedWithOthersError, UserError

# A loss that falls by less than this share of its first value has not been learnt, but fluctuates.
FALLEN = 0.05
# Least share of right images, tags or sentences if a batch is learnt by heart.
KNOWN = 0.9
FEWEST = 10
# With soft targets the minimum of a loss is not known: it may end at this share of its first value.
HALVED = 0.5


class Overfit(Callback):
    """Ends a run with the Trainer's `overfit_batches` in a verdict, from its losses and its validation.

    The data module validates such a run on the views that it trains on. A run has learnt if all terms of the loss have
    fallen by at least 5 %, and all shares of `BaseTask.overfit_quality` are 0.9 or more. If a task has no such share,
    the loss must have halved.

    Attributes:
        first: The terms of the loss at the first step, by name; after the run, their means over the processes.
        last: Their means over the last tenth of the steps and over the processes, by name.
        learnt: The verdict; None before it.
    """

    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.learnt: bool | None = None
        self._steps: list[dict[str, float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the terms of the loss."""
        terms = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("train/") and k != "train/lr"}
        self.first = self.first or terms
        self._steps.append(terms)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the Trainer validate the last epoch, for any number of steps and batches."""
        if trainer.max_steps > 0:
            steps = max(1, int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
            trainer.check_val_every_n_epoch = max(1, trainer.max_steps // steps)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the verdict of all processes, from the means of their losses.

        Raises:
            UserError: If the loss has not fallen. Other processes than the first raise `StoppedWithOthersError`.
        """
        if len(self._steps) < FEWEST:
            rank_zero_info(f"No verdict: {len(self._steps)} steps are too few; a verdict needs at least {FEWEST}.")
            return
        ends = self._steps[-max(1, len(self._steps) // 10) :]
        self.first, self.last = ({name: mean_of(steps, name) for name in self.first} for steps in ([self.first], ends))
        quality: Mapping[str, float] = pl_module.overfit_quality(trainer.callback_metrics)  # type: ignore[operator]
        stuck = [name for name in self.first if not fallen(self.first[name], self.last[name])]
        for name, value in self.first.items():
            note = ", has not fallen" if name in stuck else ""
            rank_zero_info(f"{name}: {value:.4g} at the first step, {self.last[name]:.4g} at the end{note}")
        for name, value in quality.items():
            rank_zero_info(f"{name}: {value:.3f}")
        images = f"{len(self._steps)} steps on the same {trainer.overfit_batches} batch(es)"  # type: ignore[attr-defined]
        if "train/loss" in stuck:
            error = UserError if trainer.is_global_zero else StoppedWithOthersError
            raise error(
                f"this configuration does not learn: after {images} the loss is {self.last['train/loss']:.4g}, at the "
                f"first step it was {self.first['train/loss']:.4g}. Look at the learning rate, at what is frozen, and "
                "at the weights of the terms."
            )
        values = list(quality.values())
        learnt = min(values) >= KNOWN if values else self.last["train/loss"] <= HALVED * self.first["train/loss"]
        self.learnt = learnt and not stuck
        if self.learnt:
            rank_zero_info(f"Verdict: this configuration can learn ({images}).")
        else:
            missing = [name for name, value in quality.items() if value < KNOWN] or stuck or ["the loss"]
            rank_zero_info(
                f"Verdict: this configuration learns, but has not learnt its images by heart after {images}: see "
                f"{', '.join(missing)}. Give it more steps, --trainer.max_steps, or a higher learning rate."
            )


def mean_of(steps: Sequence[Mapping[str, float]], name: str) -> float:
    """Return the mean of a term over steps and processes."""
    values = [step[name] for part in gather_objects(list(steps)) for step in part]
    return sum(values) / len(values)


def fallen(first: float, last: float) -> bool:
    """Return whether a term has fallen by the share `FALLEN` of its first value; a term that stays at 0 has."""
    return last <= first - FALLEN * abs(first)
