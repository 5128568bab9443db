"""CXR-CLIP: two images and two texts of a study, each with each (MICCAI 2023, arXiv 2310.13292)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from medvlp.losses import contrastive_loss
from medvlp.models import HeadKind, ImageEncoder, Temperature, TextEncoder
from medvlp.objectives.joint_space import JointSpace
from medvlp.objectives.study_labels import LabelTexts, StudyLabels
from medvlp.types import ABSENT, PRESENT, UNCERTAIN, Batch, ImageFeatures, TextFeatures

# Two wordings of the same labels, as two texts.
WORDINGS = (
    {PRESENT: "There is {}.", ABSENT: "No {}.", UNCERTAIN: "Possible {}."},
    {PRESENT: "Findings consistent with {}.", ABSENT: "No evidence of {}.", UNCERTAIN: "{} cannot be excluded."},
)


class StudyAlignment(JointSpace):
    """Aligns the images and the texts of a study with each other: images with texts, images, and texts with texts.

    Let u_v be the projected views of a study, t_1 and t_2 its projected Findings and Impression, and C the mean of the
    cross entropies in both directions:

        image_text    mean over v and k of C(u_v, t_k)
        image_image   v (mean over pairs of views of C(u_v, u_w))
        text_text     w C(t_1, t_2)

    All have one learned temperature. With `data.view_source: study` the views are different images of the study.

    Deviations from the official code (cxr-clip at fd9fac5):

    - Both sections take part in each step. The official code draws two of them, which may be the same.
    - A study with one section has it as both texts, without the official back-translation, and takes no part in
      text_text, where its texts would be equal.
    - A study without a report has texts of its labels in two wordings, if `labels` are named: the mean of the
      embeddings of one short text a label. The official code draws sentences from a list, and joins them.
    - Sentences are not shuffled, and [CLS] or the mean is read instead of the last token.

    Args:
        image_encoder: The image encoder, for its width.
        text_encoder: The text encoder, for its width; it reads the texts of labels.
        dim: Dimension of the joint space.
        head: Kind of the projection heads.
        hidden: Number of hidden units in the heads.
        temperature: First value of the temperature.
        image_weight: Weight v of image_image; 0 turns it off.
        text_weight: Weight w of text_text; 0 turns it off.
        labels: All labels of the prepared folder, in its order, for studies without a report; none by default.
        gathered: Whether negatives come from all processes.
    """

    sections = ("findings", "impression")

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 512,
        head: HeadKind = "linear",
        hidden: int = 512,
        temperature: float = 0.07,
        image_weight: float = 1.0,
        text_weight: float = 0.5,
        labels: Sequence[str] = (),
        gathered: bool = True,
    ) -> None:
        super().__init__(image_encoder, text_encoder, dim, head, hidden, gathered)
        self.image_weight, self.text_weight = image_weight, text_weight
        self.reads_labels = tuple(labels)
        self.temperature = Temperature(temperature, learned=True)
        if labels:
            self.labels = StudyLabels(labels)
            self.prompts = nn.ModuleList(LabelTexts(text_encoder, self.labels.names, wording) for wording in WORDINGS)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the terms `image_text`, `image_image` and `text_text`; see `Objective.forward`."""
        views = self.project_views(image, batch)
        texts, mask, two = self._texts(text, batch)
        temperature = self.temperature.value

        def contrast(x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
            return contrastive_loss(
                x, y, temperature=temperature, mask=mask, directions=(0.5, 0.5), gathered=self.gathered
            )

        terms = {"image_text": torch.stack([contrast(x, y, mask) for x in views for y in texts]).mean()}
        if self.image_weight and len(views) > 1:
            pairs = [contrast(x, y, None) for x, y in combinations(views, 2)]
            terms["image_image"] = self.image_weight * torch.stack(pairs).mean()
        if self.text_weight:
            terms["text_text"] = self.text_weight * contrast(texts[0], texts[1], two)
        return terms

    def _texts(self, text: TextFeatures, batch: Batch) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the two projected texts (B, D) of each study, and masks of the studies with a text, and with two."""
        first, second = batch["findings_mask"], batch["impression_mask"]
        findings, impression = text.sections["findings"], text.sections["impression"]
        read = [
            torch.where(first[:, None], findings, impression),
            torch.where(second[:, None], impression, findings),
        ]
        mask, two = first | second, first & second
        if self.reads_labels:
            state, _ = self.labels(batch)
            for k, prompts in enumerate(self.prompts):
                told, labelled = prompts(state)
                read[k] = torch.where(mask[:, None], read[k], told.to(read[k]))
            two, mask = two | (labelled & ~mask), mask | labelled
        projected = self.project_texts(torch.cat(read), mask.repeat(2))
        return list(projected.chunk(2)), mask, two
