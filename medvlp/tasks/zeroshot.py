"""Zero-shot classification with a pre-trained model and a protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from medvlp.errors import UserError
from medvlp.metrics import Statistic, auroc
from medvlp.metrics.bootstrap import Weighted
from medvlp.metrics.decision import accuracy, decided, f1, mcc, share
from medvlp.protocols import Protocol, find_thresholds, standardise, tag_columns, tag_scores, zero_shot_scores
from medvlp.tasks.embeddings import EmbeddingCollector
from medvlp.tasks.evaluation_only import EvaluationOnlyTask
from medvlp.types import PRESENT, UNCERTAIN, Batch

DECISIONS = {"f1": f1, "mcc": mcc, "label_accuracy": accuracy}


class ZeroShotTask(EvaluationOnlyTask):
    """Classifies images by labels that a pre-trained model was not trained on.

    Test metrics: `auroc/LABEL` and their mean `auroc`. With a threshold in the protocol, and without `multiclass`, also
    `f1`, `mcc` and `label_accuracy` of each label and their means. With `multiclass` also `accuracy`, that of the label
    with the highest score. A label that is not mentioned is absent, and an uncertain one is left out.

    Args:
        weights: A checkpoint of pre-training, or a folder of `medvlp export`.
        protocol: A name or a file; see `medvlp.protocols`.
        labels: Labels of the data to test, by default all; labels that the protocol does not know are left out.
        multiclass: Whether exactly one of the labels is present in each image. Images with none or several are left
            out.
        trust: See `EvaluationOnlyTask`.
    """

    def __init__(
        self,
        weights: Path,
        protocol: str = "medvlp",
        labels: Sequence[str] | None = None,
        multiclass: bool = False,
        trust: Sequence[str] = (),
    ) -> None:
        super().__init__(weights, trust)
        self.protocol = Protocol.read(protocol)
        self.multiclass, self.chosen = multiclass, labels
        self.thresholds: list[float] | None = None

    @property
    def how(self) -> str:
        """The protocol."""
        return f"{self.protocol.name} v{self.protocol.version}"

    @property
    def settings(self) -> dict[str, Any]:
        """The options, and the identity of the protocol."""
        return {**super().settings, "protocol": self.protocol.identity}

    @property
    def labels(self) -> list[str]:
        """The labels to test, as the data spells them.

        Raises:
            UserError: If the data lacks one of them, or the protocol knows none.
        """
        candidates = self._wanted
        labels = [label for label in candidates if self._asks(label)]
        if not labels:
            raise UserError(
                f"protocol='{self.protocol.name}' scores none of the labels "
                f"{', '.join(candidates) or '(there are none)'} of root='{self.datamodule.root}'."
            )
        return labels

    def texts(self) -> Sequence[str]:
        """Return the prompts."""
        return [] if self.protocol.score == "tags" else self.protocol.texts(self.labels)

    def on_test_start(self) -> None:
        """Embed the prompts, and find thresholds on the validation images if the protocol requires it."""
        super().on_test_start()
        self.notes += [f"{self.how}, {caveat}." for caveat in self.protocol.caveats]
        self._columns = [self.datamodule.labels.index(label) for label in self.labels]
        self._text = self.model.embed_texts(list(self.texts())) if self.texts() else {}
        self.thresholds = [self.protocol.decision] * len(self.labels) if self.protocol.decision is not None else None
        if self.protocol.threshold == "validation":
            self.thresholds = self._validated()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the target and the score of each label."""
        target, score = self.targets(batch).cpu().numpy(), self.scores(batch["image"][:, 0])
        columns: dict[str, Any] = {}
        for i, name in enumerate(self.labels):
            columns[f"target/{name}"] = pa.array(target[:, i], mask=target[:, i] == UNCERTAIN)
            columns[f"score/{name}"] = score[:, i]
        self.add_rows(batch, columns)

    def scores(self, image: Tensor) -> Tensor:
        """Return the score of each label, float64 (N, L), from images, uint8 (N, H, W), each on its own."""
        alone = replace(self.protocol, normalise=None)
        features = self.model.image_encoder(image)
        if self.protocol.score == "tags":
            decoder = self.model.tag_decoder
            return tag_scores(alone, self.labels, decoder.logits(features).double().sigmoid(), decoder.tags.names)
        return zero_shot_scores(alone, self.labels, self.model.embed_images(features), self._text, self.model.compare)

    def targets(self, batch: Batch) -> Tensor:
        """Return the targets, int8 (B, L): 1 if present, 0 if absent, or UNCERTAIN for values that are left out."""
        label = batch["label"][:, self._columns]
        target = torch.where(label == UNCERTAIN, UNCERTAIN, (label == PRESENT).to(label))
        if self.multiclass:
            one = (target == PRESENT).sum(1, keepdim=True) == 1
            target = torch.where(one & (target != UNCERTAIN).all(1, keepdim=True), target, UNCERTAIN)
        return target

    def compute_metrics(self, rows: pa.Table) -> dict[str, Statistic]:
        """Return the metrics of each label that has positives and negatives, their means, and the accuracy."""
        labels = self.labels
        target, score = (
            torch.from_numpy(np.stack([rows[f"{what}/{n}"].fill_null(UNCERTAIN).to_numpy() for n in labels], 1))
            for what in ("target", "score")
        )
        score = self._final(score)
        for i, name in enumerate(labels):
            column = rows.column_names.index(f"score/{name}")
            rows = rows.set_column(column, f"score/{name}", pa.array(score[:, i].numpy()))
        self.predictions = rows
        if self.protocol.threshold.startswith("oracle"):
            self.thresholds = find_thresholds(self.protocol.threshold, score, target)
        if unasked := [name for name in self._wanted if name not in labels]:
            self.left_out |= dict.fromkeys(unasked, f"not in the protocol {self.protocol.name}")
        metrics = dict(self._metrics(target.numpy(), score.numpy()))
        if self.left_out:
            reasons = ", ".join(f"{name} ({reason})" for name, reason in self.left_out.items())
            rank_zero_warn(f"Labels without metrics in these test images are left out of the means: {reasons}.")
        statistics = {name: Statistic.of(metric, len(rows)) for name, metric in metrics.items()}
        for kind in ("auroc", *DECISIONS):
            if parts := [statistic for name, statistic in statistics.items() if name.startswith(f"{kind}/")]:
                statistics[kind] = Statistic.mean(parts).counting(len(parts), len(self._wanted), "labels")
        if "accuracy" in statistics:
            count = int((target != UNCERTAIN).all(1).sum())
            statistics["accuracy"] = statistics["accuracy"].counting(count, len(rows), "images")
        return statistics

    def _metrics(self, target: npt.NDArray[np.int8], score: npt.NDArray[np.float64]) -> Iterator[tuple[str, Weighted]]:
        """Yield the metrics of each label, and record in `left_out` why a label has none."""
        for i, name in enumerate(self.labels):
            true, mask = target[:, i] == PRESENT, target[:, i] != UNCERTAIN
            lacking = [what for what, some in (("positive", true), ("negative", ~true)) if not (some & mask).any()]
            if lacking:
                self.left_out[name] = "no " + " and no ".join(lacking)
                continue
            yield f"auroc/{name}", auroc(score[:, i], true, mask)
            if self.thresholds is None or self.multiclass:
                continue
            if np.isnan(self.thresholds[i]):
                self.left_out[f"decisions on {name}"] = "validation lacks positives or negatives"
            else:
                decision = score[:, i] >= self.thresholds[i]
                for kind, measure in DECISIONS.items():
                    yield f"{kind}/{name}", decided(measure, decision, true, mask)
        mask = (target != UNCERTAIN).all(1)
        if self.multiclass and mask.any():
            yield "accuracy", share(score.argmax(1) == target.argmax(1), mask)

    def _validated(self) -> list[float]:
        """Return the best threshold of each label on the validation images of all processes."""
        collector = EmbeddingCollector()
        with self.trainer.precision_plugin.test_step_context():
            for batch in self.datamodule.val_dataloader():
                moved = self.transfer_batch_to_device(batch, self.device, 0)
                scored = {"score": self.scores(moved["image"][:, 0]), "target": self.targets(moved)}
                collector.add(moved["index"], scored)
        rows = collector.collect()
        return find_thresholds("validation", self._final(rows["score"]), rows["target"])

    def _final(self, scores: Tensor) -> Tensor:
        """Return the scores of all images, normalised as in the protocol."""
        return standardise(scores) if self.protocol.normalise == "images" else scores

    @property
    def _wanted(self) -> list[str]:
        """The labels of the option `labels`, or all, including those that the protocol does not know."""
        data = self.datamodule
        return data.find_labels(self.chosen, "labels") if self.chosen else data.labels

    def _asks(self, label: str) -> bool:
        if self.protocol.score == "tags":
            return bool(tag_columns(self.protocol, label, self.model.tag_decoder.tags.names))
        return self.protocol.knows(label)
