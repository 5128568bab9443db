"""The contrastive loss of similarities that are no products of embeddings, such as those of late interaction."""

from __future__ import annotations

import torch
from torch import Tensor

from medvlp.distributed import gather, rank, sum_over_processes, world_size


def pair_loss(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Return the symmetric contrastive loss of the logits S of all pairs of an image and a text, with targets T.

        CE(S, T) + CE(S^T, T^T),    CE(S, T) = -(1/R) sum_i sum_j T_ij / (sum_k T_ik) log softmax(S_i)_j

    R is the number of rows i that have a target above 0; the others cost nothing. With T = I this is InfoNCE. The mean
    of the loss over the processes is the loss of the joined batch, and so are the gradients.

    Args:
        logits: Of the B images of this process with the texts of all processes, (B, M), M = B * processes; text m
            belongs to image m of all.
        target: Non-negative targets (B, M).
        mask: Mask of the images and texts of all processes that take part, bool (M,).

    Returns:
        A scalar, the sum of both directions; zero if no row has a target.
    """
    own = slice(rank() * len(logits), (rank() + 1) * len(logits))
    with torch.autocast(logits.device.type, enabled=False):
        logits, target = logits.float(), target.float() * (mask[own, None] & mask)
        loss = logits.new_zeros(())
        for rows, wanted in ((logits, target), (gather(logits).T[own], gather(target).T[own])):
            mass = wanted.sum(1)
            # With -inf a row without any column would have NaN gradients; exp(-1e30) is 0 as well.
            log_p = rows.masked_fill(~mask, -1e30).log_softmax(1)
            count = sum_over_processes((mass > 0).sum().to(mass))
            cost = (wanted * log_p).sum(1) / mass.clamp(min=1e-12)
            loss = loss - cost.sum() / count.clamp(min=1) * world_size()
        return loss
