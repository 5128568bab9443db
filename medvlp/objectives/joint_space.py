"""One joint space of whole images and reports: what the objectives with a single pair of heads share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.models import HeadKind, ImageEncoder, TextEncoder, make_head
from medvlp.objectives.base import Objective, embed_map, least_contrast, similarity_map
from medvlp.types import Batch, ImageFeatures, PhraseFeatures, Section


class JointSpace(Objective):
    """Projects pooled image features and reports with a head each; their similarity is the cosine.

    Args:
        image_encoder: The image encoder, for its width.
        text_encoder: The text encoder, for its width.
        dim: Dimension of the joint space.
        head: Kind of both heads.
        hidden: Number of hidden units in the heads.
        gathered: Whether negatives and batch statistics come from all processes.
    """

    sections: tuple[Section, ...] = ("report",)
    heat_source = "global"

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int,
        head: HeadKind = "linear",
        hidden: int = 512,
        gathered: bool = True,
    ) -> None:
        super().__init__()
        self.gathered = gathered
        self.image_head = make_head(head, image_encoder.width, hidden, dim, gathered)
        self.text_head = make_head(head, text_encoder.width, hidden, dim, gathered)

    def least_studies(self, processes: int) -> int:
        """Return the number of studies in the smallest batch with negatives."""
        return least_contrast(self.gathered, processes)

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the normalised projection of pooled features, the same for each section."""
        return dict.fromkeys(self.sections, F.normalize(self.image_head(image.pooled).float(), dim=1))

    def embed_text(self, text: Tensor) -> Tensor:
        """Return the normalised projection of texts."""
        return F.normalize(self.text_head(text).float(), dim=1)

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the cosine of each place with the texts; see `Objective.text_heat`."""
        assert places is not None  # of its heat source
        return similarity_map(embed_map(self.image_head, places), self.embed_text(text.pooled))

    def project_views(self, image: ImageFeatures, batch: Batch) -> tuple[Tensor, ...]:
        """Return the projections (B, D) of each view, not normalised."""
        rows: Tensor = self.image_head(image.pooled)
        return torch.unflatten(rows, 0, batch["image"].shape[:2]).unbind(1)

    def project_texts(self, text: Tensor, mask: Tensor) -> Tensor:
        """Return the projections (B, D) of the texts in a mask; the rows of the others are zero."""
        kept: Tensor = self.text_head(text[mask])
        return kept.new_zeros(len(mask), kept.shape[1]).masked_scatter(mask[:, None], kept)
