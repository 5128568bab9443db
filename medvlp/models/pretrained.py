"""Image encoders by one option: from a checkpoint, from ImageNet, from chance, or from a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from medvlp.errors import NotFoundError, UserError
from medvlp.models.image import ImageEncoder
from medvlp.models.recipe import read_content, read_recipe
from medvlp.models.weights import EXPORTED, locate

DEFAULT = "resnet50"
IMAGENET, RANDOM = "imagenet", "random"
# What of a checkpoint's `data` tells patients apart; another program's may have that name.
NOTED = {"dataset", "synthetic", "split", "split_sha256", "train_splits"}


def load_image_encoder(weights: str, architecture: str | None = None, image_size: int | None = None) -> ImageEncoder:
    """Return an image encoder with weights, and with the normalisation they were trained with.

    Args:
        weights: `imagenet`: timm's pre-trained weights. `random`: those of one draw, the same each time. A checkpoint
            of `medvlp fit` or a folder of `medvlp export`, which know their architecture. Any other file with the state
            dict of a timm network, also `package:PACKAGE/PATH`.
        architecture: Name in timm; of a checkpoint, what it is expected to be. ResNet-50 for `imagenet` and `random`.
        image_size: Side of the images in pixels; see `ImageEncoder.fit`.

    Raises:
        NotFoundError: If there is no such file.
        UserError: If a checkpoint has another architecture, or weights do not fit it, cannot be read or cannot be had.
    """
    if weights == IMAGENET:
        encoder = ImageEncoder(architecture or DEFAULT)
    elif weights == RANDOM:
        # Not of the run's seed: cached features, and checkpoints that leave a frozen encoder out, rely on it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder = ImageEncoder(architecture or DEFAULT, pretrained=False)
    else:
        encoder = _from_file(weights, architecture)
    if image_size is not None:
        encoder.fit(image_size)
    return encoder


def digest(encoder: ImageEncoder) -> str:
    """Return a SHA-256 of what an encoder computes: its architecture, its weights and its normalisation."""
    sha = hashlib.sha256(encoder.backbone.pretrained_cfg["architecture"].encode())
    for name, tensor in encoder.state_dict().items():
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def pretrained_on(weights: str) -> dict[str, Any] | None:
    """Return what weights were trained on: what `medvlp fit` noted in its checkpoint, or `medvlp export` took along.

    Empty for `imagenet` and `random`, which have seen no patients; None of files that do not say.
    """
    if weights in (IMAGENET, RANDOM):
        return {}
    noted = read_content(_file(weights)).get("data")
    return noted if isinstance(noted, dict) and noted.keys() >= NOTED else None


def _from_file(weights: str, architecture: str | None) -> ImageEncoder:
    path = _file(weights)
    if not Path(path).is_file():
        raise NotFoundError(
            f"weights='{weights}' is neither 'imagenet' nor 'random', and no such file is there. Pass a checkpoint of "
            "'medvlp fit', such as runs/.../last.ckpt, or a state dict."
        )
    recipe = read_recipe(path)
    name = recipe.get("name")
    # What follows the dot in a name of timm is its training, not its architecture.
    if name and architecture and name.split(".")[0] != architecture.split(".")[0]:
        raise UserError(
            f"weights='{weights}' hold an image encoder of architecture '{name}', but architecture='{architecture}' is "
            "asked for. Leave the architecture out: a checkpoint knows its own."
        )
    if not (name or architecture):
        raise UserError(
            f"weights='{weights}' is no checkpoint of a pre-training and does not say its architecture: pass "
            "--model.architecture NAME, a name in timm."
        )
    return ImageEncoder(name or architecture or DEFAULT, weights=path, arguments=recipe.get("arguments"))


def _file(weights: str) -> str:
    """Return the file that weights lie in."""
    path = locate(weights)
    return str(Path(path, EXPORTED)) if Path(path).is_dir() else path
