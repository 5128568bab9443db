"""Recall, rank and precision of retrieval."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def ranks(similarity: Tensor, text_of_image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rank, from 1, of the true candidate among all, image to report and report to image.

    Reports with the same text are one candidate. If several images share a report, the best of their ranks counts. Ties
    count against the true pair, so that constant embeddings retrieve nothing.

    Args:
        similarity: Score (N, M) of N images with M distinct texts.
        text_of_image: The true text of each image, int64 (N,).

    Returns:
        int64 (N,) for images, and (M,) for texts with 0 for a text without an image.
    """
    true = similarity.gather(1, text_of_image[:, None])
    pairs = text_of_image[:, None] == torch.arange(similarity.shape[1], device=similarity.device)
    best = similarity.masked_fill(~pairs, -torch.inf).amax(0)
    of_text = 1 + ((similarity >= best) & ~pairs).sum(0)
    # The comparison >= counts the true text itself, so the best rank is 1.
    return (similarity >= true).sum(1), of_text * pairs.any(0)


def retrieval(similarity: Tensor, text_of_image: Tensor, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """Recall and median rank of retrieval, image to report and report to image; see `ranks`.

    Args:
        similarity: Score (N, M) of N images with M distinct texts.
        text_of_image: The true text of each image, int64 (N,).
        ks: Ranks of the recalls.

    Returns:
        `i2t_R@k`, `t2i_R@k` (0 to 1, higher is better) and `..._median_rank` (from 1, lower is
        better). Texts without an image are candidates, but no queries.

    Example:
        >>> similarity = torch.tensor([[0.9, 0.1], [0.8, 0.7]])
        >>> retrieval(similarity, torch.tensor([0, 1]), ks=[1])["i2t_R@1"]
        0.5
    """
    metrics: dict[str, float] = {}
    for direction, rank in zip(("i2t", "t2i"), ranks(similarity, text_of_image), strict=True):
        asked = rank[rank > 0].double()
        metrics |= {f"{direction}_R@{k}": (asked <= k).double().mean().item() for k in ks}
        metrics[f"{direction}_median_rank"] = asked.quantile(0.5).item()
    return metrics


def class_precision(
    similarity: Tensor, image_class: Tensor, text_class: Tensor, ks: Sequence[int] = (5, 10, 100)
) -> dict[str, float]:
    """Precision of retrieval by class, image to report and report to image, after GLoRIA.

    A candidate is right if it has the class of the query: one of CheXpert's five, on the 5x200 sets. The candidates are
    the whole set, never one batch. Ties count against right candidates, as in `retrieval`.

    Args:
        similarity: Score (N, M) of N images with M texts.
        image_class: Class of each image, int64 (N,).
        text_class: Class of each text, int64 (M,).
        ks: Numbers of candidates to retrieve; all candidates if there are fewer.

    Returns:
        `i2t_P@k` and `t2i_P@k` (0 to 1, higher is better), the mean over all queries.
    """
    metrics: dict[str, float] = {}
    for direction, scores, query, candidate in (
        ("i2t", similarity, image_class, text_class),
        ("t2i", similarity.T, text_class, image_class),
    ):
        precisions = class_hits(scores, query, candidate, ks)
        metrics |= {f"{direction}_P@{k}": precision.mean().item() for k, precision in precisions.items()}
    return metrics


def class_hits(similarity: Tensor, query: Tensor, candidate: Tensor, ks: Sequence[int]) -> dict[int, Tensor]:
    """Return the share of each query's class among its first k candidates, float64 (N,), by k.

    Args:
        similarity: Score (N, M) of N queries with M candidates.
        query: Class of each query, int64 (N,).
        candidate: Class of each candidate, int64 (M,).
        ks: Numbers of candidates to retrieve; all candidates if there are fewer.
    """
    hits = query[:, None] == candidate
    # Wrong candidates come first, and a stable sort by score keeps them first among equal scores.
    order = hits.int().argsort(stable=True, dim=1)
    ranked = order.gather(1, similarity.gather(1, order).argsort(stable=True, dim=1, descending=True))
    precisions = hits.gather(1, ranked)
    return {k: precisions[:, :k].double().mean(1) for k in ks}
