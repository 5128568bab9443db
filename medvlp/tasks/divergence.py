"""Stops a run whose loss is not finite, and keeps a state to resume from."""

from __future__ import annotations

import contextlib
import copy
import csv
import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim import Optimizer

from medvlp.distributed import gather_objects, max_over_processes, rank
from medvlp.errors import StoppedWithOthersError, UserError
from medvlp.types import Batch

CHECKPOINT, IDS = "diverged.ckpt", "diverged.csv"


class StopOnDivergence(Callback):
    """Stops training at the very batch whose loss is not finite, with the state before it beside the checkpoints.

    `diverged.ckpt` is the state before the optimiser step that the batch belongs to: of the first of its batches, where
    gradients are accumulated. `diverged.csv` names the images of the batch. On several processes, one is enough to stop
    all. The loss is looked at while the device does the backward pass, so that nothing waits for it.

    Gradients that are not finite although the loss is stop training likewise where looking at them costs no
    synchronisation, on a CPU, and unless a gradient scaler skips the step. On a GPU the loss of the next batch tells,
    and the error then names the last checkpoint of finite weights.
    """

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._batch_idx = 0
        self._loss = self._flag = torch.zeros(())
        self._copied: torch.cuda.Event | None = None
        self._buffers: list[list[Tensor]] = []
        self._before: list[list[Tensor]] = []
        self._counting: list[nn.Module] = []
        self._counts: list[Any] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Allocate a copy of the state that a forward pass changes: buffers and extra state."""
        # Those of one type are copied at once.
        types = {buffer.dtype for buffer in pl_module.buffers()}
        self._buffers = [[b for b in pl_module.buffers() if b.dtype == dtype] for dtype in types]
        self._before = [[buffer.clone() for buffer in group] for group in self._buffers]
        extra = nn.Module.get_extra_state
        self._counting = [module for module in pl_module.modules() if type(module).get_extra_state is not extra]

    @torch.no_grad()
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the state before an optimiser step; its weights stay as they are until then."""
        self._batch, self._batch_idx = batch, batch_idx
        if batch_idx % trainer.accumulate_grad_batches == 0:
            for before, buffers in zip(self._before, self._buffers, strict=True):
                torch._foreach_copy_(before, buffers)
            self._counts = [copy.deepcopy(module.get_extra_state()) for module in self._counting]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Ask the device whether the loss is finite, without waiting for the answer."""
        self._loss = loss.detach()
        self._flag = max_over_processes((~self._loss.isfinite()).int())
        if self._flag.is_cuda:
            self._flag = torch.zeros((), dtype=torch.int32, pin_memory=True).copy_(self._flag, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if it is not.

        Raises:
            UserError: Naming step, terms and files.
        """
        if self._copied is not None:
            self._copied.synchronize()
        if self._flag:
            self._stop(trainer, pl_module, "")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Stop if the gradients are not finite, where that is known without waiting.

        Raises:
            UserError: Naming step, parameter and files.
        """
        if self._loss.is_cuda or getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        gradients = {name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}
        # The largest value would say the same, but takes ten times as long.
        finite = torch.stack(torch._foreach_norm(list(gradients.values()))).isfinite()
        if max_over_processes((~finite.all()).int()):
            first = next((name for name, good in zip(gradients, finite.tolist(), strict=True) if not good), "another")
            self._stop(trainer, pl_module, f"the gradient of '{first}'")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Release the batch."""
        self._batch = None

    def _stop(self, trainer: Trainer, task: LightningModule, what: str) -> None:
        step, epoch = trainer.global_step, trainer.current_epoch
        place = f"step {step} (batch {self._batch_idx} of epoch {epoch})"
        names_of_processes: list[Sequence[str]] = gather_objects([what] if what else _terms(trainer))
        terms = list(dict.fromkeys(term for names in names_of_processes for term in names)) or ["the loss"]
        rows = [row for part in gather_objects(list(self._rows(trainer))) for row in part]
        folder = _folder(trainer)
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / IDS).open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        message = f"training stops at {place}: {' and '.join(terms)} {'is' if len(terms) == 1 else 'are'} not finite. "
        message += f"The images of the batch are in {folder / IDS}. "
        self._rewind(trainer)
        # What the first process saves.
        weights = gather_objects(first_not_finite(task.state_dict()))[0]
        if weights is not None:
            last = _last_finite(folder) if trainer.is_global_zero else None
            message += f"The steps before have already left weights that are not finite, such as '{weights}'. "
            if last:
                message += f"Go on from the last checkpoint before: --ckpt_path {last}, with gradients clipped "
                message += "(--trainer.gradient_clip_val 1), or begin anew with a lower learning rate."
            else:
                message += "No checkpoint is left from before: begin anew with a lower learning rate."
        else:
            trainer.save_checkpoint(folder / CHECKPOINT, weights_only=False)
            first = self._batch_idx - self._batch_idx % trainer.accumulate_grad_batches
            again = "this batch" if first == self._batch_idx else f"batch {first}, the first of this step"
            message += (
                f"Look at them, or clip gradients (--trainer.gradient_clip_val 1); --ckpt_path {folder / CHECKPOINT}"
            )
            message += f" resumes at {again}."
        raise UserError(message) if trainer.is_global_zero else StoppedWithOthersError(message)

    def _rows(self, trainer: Trainer) -> Iterator[dict[str, Any]]:
        """Yield one row for each image in the batch of this process."""
        loader: Any = trainer.train_dataloader
        loss = self._loss.item()
        indices = self._batch["index"].tolist() if self._batch is not None else []
        for index in indices:
            names = {key: getattr(loader.dataset, key)[index].as_py() for key in ("image_id", "study_id")}
            yield {"rank": rank(), **names, "loss_is_finite": math.isfinite(loss)}

    @torch.no_grad()
    def _rewind(self, trainer: Trainer) -> None:
        """Restore buffers and the Trainer's counters to their values before the step."""
        for before, buffers in zip(self._before, self._buffers, strict=True):
            torch._foreach_copy_(buffers, before)
        for module, counts in zip(self._counting, self._counts, strict=True):
            module.set_extra_state(counts)
        loop: Any = trainer.fit_loop.epoch_loop
        batches = loop.batch_progress
        accumulated = self._batch_idx % trainer.accumulate_grad_batches
        for count in (batches.current, batches.total):
            count.ready = count.started = count.processed = count.completed = count.completed - accumulated
        batches.is_last_batch = False
        # A loop that restarts where a validation is due takes it for done, and counts the step before it.
        if loop._should_check_val_fx(trainer.fit_loop._data_fetcher) and not loop._should_accumulate():
            loop._batches_that_stepped -= 1


