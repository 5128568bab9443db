"""Retrieval from embeddings collected over an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from medvlp.distributed import gather
from medvlp.metrics import retrieval
from medvlp.protocols.scoring import Embeddings


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


class Candidates(NamedTuple):
    """The distinct reports that images are compared with in retrieval.

    Attributes:
        similarity: Of the n images that have a report with its M distinct texts, (n, M).
        text_of_image: The report of each of these images, int64 (n,).
        rows: Which of the N images have one, bool (N,).
    """

    similarity: Tensor
    text_of_image: Tensor
    rows: Tensor


def candidates(image: Embeddings, text: Embeddings, text_id: Mapping[str, Tensor]) -> Candidates:
    """Compare images with all distinct reports: the mean similarity over the sections that a report has.

    Args:
        image: Normalised image embeddings (N, D) by `objective/section`.
        text: Normalised text embeddings (N, D) of the same samples, likewise.
        text_id: Numbers of the texts (N,), likewise; see `text_ids`.
    """
    ids = torch.stack(list(text_id.values()), 1)
    rows = (ids != 0).any(1)
    distinct, text_of_image = ids[rows].unique(dim=0, return_inverse=True)
    # Any sample of a text will do: their embeddings are equal.
    sample = torch.empty(len(distinct), dtype=torch.long).scatter_(0, text_of_image, rows.nonzero()[:, 0])
    similarity = sum(
        (image[s][rows] @ (text[s][sample] * (distinct[:, [i]] != 0)).T for i, s in enumerate(text_id)),
        torch.zeros(()),
    )
    return Candidates(similarity / (distinct != 0).sum(1), text_of_image, rows)


def report_retrieval(image: Embeddings, text: Embeddings, text_id: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Return the metrics of `medvlp.metrics.retrieval` by each section, and by all together under `report`.

    Args:
        image: See `candidates`, as are the others.
        text: The texts.
        text_id: Their numbers.
    """
    groups = {section: [section] for section in image} | ({"report": list(image)} if image else {})
    metrics: dict[str, dict[str, float]] = {}
    for name, sections in groups.items():
        reports = candidates(image, text, {s: text_id[s] for s in sections})
        if reports.rows.any():
            metrics[name] = retrieval(reports.similarity, reports.text_of_image)
    return metrics


def under(rows: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the rows whose names begin with `prefix/`, by their names without it."""
    return {key.removeprefix(f"{prefix}/"): value for key, value in rows.items() if key.startswith(f"{prefix}/")}
