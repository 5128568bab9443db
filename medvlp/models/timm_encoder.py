"""Image encoder for backbones of timm: pooled features and a pyramid of maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from medvlp.errors import NotFoundError, UserError
from medvlp.models.backbone import fit_to_size, is_of_one_size, make_backbone, parameters_by_depth
from medvlp.models.image import NORMALISATION, ImageEncoder
from medvlp.models.recipe import read_content, trained_side
from medvlp.models.weights import locate, public_name
from medvlp.types import ImageFeatures

STAGES = 4
# Largest stride of the patch features in pixels: the patches of ViT-B/16 and, as in ASG, layer3 of ResNet-50.
PATCH = 16
# Prefixes of the encoder's tensors in a pre-training, in a downstream task and in its own state dict.
PREFIXES = ("image_encoder.", "encoder.", "")


def read_tensors(path: str) -> dict[str, Tensor]:
    """Read the tensors of a state dict, of a checkpoint or of exported weights; no code of the file runs.

    Raises:
        UserError: If the file holds no state dict.
    """
    try:
        safe = path.endswith(".safetensors")
        state: Any = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        return {key: value for key, value in state.get("state_dict", state).items() if isinstance(value, Tensor)}
    except Exception as error:  # the unpickler may raise anything on a damaged or foreign file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"image encoder weights={path!r} hold no state dict: {reason}") from error


def split_tensors(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of a backbone, and, if they exist, `mean` and `std` in grey levels, (1, channels, 1, 1)."""
    for prefix in PREFIXES:
        start = f"{prefix}backbone."
        backbone = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
        if backbone:
            return backbone, {name: state[prefix + name] for name in NORMALISATION if prefix + name in state}
    return dict(state), {}


