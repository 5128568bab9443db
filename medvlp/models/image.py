"""Image encoder: any timm backbone as pooled features and a pyramid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from medvlp.errors import NotFoundError, UserError
from medvlp.models.weights import locate
from medvlp.types import ImageFeatures

STAGES = 4
# Patch features are the coarsest map that is no coarser: the patches of ViT-B/16 and, as in ASG, layer3 of ResNet-50.
PATCH = 16


def load_state_dict(path: str) -> dict[str, Tensor]:
    """Read the backbone's tensors from a state dict or a medvlp checkpoint, without running any code of the file.

    Raises:
        UserError: If the file holds no state dict.
    """
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = {key: value for key, value in state.get("state_dict", state).items() if isinstance(value, Tensor)}
    except Exception as error:  # whatever a damaged or foreign file makes of the unpickler
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"image encoder weights={path!r} hold no state dict: {reason}") from error
    prefix = "image_encoder.backbone."
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return own or state


class ImageEncoder(nn.Module):
    """A timm backbone that takes grey uint8 images and returns pooled features and a pyramid of four maps.

    The normalisation its weights were trained with happens inside: images reach it as stored, 0 to 255, and nothing
    else in the framework scales them.

    Args:
        name: Architecture in timm. IMITATE uses `resnet50` with ImageNet weights.
        pretrained: Load timm's pre-trained weights, from the hub or its cache.
        weights: A file to load instead: a checkpoint of medvlp, or a state dict of the same architecture.
            `package:PACKAGE/PATH` is a file in an installed package.
        image_size: Side of the images in pixels, for a transformer that is to see others than it was made for.

    Attributes:
        width: Width D of the pooled features.
        widths: Channels of the four maps, fine to coarse.
        patch_width: Channels of the patch features.

    Raises:
        UserError: If the architecture is unknown, or weights do not fit it or cannot be had.
    """

    backbone: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "resnet50",
        pretrained: bool = True,
        weights: str | None = None,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            close = ", ".join(timm.list_models(f"*{name[:6]}*")[:5])
            raise UserError(f"image encoder name={name!r} is not an architecture of timm. Similar: {close or 'none'}.")
        # Convolutional networks take any size and refuse the argument.
        options: dict[str, Any] = {"img_size": image_size} if image_size else {}
        try:
            self.backbone = timm.create_model(name, pretrained=pretrained and weights is None, num_classes=0, **options)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"the pre-trained weights of {name!r} could not be loaded ({type(error).__name__}). Without access to "
                "the hub pass --model.image_encoder.init_args.weights FILE, or "
                "--model.image_encoder.init_args.pretrained false."
            ) from error
        if weights is not None:
            self._load(locate(weights), name)
        # The layout that bf16 convolutions want; on a CPU it also halves the time of depthwise ones.
        self.backbone.to(memory_format=torch.channels_last)
        depth = len(self.backbone.feature_info)
        # A convolutional network has its stages; a transformer the outputs of its four quarters.
        staged = self.backbone.feature_info[0]["reduction"] != self.backbone.feature_info[-1]["reduction"]
        self.levels = [depth - STAGES + i if staged else depth * (i + 1) // STAGES - 1 for i in range(STAGES)]
        self.width = int(self.backbone.num_features)
        self.widths = [int(self.backbone.feature_info[level]["num_chs"]) for level in self.levels]
        strides = [self.backbone.feature_info[level]["reduction"] for level in self.levels]
        self.patch_level = max((i for i, stride in enumerate(strides) if stride <= PATCH), default=0)
        self.patch_width = self.widths[self.patch_level]
        config = self.backbone.pretrained_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).view(1, -1, 1, 1) * 255, persistent=False)

    def forward(self, image: Tensor) -> ImageFeatures:
        """Encode grey images, uint8 (N, H, W).

        Raises:
            TypeError: If the images are not uint8: they would be normalised twice.
        """
        if image.dtype != torch.uint8:
            raise TypeError(
                f"image has dtype {image.dtype}, but the encoder normalises stored images itself: pass uint8."
            )
        x = ((image[:, None] - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        final, pyramid = self.backbone.forward_intermediates(x, indices=self.levels, norm=True)
        return ImageFeatures(self.backbone.forward_head(final, pre_logits=True), pyramid, self.patch_level)

    def freeze_beyond_patches(self) -> None:
        """Freeze the layers that the patch features do not pass through."""
        training, size = self.training, self.backbone.pretrained_cfg["input_size"][-1]
        size = getattr(getattr(self.backbone, "patch_embed", None), "img_size", (size,))[0]
        self.eval()(torch.zeros(1, size, size, dtype=torch.uint8)).patches.sum().backward()
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        self.train(training)

    def _load(self, path: str, name: str) -> None:
        if not Path(path).is_file():
            raise NotFoundError(f"image encoder weights={path!r}: no such file.")
        state = load_state_dict(path)
        own = self.backbone.state_dict()
        if not state.keys() & own.keys():
            # The same layers under another implementation's names: tensors then come in the same order, and what a
            # tensor is (weight, running_mean ...) still ends its name.
            pairs = zip(own, state.items(), strict=False)
            state = {key: value for key, (other, value) in pairs if key.split(".")[-1] == other.split(".")[-1]}
        wrong = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
        if wrong:
            raise UserError(
                f"image encoder weights={path!r} do not fit the architecture name={name!r}: {len(wrong)} of {len(own)} "
                f"tensors are missing or of another shape, the first is '{wrong[0]}'."
            )
        # The file may hold more, such as the classifier of its training.
        self.backbone.load_state_dict({key: state[key] for key in own})
