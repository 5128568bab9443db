"""Image encoder for networks of timm, with weights from anywhere: pooled features and a pyramid of maps."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medvlp.errors import NotFoundError, UserError
from medvlp.models.backbone import (
    channels_of,
    checkpoint_gradients,
    fit_to_size,
    is_of_one_size,
    make_backbone,
    parameters_by_depth,
)
from medvlp.models.image import NORMALISATION, ImageEncoder
from medvlp.models.key_maps import convert, describe, fitting, grid_side
from medvlp.models.presets import find_source, presets
from medvlp.models.recipe import read_content, trained_side
from medvlp.models.sources import Normalisation, Source, read_normalisation
from medvlp.models.tensor_files import read_tensors
from medvlp.models.weights import locate, public_name
from medvlp.types import ImageFeatures

STAGES = 4
# Largest stride of the patch features in pixels: the patches of ViT-B/16 and, as in ASG, layer3 of ResNet-50.
PATCH = 16
# Prefixes of the encoder's tensors in a pre-training, in a downstream task and in its own state dict.
PREFIXES = ("image_encoder.", "encoder.", "")


def split_tensors(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of a backbone, and, if they exist, `mean` and `std` in grey levels, (1, channels, 1, 1)."""
    for prefix in PREFIXES:
        start = f"{prefix}backbone."
        backbone = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
        if backbone:
            return backbone, {name: state[prefix + name] for name in NORMALISATION if prefix + name in state}
    return dict(state), {}


