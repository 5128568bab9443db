"""Alignment of whole images with whole reports: ASG's IRA and ERL; without soft labels, ConVIRT's and CLIP's."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medvlp.errors import UserError
from medvlp.losses import ClinicalPrior, SoftLabels, contrastive_loss, soft_label_loss
from medvlp.models import HeadKind, ImageEncoder, Temperature, TextEncoder
from medvlp.objectives.base import section_mask, sentences_of
from medvlp.objectives.draws import draw_sentences
from medvlp.objectives.joint_space import JointSpace
from medvlp.objectives.tags import LabelSet, Tags
from medvlp.types import PRESENT, Batch, ImageFeatures, TextFeatures

ASG_SOFT_LABELS = SoftLabels()


class GlobalAlignment(JointSpace):
    """Aligns pooled image features with the report.

    Let s be the cosine similarities of images and reports, divided by the temperature:

        contrastive   w (a CE(s, I) + b CE(s^T, I)), or with a prior IMITATE's targets for I (IRA)
        soft_label    u (D(s, L) + D(s^T, L)) / 2, L from the tags that reports share, D a divergence (ERL)

    Both terms act on the same similarities, as in ASG's official code (ASGMVLP_CODE at 088e896). Studies without a
    report take no part. With several views of an image each term is the mean over the views. CLIP (arXiv 2103.00020)
    is a = b = 1/2 with a learned temperature, ConVIRT (arXiv 2010.00747) a = .75, b = .25 and one sentence a study.

    Deviations from the official code: negatives, soft labels and batch statistics come from all processes. Two reports
    without any tag are alike by default (see `SoftLabels`). ConVIRT's text encoder takes the maximum over the words.

    Args:
        image_encoder: The image encoder, for its width.
        text_encoder: The text encoder, for its width.
        dim: Dimension of the joint space.
        hidden: Number of hidden units in the projection heads.
        temperature: Temperature of the similarities; its first value if it is learned.
        weight: Weight w of the contrastive term; 0 turns it off.
        soft_label_weight: Weight u of the soft-label term; 0 turns it off.
        soft_labels: Definition of the soft labels.
        tags: The label set whose tags define the soft labels.
        prior: IMITATE's clinical prior on the contrastive term.
        gathered: Negatives, soft labels and batch statistics of all processes; the official code uses those of one.
        learned_temperature: Whether the temperature is a parameter.
        head: Kind of the projection heads.
        directions: Weights a, of images to texts, and b, of texts to images.
        text: What training reads of a study: the report, or one of its sentences, drawn in each step. In evaluation it
            is the first sentence, and retrieval compares images with reports.

    Raises:
        UserError: If both weights are 0.
    """

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
        learned_temperature: bool = False,
        head: HeadKind = "batch_norm",
        directions: tuple[float, float] = (1.0, 1.0),
        text: Literal["report", "sentence"] = "report",
    ) -> None:
        super().__init__(image_encoder, text_encoder, dim, head, hidden, gathered)
        self.weight, self.soft_label_weight = weight, soft_label_weight
        self.soft_labels, self.prior, self.directions = soft_labels, prior, directions
        self.reads_findings, self.reads_sentences = bool(soft_label_weight), text == "sentence"
        if not (weight or soft_label_weight):
            raise UserError("weight=0 and soft_label_weight=0: GlobalAlignment has no term left. Leave it out instead.")
        self.temperature = Temperature(temperature, learned_temperature)
        self.tags = Tags(tags)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the terms `contrastive` and `soft_label`; see `Objective.forward`."""
        read, mask = self._read(text, batch)
        x, y = self.project_views(image, batch), self.project_texts(read, mask)
        temperature = self.temperature.value
        terms: dict[str, Tensor] = {}
        if self.weight:
            prior_text = read * mask[:, None]
            losses = [
                contrastive_loss(
                    view,
                    y,
                    temperature=temperature,
                    mask=mask,
                    text=prior_text,
                    prior=self.prior,
                    directions=self.directions,
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
                    temperature=temperature,
                    labels=self.soft_labels,
                    mask=mask,
                    gathered=self.gathered,
                )
                for view in x
            ]
            terms["soft_label"] = self.soft_label_weight * torch.stack(losses).mean()
        return terms

    def _read(self, text: TextFeatures, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return one text embedding a study, (B, E), and a mask of the studies that have a text."""
        if not self.reads_sentences:
            return text.sections["report"], section_mask("report", batch)
        assert text.sentence is not None  # the task reads sentences where an objective asks for them
        position, mask = draw_sentences(sentences_of(batch).study, len(batch["image"]), self.training)
        missing = text.sentence.new_zeros(1, text.sentence.shape[1])
        return torch.cat([text.sentence, missing])[position], mask
