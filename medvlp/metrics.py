"""Metrics that torchmetrics lacks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from medvlp.types import PRESENT, UNCERTAIN


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


def label_auroc(scores: Tensor, label: Tensor, names: Sequence[str]) -> dict[str, float]:
    """AUROC of each label and their mean, `macro`; a label not mentioned is absent, an uncertain one is left out.

    Args:
        scores: Between 0 and 1, (N, L).
        label: int8 (N, L), see `medvlp.types`.
        names: The L labels.

    Returns:
        No entry for labels that lack a positive or a negative; nothing at all where all do.
    """
    aurocs: dict[str, float] = {}
    for i, name in enumerate(names):
        known = label[:, i] != UNCERTAIN
        target = (label[known, i] == PRESENT).long()
        if 0 < target.sum() < len(target):
            aurocs[name] = float(binary_auroc(scores[known, i].double(), target))
    if aurocs:
        aurocs["macro"] = sum(aurocs.values()) / len(aurocs)
    return aurocs