class TimmEncoder(ImageEncoder):
    """A network of timm that takes grey uint8 images and returns pooled features and a pyramid of four maps.

    The encoder applies the normalisation of its weights itself. Images reach it as stored, 0 to 255, and no other part
    of the framework scales them.

    `name` says the architecture, and where its weights are:

    | name | network |
    |---|---|
    | `resnet50`, `timm/resnet50`, `hf-hub:OWNER/NAME`, `local-dir:PATH` | of timm; see `make_backbone` |
    | `hf:OWNER/NAME`, `hf:FOLDER` | vision model of transformers, also the vision half of CLIP or SigLIP |
    | `open_clip:NAME/TAG`, `open_clip:hf-hub:OWNER/NAME`, `open_clip:FOLDER` | image tower of open_clip |
    | `torchxrayvision:densenet121-res224-all`, `torchxrayvision:resnet50-res512-all` | classifier, cut |
    | `rad-dino` and others | preset, see `presets.yaml` |

    Networks of other libraries become networks of timm with the same features. The pooled features are those in front
    of a projection or a classifier.

    Args:
        name: See above. IMITATE uses `resnet50` with ImageNet weights.
        pretrained: Whether to load the weights of that name, from the hub or its cache.
        weights: A file to load instead: a checkpoint of medvlp, which also provides the normalisation, or a state dict
            of the same architecture, by timm's names or as the library or the authors of `name` publish it.
            `package:PACKAGE/PATH` is a file in an installed package. No code of the file runs.
        image_size: Side of the images in pixels, for use without a task; see `fit`.
        arguments: Further arguments of the architecture in timm, such as `drop_path_rate`; see `make_backbone`.
        normalisation: Mean and std that the weights were trained with: `imagenet`, `clip`, `half` (both .5), `none`, or
            `MEAN,STD` as shares of white. None for those that the weights, or else their name, say.
        trainable_layers: Number of the last layers to train, see `layers`; 0 freezes the encoder, None trains all.
            Frozen layers stay in evaluation mode.
        gradient_checkpointing: Whether to compute the activations of the blocks again in the backward pass, which
            saves memory and costs time.

    Attributes:
        backbone: The network of timm.
        levels: Indices of the stages in the pyramid.
        patch_level: Index of the map in the pyramid that holds the patch features.

    Raises:
        NotFoundError: If there is no file `weights`.
        UserError: If the architecture is unknown, or weights do not fit it or cannot be loaded, or if the network has
            no such layers or no gradient checkpointing.
    """

    backbone: Any

    def __init__(
        self,
        name: str = "resnet50",
        pretrained: bool = True,
        weights: str | None = None,
        image_size: int | None = None,
        arguments: dict[str, Any] | None = None,
        normalisation: str | None = None,
        trainable_layers: int | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        pretrained = pretrained and weights is None
        source = find_source(name, pretrained)
        architecture, options = name.removeprefix("timm/"), arguments or {}
        if source is not None:
            architecture, options = source.architecture, {**source.arguments, **options}
        backbone, architecture, options = make_backbone(architecture, pretrained and source is None, options)
        config = backbone.pretrained_cfg
        given = read_normalisation(normalisation) if normalisation else None
        super().__init__(*_of_channels(given or _said(name, source, config), channels_of(backbone)))
        self.backbone = backbone
        self._recipe: dict[str, Any] = {"name": architecture, "arguments": options}
        self._antialias = source is None or source.antialias
        self._checkpoints = gradient_checkpointing
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
        self.side = int(size[-1]) if source is None or source.side is None or is_of_one_size(backbone) else source.side
        self._fitted = 0
        self._lay_out()
        files = (locate(weights),) if weights is not None else source.files if source else ()
        if files:
            self._load(files, name, source.prefix if source else None, given is not None)
        if image_size is not None:
            self.fit(image_size)
        self._partly = trainable_layers is not None
        if trainable_layers is not None:
            self._freeze_but_last(trainable_layers, name)

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
            fitted = fit_to_size(self.backbone, size, **self._recipe, steps=steps, antialias=self._antialias)
            self.backbone = fitted
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

    def train(self, mode: bool = True) -> TimmEncoder:
        """Set the mode of all modules. With `trainable_layers`, frozen modules stay in evaluation mode."""
        super().train(mode)
        if self._partly:
            for module in self.backbone.modules():
                trained = [parameter.requires_grad for parameter in module.parameters()]
                if trained and not any(trained):
                    module.eval()
        return self

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
        # Who loads the encoder decides whether it is trained.
        start = {"pretrained": False, "weights": None, "normalisation": None}
        return {**options, **resolved, **start, "trainable_layers": None, "gradient_checkpointing": False}

    @classmethod
    def describe_start(cls, options: Mapping[str, Any]) -> str:
        """Return the source of the first weights; see `ImageEncoder.describe_start`."""
        name = options["name"]
        source = name if name in presets() else public_name(name.rpartition(":")[2] if ":" in name else "") or "timm"
        pretrained = f"pre-trained weights of {source}" if options.get("pretrained", True) else "weights of chance"
        return public_name(options.get("weights")) or pretrained

    def _lay_out(self) -> None:
        """Set the channels-last layout, which suits bf16 convolutions and halves the time of depthwise ones on CPUs."""
        self.backbone.to(memory_format=torch.channels_last)
        if self._checkpoints:
            checkpoint_gradients(self.backbone)

    def _freeze_but_last(self, count: int, name: str) -> None:
        layers = self.layers()
        if not 0 <= count <= len(layers):
            raise UserError(
                f"image encoder trainable_layers={count}: name={name!r} has {len(layers)} layers, the first in front "
                "of its blocks."
            )
        for layer in layers[: len(layers) - count]:
            for parameter in layer:
                parameter.requires_grad_(False)
        # The Trainer takes a frozen network for a forgotten one.
        warnings.filterwarnings("ignore", ".*in eval mode at the start of training")
        self.train()

    def _load(self, files: Sequence[str], name: str, prefix: str | None, normalised: bool) -> None:
        tensors: dict[str, Tensor] = {}
        for path in files:
            if not Path(path).is_file():
                raise NotFoundError(f"image encoder weights={path!r}: no such file.")
            tensors |= read_tensors(path)
        if side := trained_side(read_content(files[0])):
            # The stored positions have the size of the training images.
            self.fit(side)
        state, statistics = split_tensors(tensors)
        read, converted = fitting(state, self.backbone, prefix)
        if (side := grid_side(read, self.backbone)) and side != self.side:
            self.fit(side)
            converted = convert(read, self.backbone)
        wanted = self.backbone.state_dict()
        if not converted:
            # The names may be those of another implementation of the same layers. Then the order of the tensors is the
            # same, and so are the ends of their names (weight, running_mean ...).
            pairs = zip(wanted, state.items(), strict=False)
            converted = {key: value for key, (other, value) in pairs if key.split(".")[-1] == other.split(".")[-1]}
        wrong = [key for key, value in wanted.items() if key not in converted or converted[key].shape != value.shape]
        if wrong:
            architecture = "" if self.architecture in name else f" ({self.architecture})"
            raise UserError(
                f"image encoder weights={files[0]!r} do not fit the architecture name={name!r}{architecture}: "
                f"{len(wrong)} of {len(wanted)} tensors are missing or of another shape, the first is '{wrong[0]}'. "
                f"The file holds {len(state)} tensors. {describe(state)}."
            )
        # The file may hold more, such as the classifier of its training.
        self.backbone.load_state_dict({key: converted[key] for key in wanted})
        for statistic, value in () if normalised else statistics.items():
            getattr(self, statistic).copy_(value)


def _said(name: str, source: Source | None, config: Mapping[str, Any]) -> Normalisation:
    """Return the normalisation that the source of the weights says, or else timm."""
    if source is None:
        return config["mean"], config["std"]
    if source.normalisation is None:
        raise UserError(
            f"image encoder name={name!r}: there is no preprocessor_config.json to say how its images were normalised. "
            "Pass normalisation=imagenet, half, none or MEAN,STD."
        )
    return source.normalisation


def _of_channels(normalisation: Normalisation, channels: int) -> Normalisation:
    """Return a normalisation with one number for each channel of the network's input."""
    mean, std = (
        values if len(values) == channels else [sum(values) / len(values)] * channels for values in normalisation
    )
    return mean, std
