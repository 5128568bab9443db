"""The sigmoid loss of SigLIP (arXiv 2303.15343): each pair of an image and a text is a yes or a no of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from medvlp.distributed import gather, rank, world_size


def sigmoid_loss(
    x: Tensor,
    y: Tensor,
    *,
    temperature: float | Tensor,
    bias: float | Tensor,
    mask: Tensor | None = None,
    gathered: bool = True,
    block: int | None = None,
) -> Tensor:
    """Return the sigmoid loss over all pairs of all processes.

        -(1/B) sum_ij log sigmoid(z_ij (x_i y_j / T + b)),    z_ii = 1, else z_ij = -1

    The columns are those of all processes, one block after the other. Of the pairs only one block is in memory, in the
    backward pass too, which computes it again. The paper passes the blocks round the processes; here each process holds
    all texts, which are small beside the pairs.

    The mean over the processes is the loss of the joined batch, and so are the gradients.

    Args:
        x: Embeddings (B, D); the function normalises them.
        y: Their partners (B, D); the function normalises them.
        temperature: Temperature T, a number or a scalar tensor.
        bias: Bias b, likewise.
        mask: Mask of the samples that take part, bool (B,); all by default.
        gathered: Whether negatives come from all processes.
        block: Number of columns in a block; by default the number of rows.

    Returns:
        A scalar; zero if no sample takes part.
    """
    mask = torch.ones(len(x), dtype=torch.bool, device=x.device) if mask is None else mask
    block = block or max(len(x), 1)
    with torch.autocast(x.device.type, enabled=False):
        x, y = F.normalize(x.float(), dim=1), F.normalize(y.float(), dim=1)
        all_y, all_mask = (gather(tensor) if gathered else tensor for tensor in (y, mask))
        row = torch.arange(len(x), device=x.device) + (rank() * len(x) if gathered else 0)
        loss = x.new_zeros(())
        for start in range(0, len(all_y), block):
            stop = start + block

            def pairs(x: Tensor, y: Tensor, start: int = start, stop: int = stop) -> Tensor:
                column = torch.arange(start, start + len(y), device=y.device)
                sign = 2.0 * (row[:, None] == column) - 1
                cost = -F.logsigmoid(sign * (x @ y.T / temperature + bias))
                return (cost * (mask[:, None] & all_mask[start:stop])).sum()

            part = all_y[start:stop]
            whole = len(part) == len(all_y)
            loss = loss + (
                pairs(x, part) if whole else checkpoint(pairs, x, part, use_reentrant=False, preserve_rng_state=False)
            )
        return loss / all_mask.sum().clamp(min=1) * (world_size() if gathered else 1)
