"""The Trainer's `precision`: the values that tasks support, and their own `bf16-true`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import lightning as L
import torch
from lightning.pytorch.plugins.precision import HalfPrecision, MixedPrecision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import nn

from medvlp.errors import UserError

BFLOAT16_WEIGHTS = "bf16-true"
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", BFLOAT16_WEIGHTS)


class BFloat16Weights(MixedPrecision):
    """`bf16-true`: weights, and so their gradients and the optimiser's moments, in bf16; all else as `bf16-mixed`.

    The Trainer's own plugin also makes bf16 the type of every new tensor, of the batch and of batch statistics. In bf16
    pixels above 256 and losses are not exact, and a batch of weight 0.1 adds nothing to the statistics.

    Args:
        device: Type of the device, such as `cuda`.
    """

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)
        self.precision = BFLOAT16_WEIGHTS  # type: ignore[assignment]

    def autocast_context_manager(self) -> torch.autocast:
        """Return the autocast context of the steps."""
        return torch.autocast(self.device, dtype=torch.bfloat16)

    def convert_module(self, module: nn.Module) -> nn.Module:
        """Cast matrices to bf16; buffers stay in fp32, and so do small vectors: biases, scales of normalisations."""
        for parameter in module.parameters():
            if parameter.ndim > 1 and parameter.is_floating_point():
                parameter.data = parameter.data.to(torch.bfloat16)
        return module


def set_precision(trainer: L.Trainer) -> None:
    """Check the precision of a Trainer, and replace its `bf16-true` by `BFloat16Weights`.

    Raises:
        UserError: If the tasks do not support the precision.
    """
    precision, strategy = str(trainer.precision), trainer.strategy
    if precision not in PRECISIONS:
        raise UserError(
            f"--trainer.precision {precision}: losses are computed in fp32, from features in fp32 or 16 bits, and "
            f"fp16 needs their scaling: pass one of {', '.join(PRECISIONS)}."
        )
    if isinstance(strategy.precision_plugin, HalfPrecision):
        strategy.precision_plugin = BFloat16Weights(strategy.root_device.type)
        if trainer.state.fn == TrainerFn.FITTING:
            rank_zero_warn(
                "--trainer.precision bf16-true: a step that changes a weight by less than 1/256 of it is lost. "
                "bf16-mixed keeps weights in fp32 and computes as fast."
            )


def own_precision(module: nn.Module) -> AbstractContextManager[object]:
    """Return the autocast context for calls of a module outside the Trainer's steps, which have their own."""
    weight = next((p for p in module.parameters() if p.dtype == torch.bfloat16), None)
    return nullcontext() if weight is None else torch.autocast(weight.device.type, torch.bfloat16)
