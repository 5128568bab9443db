"""Metrics that torchmetrics lacks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def retrieval(similarity: Tensor, text_of_image: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Recall and median rank of retrieval, image to report and report to image.

    Reports with the same text are one candidate, and one that several images share is found when any of them is.
    Ties count against the true pair, so that constant embeddings retrieve nothing.

    Args:
        similarity: Score (N, M) of N images with M distinct texts.
        text_of_image: The true text of each image, int64 (N,).
        ks: Ranks of the recalls.

    Returns:
        `i2t_R@k`, `t2i_R@k` (0 to 1, higher is better) and `..._median_rank` (from 1, lower is
        better). Texts without an image are candidates, but no queries.
    """
    true = similarity.gather(1, text_of_image[:, None])
    # The true text itself is among those that are >=, which makes the best rank 1.
    ranks = {"i2t": (similarity >= true).sum(1)}
    own = text_of_image[:, None] == torch.arange(similarity.shape[1], device=similarity.device)
    best = similarity.masked_fill(~own, -torch.inf).amax(0)
    ranks["t2i"] = (1 + ((similarity >= best) & ~own).sum(0))[own.any(0)]
    metrics: dict[str, float] = {}
    for direction, rank in ranks.items():
        metrics |= {f"{direction}_R@{k}": (rank <= k).double().mean().item() for k in ks}
        metrics[f"{direction}_median_rank"] = rank.double().quantile(0.5).item()
    return metrics
