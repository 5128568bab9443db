"""The contract of image encoders: grey images in, pooled features and a pyramid of maps out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from medvlp.errors import UserError
from medvlp.types import ImageFeatures

NORMALISATION = ("mean", "std")
"""Buffers of an encoder with the normalisation of images."""


class ImageEncoder(nn.Module, ABC):
    """Interface of image encoders for tasks, objectives and exports.

    A subclass must define only `forward`: widths and strides are read from the features of one black image. It can set
    each attribute below in its `__init__`, and override each method. A checkpoint keeps its parameters, its buffers,
    the options of its `__init__` and its `recipe`.

    Images reach an encoder as they are stored, uint8. `normalise` turns them into the input of the network.

    Args:
        mean: Mean of each input channel of the network, as a share of white (255).
        std: Standard deviation of each channel, likewise.

    Attributes:
        mean: `mean` in grey levels, (1, channels, 1, 1); a checkpoint keeps it with the weights.
        std: `std`, likewise.
        side: Side in pixels of the images that the encoder is made for.
    """

    mean: Tensor
    std: Tensor
    side: int = 224

    def __init__(self, mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.25,)) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    @abstractmethod
    def forward(self, image: Tensor) -> ImageFeatures:
        """Encode grey images, uint8 (N, H, W).

        Returns:
            Pooled features (N, D), and maps (N, C_l, H_l, W_l) from fine to coarse.
        """

    def normalise(self, image: Tensor) -> Tensor:
        """Return the network's input for grey images, uint8 (N, H, W): float (N, channels, H, W).

        Raises:
            TypeError: If the images are not uint8, because they may be normalised already.
        """
        if image.dtype != torch.uint8:
            raise TypeError(
                f"image has dtype {image.dtype}, but the encoder normalises stored images itself: pass uint8."
            )
        return ((image[:, None] - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def maps(self, image: Tensor) -> list[Tensor]:
        """Return the maps that decoders and detectors read, from fine to coarse; by default those of the pyramid.

        Args:
            image: Grey images, uint8 (N, H, W).

        Returns:
            Maps (N, map_widths[l], H / map_strides[l], W / map_strides[l]).
        """
        features: ImageFeatures = self(image)
        return features.pyramid

    def places(self, features: ImageFeatures) -> Tensor:
        """Return the pooled feature that each location would have alone, as in class activation mapping.

        The default is right if the pooled feature is the mean of the coarsest map.

        Args:
            features: Features of N images, from `forward`.

        Returns:
            Features (N, D, h, w).

        Raises:
            UserError: If the pooled feature is not that mean.
        """
        last, pooled = features.pyramid[-1], features.pooled
        mean = last.mean((2, 3))
        if mean.shape == pooled.shape and (mean - pooled).abs().amax() <= 0.01 * pooled.abs().amax():
            return last
        raise UserError(
            f"heat maps of whole-image features need the method 'places' of the image encoder, and {self.architecture} "
            "has none: its pooled feature is not the mean of its coarsest map."
        )

    @property
    def architecture(self) -> str:
        """Name of the network, for results and digests; by default the name of the class."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @cached_property
    def width(self) -> int:
        """Width D of the pooled features."""
        return self._of_black.pooled.shape[1]

    @cached_property
    def widths(self) -> list[int]:
        """Number of channels of each map of the pyramid, fine to coarse."""
        return [level.shape[1] for level in self._of_black.pyramid]

    @cached_property
    def patch_width(self) -> int:
        """Number of channels of the patch features."""
        return self._of_black.patches.shape[1]

    @cached_property
    def map_widths(self) -> list[int]:
        """Number of channels of each of `maps`; by default those of the pyramid."""
        return self.widths

    @cached_property
    def map_strides(self) -> list[int]:
        """Strides in pixels of the image of each of `maps`; by default those of the pyramid."""
        return [round(self.side / level.shape[-1]) for level in self._of_black.pyramid]

    def fit(self, size: int) -> None:
        """Make the encoder take images of a size, before an optimiser is created. By default it takes any size.

        Args:
            size: Side of the images in pixels.

        Raises:
            UserError: If the encoder cannot take such images.
        """

    def layers(self) -> list[list[nn.Parameter]]:
        """Return all parameters by depth, from the input to the output, for learning rates that decay with the depth.

        Each parameter is in one list, and each list holds the parameters of one layer, such as a transformer's block.
        By default all are in one list.
        """
        return [list(self.parameters())]

    def freeze_beyond_patches(self) -> None:
        """Freeze the parameters that the patch features do not depend on."""
        training = self.training
        patches = self.eval()(self._black()).patches
        if patches.requires_grad:
            patches.sum().backward()
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        self.train(training)

    @property
    def recipe(self) -> dict[str, Any]:
        """Options that a checkpoint keeps for `rebuild_options`, beside those of the config; by default none."""
        return {}

    @classmethod
    def rebuild_options(cls, options: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that rebuild an encoder before its weights are loaded; by default config and recipe.

        An encoder that reads its first weights from a file or a hub should remove that option here.

        Args:
            options: Options of the encoder in the config.
            recipe: Its `recipe`.
        """
        return {**options, **recipe}

    @classmethod
    def describe_start(cls, options: Mapping[str, Any]) -> str:
        """Return a short text on the source of the first weights, for model cards.

        Args:
            options: Options of the encoder in the config.
        """
        return f"those of {cls.__module__}.{cls.__qualname__}"

    def _black(self) -> Tensor:
        return torch.zeros(1, self.side, self.side, dtype=torch.uint8, device=self.mean.device)

    @cached_property
    def _of_black(self) -> ImageFeatures:
        """Features of a black image, without their values."""
        training = self.training
        with torch.no_grad():
            features: ImageFeatures = self.eval()(self._black())
        self.train(training)
        pyramid = [level.to("meta") for level in features.pyramid]
        return ImageFeatures(features.pooled.to("meta"), pyramid, features.patch_level)
