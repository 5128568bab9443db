"""MGCA's token-wise alignment of the words of a report with the patches of its image (NeurIPS 2022)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.distributed import sum_over_processes, world_size


@torch.no_grad()
def token_weights(pooled: Tensor, token: Tensor, present: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Return the weights (B, L) of tokens, softmax over the tokens of (cosine with the pooled feature / temperature).

    Weights are cut to their quantiles .1 and .9 in the sample, and then sum to 1, as in the official code.

    Args:
        pooled: Pooled features (B, E).
        token: Features of tokens in the same space, (B, L, E).
        present: Mask of the tokens that exist, bool (B, L); the others have weight 0, and so have samples without any.
        temperature: Temperature of the softmax.
    """
    with torch.autocast(token.device.type, enabled=False):
        score = F.cosine_similarity(token.float(), pooled.float()[:, None], dim=2) / temperature
        weight = score.masked_fill(~present, -1e30).softmax(1).masked_fill(~present, torch.nan)
        low, high = (weight.nanquantile(q, 1, keepdim=True) for q in (0.1, 0.9))
        weight = weight.clamp(low, high).nan_to_num(0.0)
        return weight / weight.sum(1, keepdim=True).clamp(min=1e-12)


def token_loss(
    patch: Tensor,
    word: Tensor,
    present: Tensor,
    patch_weight: Tensor,
    word_weight: Tensor,
    *,
    temperature: float = 0.1,
) -> Tensor:
    """Return the token-wise contrastive loss inside each pair of an image and its report, in both directions.

    With words w_l and patches v_p, all normalised, and the temperature T:

        o_l = sum_p softmax over p of (w_l . v_p / T) v_p, normalised
        z_lk = w_l . o_k / T
        L_w = -1/2 sum_l weight_l (log softmax over k of z_lk at k = l + log softmax over k of z_kl at k = l)

    L_v is the same with words and patches exchanged. The loss is the mean of L_w + L_v over the studies of all
    processes that have words.

    Args:
        patch: Patches (B, P, D); the function normalises them.
        word: Words (B, L, D), likewise.
        present: Mask of the words that exist, bool (B, L).
        patch_weight: Weights of the patches (B, P), which sum to 1.
        word_weight: Weights of the words (B, L), likewise.
        temperature: Temperature T.

    Returns:
        A scalar, zero if no study has words.
    """
    with torch.autocast(patch.device.type, enabled=False):
        patch, word = F.normalize(patch.float(), dim=2), F.normalize(word.float(), dim=2)
        score = torch.einsum("bld,bpd->blp", word, patch) / temperature
        seen = score.softmax(2) @ patch
        told = score.masked_fill(~present[:, :, None], -1e30).softmax(1).transpose(1, 2) @ word
        every = torch.ones_like(patch_weight, dtype=torch.bool)
        read = present.any(1)
        cost = _identify(word, seen, present, word_weight, temperature) + _identify(
            patch, told, every, patch_weight, temperature
        )
        count = sum_over_processes(read.sum().to(cost))
        return (cost * read).sum() / count.clamp(min=1) * world_size()


def _identify(token: Tensor, context: Tensor, present: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """Return the loss (B,) of telling each token's context from those of the other tokens, and back."""
    logits = token @ F.normalize(context, dim=2).transpose(1, 2) / temperature
    both = torch.zeros_like(weight)
    for rows in (logits, logits.transpose(1, 2)):
        both = both - rows.masked_fill(~present[:, None], -1e30).log_softmax(2).diagonal(dim1=1, dim2=2)
    return (weight * both).sum(1) / 2
