"""Classification: a linear layer on the pooled features of an image encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.metrics import Statistic, auroc
from medvlp.metrics.bootstrap import Weighted
from medvlp.metrics.decision import share
from medvlp.tasks.downstream import DownstreamTask
from medvlp.types import ABSENT, PRESENT, UNCERTAIN, Batch, entry_of, find_label

Answer = Literal[0, 1]


class ClassificationTask(DownstreamTask):
    """Linear probe or, with `freeze=False`, fine-tuning; multi-label, binary (one label) or multi-class.

    The linear classification of MGCA. Its test gives `auroc/LABEL` and their mean `auroc`, and
    `accuracy` of the most probable class, for several classes.

    Args:
        labels: Labels of the data to learn; all by default.
        multiclass: Whether just one of the labels is present in each image. Images with none or several are left out.
        uncertain: What an uncertain label counts as, present (1) or absent (0): one answer for all labels, or one for
            each. Labels without an answer are left out of loss and metrics where they are uncertain. A label that is
            not mentioned is absent.
        **kwargs: See `DownstreamTask`.

    Raises:
        UserError: If there is an answer for a label that is not learnt.
    """

    reads = "pooled"
    head: nn.Linear
    answers: Tensor

    def __init__(
        self,
        labels: Sequence[str] | None = None,
        multiclass: bool = False,
        uncertain: dict[str, Answer | None] | Answer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.multiclass, self.uncertain = multiclass, uncertain
        self.labels: list[str] = []
        self._columns: list[int] = []
        if labels is not None:
            self._learn(labels)

    @property
    def how(self) -> str:
        """Whether the encoder was frozen."""
        return "linear probe" if self.frozen else super().how

    def setup(self, stage: str) -> None:
        """Find the labels in the data.

        Raises:
            UserError: If the data lacks one.
        """
        super().setup(stage)
        labels = self.datamodule.labels
        if not (self.labels or labels):
            raise UserError(f"the data in root='{self.datamodule.root}' has no labels to learn.")
        if self.labels:
            self.labels = self.datamodule.find_labels(self.labels, "labels")
        else:
            self._learn(labels)
        self._columns = [labels.index(name) for name in self.labels]

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits (B, L)."""
        (pooled,) = self.features(batch)
        # Half precision would make equal scores of close ones.
        with torch.autocast(pooled.device.type, enabled=False):
            return F.linear(pooled.float(), self.head.weight.float(), self.head.bias.float())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss."""
        loss, _ = self._loss(self(batch), self.targets(batch))
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["label"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss, and keep targets and scores of each label."""
        logits, target = self(batch), self.targets(batch)
        loss, count = self._loss(logits, target)
        self.log("val/loss", loss, prog_bar=True, batch_size=int(count), sync_dist=True)
        self._keep(batch, logits)

    def on_validation_epoch_end(self) -> None:
        """Log the mean AUROC and, for several classes, the accuracy."""
        metrics, _ = self._metrics(rows := self.gather_rows())
        areas = [metric(np.ones(len(rows))) for name, metric in metrics.items() if name != "accuracy"]
        if areas:
            self.log("val/auroc", float(np.mean(areas)), sync_dist=True)
        if "accuracy" in metrics:
            self.log("val/accuracy", metrics["accuracy"](np.ones(len(rows))), sync_dist=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep targets and scores of each label."""
        self._keep(batch, self(batch))

    def compute_metrics(self, rows: pa.Table) -> dict[str, Statistic]:
        """Return the AUROC of each label that has positives and negatives, their mean, and the accuracy."""
        metrics, self.left_out = self._metrics(rows)
        if self.left_out:
            reasons = ", ".join(f"{name} ({reason})" for name, reason in self.left_out.items())
            rank_zero_warn(f"Labels without an AUROC in these test images are left out of the mean: {reasons}.")
        statistics = {name: Statistic.of(metric, len(rows)) for name, metric in metrics.items()}
        if areas := [statistic for name, statistic in statistics.items() if name != "accuracy"]:
            statistics["auroc"] = Statistic.mean(areas).counting(len(areas), len(self.labels), "labels")
        if "accuracy" in statistics:
            mask = rows[f"target/{self.labels[0]}"].is_valid()
            statistics["accuracy"] = statistics["accuracy"].counting(pc.sum(mask).as_py(), len(rows), "images")
        return statistics

    def scores(self, logits: Tensor) -> Tensor:
        """Return probabilities (B, L). They are float64, because in float32 those of large logits are equal."""
        return logits.double().softmax(1) if self.multiclass else logits.double().sigmoid()

    def targets(self, batch: Batch) -> Tensor:
        """Return the targets, int8 (B, L): PRESENT, ABSENT, or UNCERTAIN for values that the loss leaves out."""
        label = batch["label"][:, self._columns]
        present = torch.where(label == PRESENT, PRESENT, ABSENT).to(label)
        target = torch.where(label == UNCERTAIN, self.answers.to(label), present)
        if self.multiclass:
            one = ((target == PRESENT).sum(1, keepdim=True) == 1) & (target != UNCERTAIN).all(1, keepdim=True)
            target = torch.where(one, target, UNCERTAIN)
        return target

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the labels."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["labels"] = self.labels

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compare the labels.

        Raises:
            UserError: If the checkpoint was trained with others.
        """
        super().on_load_checkpoint(checkpoint)
        if not self.labels:
            self._learn(checkpoint["labels"])
        if [*map(str.casefold, checkpoint["labels"])] != [*map(str.casefold, self.labels)]:
            raise UserError(f"The checkpoint was trained with labels={checkpoint['labels']}, not {self.labels}.")

    def _learn(self, labels: Sequence[str]) -> None:
        """Make the head for some labels."""
        self.labels = list(labels)
        answers = self.uncertain if isinstance(self.uncertain, dict) else dict.fromkeys(labels, self.uncertain)
        if foreign := [name for name in answers if find_label(name, self.labels) is None]:
            raise UserError(f"uncertain={answers}: '{foreign[0]}' is not one of labels={self.labels}.")
        counted = [UNCERTAIN if (answer := entry_of(name, answers)) is None else answer for name in self.labels]
        self.register_buffer("answers", torch.tensor(counted, dtype=torch.int8), persistent=False)
        self.head = nn.Linear(self.encoder.width, len(self.labels))

    def _loss(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss and its number of values; both are 0 if the batch has no target."""
        if self.multiclass:
            mask = target[:, 0] != UNCERTAIN
            loss = F.cross_entropy(logits, target.argmax(1), reduction="none")
        else:
            mask = target != UNCERTAIN
            loss = F.binary_cross_entropy_with_logits(logits, target.to(logits), reduction="none")
        count = mask.sum()
        return (loss * mask).sum() / count.clamp(min=1), count

    def _keep(self, batch: Batch, logits: Tensor) -> None:
        target, score = self.targets(batch).cpu().numpy(), self.scores(logits)
        columns: dict[str, Any] = {}
        for i, name in enumerate(self.labels):
            columns[f"target/{name}"] = pa.array(target[:, i], mask=target[:, i] == UNCERTAIN)
            columns[f"score/{name}"] = score[:, i]
        self.add_rows(batch, columns)

    def _metrics(self, rows: pa.Table) -> tuple[dict[str, Weighted], dict[str, str]]:
        """Return `auroc/LABEL` and `accuracy`, and the reasons why other labels have no AUROC."""
        target, score = (
            np.stack([rows[f"{what}/{name}"].fill_null(UNCERTAIN).to_numpy() for name in self.labels], 1)
            for what in ("target", "score")
        )
        metrics: dict[str, Weighted] = {}
        lacking: dict[str, str] = {}
        for i, name in enumerate(self.labels):
            absent = [
                what for what, value in (("positive", PRESENT), ("negative", ABSENT)) if value not in target[:, i]
            ]
            if absent:
                lacking[name] = "no " + " and no ".join(absent)
            else:
                metrics[f"auroc/{name}"] = auroc(score[:, i], target[:, i] == PRESENT, target[:, i] != UNCERTAIN)
        mask = target[:, 0] != UNCERTAIN
        if self.multiclass and mask.any():
            metrics["accuracy"] = share(score.argmax(1) == target.argmax(1), mask)
        return metrics, lacking
