"""The joint space of a published pair of encoders, such as BiomedCLIP, SigLIP or BioViL-T, with its own projections."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medvlp.errors import UserError
from medvlp.models import ImageEncoder, Temperature, TextEncoder
from medvlp.objectives.base import Objective, embed_map, least_contrast, section_mask, similarity_map
from medvlp.types import Batch, ImageFeatures, PhraseFeatures, Section, TextFeatures

SpaceHead = Literal["none", "linear", "mlp", "patch"]
# CLIP clamps the temperature to .01, but a SigLIP's is lower.
LEAST = 1e-4


class SharedSpace(Objective):
    """Compares images with texts as a published pair of encoders does.

    The text encoder gives texts in the joint space. The head takes images there:

        none     the pooled feature itself (SigLIP)
        linear   a linear map of the pooled feature (CLIP)
        mlp      linear, GELU, linear (open_clip's timm_proj mlp)
        patch    linear, batch norm, ReLU, linear of each place of the coarsest map, and their mean (BioViL, BioViL-T)

    Similarities are cosines. Heat maps are cosines of places with a text, where the pair has learned to compare these.
    With head `patch` the image is the mean of its places (source `patch`). If the encoder pools its places by a mean or
    by attention, a place alone has a pooled feature (option `places`, source `global`). CLIP's pooled feature is its
    class token, and its last patches have never met a text: it has no maps.

    In training, the loss is CLIP's symmetric cross entropy, or with a bias SigLIP's pairwise loss, over the studies of
    this process, with a learned temperature.

    Args:
        image_encoder: The image encoder, for its width.
        text_encoder: The text encoder, for its width.
        head: See above.
        hidden: Number of hidden features of heads `mlp` and `patch`.
        bias: Whether the last layer of heads `linear` and `mlp` has a bias.
        places: Whether to draw heat maps by the pooled feature of each place.
        temperature: Temperature of the logits, those of the published pair or a first value.
        logit_bias: Bias of the logits, likewise; None for none.

    Raises:
        UserError: If without a head image and text features differ in width.
    """

    sections = ("report",)

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        head: SpaceHead = "linear",
        hidden: int = 0,
        bias: bool = False,
        places: bool = False,
        temperature: float = 0.07,
        logit_bias: float | None = None,
    ) -> None:
        super().__init__()
        self.of_patches = head == "patch"
        self.heat_source = "patch" if self.of_patches else "global" if places else None
        self.temperature = Temperature(temperature, learned=True, bias=logit_bias, least=min(LEAST, temperature))
        width, dim = image_encoder.widths[-1] if self.of_patches else image_encoder.width, text_encoder.width
        if head == "none" and width != dim:
            raise UserError(f"image features of width {width} are compared with texts of width {dim}: name a head.")
        self.head = space_head(head, width, hidden, dim, bias)

    def least_studies(self, processes: int) -> int:
        """Return the number of studies in the smallest batch with negatives."""
        return least_contrast(False, processes)

    def forward(self, image: ImageFeatures, text: TextFeatures, batch: Batch) -> dict[str, Tensor]:
        """Return the loss of the pair, as the mean over the views."""
        mask = section_mask("report", batch)
        views = torch.unflatten(self.embed_image(image)["report"], 0, (len(mask), -1))[mask]
        texts = self.embed_text(text.sections["report"])[mask]
        return {"pair": torch.stack([self._loss(view, texts) for view in views.unbind(1)]).mean()}

    def embed_image(self, image: ImageFeatures) -> dict[Section, Tensor]:
        """Return normalised embeddings of the images."""
        if self.of_patches:
            places = self.head(image.pyramid[-1].flatten(2).transpose(1, 2).flatten(0, 1))
            pooled = torch.unflatten(places, 0, (len(image.pooled), -1)).float().mean(1)
        else:
            pooled = self.head(image.pooled).float()
        return {"report": F.normalize(pooled, dim=1)}

    def embed_text(self, text: Tensor) -> Tensor:
        """Return normalised embeddings of texts."""
        return F.normalize(text.float(), dim=1)

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Return the logits (N, M) of the pair for images and texts from `embed_image` and `embed_text`."""
        logits: Tensor = self.temperature(self.similarity(image, text))
        return logits

    def text_heat(self, image: ImageFeatures, places: Tensor | None, text: PhraseFeatures) -> Tensor:
        """Return the cosine of each place with the texts, (N, M, h, w)."""
        features = image.pyramid[-1] if self.of_patches else places
        if self.heat_source is None or features is None:
            return super().text_heat(image, places, text)
        return similarity_map(embed_map(self.head, features), self.embed_text(text.pooled))

    def _loss(self, image: Tensor, text: Tensor) -> Tensor:
        if not len(image):
            return image.sum()
        with torch.autocast(image.device.type, enabled=False):
            logits = self.logits(image, text)
            if self.temperature.bias is not None:
                signs = 2 * torch.eye(len(logits), device=logits.device) - 1
                return -F.logsigmoid(signs * logits).sum() / len(logits)
            target = torch.arange(len(logits), device=logits.device)
            return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def space_head(kind: SpaceHead, width: int, hidden: int, dim: int, bias: bool) -> nn.Module:
    """Return the head of `SharedSpace`."""
    match kind:
        case "none":
            return nn.Identity()
        case "linear":
            return nn.Linear(width, dim, bias=bias)
        case "mlp":
            return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, dim, bias=bias))
        case "patch":
            layers = nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, dim)
            return nn.Sequential(*layers)
