"""Batch normalisation with the statistics of the joined batch of all processes."""

from __future__ import annotations

import torch
from timm.layers.norm_act import SyncBatchNormAct, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from medvlp.distributed import sum_over_processes, world_size


def joined_batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise rows (M, D) by the mean and the variance of the rows of all processes, at least in fp32.

    The function updates the running statistics, as `torch.nn.functional.batch_norm` does in training. With fewer than
    two rows over all processes it normalises by the running statistics. The gradients are those of one process on the
    joined batch.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        # Two passes, because E[x^2] - E[x]^2 suffers from cancellation in fp32.
        sums = sum_over_processes(torch.cat([x.sum(0), x.new_tensor([len(x)])]))
        count = sums[-1]
        few = count < 2
        mean = torch.where(few, running_mean, sums[:-1] / count.clamp(min=1))
        squares = sum_over_processes((x - mean).square().sum(0))
        variance = torch.where(few, running_var, squares / count.clamp(min=1))
        with torch.no_grad():
            unbiased = torch.where(few, variance, squares / (count - 1).clamp(min=1))
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        x = (x - mean) * torch.rsqrt(variance + eps)
        return x if weight is None or bias is None else x * weight + bias


class GlobalBatchNorm(nn.Module):
    """Batch normalisation of vectors in projection heads, with the statistics of the joined batch of all processes.

    Args:
        width: Number of features D.
        affine: Whether to learn scale and shift.
        sync: Whether the statistics are those of all processes.
        momentum: Weight of a batch in the running statistics.
        eps: Added to the variance.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, width: int, affine: bool = True, sync: bool = True, momentum: float = 0.1, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.sync, self.momentum, self.eps = sync, momentum, eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (M, D); a training batch with fewer than two rows is normalised by the running statistics."""
        statistics = self.running_mean, self.running_var, self.weight, self.bias
        if self.training and self.sync and world_size() > 1:
            return joined_batch_norm(x, *statistics, self.momentum, self.eps)
        return F.batch_norm(x, *statistics, self.training and len(x) > 1, self.momentum, self.eps)


class _OnCPU(_BatchNorm):
    """Synchronised batch norm for CPUs; torch's has kernels for GPUs only."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...)."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        mean, variance, momentum = self.running_mean, self.running_var, self.momentum
        if mean is None or variance is None:
            # This batch norm keeps no statistics, so those of the batch go into scratch tensors.
            mean, variance = input.new_zeros(self.num_features), input.new_ones(self.num_features)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if momentum is None:
            momentum = 0.0 if self.num_batches_tracked is None else 1 / float(self.num_batches_tracked)
        rows = input.movedim(1, -1)
        out = joined_batch_norm(rows.flatten(0, -2), mean, variance, self.weight, self.bias, momentum, self.eps)
        return out.view(rows.shape).movedim(-1, 1)

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept vectors, sequences and images."""


class _OnCPUWithActivation(_OnCPU):
    """Synchronised batch norm for CPUs with the drop layer and the activation of timm's batch norms."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...)."""
        activated: Tensor = self.act(self.drop(super().forward(input)))
        return activated


def synchronise(network: nn.Module, device: torch.device) -> nn.Module:
    """Make the batch norms of a network use the statistics of all processes, and return the network.

    timm's `BatchNormAct2d` is a batch norm with an activation inside. The converter of torch,
    `torch.nn.SyncBatchNorm.convert_sync_batchnorm`, drops it silently; timm's converter keeps it.

    Args:
        network: Any network; its batch norms are replaced in place.
        device: Device of the training.
    """
    synchronised: nn.Module = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    if device.type == "cpu":
        for module in batch_norms(synchronised).values():
            module.__class__ = _OnCPUWithActivation if isinstance(module, SyncBatchNormAct) else _OnCPU
    return synchronised


def batch_norms(network: nn.Module) -> dict[str, nn.Module]:
    """Return the batch norms of torch and timm in a network, by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}


def restore(network: nn.Module, plain: dict[str, nn.Module]) -> nn.Module:
    """Put the original batch norms back into a network after `synchronise`, with the parameters learned since.

    Args:
        network: A network from `synchronise`.
        plain: Its batch norms before that, from `batch_norms`.

    Returns:
        The network.
    """
    for name, module in plain.items():
        synchronised = network.get_submodule(name)
        for tensors, new in ((module._parameters, synchronised._parameters), (module._buffers, synchronised._buffers)):
            tensors.update(new)  # type: ignore[arg-type]
        module.training = synchronised.training
        parent, _, attribute = name.rpartition(".")
        setattr(network.get_submodule(parent), attribute, module)
    return network
