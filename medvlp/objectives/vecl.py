"""VECL: which sentences an image entails and which it contradicts, by cross-attention both ways."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from medvlp.distributed import gather, gather_rows, rank
from medvlp.losses.mentions import ENTAILS, relation_loss
from medvlp.models import ImageEncoder, ImageTokens, PairDecoder, TextEncoder
from medvlp.models.pair_decoder import PairHead
from medvlp.objectives.base import Objective, least_contrast
from medvlp.objectives.mentions import relations
from medvlp.objectives.tokens import drawn_sentences, text_tokens, words_of
from medvlp.types import Batch, ImageFeatures, PhraseFeatures, Section, TextFeatures

# Pairs of an image and a text that are compared at once: 64 MB for the widest layer.
PAIRS = 1 << 14


class VECL(Objective):
    """Tells entailed, neutral and contradicting sentences apart: positive and negative mentions of findings.

    An image is its pooled feature and its patches, a sentence its embedding and its words. One decoder D, of layers of
    cross-attention, compares each image with each sentence in both directions, and a head gives three logits:

        S = head(D(sentence -> image tokens)),    R = head(D(image -> sentence tokens))
        image_text   w relation_loss(S, relations),    text_image   w relation_loss(R, relations)

    Training draws one sentence a study at each step; the sentence of its own study is entailed, and `relations` says
    what the others are, from the findings that parser or labels give. With several views of an image each term is the
    mean over the views. Studies without a sentence take no part.

    The similarity of an image with a text is the probability that it is entailed, from the mean logits of both
    directions. A protocol with positive and negative prompts makes it negation-aware.

    Deviations from the official code (WVeLong/VECL at ba5f3ab):

    - Existence comes from medvlp's parser and has all its findings; the code has 24 by a language model. Doubt is
      neutral, the code counts it as positive.
    - Negatives come from all processes.
    - The embedding of a sentence is the text encoder's, of the sentence read alone, and its words are those of the last
      layer in the report; the code adds the last four layers.
    - A frozen text encoder gives one word a sentence, read alone.
    - Pooled features and patches are projected only if their width is not that of the text encoder.
    - A pair of prompts is scored by the difference of their probabilities, as every model here; the code takes the
      positive's share of their sum.
    - Padding is not attended to; in the code it is, as zeros.

    Args:
        image_encoder: The image encoder, for the widths of pooled features and patches.
        text_encoder: The text encoder, for the width of the decoder.
        layers: Number of layers of the decoder.
        heads: Most attention heads in it; see `PairDecoder`.
        hidden: Number of hidden units of its feed-forward networks.
        dropout: Dropout of decoder and head.
        own_weight: Weight of the own sentence; see `medvlp.losses.relation_loss`.
        weight: Weight w.
    """

    sections = ("report",)
    reads_sentences = reads_words = reads_findings = True
    heat_source = "tag"

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        layers: int = 4,
        heads: int = 4,
        hidden: int = 1024,
        dropout: float = 0.1,
        own_weight: float = 3.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.own_weight, self.weight, dim = own_weight, weight, text_encoder.width
        self.tokens = ImageTokens(image_encoder, dim)
        self.decoder = PairDecoder(dim, layers, heads, hidden, dropout)
        self.head = PairHead(dim, 3, dropout)

    def least_studies(self, processes: int) -> int:
        """Return the number of studies in the smallest batch with negatives."""
        return least_contrast(True, processes)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the terms `image_text` and `text_image`; see `Objective.forward`."""
        studies, views = batch["image"].shape[:2]
        pooled, word, owner, existence, mask = drawn_sentences(text, batch, self.training)
        tokens = text_tokens(gather(pooled), gather_rows(word), gather_rows(owner + rank() * studies))
        relation, mask = relations(batch["existence"], gather(existence)), gather(mask)
        own = torch.arange(studies, device=relation.device)
        relation[own, own + rank() * studies] = ENTAILS
        seen, losses = self.tokens(image), []
        for v in range(views):
            logits = self._logits(seen[v::views], tokens)
            losses.append([relation_loss(each, relation, mask, own_weight=self.own_weight) for each in logits])
        forth, back = (self.weight * torch.stack(of_views).mean() for of_views in zip(*losses, strict=True))
        return {"image_text": forth, "text_image": back}

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the tokens (N, 1 + P, E) of images: the pooled feature first, and then the patches."""
        return {"report": self.tokens(image).float()}

    def embed_text(self, text: Tensor) -> Tensor:
        """Return the tokens (M, 2, E) of texts without known words: the text twice."""
        return torch.stack([text, text], 1).float()

    def embed_phrases(self, text: PhraseFeatures) -> Tensor:
        """Return the tokens (M, 1 + L, E) of texts: the text first, and then its words, with zeros as padding."""
        return text_tokens(text.pooled, text.word, text.word_phrase).float()

    def embed_sections(self, text: TextFeatures, batch: Batch) -> dict[Section, Tensor]:
        """Return the tokens of the reports, as `embed_phrases` does."""
        return {"report": text_tokens(text.sections["report"], *words_of(text, batch)).float()}

    def similarity(self, image: Tensor, text: Tensor) -> Tensor:
        """Return the probabilities (N, M) that images entail texts."""
        return self._logits(image, text).mean(0).softmax(2)[:, :, ENTAILS]

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the attention of the texts to the patches; see `Objective.text_heat`."""
        attention = self.decoder.attention(text.pooled.to(image.pooled), self.tokens(image))
        return torch.unflatten(attention[:, :, 1:].float(), 2, image.patches.shape[-2:])

    def _logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Return the logits of the relations in both directions, (2, N, M, 3), one block of texts after the other."""
        blocks = text.split(max(1, PAIRS // max(1, len(image))))
        return torch.cat([checkpoint(self._compare, image, block, use_reentrant=False) for block in blocks], 2)

    def _compare(self, image: Tensor, text: Tensor) -> Tensor:
        both = self.decoder(text[:, 0], image), self.decoder(image[:, 0], text).transpose(0, 1)
        return torch.stack([self.head(outputs) for outputs in both])
