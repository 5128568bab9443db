"""ASG's image-tag recognition decoder (IRL)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from medvlp.errors import UserError
from medvlp.models import ImageEncoder, QueryDecoder, TextEncoder
from medvlp.objectives.tag_prediction import TagPrediction
from medvlp.objectives.tags import LabelSet
from medvlp.types import Batch, ImageFeatures, PhraseFeatures, TextFeatures


class TagDecoding(TagPrediction):
    """Predicts the tags of the report from the image: one query a tag, a transformer decoder, one logit a tag.

    bce = w mean over images and tags of the binary cross entropy; w = 5 in the official code (ASGMVLP_CODE at 088e896).

    Queries are text embeddings of the names of the tags. They are computed once, when the objective is built, and
    stored in checkpoints. The official code computes them in every step, with dropout.

    Args:
        image_encoder: The image encoder, for the width of its patches.
        text_encoder: The text encoder, which embeds the tags if `query_encoder` is None.
        query_encoder: Another text encoder for the tags (ASG: all layers of Bio_ClinicalBERT; reports go through six).
        tags: The label set.
        dim: Width of the decoder.
        layers: Number of decoder layers.
        heads: Number of attention heads in the decoder.
        hidden: Number of hidden units in the feed-forward networks of the decoder.
        dropout: Dropout rate of the decoder.
        weight: Weight w of the term.
        uncertain: Target of an uncertain tag; `masked` leaves it out of the mean. The official code: absent.
        unmentioned: Target of an unmentioned tag; `masked` leaves it out of the mean. The official code: absent.
    """

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
        super().__init__(tags, uncertain, unmentioned)
        self.weight = weight
        encoder = query_encoder or text_encoder
        self.register_buffer("queries", encoder.constant(self.tags.names))
        self.decoder = QueryDecoder(encoder.width, image_encoder.patch_width, dim, layers, heads, hidden, dropout)
        self.classifier = nn.Linear(dim, 1)
        nn.init.normal_(self.classifier.weight, std=0.02)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the term `bce`; see `Objective.forward`."""
        return {"bce": self.weight * self.cross_entropy(self.logits(image), batch)}

    def logits(self, image: ImageFeatures) -> Tensor:
        """Return the logit of each tag in N images, (N, T)."""
        logits: Tensor = self.classifier(self.decoder(self.queries, image.patches)).squeeze(2)
        return logits

    def attention(self, image: ImageFeatures) -> Tensor:
        """Return the attention of the decoder for each tag, (N, T, h, w): maps that sum to 1."""
        return self.decoder.attention(self.queries, image.patches)

    def can_show(self, text: str) -> bool:
        """Return whether a text names a tag; see `Tags.named`."""
        return bool(self.tags.named(text))

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the attention of the tag that a text names, the mean over several tags; see `Objective.text_heat`.

        Raises:
            UserError: If a text names no tag.
        """
        attention = self.attention(image)
        heat = []
        for phrase in text.texts:
            named = self.tags.named(phrase)
            if not named:
                raise UserError(f"text '{phrase}' names no tag of the decoder; it has: {', '.join(self.tags.names)}.")
            heat.append(attention[:, named].mean(1))
        return torch.stack(heat, 1) if heat else attention[:, :0]
