"""Alignment of whole images with whole reports: ASG's IRA and ERL; without soft labels, ConVIRT's and CLIP's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.losses import ClinicalPrior, SoftLabels, contrastive_loss, soft_label_loss
from medvlp.models import ImageEncoder, ProjectionHead, TextEncoder
from medvlp.objectives.base import Objective, embed_map, least_contrast, section_mask, similarity_map
from medvlp.objectives.tags import LabelSet, Tags
from medvlp.types import PRESENT, Batch, ImageFeatures, PhraseFeatures, Section, TextFeatures

ASG_SOFT_LABELS = SoftLabels()


class GlobalAlignment(Objective):
    """Aligns pooled image features with the report.

    Let s be the cosine similarities of images and reports, divided by the temperature:

        contrastive   w CE(s, I) + w CE(s^T, I), or with a prior IMITATE's targets for I (IRA)
        soft_label    u (D(s, L) + D(s^T, L)) / 2, L from the tags that reports share, D a divergence (ERL)

    Both terms act on the same similarities, as in the official code (ASGMVLP_CODE at 088e896). Studies without a
    report take no part. With several views of an image each term is the mean over the views.

    Deviations from the official code: negatives, soft labels and batch statistics come from all processes. Two reports
    without any tag are alike by default (see `SoftLabels`).

    Args:
        image_encoder: The image encoder, for its width.
        text_encoder: The text encoder, for its width.
        dim: Dimension of the joint space.
        hidden: Number of hidden units in the projection heads.
        temperature: Temperature of the similarities.
        weight: Weight w of the contrastive term; 0 turns it off.
        soft_label_weight: Weight u of the soft-label term; 0 turns it off.
        soft_labels: Definition of the soft labels.
        tags: The label set whose tags define the soft labels.
        prior: IMITATE's clinical prior on the contrastive term.
        gathered: Negatives, soft labels and batch statistics of all processes; the official code uses those of one.

    Raises:
        UserError: If both weights are 0.
    """

    sections = ("report",)
    heat_source = "global"

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 128,
        hidden: int = 2048,
        temperature: float = 0.07,
        weight: float = 1.0,
        soft_label_weight: float = 1.0,
        soft_labels: SoftLabels = ASG_SOFT_LABELS,
        tags: LabelSet = "asg",
        prior: ClinicalPrior | None = None,
        gathered: bool = True,
    ) -> None:
        super().__init__()
        self.temperature, self.weight, self.soft_label_weight = temperature, weight, soft_label_weight
        self.soft_labels, self.prior, self.gathered = soft_labels, prior, gathered
        self.reads_findings = bool(soft_label_weight)
        if not (weight or soft_label_weight):
            raise UserError("weight=0 and soft_label_weight=0: GlobalAlignment has no term left. Leave it out instead.")
        self.tags = Tags(tags)
        self.image_head = ProjectionHead(image_encoder.width, hidden, dim, sync=gathered)
        self.text_head = ProjectionHead(text_encoder.width, hidden, dim, sync=gathered)

    def least_studies(self, processes: int) -> int:
        """Return the number of studies in the smallest batch with negatives."""
        return least_contrast(self.gathered, processes)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the terms `contrastive` and `soft_label`; see `Objective.forward`."""
        studies, views = batch["image"].shape[:2]
        mask, report = section_mask("report", batch), text.sections["report"]
        x = self.image_head(image.pooled).unflatten(0, (studies, views)).unbind(1)
        y = self._project_text(report, mask)
        terms: dict[str, Tensor] = {}
        if self.weight:
            prior_text = report * mask[:, None]
            losses = [
                contrastive_loss(
                    view,
                    y,
                    temperature=self.temperature,
                    mask=mask,
                    text=prior_text,
                    prior=self.prior,
                    gathered=self.gathered,
                )
                for view in x
            ]
            terms["contrastive"] = self.weight * torch.stack(losses).mean()
        if self.soft_label_weight:
            tags = self.tags(batch["existence"]) == PRESENT
            losses = [
                soft_label_loss(
                    view,
                    y,
                    tags,
                    temperature=self.temperature,
                    labels=self.soft_labels,
                    mask=mask,
                    gathered=self.gathered,
                )
                for view in x
            ]
            terms["soft_label"] = self.soft_label_weight * torch.stack(losses).mean()
        return terms

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return the normalised projection of pooled features, under `report`."""
        return {"report": F.normalize(self.image_head(image.pooled).float(), dim=1)}

    def embed_text(self, text: Tensor) -> Tensor:
        """Return the normalised projection of texts."""
        return F.normalize(self.text_head(text).float(), dim=1)

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the cosine of each place with the texts; see `Objective.text_heat`."""
        assert places is not None  # of its heat source
        return similarity_map(embed_map(self.image_head, places), self.embed_text(text.pooled))

    def _project_text(self, report: Tensor, mask: Tensor) -> Tensor:
        """Project the reports that exist; the rows of the others stay zero."""
        kept: Tensor = self.text_head(report[mask])
        return kept.new_zeros(len(mask), kept.shape[1]).masked_scatter(mask[:, None], kept)
