"""Communication between the processes of a run. On one process each function works without communication."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process."""
    return dist.get_rank() if world_size() > 1 else 0


class _Gather(torch.autograd.Function):
    """All-gather whose gradient reaches every process.

    The loss of each process depends on the features of all processes. The gradient of a feature is therefore the sum
    of the gradients of all losses.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        ctx.rows = slice(rank() * len(tensor), (rank() + 1) * len(tensor))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].contiguous().clone()
        dist.all_reduce(grad)
        return grad[ctx.rows]


class _Sum(torch.autograd.Function):
    """All-reduce whose gradient is that of the sum of all processes' losses."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def gather(tensor: Tensor) -> Tensor:
    """Concatenate a tensor of all processes in the order of their ranks; floating-point tensors keep the gradient.

    Args:
        tensor: Shape (B, ...), with the same B on every process.

    Returns:
        Shape (world_size * B, ...); rows `rank * B` to `(rank + 1) * B` are this process's own.
    """
    if world_size() == 1:
        return tensor
    if not tensor.is_floating_point():
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)
    gathered: Tensor = _Gather.apply(tensor)
    return gathered


def sum_over_processes(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes, with gradient."""
    if world_size() == 1:
        return tensor
    total: Tensor = _Sum.apply(tensor)
    return total


def gather_rows(tensor: Tensor) -> Tensor:
    """Concatenate a tensor whose number of rows differs between processes; gradient as in `gather`.

    Args:
        tensor: Shape (R, ...), with any R on each process.

    Returns:
        The rows of all processes in the order of their ranks.
    """
    if world_size() == 1:
        return tensor
    counts = gather(torch.tensor([len(tensor)], device=tensor.device)).tolist()
    padding = tensor.new_zeros(max(counts) - len(tensor), *tensor.shape[1:])
    padded = gather(torch.cat([tensor, padding])).unflatten(0, (len(counts), max(counts)))
    return torch.cat([rows[:count] for rows, count in zip(padded, counts, strict=True)])


def max_over_processes(tensor: Tensor) -> Tensor:
    """Replace a tensor, in place, by its elementwise maximum over all processes, and return it; without gradient."""
    if world_size() > 1:
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor


def gather_objects(value: T) -> list[T]:
    """Return the values of all processes, which must be picklable, in the order of their ranks."""
    gathered: list[Any] = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(gathered, value)
    return gathered
