"""SigLIP: alignment of whole images with whole reports by a sigmoid of each pair (arXiv 2303.15343)."""

from __future__ import annotations

import torch
from torch import Tensor

from medvlp.losses import sigmoid_loss
from medvlp.models import HeadKind, ImageEncoder, Temperature, TextEncoder
from medvlp.objectives.base import section_mask
from medvlp.objectives.joint_space import JointSpace
from medvlp.types import Batch, ImageFeatures, TextFeatures


class SigmoidAlignment(JointSpace):
    """Aligns pooled image features with the report; each pair counts alone, and no softmax compares the pairs.

    Let s_ij be the cosine of image i and report j, z_ij = 1 if they belong together and else -1:

        sigmoid   -(1/B) sum_ij log sigmoid(z_ij (s_ij / T + b))

    T and b are learned. b begins so low that the many negatives have no loss at first. Studies without a report take
    no part. With several views of an image the term is the mean over the views.

    Deviations from the paper: the image is pooled as its encoder does, not by a learned query; texts are those of a
    language model of the field. T stays at .01 or above.

    Args:
        image_encoder: The image encoder, for its width.
        text_encoder: The text encoder, for its width.
        dim: Dimension of the joint space.
        head: Kind of the projection heads.
        hidden: Number of hidden units in the heads.
        temperature: First value of T (the paper: 1 / 10).
        bias: First value of b (the paper: -10).
        weight: Weight of the term.
        gathered: Whether negatives come from all processes.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        dim: int = 512,
        head: HeadKind = "linear",
        hidden: int = 512,
        temperature: float = 0.1,
        bias: float = -10.0,
        weight: float = 1.0,
        gathered: bool = True,
    ) -> None:
        super().__init__(image_encoder, text_encoder, dim, head, hidden, gathered)
        self.weight = weight
        self.temperature = Temperature(temperature, learned=True, bias=bias)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the term `sigmoid`; see `Objective.forward`."""
        mask = section_mask("report", batch)
        y = self.project_texts(text.sections["report"], mask)
        assert self.temperature.bias is not None
        temperature, bias = self.temperature.value, self.temperature.bias
        losses = [
            sigmoid_loss(view, y, temperature=temperature, bias=bias, mask=mask, gathered=self.gathered)
            for view in self.project_views(image, batch)
        ]
        return {"sigmoid": self.weight * torch.stack(losses).mean()}
