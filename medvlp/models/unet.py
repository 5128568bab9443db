"""The decoder of a U-Net for the maps of a convolutional encoder."""

from __future__ import annotations

from collections.abc import Sequence

from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

# Widths of segmentation_models_pytorch's Unet, which MGCA and later papers use unchanged.
WIDTHS = (256, 128, 64, 32, 16)


class UNetDecoder(nn.Module):
    """Decoder and head of segmentation_models_pytorch's `Unet`, with its initial weights.

    Args:
        widths: Number of channels of each map of the encoder, fine to coarse.
        strides: Strides of the maps in pixels, powers of 2 up to 32. A step without a map, such as stride 2 of
            ConvNeXt, is decoded without one.
        channels: Number of channels of the decoder's five steps, coarse to fine; a decoder with fewer steps uses the
            last ones.
    """

    def __init__(self, widths: Sequence[int], strides: Sequence[int], channels: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.strides = list(strides)
        self.steps = [2**step for step in range(1, max(strides).bit_length())]
        levels = dict(zip(strides, widths, strict=True))
        self.decoder = UnetDecoder(
            # The first is the image, which the decoder does not read.
            encoder_channels=[0, *(levels.get(step, 0) for step in self.steps)],
            decoder_channels=list(channels[-len(self.steps) :]),
            n_blocks=len(self.steps),
        )
        self.head = SegmentationHead(channels[-1], 1)
        initialize_decoder(self.decoder)
        initialize_head(self.head)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits (B, 1, H, W).

        Args:
            maps: Maps (B, C, h, w) of the encoder, fine to coarse.
            size: Height H and width W of the images, in pixels.
        """
        levels = dict(zip(self.strides, maps, strict=True))
        height, width = size
        pyramid = [
            levels[step] if step in levels else maps[-1].new_zeros(len(maps[-1]), 0, height // step, width // step)
            for step in self.steps
        ]
        logits: Tensor = self.head(self.decoder([maps[-1].new_zeros(0, 0, height, width), *pyramid]))
        return logits
