"""A small U-Net in NumPy, with the same output to the bit on every machine.

Activations are whole numbers from 0 to 255, weights from -127 to 127, stored as float32. Sums of their products are
exact below 2**24, so that the order of summation does not matter. Arrays are (rows, channels, columns).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

# Value of one step of an activation: ReLU6 in 8 bits.
STEP = 6 / 255
# Outputs are LOGIT_ZERO + LOGIT_STEPS * logit: above LOGIT_ZERO the probability is above one half.
LOGIT_ZERO, LOGIT_STEPS = 128, 16
# Largest whole number up to which float32 is exact.
EXACT = 2**24


@dataclass(frozen=True)
class Layer:
    """A convolution, 3x3 or 1x1, with its normalisation folded in, and its activation.

    Attributes:
        kernel: Whole numbers, (outputs, inputs * 9) or (outputs, inputs).
        bias: Whole numbers, (outputs, 1).
        scale: Output steps per unit of the sums, (outputs, 1).
    """

    kernel: Array
    bias: Array
    scale: Array

    def __call__(self, x: Array) -> Array:
        """Map activations (rows, inputs, columns) to (rows, outputs, columns)."""
        rows, channels, columns = x.shape
        patches = x if self.kernel.shape[1] == channels else _patches(x)
        # One product per row: it is too small for a BLAS to start threads, which cost more than they save.
        y = self.kernel @ patches.reshape(rows, -1, columns)
        y += self.bias
        y *= self.scale
        np.rint(y, out=y)
        np.clip(y, 0, 255, out=y)
        return y


def _patches(x: Array) -> Array:
    rows, channels, columns = x.shape
    padded = np.zeros((rows + 2, channels, columns + 2), np.float32)
    padded[1:-1, :, 1:-1] = x
    patches = np.empty((rows, channels, 3, 3, columns), np.float32)
    for i in range(3):
        for j in range(3):
            patches[:, :, i, j] = padded[i : i + rows, :, j : j + columns]
    return patches


@dataclass(frozen=True)
class Network:
    """The layers of a U-Net.

    Attributes:
        down: Two layers for each level, the finest first.
        up: A layer for each level except the coarsest, the finest first.
        head: Layer from the finest level to the outputs.
    """

    down: list[tuple[Layer, Layer]]
    up: list[Layer]
    head: Layer

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Network:
        """Return the network of arrays named `down.0.0.kernel`, `up.0.bias`, `head.scale` and so on."""

        def layer(name: str) -> Layer:
            kernel, bias, scale = (arrays[f"{name}.{part}"].astype(np.float32) for part in ("kernel", "bias", "scale"))
            return Layer(kernel.reshape(len(kernel), -1), bias[:, None], scale[:, None])

        levels = len({name.split(".")[1] for name in arrays if name.startswith("down.")})
        return cls(
            [(layer(f"down.{level}.0"), layer(f"down.{level}.1")) for level in range(levels)],
            [layer(f"up.{level}") for level in range(levels - 1)],
            layer("head"),
        )

    def __call__(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return maps (outputs, S / 2, S / 2), 0 to 255, of a grey image (S, S)."""
        x = np.stack([image[i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=1).astype(np.float32)
        kept = []
        for level, (first, second) in enumerate(self.down):
            if level:
                x = np.maximum(x[::2], x[1::2])
                x = np.maximum(x[..., ::2], x[..., 1::2])
            x = second(first(x))
            kept.append(x)
        for layer, fine in zip(reversed(self.up), reversed(kept[:-1]), strict=True):
            x = layer(np.concatenate([x.repeat(2, axis=0).repeat(2, axis=2), fine], axis=1))
        return np.asarray(self.head(x).astype(np.uint8).swapaxes(0, 1))
