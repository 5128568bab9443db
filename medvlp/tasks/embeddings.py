"""Retrieval from embeddings collected over an epoch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.distributed import gather, max_over_processes
from medvlp.metrics import retrieval
from medvlp.protocols.scoring import Compare, Embeddings, cosine_in
from medvlp.tasks.row_file import RowFile


class EmbeddingCollector:
    """Rows of named tensors, one row a sample, collected over batches and processes.

    Vectors and numbers are kept in memory. Image tokens, (B, P, D) under a key `image/...`, go to a temporary file in
    half precision: those of an image are a thousand times as large. Other tokens are padded with zeros.

    Attributes:
        folder: Folder of the temporary files, the same for all processes; by default that of the system.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.gettempdir())
        self._batches: list[dict[str, Tensor]] = []
        self._files: dict[str, RowFile] = {}

    def add(self, index: Tensor, rows: Mapping[str, Tensor]) -> None:
        """Keep tensors (B, ...) of the samples `index` (B,)."""
        kept = {"index": index}
        for key, value in rows.items():
            if value.ndim == 3 and key.startswith("image/"):
                if key not in self._files:
                    self._files[key] = RowFile(self.folder)
                self._files[key].write(index, value)
            else:
                kept[key] = value
        self._batches.append(kept)

    def collect(self) -> dict[str, Tensor]:
        """Return the tensors of all samples in the order of their index, each once, on the CPU, and forget them.

        Image tokens are a tensor on disk.
        """
        joined = {key: _gathered([batch[key] for batch in self._batches]).cpu() for key in self._batches[0]}
        self._batches = []
        # Processes share out padded orders, so that a sample may come twice.
        index, position = joined.pop("index").unique(return_inverse=True)
        row = torch.empty_like(index).scatter_(0, position, torch.arange(len(position)))
        tokens = {key: file.read(index) for key, file in self._files.items()}
        self._files = {}
        return {**{key: value[row] for key, value in joined.items()}, **tokens}


def _gathered(batches: Sequence[Tensor]) -> Tensor:
    """Return the rows of all batches and processes; of tokens (B, L, D) the shorter are padded."""
    if batches[0].ndim == 3:
        most = torch.tensor(max(batch.shape[1] for batch in batches), device=batches[0].device)
        longest = int(max_over_processes(most))
        batches = [F.pad(batch, (0, 0, 0, longest - batch.shape[1])) for batch in batches]
    return torch.cat([gather(batch) for batch in batches])


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


def candidates(
    image: Embeddings, text: Embeddings, text_id: Mapping[str, Tensor], compare: Compare = cosine_in
) -> Candidates:
    """Compare images with all distinct reports: the mean similarity over the sections that a report has.

    Args:
        image: Images by `objective/section`, (N, D) or (N, P, D).
        text: Texts of the same samples, likewise, (N, D) or (N, L, D).
        text_id: Numbers of the texts (N,), likewise; see `text_ids`.
        compare: The similarity in a space; by default the cosine of vectors.
    """
    ids = torch.stack(list(text_id.values()), 1)
    rows = (ids != 0).any(1)
    distinct, text_of_image = ids[rows].unique(dim=0, return_inverse=True)
    # Any sample of a text will do: their embeddings are equal.
    sample = torch.empty(len(distinct), dtype=torch.long).scatter_(0, text_of_image, rows.nonzero()[:, 0])
    # All images are compared, also those without a report: a choice of images would copy tokens from disk to memory.
    similarity = sum(
        (compare(s, image[s], text[s][sample])[rows] * (distinct[:, i] != 0) for i, s in enumerate(text_id)),
        torch.zeros(()),
    )
    return Candidates(similarity / (distinct != 0).sum(1), text_of_image, rows)


def report_retrieval(
    image: Embeddings, text: Embeddings, text_id: Mapping[str, Tensor], compare: Compare = cosine_in
) -> dict[str, dict[str, float]]:
    """Return the metrics of `medvlp.metrics.retrieval` by each section, and by all together under `report`.

    Args:
        image: See `candidates`, as are the others.
        text: The texts.
        text_id: Their numbers.
        compare: The similarity.
    """
    # A model may compare images with texts, and represent no reports.
    groups = {section: [section] for section in text} | ({"report": list(text)} if text else {})
    metrics: dict[str, dict[str, float]] = {}
    for name, sections in groups.items():
        reports = candidates(image, text, {s: text_id[s] for s in sections}, compare)
        if reports.rows.any():
            metrics[name] = retrieval(reports.similarity, reports.text_of_image)
    return metrics


def under(rows: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the rows whose names begin with `prefix/`, by their names without it."""
    return {key.removeprefix(f"{prefix}/"): value for key, value in rows.items() if key.startswith(f"{prefix}/")}
