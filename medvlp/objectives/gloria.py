"""GLoRIA: whole images with reports, and the words of reports with the patches of images (ICCV 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.distributed import gather_rows, rank, world_size
from medvlp.losses import contrastive_loss, local_similarity, pair_loss, word_cosine
from medvlp.models import ImageEncoder, TextEncoder
from medvlp.objectives.base import Objective, embed_map, least_contrast, section_mask, similarity_map
from medvlp.objectives.tokens import mean_words, padded, text_tokens, words_of
from medvlp.types import Batch, ImageFeatures, PhraseFeatures, Section, TextFeatures


class GLoRIA(Objective):
    """Aligns pooled features with reports, and patches with the words of the reports.

    The joint space is that of the text encoder: linear layers project pooled features and patches into it, and texts
    stay as they are. T is the temperature, Z the similarity of `medvlp.losses.local_similarity`:

        global   g (CE(s, I) + CE(s^T, I)),    s = cosine of image and report / T
        local    l (CE(z, I) + CE(z^T, I)),    z = Z(patches of the image, words of the report) / T

    With several views of an image each term is the mean over the views. Studies without a report take no part.

    The similarity of an image with a text, for zero-shot classification and retrieval, is the cosine of both plus the
    largest of the words' local similarities, sharpness * cos(c_l, w_l), as in the official code. It is divided by its
    largest value.

    Deviations from the official code (marshuang80/gloria at 416466a):

    - Negatives come from all processes.
    - A text is the whole report; the code draws one of its sentences at each step, the paper has reports.
    - Words are the sums of their word pieces in the last layer, and a report is what the text encoder makes of it. The
      code adds the last four layers, and averages over padding, too.
    - A frozen text encoder gives one word a sentence, read alone.
    - Words compete with a word of similarity 0 in place of [CLS], which is no word in Z; see `word_cosine`.
    - Images keep their size; the code enlarges crops of 224 pixels to 299.
    - Heat maps are the mean cosine of a patch with the words, which one word has as well; the code shows attention.

    Args:
        image_encoder: The image encoder, for the widths of pooled features and patches.
        text_encoder: The text encoder, for the width of the joint space.
        temperature: Temperature T of both terms.
        attention: Factor of the attention of words to patches.
        sharpness: Factor of the cosines of words in Z.
        global_weight: Weight g of the global term.
        local_weight: Weight l of the local term.
    """

    sections = ("report",)
    reads_words = True
    heat_source = "patch"

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        temperature: float = 0.1,
        attention: float = 4.0,
        sharpness: float = 5.0,
        global_weight: float = 1.0,
        local_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.temperature, self.attention, self.sharpness = temperature, attention, sharpness
        self.global_weight, self.local_weight = global_weight, local_weight
        self.image_head = nn.Linear(image_encoder.width, text_encoder.width)
        self.patch_head = nn.Linear(image_encoder.patch_width, text_encoder.width, bias=False)

    def least_studies(self, processes: int) -> int:
        """Return the number of studies in the smallest batch with negatives."""
        return least_contrast(True, processes)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the terms `global` and `local`; see `Objective.forward`."""
        studies, views = batch["image"].shape[:2]
        mask, report = section_mask("report", batch), text.sections["report"]
        word, study = words_of(text, batch)
        # Texts get numbers that are unique over all processes.
        word, owner = gather_rows(word), gather_rows(study + rank() * studies)
        words, present = padded(word, owner, studies * world_size())
        pairs = F.one_hot(torch.arange(studies, device=owner.device) + rank() * studies, len(words))
        pooled = self.image_head(image.pooled).unflatten(0, (studies, views))
        patches = self._patches(image).unflatten(0, (studies, views))
        options = {"attention": self.attention, "sharpness": self.sharpness}
        whole, local = [], []
        for v in range(views):
            whole.append(contrastive_loss(pooled[:, v], report, temperature=self.temperature, mask=mask))
            similarity = local_similarity(patches[:, v], words, present, **options)
            local.append(pair_loss(similarity / self.temperature, pairs, present.any(1)))
        return {
            "global": self.global_weight * torch.stack(whole).mean(),
            "local": self.local_weight * torch.stack(local).mean(),
        }

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the tokens (N, 1 + P, E) of images: the normalised pooled vector first, and then the patches."""
        pooled = F.normalize(self.image_head(image.pooled).float(), dim=1)
        return {"report": torch.cat([pooled[:, None], self._patches(image).float()], 1)}

    def embed_text(self, text: Tensor) -> Tensor:
        """Return the tokens (M, 2, E) of texts without known words: the normalised text, and the text as a word."""
        return torch.stack([F.normalize(text.float(), dim=1), text.float()], 1)

    def embed_phrases(self, text: PhraseFeatures) -> Tensor:
        """Return the tokens (M, 1 + L, E) of texts: the normalised text, and then its words, with zeros as padding."""
        return text_tokens(F.normalize(text.pooled.float(), dim=1), text.word.float(), text.word_phrase)

    def embed_sections(self, text: TextFeatures, batch: Batch) -> dict[Section, Tensor]:
        """Return the tokens of the reports, as `embed_phrases` does."""
        word, study = words_of(text, batch)
        return {"report": text_tokens(F.normalize(text.sections["report"].float(), dim=1), word.float(), study)}

    def similarity(self, image: Tensor, text: Tensor) -> Tensor:
        """Return the mean of the global cosine, and `sharpness` times the local one of the best word, (N, M)."""
        words = text[:, 1:]
        present = words.any(2)
        cosine = word_cosine(image[:, 1:], words, present, self.attention).masked_fill(~present, -1)
        return (image[:, 0] @ text[:, 0].T + self.sharpness * cosine.amax(2)) / (1 + self.sharpness)

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the mean cosine of each patch with the words of the texts; see `Objective.text_heat`.

        Raises:
            UserError: If a text has no words.
        """
        return similarity_map(embed_map(self.patch_head, image.patches), mean_words(text.word, text))

    def _patches(self, image: ImageFeatures) -> Tensor:
        patches: Tensor = self.patch_head(image.patches.flatten(2).transpose(1, 2))
        return patches
