"""The localiser's network in torch, and its quantisation to whole numbers."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from medvlp.prepare.regions.lung_fields import STRUCTURES
from medvlp.prepare.regions.network import EXACT, LOGIT_STEPS, LOGIT_ZERO, STEP

WIDTHS = (16, 24, 32, 48)


class UNet(nn.Module):
    """A U-Net as `medvlp.prepare.regions.network` computes it; its inputs are grey levels times STEP."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (4, *WIDTHS[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(_layer(before, width), _layer(width, width))
            for before, width in zip(inputs, WIDTHS, strict=True)
        )
        self.up = nn.ModuleList(_layer(coarse + fine, fine) for fine, coarse in itertools.pairwise(WIDTHS))
        self.head = nn.Sequential(nn.Conv2d(WIDTHS[0], len(STRUCTURES), 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, 3, S / 2, S / 2) of images (B, 1, S, S)."""
        x = functional.pixel_unshuffle(image, 2)
        kept = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        for layer, fine in zip(reversed(self.up), reversed(kept[:-1]), strict=True):
            x = layer(torch.cat([functional.interpolate(x, scale_factor=2.0), fine], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6())


@torch.no_grad()
def quantised(net: UNet) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays that `Network.of` takes: weights in 8 bits, with batch normalisation folded in."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for name, block in net.named_modules():
        if not (isinstance(block, nn.Sequential) and isinstance(block[0], nn.Conv2d)):
            continue
        kernel, shift = block[0].weight, block[0].bias
        step, zero = 1 / LOGIT_STEPS, LOGIT_ZERO
        if len(block) > 1:
            norm = block[1]
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            kernel, shift = kernel * gain[:, None, None, None], norm.bias - norm.running_mean * gain
            step, zero = STEP, 0
        assert shift is not None
        unit = kernel.abs().amax((1, 2, 3)) / 127
        whole = (kernel / unit[:, None, None, None]).round()
        offset = ((shift + zero * step) / (STEP * unit)).round()
        assert float((255 * whole.abs().sum((1, 2, 3)) + offset.abs()).max()) < EXACT
        arrays[f"{name}.kernel"] = whole.to(torch.int8).numpy()
        arrays[f"{name}.bias"] = offset.to(torch.int32).numpy()
        arrays[f"{name}.scale"] = (STEP * unit / step).numpy()
    return arrays
