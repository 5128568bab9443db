"""Scores, tags and embeddings that `medvlp predict` computes for each image, as columns of a table."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from medvlp.errors import UserError
from medvlp.inference.model import DEFAULT_FINDINGS, Model
from medvlp.inference.reading import Reading, shown
from medvlp.protocols import Protocol, tag_columns

# Least duration, in seconds, of the timing of the encoder alone.
TIMED = 5.0


class Questions:
    """Scores, tags and embeddings to compute for each image.

    Args:
        model: The model.
        findings: Findings to score; if empty, the labels of the protocol, or CheXpert's 14 if it takes any text.
        protocol: The scoring protocol, a name or a file.
        tags: Whether to compute tags; None does so if the model has a tag decoder.
        embeddings: Whether to compute embeddings.

    Attributes:
        protocol: The scoring protocol.
        schema: The columns of the table, which has one row per file.

    Raises:
        UserError: If the model or the protocol cannot compute them, or scores would depend on the other images.
    """

    def __init__(
        self, model: Model, findings: Sequence[str], protocol: str, tags: bool | None, embeddings: bool
    ) -> None:
        self.protocol = Protocol.read(protocol)
        if self.protocol.normalise == "images":
            raise UserError(
                f"--protocol '{protocol}' is transductive: its scores depend on the other files. Choose another "
                "protocol."
            )
        labels: Sequence[str] = self.protocol.prompts.labels or DEFAULT_FINDINGS
        if self.protocol.score == "tags":
            labels = [label for label in labels if tag_columns(self.protocol, label, model.tag_names)]
        self.model, self._protocol, self._findings = model, protocol, list(findings or labels)
        self._tags, self._embeddings = bool(model.tag_names) if tags is None else tags, embeddings
        # A trial with a black image raises every error of model and protocol before anything is written.
        side = model.preprocessing.size
        answers = self.ask([np.zeros((side, side), np.uint8)])
        account = dict.fromkeys(("path", "status", "reason", "flags"), pa.string())
        self.schema = pa.schema(account | {name: column.type for name, column in answers.items()})

    def answer(self, readings: Sequence[Reading]) -> pa.RecordBatch:
        """Return one row per file; the computed columns are null for files that cannot be read."""
        squares = [reading.pixels for reading in readings if reading.pixels is not None]
        answers = self.ask(squares) if squares else {}
        number = iter(range(len(squares)))
        place = pa.array([None if reading.pixels is None else next(number) for reading in readings], pa.int64())
        columns = {field.name: pa.nulls(len(readings), field.type) for field in self.schema}
        columns |= {name: column.take(place) for name, column in answers.items()}
        columns["path"] = pa.array([shown(reading.path) for reading in readings])
        columns["status"] = pa.array(["skipped" if reading.pixels is None else "ok" for reading in readings])
        columns["reason"] = pa.array([reading.reason for reading in readings])
        columns["flags"] = pa.array([" ".join(reading.flags) for reading in readings])
        return pa.record_batch(list(columns.values()), self.schema)

    def ask(self, squares: Sequence[npt.NDArray[np.uint8]]) -> dict[str, pa.Array]:
        """Return the columns of scores, tags and embeddings for N > 0 prepared images, each uint8 (size, size)."""
        see = self.model.preprocessing.see
        features = self.model.features(torch.from_numpy(np.stack([see(square) for square in squares])))
        scores = self.model.scores(features, self._findings, self._protocol)
        columns = {f"score/{name}": pa.array(x.numpy()) for name, x in zip(self._findings, scores.T, strict=True)}
        if self._tags:
            tags = self.model.tags(features)
            columns |= {
                f"tag/{name}": pa.array(x.numpy()) for name, x in zip(self.model.tag_names, tags.T, strict=True)
            }
        if self._embeddings:
            vectors = self.model.embedding(features)
            columns["embedding"] = pa.FixedSizeListArray.from_arrays(vectors.flatten().numpy(), vectors.shape[1])
        return columns

    def encoder_rate(self, batch_size: int) -> float:
        """Return the throughput of the image encoder alone, in images per second."""
        side = self.model.preprocessing.crop
        images = torch.randint(256, (batch_size, side, side), dtype=torch.uint8)
        count, start = -1, time.monotonic()
        while time.monotonic() - start < TIMED or count < 1:
            # Reading a sum waits until a GPU has finished.
            self.model.features(images).pooled.sum().item()
            count += 1
            if not count:  # the first batch warms up
                start = time.monotonic()
        return count * batch_size / (time.monotonic() - start)
