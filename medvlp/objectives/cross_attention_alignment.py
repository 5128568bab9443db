"""Alignment by cross-attention between images and sentences: CARZero (CVPR 2024, arXiv 2402.17417)."""

from __future__ import annotations

import torch
from torch import Tensor

from medvlp.distributed import gather, gather_rows
from medvlp.losses import multi_positive_loss
from medvlp.models import ImageEncoder, ImageTokens, PairDecoder, TextEncoder
from medvlp.models.pair_decoder import PairHead, scaled, score
from medvlp.objectives.base import Objective, least_contrast, sentences_of
from medvlp.objectives.draws import draw_sentences
from medvlp.objectives.pairs import Alike, image_sentence_pairs
from medvlp.objectives.tokens import text_tokens, words_of
from medvlp.types import Batch, ImageFeatures, PhraseFeatures, Section, TextFeatures


class CrossAttentionAlignment(Objective):
    """Aligns images with one sentence of each report by a decoder that looks both ways.

    Let x be the pooled feature of an image and X its tokens, x and its patches; y the mean of a sentence's words and Y
    its tokens, y and its words; F a decoder without self-attention, and c an MLP to one logit. Of all images
    and sentences there are two matrices,

        i2t = c(F(query y, tokens X)),    t2i = c(F(query x, tokens Y))

        contrastive = w (InfoNCE(i2t) + InfoNCE(t2i)), each the mean over rows and columns

    Training draws one sentence of each report at each step, evaluation takes the first. The similarity of an image and
    a text is a tenth of the mean of both logits, its heat map the attention of the text to the patches in F. A report
    is compared as one text, by all of its words. With several views the loss is the mean.

    Deviations from the official code (CARZero at 3056bb0):

    - Words are last hidden states of a reading of the whole report; the official ones are sums over the last four
      layers, of a reading of the sentence. With a frozen text encoder a sentence has one word, its embedding.
    - Sentences are those of the report; the official ones are partly a language model's, "There is X".
    - A sentence that an image's own report says as well is no negative of it (`alike`).
    - Tokens have the width of the text encoder; if the image encoder has another, they are projected.
    - The last layer of c has no bias, which would have no gradient. Negatives come from all processes.
    - Padding is not attended to; in the code it is, as zeros.

    Args:
        image_encoder: The image encoder, for its widths.
        text_encoder: The text encoder, for its width, that of the decoder.
        layers: Number of decoder layers.
        heads: Most attention heads in the decoder; see `PairDecoder`.
        hidden: Number of hidden units in the feed-forward networks of the decoder.
        dropout: Dropout rate of the decoder.
        weight: Weight w of the loss.
        alike: What a sentence is to an image whose report says the same; see `Alike`.
    """

    sections = ("report",)
    reads_reports = False
    reads_words = True
    heat_source = "tag"

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        layers: int = 4,
        heads: int = 4,
        hidden: int = 1024,
        dropout: float = 0.1,
        weight: float = 1.0,
        alike: Alike = "excluded",
    ) -> None:
        super().__init__()
        self.weight, self.alike = weight, alike
        self.tokens = ImageTokens(image_encoder, text_encoder.width)
        self.decoder = PairDecoder(text_encoder.width, layers, heads, hidden, dropout)
        self.classifier = PairHead(text_encoder.width, 1, dropout, bias=False)

    def least_studies(self, processes: int) -> int:
        """Return the number of studies in the smallest batch with negatives."""
        return least_contrast(True, processes)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the term `contrastive`; see `Objective.forward`."""
        studies, views = batch["image"].shape[:2]
        chosen = self._choose(text, batch)
        positive, negative = image_sentence_pairs(sentences_of(batch), chosen, studies, self.alike)
        word, study = words_of(text, batch)
        inside = chosen[text.word_sentence]
        # The chosen sentences, in the order of their studies.
        number = torch.unique_consecutive(study[inside], return_inverse=True)[1]
        sentence = with_mean(word[inside], number, int(chosen.sum()))
        query = gather_rows(sentence[:, 0])
        losses = []
        for tokens in self.tokens(image).unflatten(0, (studies, views)).unbind(1):
            i2t = gather(self._logits(query, tokens))
            t2i = gather_rows(self._logits(gather(tokens[:, 0].contiguous()), sentence)).T
            losses += [multi_positive_loss(logits, positive, negative) for logits in (i2t, t2i)]
        return {"contrastive": self.weight * torch.stack(losses).sum() / views}

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the tokens (N, 1 + P, D), the pooled feature first, under `report`."""
        return {"report": self.tokens(image).float()}

    def embed_text(self, text: Tensor) -> Tensor:
        """Return texts whose words are not known as one token each, (M, 1, D)."""
        return text.float()[:, None]

    def embed_phrases(self, text: PhraseFeatures) -> Tensor:
        """Return the mean of the words of each text and the words, (M, 1 + L, D)."""
        return with_mean(text.word, text.word_phrase, len(text.texts)).float()

    def embed_sections(self, text: TextFeatures, batch: Batch) -> dict[Section, Tensor]:
        """Return the mean of the words of each report and the words, (B, 1 + L, D)."""
        return {"report": with_mean(*words_of(text, batch), len(batch["image"])).float()}

    def similarity(self, image: Tensor, text: Tensor) -> Tensor:
        """Return a tenth of the mean logit of both ways, (N, M)."""
        return scaled((self._logits(text[:, 0], image) + self._logits(image[:, 0], text).T) / 2)

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the attention of the texts to the patches; see `Objective.text_heat`."""
        attention = self.decoder.attention(self.embed_phrases(text)[:, 0], self.tokens(image))
        return torch.unflatten(attention[:, :, 1:].float(), 2, image.patches.shape[-2:])

    def _logits(self, query: Tensor, memory: Tensor) -> Tensor:
        return score(self.decoder(query, memory), self.classifier)

    def _choose(self, text: TextFeatures, batch: Batch) -> Tensor:
        """Return a mask of one sentence of each study that has one with words, bool (S,)."""
        assert text.word_sentence is not None  # the task reads words where an objective asks for them
        study = sentences_of(batch).study
        read = torch.zeros_like(study, dtype=torch.bool).index_fill(0, text.word_sentence, True)
        position, has = draw_sentences(study[read], len(batch["image"]), self.training)
        return torch.zeros_like(read).index_fill(0, read.nonzero()[:, 0][position[has]], True)


def with_mean(word: Tensor, owner: Tensor, owners: int) -> Tensor:
    """Return the mean of the words of each owner, and the words, (M, 1 + L, D); an owner without words has zeros."""
    total = word.new_zeros(owners, word.shape[1]).index_add(0, owner, word)
    return text_tokens(total / torch.bincount(owner, minlength=owners).clamp(min=1)[:, None], word, owner)
