"""VECL's contrast of entailed, neutral and contradicting sentences (Medical Contrastive Learning of Mentions)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.distributed import rank
from medvlp.losses.pairs import pair_loss

ENTAILS, NEUTRAL, CONTRADICTS = range(3)
"""The relations of a sentence to an image."""


def relation_loss(logits: Tensor, relation: Tensor, mask: Tensor, *, own_weight: float = 3.0) -> Tensor:
    """Return the contrastive loss of the relations of images with sentences.

    With S_r the logits of the relation r, T_r 1 for the pairs of this relation and 0 for others, and P the loss of
    `pair_loss`, the sum of both directions:

        1/4 (P(S_e, T_e)/2 + P(S_n, T_n)/2 + P(S_c, T_c)/2 + own_weight P(S_e, I)/2)

    The last term tells the own sentence of an image from all others.

    Args:
        logits: Of the B images of this process with one sentence a study of all processes, (B, M, 3).
        relation: The relation of each pair, int64 (B, M).
        mask: Mask of the studies of all processes that have a sentence, bool (M,).
        own_weight: Weight of the last term.

    Returns:
        A scalar, zero if no study has a sentence.
    """
    own = torch.arange(len(logits), device=logits.device) + rank() * len(logits)
    pairs = F.one_hot(relation, 3)
    terms = [pair_loss(logits[:, :, r], pairs[:, :, r], mask) for r in (ENTAILS, NEUTRAL, CONTRADICTS)]
    terms.append(own_weight * pair_loss(logits[:, :, ENTAILS], F.one_hot(own, len(mask)), mask))
    return torch.stack(terms).sum() / 8
