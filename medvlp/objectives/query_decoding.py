"""Decoding of texts from the image: MedKLIP (ICCV 2023) and KAD (Nature Communications 2023)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.losses import contrastive_loss, tag_loss
from medvlp.models import ImageEncoder, PairDecoder, PatchTokens, Temperature, TextEncoder
from medvlp.models.pair_decoder import scaled, score
from medvlp.objectives.base import least_contrast, section_mask
from medvlp.objectives.similarity import cosine, one_vector
from medvlp.objectives.tag_prediction import TagPrediction
from medvlp.objectives.tags import LabelSet
from medvlp.types import Batch, ImageFeatures, PhraseFeatures, Section, TextFeatures


class QueryDecoding(TagPrediction):
    """Predicts from the patches whether the finding that a text names is present; any text can be asked.

    Let X be the patches of an image after two linear layers, q the projected embedding of a text, r that of a report,
    F a decoder, and c a linear layer. Queries are the names of tags (KAD), or names and descriptions (MedKLIP):

        bce         w mean BCE(c(F(query q, tokens X)), present in the report)
        report_bce  u mean BCE(c(F(query q, token r)), present in the report), the report in place of the image (KAD)
        contrast    v InfoNCE(mean X, r) with a temperature, the mean of both directions (KAD)

    The similarity of image and text is a tenth of the logit, the heat map its attention.
    Reports are compared as in `contrast`; without it a report is a query as well, though never trained to be one.

    Deviations from the official code (KAD at 592de62, MedKLIP at adc2eb8):

    - Queries do not attend to each other: the score of a text does not depend on the other texts that are asked.
    - One logit takes the place of two with a softmax. MedKLIP's loss of the place of a finding is left out.
    - Findings are the parser's, not RadGraph's; descriptions are our own. KAD's text encoder has learned UMLS before.
    - `contrast` is of cosines with a learned temperature; KAD's is of products times 2.66, with texts as they are.

    Args:
        image_encoder: The image encoder, for the width of its patches.
        text_encoder: The text encoder, which embeds queries and reports.
        tags: The label set whose tags are the queries in training.
        descriptions: Whether queries are names with descriptions, from `vocabulary/descriptions.yaml`.
        dim: Width of the decoder; that of the text encoder by default (KAD: 768, MedKLIP: 256).
        layers: Number of decoder layers; see `PairDecoder`.
        dropout: Dropout rate of the decoder.
        weight: Weight w of the term `bce`.
        report_weight: Weight u of `report_bce`; 0 turns it off, and so does the next.
        contrast_weight: Weight v of `contrast`.
        temperature: First value of the learned temperature of `contrast`.
        uncertain: See `TagPrediction`, as for the next (KAD: absent, MedKLIP: masked).
        unmentioned: See `TagPrediction`.
    """

    sections = ("report",)
    reads_pooled = False
    queries: Tensor

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        tags: LabelSet = "asg",
        descriptions: bool = False,
        dim: int | None = None,
        layers: int = 4,
        dropout: float = 0.1,
        weight: float = 1.0,
        report_weight: float = 1.0,
        contrast_weight: float = 1.0,
        temperature: float = 0.07,
        uncertain: Literal["absent", "present", "masked"] = "masked",
        unmentioned: Literal["absent", "masked"] = "absent",
    ) -> None:
        super().__init__(tags, uncertain, unmentioned)
        self.weight, self.report_weight, self.contrast_weight = weight, report_weight, contrast_weight
        dim = dim or text_encoder.width
        self.texts = self.tags.described if descriptions else self.tags.names
        self.register_buffer("queries", text_encoder.constant(self.texts))
        # nn.Module does not look into tuples: the encoder is the task's.
        self._trained = () if text_encoder.frozen else (text_encoder,)
        self.patches = PatchTokens(image_encoder, dim)
        self.text_head = nn.Linear(text_encoder.width, dim)
        self.decoder = PairDecoder(dim, layers, dropout=dropout)
        self.classifier = nn.Linear(dim, 1)
        self.temperature = Temperature(temperature, learned=True) if contrast_weight else None

    def least_studies(self, processes: int) -> int:
        """Return the number of studies in the smallest batch with negatives."""
        return least_contrast(True, processes) if self.contrast_weight else 1

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the terms `bce`, `report_bce` and `contrast`; see `Objective.forward`."""
        studies, views = batch["image"].shape[:2]
        tokens, query = self.patches(image), self.text_head(self._embed_queries())
        terms = {"bce": self.weight * self.cross_entropy(self._logits(query, tokens), batch)}
        report, has = self.text_head(text.sections["report"]), section_mask("report", batch)
        if self.report_weight:
            (target, mask), logits = self.targets(batch["existence"]), self._logits(query, report[:, None])
            terms["report_bce"] = self.report_weight * tag_loss(logits, target, mask & has[:, None])
        if self.temperature is not None:
            value, means = self.temperature.value, tokens.mean(1).unflatten(0, (studies, views)).unbind(1)
            losses = [contrastive_loss(m, report, temperature=value, mask=has, directions=(0.5, 0.5)) for m in means]
            terms["contrast"] = self.contrast_weight * torch.stack(losses).mean()
        return terms

    def logits(self, image: ImageFeatures) -> Tensor:
        """Return the logit of each tag in N images, (N, T)."""
        return self._logits(self.text_head(self._embed_queries()), self.patches(image))

    def attention(self, image: ImageFeatures) -> Tensor:
        """Return the attention of the decoder for each tag, (N, T, h, w): maps that sum to 1."""
        return self._attention(self._embed_queries(), image)

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the projected patches (N, P, D), under `report`."""
        return {"report": self.patches(image).float()}

    def embed_text(self, text: Tensor) -> Tensor:
        """Return the projected texts (M, D), queries of the decoder."""
        return F.linear(text, self.text_head.weight, self.text_head.bias).float()

    def embed_sections(self, text: TextFeatures, batch: Batch) -> dict[Section, Tensor]:
        """Return the projected reports: queries (B, D), or tokens (B, 1, D), which are compared as in `contrast`."""
        report = self.embed_text(text.sections["report"])
        return {"report": report[:, None] if self.contrast_weight else report}

    def similarity(self, image: Tensor, text: Tensor) -> Tensor:
        """Return a tenth of the logits of queries (M, D), or the cosines of reports (M, 1, D); (N, M)."""
        if text.ndim == 3:
            return cosine(one_vector(image), F.normalize(text[:, 0], dim=1))
        return scaled(self._logits(text, image))

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the attention of the texts to the patches; see `Objective.text_heat`."""
        return self._attention(text.pooled, image)

    def _embed_queries(self) -> Tensor:
        if not self._trained:
            return self.queries
        return (self._trained[0].embed if self.training else self._trained[0].constant)(self.texts)

    def _logits(self, query: Tensor, memory: Tensor) -> Tensor:
        return score(self.decoder(query, memory), self.classifier)

    def _attention(self, text: Tensor, image: ImageFeatures) -> Tensor:
        attention = self.decoder.attention(self.text_head(text), self.patches(image))
        return torch.unflatten(attention.float(), 2, image.patches.shape[-2:])