class TimmEncoder(ImageEncoder):
    """A timm backbone that takes grey uint8 images and returns pooled features and a pyramid of four maps.

    The encoder applies the normalisation of its weights itself. Images reach it as stored, 0 to 255, and no other part
    of the framework scales them.

    Args:
        name: Architecture in timm, also `hf-hub:OWNER/NAME` and `local-dir:PATH`; see `make_backbone`. IMITATE uses
            `resnet50` with ImageNet weights.
        pretrained: Whether to load timm's pre-trained weights, from the hub or its cache.
        weights: A file to load instead: a checkpoint of medvlp, which also provides the normalisation, or a state dict
            of the same architecture. `package:PACKAGE/PATH` is a file in an installed package.
        image_size: Side of the images in pixels, for use without a task; see `fit`.
        arguments: Further arguments of the architecture in timm, such as `drop_path_rate`.

    Attributes:
        backbone: The network of timm.
        levels: Indices of the stages in the pyramid.
        patch_level: Index of the map in the pyramid that holds the patch features.

    Raises:
        NotFoundError: If there is no file `weights`.
        UserError: If the architecture is unknown, or weights do not fit it or cannot be loaded.
    """

    backbone: Any

    def __init__(
        self,
        name: str = "resnet50",
        pretrained: bool = True,
        weights: str | None = None,
        image_size: int | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        backbone, name, arguments = make_backbone(name, pretrained and weights is None, arguments or {})
        config = backbone.pretrained_cfg
        super().__init__(config["mean"], config["std"])
        self.backbone = backbone
        self._recipe: dict[str, Any] = {"name": name, "arguments": arguments}
        depth = len(self.backbone.feature_info)
        # A convolutional network has stages; for a transformer, the outputs of its four quarters take their place.
        staged = self.backbone.feature_info[0]["reduction"] != self.backbone.feature_info[-1]["reduction"]
        self.levels = [depth - STAGES + i if staged else depth * (i + 1) // STAGES - 1 for i in range(STAGES)]
        # Some networks, such as MobileNetV3, have layers between the pooling and the classifier.
        self.width = int(getattr(self.backbone, "head_hidden_size", self.backbone.num_features))
        self.map_levels = list(range(depth)) if staged else self.levels
        self.map_widths = [int(self.backbone.feature_info[level]["num_chs"]) for level in self.map_levels]
        self.map_strides = [int(self.backbone.feature_info[level]["reduction"]) for level in self.map_levels]
        self.widths, strides = self.map_widths[-STAGES:], self.map_strides[-STAGES:]
        self.patch_level = max((i for i, stride in enumerate(strides) if stride <= PATCH), default=0)
        self.patch_width = self.widths[self.patch_level]
        size = getattr(getattr(self.backbone, "patch_embed", None), "img_size", None) or config["input_size"][1:]
        self.side = int(size[-1])
        self._fitted = 0
        self._lay_out()
        if weights is not None:
            self._load(locate(weights), name)
        if image_size is not None:
            self.fit(image_size)

    def fit(self, size: int) -> None:
        """Make the encoder take images of a size; tasks pass the size of their data before they create an optimiser.

        Networks that take any size stay unchanged. The positions of other networks are resampled.

        Args:
            size: Side of the images in pixels.

        Raises:
            UserError: If the encoder cannot take such images; the message names the nearest possible sizes.
        """
        if is_of_one_size(self.backbone) and size != self._fitted:
            steps = (self.map_strides[0], self.map_strides[-1])
            self.backbone = fit_to_size(self.backbone, size, **self._recipe, steps=steps)
            self.side = self._fitted = size
            self._lay_out()

    def forward(self, image: Tensor) -> ImageFeatures:
        """Encode grey images, uint8 (N, H, W); see `ImageEncoder.forward`."""
        x = self.normalise(image)
        final, pyramid = self.backbone.forward_intermediates(x, indices=self.levels, norm=True)
        return ImageFeatures(self.backbone.forward_head(final, pre_logits=True), pyramid, self.patch_level, final)

    def places(self, features: ImageFeatures) -> Tensor:
        """Return the pooled feature that each location would have alone; see `ImageEncoder.places`.

        If pooling is an average and only linear layers follow, the mean over the locations is the pooled feature. In a
        transformer that pools by its class token, the token of the location replaces the class token.
        """
        assert features.final is not None
        final, grid = features.final, features.pyramid[-1].shape[-2:]
        if final.ndim == 3:
            # The first tokens, such as the class token, stand for no location.
            place = final[:, -grid.numel() :].flatten(0, 1)[:, None]
            alike = place.expand(-1, 1 + final.shape[1] - grid.numel(), -1)
        elif getattr(self.backbone, "output_fmt", "NCHW") == "NHWC":
            alike = final.flatten(0, 2)[:, None, None]
        else:
            alike = final.permute(0, 2, 3, 1).flatten(0, 2)[..., None, None]
        pooled: Tensor = self.backbone.forward_head(alike, pre_logits=True)
        return torch.unflatten(pooled, 0, (len(final), *grid)).permute(0, 3, 1, 2)

    def maps(self, image: Tensor) -> list[Tensor]:
        """Return the output of every stage for grey images, uint8 (N, H, W), from fine to coarse.

        A convolutional network has one map for each stage. A ResNet has five (strides 2 to 32), and a ConvNeXt has four
        (4 to 32). A transformer has the outputs of its four quarters. The shapes are
        (N, map_widths[l], H / map_strides[l], W / map_strides[l]).
        """
        x = self.normalise(image)
        maps: list[Tensor] = self.backbone.forward_intermediates(
            x, indices=self.map_levels, norm=True, intermediates_only=True
        )
        return maps

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth: those before the blocks, and each block; the last one with what follows it.

        See `ImageEncoder.layers`.
        """
        return parameters_by_depth(self.backbone)

    @property
    def architecture(self) -> str:
        """Name of the architecture in timm."""
        return str(self.backbone.pretrained_cfg["architecture"])

    @property
    def recipe(self) -> dict[str, Any]:
        """Name and arguments that make the same encoder without hub and folder."""
        return self._recipe

    @classmethod
    def rebuild_options(cls, options: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options without first weights; see `ImageEncoder.rebuild_options`."""
        resolved = {key: value for key, value in recipe.items() if value}
        return {**options, **resolved, "pretrained": False, "weights": None}

    @classmethod
    def describe_start(cls, options: Mapping[str, Any]) -> str:
        """Return the source of the first weights; see `ImageEncoder.describe_start`."""
        source = public_name(options["name"].partition(":")[2]) or "timm"
        pretrained = f"pre-trained weights of {source}" if options.get("pretrained", True) else "weights of chance"
        return public_name(options.get("weights")) or pretrained

    def _lay_out(self) -> None:
        """Set the channels-last layout, which suits bf16 convolutions and halves the time of depthwise ones on CPUs."""
        self.backbone.to(memory_format=torch.channels_last)

    def _load(self, path: str, name: str) -> None:
        if not Path(path).is_file():
            raise NotFoundError(f"image encoder weights={path!r}: no such file.")
        if side := trained_side(read_content(path)):
            # The stored positions have the size of the training images.
            self.fit(side)
        state, normalisation = split_tensors(read_tensors(path))
        wanted = self.backbone.state_dict()
        if not state.keys() & wanted.keys():
            # The names may be those of another implementation of the same layers. Then the order of the tensors is the
            # same, and so are the ends of their names (weight, running_mean ...).
            pairs = zip(wanted, state.items(), strict=False)
            state = {key: value for key, (other, value) in pairs if key.split(".")[-1] == other.split(".")[-1]}
        wrong = [key for key, value in wanted.items() if key not in state or state[key].shape != value.shape]
        if wrong:
            raise UserError(
                f"image encoder weights={path!r} do not fit the architecture name={name!r}: {len(wrong)} of "
                f"{len(wanted)} tensors are missing or of another shape, the first is '{wrong[0]}'."
            )
        # The file may hold more, such as the classifier of its training.
        self.backbone.load_state_dict({key: state[key] for key in wanted})
        for statistic, value in normalisation.items():
            getattr(self, statistic).copy_(value)
