"""The decoder of SETR-PUP for the last map of a vision transformer."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (512, 256, 128, 64)


class SETRDecoder(nn.Module):
    """Progressive upsampling: a convolution and a doubling of the size, four times, then the head (Zheng et al. 2021).

    The widths are those of MGCA. MGCA has a linear layer before the first convolution. It is left out, because the two
    together are one convolution.

    Args:
        width: Number of channels D of the map.
        channels: Number of channels of each of the four steps.
    """

    def __init__(self, width: int, channels: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
            for inputs, outputs in itertools.pairwise((width, *channels))
        )
        self.head = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits (B, 1, H, W).

        Args:
            maps: Maps of the encoder; only the last, (B, D, h, w), is used.
            size: Height H and width W of the images, in pixels.
        """
        x = maps[-1]
        for block in self.blocks:
            # Pixels are aligned by their centres, as in SETR. MGCA aligns corners, which moves borders by half a patch.
            x = F.interpolate(block(x), scale_factor=2.0, mode="bilinear")
        logits: Tensor = self.head(x)
        # Only patches of 16 pixels lead to the size of the image.
        return logits if logits.shape[-2:] == size else F.interpolate(logits, size, mode="bilinear")
