"""What a training costs: a callback that counts, and keeps the counts in the checkpoints of the run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

CPU = Path("/proc/cpuinfo")


class Cost(Callback):
    """Counts time, steps, images and parameters of a training, over all of its interruptions.

    Checkpoints store the counts, so that what an interrupted run has lost does not count. Nothing here synchronises
    with a GPU.

    - `seconds`: From the first batch to the checkpoint, with validation; without start and embedding of frozen texts.
    - `steps`: Optimiser steps.
    - `studies`, `images`: Number of studies, and of their views, over all ranks, that training has seen.
    - `trained`: Number of parameters that the optimiser changes.
    - `hardware`: Name and number of the processors.
    """

    def __init__(self) -> None:
        self.counts: dict[str, Any] = {"seconds": 0.0, "steps": 0, "studies": 0, "images": 0}
        self.before = 0.0
        self.began: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the parameters, and start the clock."""
        self.counts["trained"] = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
        self.counts["hardware"] = hardware(trainer.strategy.root_device, trainer.world_size)
        self.before, self.began = self.counts["seconds"], time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        studies, views = batch["image"].shape[:2]
        self.counts["studies"] += studies * trainer.world_size
        self.counts["images"] += studies * views * trainer.world_size
        self.counts["steps"] = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.counts, self.began = self.state_dict(), None

    def state_dict(self) -> dict[str, Any]:
        """Return the counts so far."""
        running = 0.0 if self.began is None else time.monotonic() - self.began
        return {**self.counts, "seconds": (self.counts["seconds"] if self.began is None else self.before + running)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the counts of a checkpoint."""
        self.counts = dict(state_dict)


def read_cost(checkpoint: Path) -> dict[str, Any]:
    """Return the counts in a checkpoint."""
    content = torch.load(checkpoint, "cpu", weights_only=True, mmap=True)
    counts: dict[str, Any] = content["callbacks"][Cost.__qualname__]
    return counts


def hardware(device: torch.device, processes: int) -> str:
    """Return the name and number of the processors that a run uses."""
    if device.type == "cuda":
        return f"{processes} x {torch.cuda.get_device_name(device)}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = CPU.read_text().splitlines() if CPU.is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), device.type)
    return f"{cores} cores of {name}" if processes == 1 else f"{processes} processes on {cores} cores of {name}"
