"""UniCL: alignment of images with the names of their labels; no report is read (CVPR 2022, arXiv 2204.03610)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medvlp.losses import label_contrast_loss
from medvlp.metrics import label_auroc
from medvlp.models import HeadKind, ImageEncoder, Temperature, TextEncoder
from medvlp.objectives.joint_space import JointSpace
from medvlp.objectives.study_labels import LabelTexts, StudyLabels
from medvlp.objectives.tags import LabelSet
from medvlp.types import PRESENT, UNCERTAIN, Batch, ImageFeatures, TextFeatures


class LabelAlignment(JointSpace):
    """Aligns images with texts of their labels; all that have the same labels are positives.

    Let s_ij be the cosine of image i and the text of the labels of study j, and P(i) the studies with the labels of i:

        contrast   sum over both directions of the mean over i of -(1/|P(i)|) sum_(j in P(i)) log softmax_j(s_ij / T)

    T is learned. The labels of a study are those that are present; one without any has No Finding, and one whose
    labels are all uncertain takes no part. Others that are uncertain, or not mentioned, count as absent. With several
    views of an image the term is the mean over the views.

    The control of methods that read reports (DLILP, IPMI 2025): the labels come from the parser or from the folder,
    and the text encoder sees their names alone.

    Deviations from the official codes: the text of several labels is the mean of the embeddings of one text a label,
    and compared with sets of labels as a whole, where DLILP's code (at 2f09204) draws one label of a study. Negatives
    come from all processes. A trained text encoder reads the names in each step.

    Args:
        image_encoder: The image encoder, for its width.
        text_encoder: The text encoder, which reads the names.
        dim: Dimension of the joint space.
        head: Kind of the projection heads.
        hidden: Number of hidden units in the heads.
        temperature: First value of T.
        weight: Weight of the term.
        labels: A label set, for the labels of the parser; or all labels of the prepared folder, in its order.
        prompt: Text of a label, with {} for its name.
    """

    quality = "auroc/macro"

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 512,
        head: HeadKind = "linear",
        hidden: int = 512,
        temperature: float = 0.07,
        weight: float = 1.0,
        labels: LabelSet | Sequence[str] = "chexpert",
        prompt: str = "{}.",
    ) -> None:
        super().__init__(image_encoder, text_encoder, dim, head, hidden)
        self.weight = weight
        self.temperature = Temperature(temperature, learned=True)
        self.labels = StudyLabels(labels)
        self.reads_labels = labels if self.labels.of_folder else ()
        self.reads_findings = not self.labels.of_folder
        self.texts = LabelTexts(text_encoder, self.labels.names, {PRESENT: prompt})

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the term `contrast`; see `Objective.forward`."""
        state, _ = self.labels(batch)
        told, labelled = self.texts(state)
        present, y = (state == PRESENT)[labelled], self.text_head(told[labelled])
        temperature = self.temperature.value
        losses = [
            label_contrast_loss(view[labelled], y, present, present, temperature=temperature)
            for view in self.project_views(image, batch)
        ]
        return {"contrast": self.weight * torch.stack(losses).mean()}

    def evaluate(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the cosine with the text of each label, and its state."""
        state, known = self.labels(batch)
        cosine = self.embed_image(image)["report"] @ self.embed_text(self.texts.each()).T
        # Uncertain states are left out of the metrics.
        return {"cosine": cosine, "label": state.masked_fill(~known[:, None], UNCERTAIN)}

    def summarise(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return the AUROC of each label and their mean; unmentioned labels are absent, uncertain ones are left out."""
        aurocs = label_auroc(rows["cosine"], rows["label"], self.labels.names)
        return {f"auroc/{name}": value for name, value in aurocs.items()}
