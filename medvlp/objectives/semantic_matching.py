"""MedCLIP: images and sentences of different studies, matched by their labels (EMNLP 2022, arXiv 2210.10163)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medvlp.errors import UserError
from medvlp.losses import semantic_matching_loss
from medvlp.models import HeadKind, ImageEncoder, Temperature, TextEncoder
from medvlp.objectives.base import sentences_of
from medvlp.objectives.joint_space import JointSpace
from medvlp.objectives.study_labels import NO_FINDING, StudyLabels
from medvlp.objectives.tags import LabelSet, Tags
from medvlp.types import ABSENT, PRESENT, Batch, ImageFeatures, TextFeatures, find_label


class SemanticMatching(JointSpace):
    """Matches images with sentences by what both state: who belongs to whom does not count.

    Let s_ij be the cosine of image i and sentence j, and l a vector of labels: 1 present, -1 absent, 0 otherwise:

        matching   mean over both directions and over i of -sum_j softmax_j(cos(l_i, l_j)) log softmax_j(s_ij / T)

    T is learned. An image has the labels of its report or those of the prepared folder, so that it needs no report. No
    Finding is none of them: it is stated of a study, not by a sentence. Images and sentences that state nothing about
    the labels take no part. With several views of an image the term is the mean over the views.

    Deviations from the official code (MedCLIP at 0c33a61): the target is the cosine of the paper, where the code has
    the product. A text is what the text encoder pools, where the code has BERT's pooler. All sentences of the batch
    are compared with all images; the code draws one sentence a study, and calls a sentence without a label normal.
    Negatives come from all processes. There is no augmentation of words.

    Args:
        image_encoder: The image encoder, for its width.
        text_encoder: The text encoder, for its width.
        dim: Dimension of the joint space.
        head: Kind of the projection heads.
        hidden: Number of hidden units in the heads.
        temperature: First value of T.
        weight: Weight of the term.
        tags: The label set of sentences, and of images without `labels`.
        labels: All labels of the prepared folder, in its order, as the labels of images. Those of the label set count.

    Raises:
        UserError: If no label of the folder is in the label set.
    """

    reads_sentences = True
    column: Tensor

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 512,
        head: HeadKind = "linear",
        hidden: int = 512,
        temperature: float = 0.07,
        weight: float = 1.0,
        tags: LabelSet = "chexpert",
        labels: Sequence[str] = (),
    ) -> None:
        super().__init__(image_encoder, text_encoder, dim, head, hidden)
        self.weight = weight
        self.temperature = Temperature(temperature, learned=True)
        self.tags = Tags(tags)
        self.reads_labels, self.reads_findings = tuple(labels), not labels
        self.labels = StudyLabels(labels or tags)
        # The position in the label set of each label that images have.
        found = [None if name == NO_FINDING else find_label(name, self.tags.names) for name in self.labels.names]
        if not any(found):
            raise UserError(f"labels={list(labels)}: none is in the label set tags='{tags}': {self.tags.names}.")
        column = [-1 if name is None else self.tags.names.index(name) for name in found]
        self.register_buffer("column", torch.tensor(column), persistent=False)

    def least_studies(self, processes: int) -> int:
        """Return 1: sentences of one study differ."""
        return 1

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the term `matching`; see `Objective.forward`."""
        assert text.sentence is not None  # the task reads sentences where an objective asks for them
        told = signed(self.tags(sentences_of(batch).existence))
        state, _ = self.labels(batch)
        known = self.column >= 0
        shown = told.new_zeros(len(state), told.shape[1])
        shown[:, self.column[known]] = signed(state)[:, known]
        seen, read = shown.any(1), told.any(1)
        y, temperature = self.text_head(text.sentence[read]), self.temperature.value
        losses = [
            semantic_matching_loss(view[seen], y, shown[seen], told[read], temperature=temperature)
            for view in self.project_views(image, batch)
        ]
        return {"matching": self.weight * torch.stack(losses).mean()}


def signed(state: Tensor) -> Tensor:
    """Return 1 for present, -1 for absent and 0 for other states of labels, float."""
    return (state == PRESENT).float() - (state == ABSENT).float()
