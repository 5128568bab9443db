"""Small networks between the encoders and the joint space."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.distributed import sum_over_processes, world_size


class GlobalBatchNorm(nn.Module):
    """Batch normalisation without affine parameters by default, with statistics of the joined batch of all processes.

    Unlike `torch.nn.SyncBatchNorm` it also works on the CPU. Its gradients are those of one process on
    the joined batch.

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
        """Normalise (M, D), by the running statistics where training has fewer than two rows over all processes."""
        if not (self.training and self.sync and world_size() > 1):
            own = self.training and len(x) > 1
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, own, self.momentum, self.eps
            )
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            # Two passes, because E[x^2] - E[x]^2 cancels in fp32.
            sums = sum_over_processes(torch.cat([x.sum(0), x.new_tensor([len(x)])]))
            count = sums[-1]
            few = count < 2
            mean = torch.where(few, self.running_mean, sums[:-1] / count.clamp(min=1))
            squares = sum_over_processes((x - mean).square().sum(0))
            variance = torch.where(few, self.running_var, squares / count.clamp(min=1))
            with torch.no_grad():
                unbiased = torch.where(few, variance, squares / (count - 1).clamp(min=1))
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(unbiased, self.momentum)
            x = (x - mean) * torch.rsqrt(variance + self.eps)
            return x if self.weight is None or self.bias is None else x * self.weight + self.bias


class ProjectionHead(nn.Sequential):
    """Linear, batch norm, ReLU, linear, batch norm without affine parameters: IMITATE's and ASG's head.

    Args:
        width: Features in.
        hidden: Features between.
        out: Dimension of the joint space.
        sync: Whether batch statistics are those of all processes (official code: of each one).
    """

    def __init__(self, width: int, hidden: int, out: int, sync: bool = True) -> None:
        super().__init__(
            nn.Linear(width, hidden),
            GlobalBatchNorm(hidden, sync=sync),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, out),
            GlobalBatchNorm(out, affine=False, sync=sync),
        )
