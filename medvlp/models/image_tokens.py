"""An image as tokens for texts to be compared with: its pooled feature and its patches, or its patches alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medvlp.models.image import ImageEncoder
from medvlp.types import ImageFeatures


class ImageTokens(nn.Module):
    """Tokens of images on top of an image encoder, which may be frozen.

    The first token is the pooled feature: of a vision transformer that pools by its class token, this is the class
    token. The others are the patches, row by row. They get no positions: those of the encoder are in them. Features are
    projected linearly if their width is another one.

    Args:
        image_encoder: The image encoder, for its widths.
        dim: Width of the tokens.
        layers: Number of transformer layers (pre-norm, GELU, four times as many hidden units); 0 for none.
        heads: Most attention heads; the largest number up to this that divides `dim` is taken.
        dropout: Dropout rate of the layers.
    """

    def __init__(
        self, image_encoder: ImageEncoder, dim: int, layers: int = 0, heads: int = 12, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.pooled, self.patch = (
            nn.Identity() if width == dim else nn.Linear(width, dim)
            for width in (image_encoder.width, image_encoder.patch_width)
        )
        heads = max(number for number in range(1, heads + 1) if dim % number == 0)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout, "gelu", batch_first=True, norm_first=True)
                for _ in range(layers)
            )
        )

    def forward(self, image: ImageFeatures) -> Tensor:
        """Return the tokens (N, 1 + h * w, dim) of N images."""
        patches = self.patch(image.patches.flatten(2).transpose(1, 2))
        tokens: Tensor = self.layers(torch.cat([self.pooled(image.pooled)[:, None].to(patches.dtype), patches], 1))
        return tokens


class PatchTokens(nn.Module):
    """The patches of images after two linear layers (KAD, MedKLIP).

    Args:
        image_encoder: The image encoder, for the width of its patches.
        dim: Width of the tokens.
    """

    def __init__(self, image_encoder: ImageEncoder, dim: int) -> None:
        super().__init__()
        width = image_encoder.patch_width
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dim))

    def forward(self, image: ImageFeatures) -> Tensor:
        """Return the tokens (N, h * w, dim) of N images."""
        tokens: Tensor = self.layers(image.patches.flatten(2).transpose(1, 2))
        return tokens
