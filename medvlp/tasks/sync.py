"""Synchronisation of batch norms by the Trainer."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from torch import nn

from medvlp.models.batch_norm import batch_norms, restore, synchronise


class SyncBatchNorm(LayerSync):
    """Plugin for `sync_batchnorm=True` that also supports batch norms with activations, and training on a CPU.

    Args:
        device: The device of training.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._plain: dict[str, nn.Module] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronise the batch norms of a task."""
        self._plain = batch_norms(model)
        return synchronise(model, self.device)

    def revert(self, model: nn.Module) -> nn.Module:
        """Restore the task's own batch norms."""
        return restore(model, self._plain)


def replace_torch_sync(trainer: Trainer) -> None:
    """Make a Trainer with `sync_batchnorm=True` use `SyncBatchNorm` instead of torch's conversion."""
    strategy = trainer.strategy
    # The Trainer takes either the flag or a plugin, and a plugin only when it is constructed.
    if isinstance(getattr(strategy, "_layer_sync", None), TorchSyncBatchNorm):
        strategy._layer_sync = SyncBatchNorm(strategy.root_device)  # type: ignore[attr-defined]
