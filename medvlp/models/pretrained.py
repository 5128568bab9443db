"""Image encoders from one option: a checkpoint, ImageNet weights, random weights, or another file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser

from medvlp.config.moved import with_new_names
from medvlp.config.parser import concise
from medvlp.config.trust import TRUSTED, check_trusted
from medvlp.errors import NotFoundError, UserError
from medvlp.models.image import NORMALISATION, ImageEncoder
from medvlp.models.published import image_options, names_published
from medvlp.models.recipe import RECIPE, image_encoder_settings, read_content, rebuild_settings, trained_side
from medvlp.models.tensor_files import read_tensors
from medvlp.models.timm_encoder import TimmEncoder
from medvlp.models.weights import EXPORTED, locate

DEFAULT = "resnet50"
IMAGENET, RANDOM = "imagenet", "random"
# Prefix of the image encoder's tensors in a checkpoint of a pre-training.
PREFIX = "image_encoder."
# Keys of a checkpoint's `data` that identify patients; the entry `data` of another program lacks them.
NOTED = {"dataset", "synthetic", "split", "split_sha256", "train_splits"}


def load_image_encoder(
    weights: str,
    architecture: str | None = None,
    image_size: int | None = None,
    trust: Sequence[str] = (),
    normalisation: str | None = None,
) -> ImageEncoder:
    """Return an image encoder with weights, and with the normalisation of their training.

    Args:
        weights: `imagenet` for timm's pre-trained weights, or `random` for random weights, the same each time. Or a
            checkpoint of `medvlp fit` or a folder of `medvlp export`, whose encoder of any class is rebuilt. Or a name
            of `TimmEncoder` with weights of its own: a preset, or one with a scheme, such as `hf:OWNER/NAME`; or
            `PRESET:PATH` with its downloaded files. Or a file with the state dict of such a network. Files may be
            `package:PACKAGE/PATH`.
        architecture: Name in timm, or another name of `TimmEncoder`, required for a state dict; by default ResNet-50
            for `imagenet` and `random`. A checkpoint must have this architecture if it is given.
        image_size: Side of the images in pixels; see `ImageEncoder.fit`.
        trust: Packages beside medvlp whose encoder a checkpoint may name.
        normalisation: Of the training of a state dict; see `TimmEncoder`. A checkpoint knows its own.

    Raises:
        NotFoundError: If there is no such file.
        UserError: If a checkpoint has another architecture or normalisation or an untrusted class, or if weights do not
            fit or cannot be read or downloaded.
    """
    encoder: ImageEncoder
    if weights == IMAGENET:
        encoder = TimmEncoder(architecture or DEFAULT, normalisation=normalisation)
    elif weights == RANDOM:
        # The run's seed must not matter: cached features, and checkpoints without a frozen encoder, rely on this.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder = TimmEncoder(architecture or DEFAULT, pretrained=False, normalisation=normalisation)
    elif names_published(weights):
        if architecture is not None:
            raise UserError(
                f"weights='{weights}' name their architecture: leave architecture='{architecture}' out, or pass a file "
                "as the weights."
            )
        encoder = TimmEncoder(**image_options(weights), normalisation=normalisation)
    else:
        encoder = _from_file(weights, architecture, trust, normalisation)
    if image_size is not None:
        encoder.fit(image_size)
    return encoder


def digest(encoder: ImageEncoder) -> str:
    """Return the SHA-256 of an encoder's architecture, weights and normalisation."""
    sha = hashlib.sha256(encoder.architecture.encode())
    for name, tensor in encoder.state_dict().items():
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def pretrained_on(weights: str) -> dict[str, Any] | None:
    """Return the description of the training data of weights, which `medvlp fit` or `medvlp export` has stored.

    It is empty for `imagenet` and `random`, which have seen no patients, and None for names and files without a
    description.
    """
    if weights in (IMAGENET, RANDOM):
        return {}
    if names_published(weights):
        return None
    noted = read_content(_file(weights)).get("data")
    return noted if isinstance(noted, dict) and noted.keys() >= NOTED else None


def _from_file(weights: str, architecture: str | None, trust: Sequence[str], normalisation: str | None) -> ImageEncoder:
    path = _file(weights)
    if not Path(path).is_file():
        raise NotFoundError(
            f"weights='{weights}' is neither 'imagenet' nor 'random', and no such file is there. Pass a checkpoint of "
            "'medvlp fit', such as runs/.../last.ckpt, a state dict, or a name such as rad-dino or hf:OWNER/NAME."
        )
    content = read_content(path)
    settings = image_encoder_settings(content)
    if settings is not None:
        encoder = _rebuild(with_new_names(settings), content, path, weights, trust)
        # In a name of timm, the part after the dot names the weights, not the architecture.
        if architecture and encoder.architecture != architecture.split(".")[0]:
            raise UserError(
                f"weights='{weights}' hold an image encoder of architecture '{encoder.architecture}', but "
                f"architecture='{architecture}' is asked for. Leave the architecture out: a checkpoint knows its own."
            )
        if normalisation is not None:
            raise UserError(
                f"weights='{weights}' are a checkpoint, which knows its normalisation: leave normalisation="
                f"{normalisation!r} out."
            )
        return encoder
    if architecture is None:
        raise UserError(
            f"weights='{weights}' is no checkpoint of a pre-training and does not say its architecture: pass "
            "--model.architecture NAME, a name in timm or a preset."
        )
    return TimmEncoder(architecture, weights=path, normalisation=normalisation)


def _rebuild(
    settings: Mapping[str, Any], content: Mapping[str, Any], path: str, weights: str, trust: Sequence[str]
) -> ImageEncoder:
    """Rebuild the image encoder of a pre-training from the content of its checkpoint or exported folder."""
    check_trusted(settings, [*TRUSTED, *trust], f"weights='{weights}'")
    try:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(ImageEncoder, "encoder")
        made = parser.parse_object({"encoder": rebuild_settings(settings, content.get(RECIPE, {}))})
        encoder: ImageEncoder = parser.instantiate_classes(made).encoder
        if side := trained_side(content):
            # The stored positions have the size of the training images.
            encoder.fit(side)
        tensors = read_tensors(path).items()
        state = {key.removeprefix(PREFIX): value for key, value in tensors if key.startswith(PREFIX)}
        # The first checkpoints lack the normalisation, which is then that of the architecture.
        normalisation = {name: value for name, value in encoder.state_dict().items() if name in NORMALISATION}
        encoder.load_state_dict({**normalisation, **state})
    except UserError:
        raise
    except Exception as error:  # any part of the rebuild may raise its own error
        reason = concise(str(error)) or type(error).__name__
        raise UserError(f"weights='{weights}': the image encoder cannot be rebuilt by this medvlp: {reason}") from error
    return encoder


def _file(weights: str) -> str:
    """Return the path of the file of weights."""
    path = locate(weights)
    return str(Path(path, EXPORTED)) if Path(path).is_dir() else path
