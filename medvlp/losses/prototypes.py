"""MGCA's cross-modal prototype alignment: image and report predict each other's cluster (NeurIPS 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from medvlp.distributed import gather, rank, world_size


@torch.no_grad()
def sinkhorn(score: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Return soft assignments (M, K) of samples to prototypes, by the algorithm of Sinkhorn and Knopp.

    From exp(score / epsilon), each iteration scales the columns to equal sums, and then the rows to sums of 1: the
    prototypes share the samples out evenly.

    Args:
        score: Cosines of all samples with all prototypes, (M, K).
        epsilon: The smaller, the harder the assignments.
        iterations: Number of iterations.
    """
    with torch.autocast(score.device.type, enabled=False):
        # Half precision would lose the small assignments, and the column sums with them. A cosine is 1 at most.
        code = ((score.float() - 1) / epsilon).exp()
        for _ in range(iterations):
            code = code / code.sum(0)
            code = code / code.sum(1, keepdim=True)
        return code


def prototype_loss(
    image: Tensor,
    text: Tensor,
    mask: Tensor,
    *,
    temperature: float = 0.2,
    epsilon: float = 0.05,
    iterations: int = 3,
) -> Tensor:
    """Return the cross entropy of each modality's prototypes with the assignment of the other one.

    With u and t the cosines of image and text with the prototypes, Q the assignments of `sinkhorn` over the samples of
    all processes, and T the temperature:

        L = -1/2 mean over samples of (Q(u) . log softmax(t / T) + Q(t) . log softmax(u / T))

    Args:
        image: Cosines of the images with K prototypes, (B, K).
        text: Those of their texts, (B, K).
        mask: Mask of the samples that take part, bool (B,).
        temperature: Temperature T.
        epsilon: See `sinkhorn`.
        iterations: See `sinkhorn`.

    Returns:
        A scalar, zero if no sample takes part.
    """
    with torch.autocast(image.device.type, enabled=False):
        image, text = image.float(), text.float()
        everyone = gather(mask)
        count = everyone.sum().clamp(min=1)
        own = slice(rank() * len(mask), (rank() + 1) * len(mask))
        loss = image.new_zeros(())
        for known, guessed in ((image, text), (text, image)):
            codes = torch.zeros(len(everyone), known.shape[1], device=known.device)
            codes[everyone] = sinkhorn(gather(known.detach())[everyone], epsilon=epsilon, iterations=iterations)
            loss = loss - (codes[own] * (guessed / temperature).log_softmax(1)).sum() / 2
        return loss / count * world_size()
