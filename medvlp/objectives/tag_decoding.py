"""ASG's image-tag recognition decoder (IRL)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from medvlp.errors import UserError
from medvlp.losses import tag_loss
from medvlp.metrics import label_auroc
from medvlp.models import ImageEncoder, QueryDecoder, TextEncoder
from medvlp.objectives.base import HeatMap, Objective
from medvlp.objectives.tags import LabelSet, Tags
from medvlp.types import NOT_MENTIONED, PRESENT, UNCERTAIN, Batch, ImageFeatures, PhraseFeatures, TextFeatures


class TagDecoding(Objective):
    """Finds the findings of the report in the image: one query a tag, a transformer decoder, one logit each.

    bce = w mean over images and tags of the binary cross entropy; w = 5 in the official code (ASGMVLP_CODE at 088e896).

    Queries are embeddings of the tags' names by a text encoder, made once: here when the objective is built, in the
    official code in every step, with dropout. They are kept in checkpoints.

    Args:
        image_encoder: Gives the width of patches.
        text_encoder: Embeds the tags, unless there is a query encoder.
        query_encoder: Embeds the tags instead (ASG: all of Bio_ClinicalBERT; six layers of it read the reports).
        tags: The label set.
        dim: Width of the decoder.
        layers: Its layers.
        heads: Its attention heads.
        hidden: Units of its feed-forward networks.
        dropout: Its dropout.
        weight: w above.
        uncertain: What an uncertain tag counts as; `masked` leaves it out of the mean. The official code: absent.
        unmentioned: What a tag that the report does not mention counts as. The official code: absent.
    """

    reads_findings = True
    quality = "auroc/macro"
    heat_source = "tag"
    queries: Tensor

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        query_encoder: TextEncoder | None = None,
        tags: LabelSet = "asg",
        dim: int = 768,
        layers: int = 4,
        heads: int = 4,
        hidden: int = 1024,
        dropout: float = 0.1,
        weight: float = 5.0,
        uncertain: Literal["absent", "present", "masked"] = "absent",
        unmentioned: Literal["absent", "masked"] = "absent",
    ) -> None:
        super().__init__()
        self.tags, self.weight = Tags(tags), weight
        self.uncertain, self.unmentioned = uncertain, unmentioned
        encoder = query_encoder or text_encoder
        self.register_buffer("queries", encoder.constant(self.tags.names))
        self.decoder = QueryDecoder(encoder.width, image_encoder.patch_width, dim, layers, heads, hidden, dropout)
        self.classifier = nn.Linear(dim, 1)
        nn.init.normal_(self.classifier.weight, std=0.02)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the term `bce`; see `Objective.forward`."""
        views = batch["image"].shape[1]
        target, mask = self.targets(batch["existence"])
        logits = self.logits(image)
        loss = tag_loss(logits, target.repeat_interleave(views, 0), mask.repeat_interleave(views, 0))
        return {"bce": self.weight * loss}

    def logits(self, image: ImageFeatures) -> Tensor:
        """Return the logit of each tag in N images, (N, T)."""
        logits: Tensor = self.classifier(self.decoder(self.queries, image.patches)).squeeze(2)
        return logits

    def attention(self, image: ImageFeatures) -> Tensor:
        """Return where the decoder looks for each tag, (N, T, h, w): heat maps that sum to 1."""
        return self.decoder.attention(self.queries, image.patches)

    def targets(self, existence: Tensor) -> tuple[Tensor, Tensor]:
        """Return the targets (B, T), 0 or 1, and which of them count, from what reports say of findings (B, F)."""
        tag = self.tags(existence)
        target, mask = tag == PRESENT, torch.ones_like(tag, dtype=torch.bool)
        if self.uncertain == "present":
            target |= tag == UNCERTAIN
        for code, counts_as in ((UNCERTAIN, self.uncertain), (NOT_MENTIONED, self.unmentioned)):
            if counts_as == "masked":
                mask &= tag != code
        return target, mask

    def evaluate(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the probabilities of tags, and what the reports say of them."""
        return {"probability": self.logits(image).float().sigmoid(), "tag": self.tags(batch["existence"])}

    def summarise(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return the AUROC of each tag and their mean; a tag not mentioned is absent, an uncertain one left out."""
        aurocs = label_auroc(rows["probability"], rows["tag"], self.tags.names)
        return {f"auroc/{name}": value for name, value in aurocs.items()}

    def heat_maps(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> list[HeatMap]:
        """Return the attention of every tag that a report says is present."""
        attention = self.attention(image)
        present = (self.tags(batch["existence"]) == PRESENT).nonzero().tolist()
        return [HeatMap(b, self.tags.names[t], attention[b, t], attention.new_zeros(0, 4)) for b, t in present]

    def can_show(self, text: str) -> bool:
        """Return whether a text names a tag; see `Tags.named`."""
        return bool(self.tags.named(text))

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the attention of the tag that a text names, the mean of several; see `Objective.text_heat`."""
        attention = self.attention(image)
        heat = []
        for said in text.texts:
            named = self.tags.named(said)
            if not named:
                raise UserError(f"text '{said}' names no tag of the decoder; it has: {', '.join(self.tags.names)}.")
            heat.append(attention[:, named].mean(1))
        return torch.stack(heat, 1) if heat else attention[:, :0]
