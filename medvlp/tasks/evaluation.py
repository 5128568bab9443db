"""Retrieval and zero-shot classification from embeddings collected over an epoch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.distributed import gather
from medvlp.metrics import retrieval


class EmbeddingCollector:
    """Rows of named tensors, one row a sample, collected over batches and processes."""

    def __init__(self) -> None:
        self._batches: list[dict[str, Tensor]] = []

    def add(self, index: Tensor, rows: Mapping[str, Tensor]) -> None:
        """Keep tensors (B, ...) of the samples `index` (B,)."""
        self._batches.append({"index": index, **rows})

    def collect(self) -> dict[str, Tensor]:
        """Return the tensors of all samples in the order of their index, each once, on the CPU, and forget them."""
        joined = {key: torch.cat([gather(batch[key]) for batch in self._batches]).cpu() for key in self._batches[0]}
        self._batches = []
        # Processes share out padded orders, so that a sample may come twice.
        index, position = joined.pop("index").unique(return_inverse=True)
        row = torch.empty_like(index).scatter_(0, position, torch.arange(len(position)))
        return {key: value[row] for key, value in joined.items()}


def report_retrieval(
    image: Mapping[str, Tensor], text: Mapping[str, Tensor], text_id: Mapping[str, Tensor]
) -> dict[str, dict[str, float]]:
    """Retrieve by each section, and by the whole report: the mean similarity over the sections that a report has.

    Args:
        image: Normalised image embeddings (N, D) by `objective/section`.
        text: Normalised text embeddings (N, D) of the same samples, likewise.
        text_id: Numbers of the texts (N,), likewise; see `text_ids`.

    Returns:
        The metrics of `medvlp.metrics.retrieval` by `objective/section`, and of all together under `report`.
    """
    groups = {section: [section] for section in image} | ({"report": list(image)} if image else {})
    metrics: dict[str, dict[str, float]] = {}
    for name, sections in groups.items():
        ids = torch.stack([text_id[section] for section in sections], 1)
        rows = (ids != 0).any(1)
        if not rows.any():
            continue
        distinct, text_of_image = ids[rows].unique(dim=0, return_inverse=True)
        # Any sample of a text will do: their embeddings are equal.
        sample = torch.empty(len(distinct), dtype=torch.long).scatter_(0, text_of_image, rows.nonzero()[:, 0])
        similarity = sum(
            (image[s][rows] @ (text[s][sample] * (distinct[:, [i]] != 0)).T for i, s in enumerate(sections)),
            torch.zeros(()),
        )
        metrics[name] = retrieval(similarity / (distinct != 0).sum(1), text_of_image)
    return metrics


def zero_shot_scores(
    image: Mapping[str, Tensor], positive: Mapping[str, Tensor], negative: Mapping[str, Tensor]
) -> Tensor:
    """Return how much closer images are to the positive than to the negative prompts, (N, P), in [-2, 2].

    Args:
        image: Normalised image embeddings (N, D) by space; the score is the mean over the spaces.
        positive: Normalised embeddings (P, D) of the positive prompts of each finding, by space.
        negative: Those of the negative prompts.
    """
    return torch.stack([x @ (positive[key] - negative[key]).T for key, x in image.items()]).mean(0)


def pool_prompts(embeddings: Tensor) -> Tensor:
    """Return the normalised mean (D,) of the normalised embeddings (P, D) of one side's prompts."""
    return F.normalize(embeddings.mean(0), dim=0)
