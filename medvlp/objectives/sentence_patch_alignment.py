"""Alignment of sentences with the patches of an image: RadZero (NeurIPS 2025, arXiv 2504.07416)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.distributed import gather, gather_rows
from medvlp.losses import attended_cosine, multi_positive_loss
from medvlp.models import ImageEncoder, ImageTokens, Temperature, TextEncoder
from medvlp.objectives.base import HeatMap, Objective, least_contrast, sentences_of, similarity_map
from medvlp.objectives.pairs import Alike, image_sentence_pairs
from medvlp.objectives.similarity import blockwise
from medvlp.objectives.tokens import padded
from medvlp.types import Batch, ImageFeatures, PhraseFeatures, Section, SentenceBatch, TextFeatures


class SentencePatchAlignment(Objective):
    """Aligns every sentence of a report with the patches of its image that look like it.

    Transformer layers turn the pooled feature and the patches of an image into tokens v_p. A sentence t and they share
    a layer norm, and have length 1. The similarity is VL-CABS of RadZero, with T the learned temperature,

        s(v, t) = t a / |a|,    a = sum_p w_p v_p,    w = softmax_p(t v_p / T)

        contrastive = w MP-NCE(s / T): `medvlp.losses.multi_positive_loss` over all images and all sentences

    The map t v_p of the patches is the heat map of a text. A report is as similar as the mean of its sentences. With
    several views the loss is the mean over them.

    Deviations from the official code (RadZero at 524ebe1):

    - Sentences are those that state a finding by medvlp's parser, as they stand. The official ones are rewritten by a
      language model, which splits them.
    - A sentence that an image's own report says as well, in other words or the same, is a positive of it, too
      (`alike`). In the official code it is a negative.
    - Tokens have the width of the text encoder, projected if need be. Layers have no layer scale, which starts as 1.
    - Sentences are gathered over processes instead of image tokens, and similarities are computed in blocks.
    - The text encoder may be frozen: then the image alone moves.

    Args:
        image_encoder: The image encoder, for its widths. RadZero freezes it.
        text_encoder: The text encoder, for its width, that of the joint space.
        layers: Number of trainable transformer layers on the tokens.
        heads: Most attention heads in these layers; see `ImageTokens`.
        dropout: Dropout rate of these layers.
        temperature: First value of the temperature T.
        learned_temperature: Whether T is learned.
        weight: Weight w of the loss.
        sentences: `stated` for the sentences that state a finding, or `all`.
        alike: What a sentence is to an image whose report says the same; see `Alike`.
    """

    sections = ("report",)
    reads_reports = False
    reads_sentences = True
    heat_source = "patch"

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        layers: int = 2,
        heads: int = 12,
        dropout: float = 0.0,
        temperature: float = 0.07,
        learned_temperature: bool = True,
        weight: float = 1.0,
        sentences: Literal["stated", "all"] = "stated",
        alike: Alike = "positive",
    ) -> None:
        super().__init__()
        self.weight, self.sentences, self.alike = weight, sentences, alike
        self.reads_findings = sentences == "stated"
        self.tokens = ImageTokens(image_encoder, text_encoder.width, layers, heads, dropout)
        self.norm = nn.LayerNorm(text_encoder.width)
        self.temperature = Temperature(temperature, learned_temperature)

    def least_studies(self, processes: int) -> int:
        """Return the number of studies in the smallest batch with negatives."""
        return least_contrast(True, processes)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the term `contrastive`; see `Objective.forward`."""
        studies, views = batch["image"].shape[:2]
        positive, negative = image_sentence_pairs(sentences_of(batch), self._kept(batch), studies, self.alike)
        sentence = gather_rows(self._sentences(text, batch)[0])
        tokens = self._embed_tokens(image).unflatten(0, (studies, views))
        losses = []
        for v in range(views):
            logits = self.temperature(gather(blockwise(self.similarity, tokens[:, v], sentence)))
            losses.append(multi_positive_loss(logits, positive, negative))
        return {"contrastive": self.weight * torch.stack(losses).mean()}

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the normalised tokens (N, 1 + P, D), the pooled feature first, under `report`."""
        return {"report": self._embed_tokens(image)}

    def embed_text(self, text: Tensor) -> Tensor:
        """Return the normalised texts (M, D)."""
        return F.normalize(self.norm(text).float(), dim=1)

    def embed_sections(self, text: TextFeatures, batch: Batch) -> dict[Section, Tensor]:
        """Return the sentences of each report, (B, L, D)."""
        rows, study = self._sentences(text, batch)
        return {"report": padded(rows, study, len(batch["image"]))[0]}

    def similarity(self, image: Tensor, text: Tensor) -> Tensor:
        """Return s (N, M) of images with texts (M, D), or its mean over the sentences of reports (M, L, D)."""
        if text.ndim == 2:
            return attended_cosine(image, text, self.temperature.value)
        report, place = text.any(2).nonzero(as_tuple=True)
        of_sentence = attended_cosine(image, text[report, place], self.temperature.value)
        total = of_sentence.new_zeros(len(image), len(text)).index_add(1, report, of_sentence)
        return total / torch.bincount(report, minlength=len(text)).clamp(min=1)

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the cosine of every patch with the texts; see `Objective.text_heat`."""
        return similarity_map(self._patches(image), self.embed_text(text.pooled))

    def heat_maps(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> list[HeatMap]:
        """Return the cosine of every sentence that takes part with the patches of its image."""
        rows, study = self._sentences(text, batch)
        with torch.autocast(rows.device.type, enabled=False):
            heat = torch.einsum("sdhw,sd->shw", self._patches(image)[study], rows)
        words, nowhere = sentences_of(batch).text, rows.new_zeros(0, 4)
        kept = self._kept(batch).nonzero().flatten().tolist()
        return [
            HeatMap(b, words[s], heat[i], nowhere) for i, (s, b) in enumerate(zip(kept, study.tolist(), strict=True))
        ]

    def _embed_tokens(self, image: ImageFeatures) -> Tensor:
        return F.normalize(self.norm(self.tokens(image)).float(), dim=2)

    def _patches(self, image: ImageFeatures) -> Tensor:
        """Return the tokens of the patches, (N, D, h, w)."""
        return torch.unflatten(self._embed_tokens(image)[:, 1:].transpose(1, 2), 2, image.patches.shape[-2:])

    def _kept(self, batch: Batch) -> Tensor:
        sentence: SentenceBatch = sentences_of(batch)
        return sentence.statement_id != 0 if self.sentences == "stated" else torch.ones_like(sentence.study).bool()

    def _sentences(self, text: TextFeatures, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the sentences that take part, (S, D), and the study of each."""
        assert text.sentence is not None  # the task reads sentences where an objective asks for them
        kept = self._kept(batch)
        return self.embed_text(text.sentence[kept]), sentences_of(batch).study[kept]