def _terms(trainer: Trainer) -> list[str]:
    """Return the logged names of the terms that are not finite; the name of the sum only if no term is at fault."""
    logged = trainer.callback_metrics.items()
    names = [name for name, value in logged if name.startswith("train/") and not math.isfinite(float(value))]
    return [name for name in names if name != "train/loss"] or names


def _folder(trainer: Trainer) -> Path:
    """Return the folder of the run's checkpoints."""
    callback = trainer.checkpoint_callback
    return Path((isinstance(callback, ModelCheckpoint) and callback.dirpath) or trainer.default_root_dir)


def _last_finite(folder: Path) -> Path | None:
    """Return the newest checkpoint in a folder whose weights are finite."""
    for path in sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True):
        # What cannot be read without running code of the file is no checkpoint of the command line.
        with contextlib.suppress(pickle.UnpicklingError, RuntimeError, EOFError):
            if first_not_finite(torch.load(path, "cpu", weights_only=True, mmap=True)["state_dict"]) is None:
                return path
    return None


def first_not_finite(state: Mapping[str, Any]) -> str | None:
    """Return the name of the first tensor of a state dict that holds NaN or infinity; None where none does.

    Minus infinity is no sign of harm: masks of attention are made of it.
    """
    for name, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not (value < math.inf).all():
            return name
    return None
