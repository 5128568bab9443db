"""MGCA: images and reports aligned as wholes, by words and patches, and by clusters (arXiv 2210.06044)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.losses import contrastive_loss, prototype_loss, token_loss, token_weights
from medvlp.models import ImageEncoder, ProjectionHead, TextEncoder
from medvlp.objectives.base import Objective, embed_map, least_contrast, section_mask, similarity_map
from medvlp.objectives.tokens import mean_words, padded, words_of
from medvlp.types import Batch, ImageFeatures, PhraseFeatures, Section, TextFeatures


class MGCA(Objective):
    """Aligns images with reports at three levels, each in the space of normalised projections.

    Let x be the projected pooled features and y the projected reports, v the projected patches and w the projected
    words, and C the prototypes:

        instance    a contrastive_loss(x, y)                    ITA, temperature .07
        token       b token_loss(v, w)                          CTA, .1: inside each pair, both directions
        prototype   c prototype_loss(C x, C y)                  CPA, .2: Sinkhorn over the studies of all processes

    Prototypes have length 1 at the start of each step, and stay as they are in the first epochs. With several views of
    an image each term is the mean over the views. Studies without a report take no part.

    Deviations from the official code (HKU-MedAI/MGCA at 0fe1c3b):

    - Negatives, assignments and batch statistics come from all processes; the code has negatives of one.
    - Padding takes part neither in the softmax over the words nor in batch statistics.
    - The weight of a token follows its cosine with the pooled feature of its encoder; the code has the attention of
      [CLS] in the last layer. Both are cut to their quantiles .1 and .9. Patches that are no outputs of the last layer
      (ResNet) have equal weights, as in the code.
    - A frozen text encoder gives one word a sentence, read alone.
    - What a patch attends to is normalised for all image encoders; the code does so for a ResNet alone.
    - Images keep their size; for a ResNet the code enlarges crops of 224 pixels to 299.

    Args:
        image_encoder: The image encoder, for the widths of pooled features and patches.
        text_encoder: The text encoder, for its width.
        dim: Dimension of the joint spaces.
        hidden: Number of hidden units in the projection heads.
        temperature: Temperature of the instance term.
        token_temperature: Temperature of the token term.
        prototype_temperature: Temperature of the prototype term.
        prototypes: Number of prototypes.
        frozen_epochs: Number of epochs in which the prototypes are not trained.
        instance_weight: Weight a.
        token_weight: Weight b.
        prototype_weight: Weight c.
    """

    sections = ("report",)
    reads_words = True
    heat_source = "patch"
    frozen: Tensor

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 128,
        hidden: int = 2048,
        temperature: float = 0.07,
        token_temperature: float = 0.1,
        prototype_temperature: float = 0.2,
        prototypes: int = 500,
        frozen_epochs: int = 1,
        instance_weight: float = 1.0,
        token_weight: float = 1.0,
        prototype_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.temperature, self.token_temperature = temperature, token_temperature
        self.prototype_temperature, self.frozen_epochs = prototype_temperature, frozen_epochs
        self.instance_weight, self.token_weight = instance_weight, token_weight
        self.prototype_weight = prototype_weight
        self.image_head = ProjectionHead(image_encoder.width, hidden, dim)
        self.patch_head = ProjectionHead(image_encoder.patch_width, hidden, dim)
        self.text_head = ProjectionHead(text_encoder.width, hidden, dim)
        self.word_head = ProjectionHead(text_encoder.width, hidden, dim)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(prototypes, dim), dim=1))
        self.register_buffer("frozen", torch.tensor(frozen_epochs > 0))

    def least_studies(self, processes: int) -> int:
        """Return the number of studies in the smallest batch with negatives."""
        return least_contrast(True, processes)

    def begin_epoch(self, epoch: int) -> None:
        """Freeze the prototypes in the first epochs."""
        self.frozen.fill_(epoch < self.frozen_epochs)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the terms `instance`, `token` and `prototype`; see `Objective.forward`."""
        studies, views = batch["image"].shape[:2]
        mask, report = section_mask("report", batch), text.sections["report"]
        x = F.normalize(self.image_head(image.pooled).float(), dim=1).unflatten(0, (studies, views))
        kept = F.normalize(self.text_head(report[mask]).float(), dim=1)
        y = kept.new_zeros(studies, kept.shape[1]).masked_scatter(mask[:, None], kept)
        word, study = words_of(text, batch)
        words, present = padded(self.word_head(word).float(), study, studies)
        word_weight = token_weights(report, padded(word, study, studies)[0], present)
        patches = embed_map(self.patch_head, image.patches).flatten(2).transpose(1, 2)
        patch_weight = self._patch_weights(image)
        prototypes = self._prototypes()
        terms: dict[str, list[Tensor]] = {"instance": [], "token": [], "prototype": []}
        for v in range(views):
            view = slice(v, None, views)
            terms["instance"].append(contrastive_loss(x[:, v], y, temperature=self.temperature, mask=mask))
            tokens = (patches[view], words, present, patch_weight[view], word_weight)
            terms["token"].append(token_loss(*tokens, temperature=self.token_temperature))
            scores = x[:, v] @ prototypes.T, y @ prototypes.T
            terms["prototype"].append(prototype_loss(*scores, mask, temperature=self.prototype_temperature))
        weights = (self.instance_weight, self.token_weight, self.prototype_weight)
        return {name: w * torch.stack(losses).mean() for w, (name, losses) in zip(weights, terms.items(), strict=True)}

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the normalised projection of pooled features, under `report`."""
        return {"report": F.normalize(self.image_head(image.pooled).float(), dim=1)}

    def embed_text(self, text: Tensor) -> Tensor:
        """Return the normalised projection of texts."""
        return F.normalize(self.text_head(text).float(), dim=1)

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the mean cosine of each patch with the words of the texts; see `Objective.text_heat`.

        Raises:
            UserError: If a text has no words.
        """
        return similarity_map(embed_map(self.patch_head, image.patches), mean_words(self.word_head(text.word), text))

    def _patch_weights(self, image: ImageFeatures) -> Tensor:
        patches = image.patches.flatten(2).transpose(1, 2)
        every = torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device)
        if image.patch_level in (-1, len(image.pyramid) - 1) and patches.shape[2] == image.pooled.shape[1]:
            return token_weights(image.pooled, patches, every)
        return every / every.shape[1]

    def _prototypes(self) -> Tensor:
        with torch.no_grad():
            self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        # A detached parameter would have no gradient, for which DistributedDataParallel waits; this one has zeros.
        return torch.where(self.frozen, self.prototypes.detach(), self.prototypes)
