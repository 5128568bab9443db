"""What objectives share that predict from the image which tags the report states: targets, metrics, heat maps."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from medvlp.losses import tag_loss
from medvlp.metrics import label_auroc
from medvlp.objectives.base import HeatMap, Objective
from medvlp.objectives.tags import LabelSet, Tags
from medvlp.types import NOT_MENTIONED, PRESENT, UNCERTAIN, Batch, ImageFeatures, TextFeatures


class TagPrediction(Objective):
    """Base of objectives with one logit a tag.

    Args:
        tags: The label set.
        uncertain: Target of an uncertain tag; `masked` leaves it out of the mean.
        unmentioned: Target of an unmentioned tag; `masked` leaves it out of the mean.
    """

    reads_findings = True
    quality = "auroc/macro"
    heat_source = "tag"

    def __init__(
        self,
        tags: LabelSet,
        uncertain: Literal["absent", "present", "masked"],
        unmentioned: Literal["absent", "masked"],
    ) -> None:
        super().__init__()
        self.tags = Tags(tags)
        self.uncertain, self.unmentioned = uncertain, unmentioned

    @abstractmethod
    def logits(self, image: ImageFeatures) -> Tensor:
        """Return the logit of each tag in N images, (N, T)."""

    @abstractmethod
    def attention(self, image: ImageFeatures) -> Tensor:
        """Return the attention of the decoder for each tag, (N, T, h, w): maps that sum to 1."""

    def cross_entropy(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the binary cross entropy of the logits (N, T) of all views with the tags of the reports."""
        target, mask = self.targets(batch["existence"])
        views = len(logits) // len(target)
        return tag_loss(logits, target.repeat_interleave(views, 0), mask.repeat_interleave(views, 0))

    def targets(self, existence: Tensor) -> tuple[Tensor, Tensor]:
        """Return the targets and the mask of targets that count, both bool (B, T).

        Args:
            existence: State of each finding in the reports, int8 (B, F); see `Batch`.
        """
        tag = self.tags(existence)
        target, mask = tag == PRESENT, torch.ones_like(tag, dtype=torch.bool)
        if self.uncertain == "present":
            target |= tag == UNCERTAIN
        for code, counts_as in ((UNCERTAIN, self.uncertain), (NOT_MENTIONED, self.unmentioned)):
            if counts_as == "masked":
                mask &= tag != code
        return target, mask

    def evaluate(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the probability of each tag, and its state in the report."""
        return {"probability": self.logits(image).float().sigmoid(), "tag": self.tags(batch["existence"])}

    def summarise(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return the AUROC of each tag and their mean; unmentioned tags are absent, uncertain ones are left out."""
        aurocs = label_auroc(rows["probability"], rows["tag"], self.tags.names)
        return {f"auroc/{name}": value for name, value in aurocs.items()}

    def heat_maps(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> list[HeatMap]:
        """Return the attention of every tag that is present in a report."""
        attention = self.attention(image)
        present = (self.tags(batch["existence"]) == PRESENT).nonzero().tolist()
        return [HeatMap(b, self.tags.names[t], attention[b, t], attention.new_zeros(0, 4)) for b, t in present]
