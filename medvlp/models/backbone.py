"""Networks of timm: creation by name, and adaptation to images of another size."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import chain
from typing import Any

import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import parse_model_name
from timm.models._manipulate import group_with_matcher
from timm.models.resnet import ResNet
from torch import nn

from medvlp.errors import UserError

# Stages of timm's ResNet, without the stem.
STAGES = 4
# Options of timm for weights and head; they are no arguments of an architecture.
RESERVED = {*inspect.signature(timm.create_model).parameters, "num_classes", "pretrained_model_args"} - {"kwargs"}


def make_backbone(name: str, pretrained: bool, arguments: Mapping[str, Any]) -> tuple[Any, str, dict[str, Any]]:
    """Make a network without its classifier.

    Args:
        name: Architecture in timm; `hf-hub:OWNER/NAME` on the hub or in its cache; or `local-dir:PATH`, a folder with a
            config.json of timm.
        pretrained: Whether to load the weights of that name.
        arguments: Further arguments of the architecture. Beside those of timm, `stages` cuts a ResNet behind that
            stage, and `norm_eps` is the epsilon of all layer norms.

    Returns:
        The network, and the name and arguments that make the same network without hub and folder.

    Raises:
        UserError: If there is no such architecture, it refuses an argument, or its weights cannot be loaded.
    """
    if strange := sorted(arguments.keys() & RESERVED):
        raise UserError(f"image encoder arguments={dict(arguments)}: '{strange[0]}' is no argument of an architecture.")
    try:
        source, _ = parse_model_name(name)
    except ValueError as error:
        raise UserError(f"image encoder name={name!r}: {error}") from error
    if source is None and not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name[:6]}*")[:5])
        raise UserError(f"image encoder name={name!r} is not an architecture of timm. Similar: {close or 'none'}.")
    try:
        network: Any = _create(name, pretrained, arguments)
    except UserError:
        raise
    except TypeError as error:
        raise UserError(f"image encoder name={name!r} takes no arguments={dict(arguments)}: {error}") from error
    except (AssertionError, KeyError, OSError, RuntimeError, ValueError) as error:
        kind = type(error).__name__
        if source is not None:
            raise UserError(
                f"image encoder name={name!r} could not be loaded ({kind}). 'hf-hub:OWNER/NAME' needs the hub or its "
                "cache, 'local-dir:PATH' a folder with config.json and weights as timm writes them."
            ) from error
        raise UserError(
            f"the pre-trained weights of {name!r} could not be loaded ({kind}). Without access to "
            "the hub pass a file as its 'weights', or start untrained: pretrained=False, or, in a "
            "downstream task, weights='random'."
        ) from error
    if source is None:
        return network, name, dict(arguments)
    config = network.pretrained_cfg
    # The config on the hub or in the folder decides more than the weights.
    decided = {"global_pool": config.get("global_pool"), **network.pretrained_model_args}
    decided = {key: value for key, value in decided.items() if value is not None and key not in RESERVED}
    return network, config["architecture"], {**decided, **arguments}


def _create(name: str, pretrained: bool, arguments: Mapping[str, Any], **options: Any) -> Any:
    """Make a network of timm without its classifier, and apply the arguments that timm lacks."""
    own = {"stages", "norm_eps"}
    others = {key: value for key, value in arguments.items() if key not in own}
    network: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, **others, **options)
    if "in_chans" in arguments:
        network.pretrained_cfg["input_size"] = (arguments["in_chans"], *network.pretrained_cfg["input_size"][1:])
    if "norm_eps" in arguments:
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = arguments["norm_eps"]
    if "stages" in arguments:
        _cut(network, arguments["stages"])
    return network


def _cut(network: Any, stages: int) -> None:
    """Remove the stages of a ResNet behind a stage, which gives the pooled features then."""
    if not isinstance(network, ResNet) or not 1 <= stages <= STAGES:
        raise UserError(
            f"image encoder arguments: stages={stages} cuts a ResNet behind one of its {STAGES} stages, and "
            f"{network.pretrained_cfg['architecture']} is another network or has no such stage."
        )
    for stage in range(stages + 1, STAGES + 1):
        setattr(network, f"layer{stage}", nn.Sequential(nn.Identity()))
    network.feature_info = network.feature_info[: stages + 1]
    network.num_features = network.head_hidden_size = network.feature_info[-1]["num_chs"]


def is_of_one_size(network: Any) -> bool:
    """Return whether a network takes images of one size only, as most transformers do."""
    return bool(network.pretrained_cfg.get("fixed_input_size"))


def channels_of(network: Any) -> int:
    """Return the number of channels of the images that a network takes."""
    return int(network.pretrained_cfg["input_size"][0])


def checkpoint_gradients(network: Any) -> None:
    """Make a network compute the activations of its blocks again in the backward pass.

    Raises:
        UserError: If timm has no gradient checkpointing for the network.
    """
    try:
        network.set_grad_checkpointing(True)
    except (AssertionError, AttributeError) as error:
        name = network.pretrained_cfg["architecture"]
        raise UserError(
            f"image encoder gradient_checkpointing=True: timm has none for {name}. Leave the option out."
        ) from error


def fit_to_size(
    network: Any, size: int, name: str, arguments: Mapping[str, Any], steps: tuple[int, int], antialias: bool = True
) -> Any:
    """Return a network with the same weights for images of another size; its positions are resampled.

    Args:
        network: The network; the function may change it.
        size: Side of the images in pixels.
        name: Name from `make_backbone`.
        arguments: Arguments from `make_backbone`.
        steps: Strides in pixels of the finest and of the coarsest map.
        antialias: Whether resampled positions are smoothed.

    Raises:
        UserError: If the network cannot take such images; the message names the nearest possible sizes.
    """
    trained = {key: parameter.requires_grad for key, parameter in network.named_parameters()}
    modes = {key: module.training for key, module in network.named_modules()}
    positions = getattr(network, "pos_embed", None)
    fitted, reason = _try_size(network, size, name, arguments, steps[0])
    if fitted is not None:
        # Resampled parameters are new tensors, and would be trained in a frozen network.
        for key, parameter in fitted.named_parameters():
            parameter.requires_grad_(trained[key])
        for key, module in fitted.named_modules():
            module.training = modes.get(key, network.training)
        if not antialias and positions is not None and positions.shape != fitted.pos_embed.shape:
            prefix = 0 if fitted.no_embed_class else fitted.num_prefix_tokens
            grid = fitted.patch_embed.grid_size
            with torch.no_grad():
                resampled = resample_abs_pos_embed(positions, grid, num_prefix_tokens=prefix, antialias=False)
                fitted.pos_embed.copy_(resampled)
        return fitted
    below, side = size // steps[1] * steps[1], network.pretrained_cfg["input_size"][-1]
    near = [s for s in (below, below + steps[1]) if s and _try_size(network, s, name, arguments, steps[0])[0]]
    if not near and size != side and _try_size(network, side, name, arguments, steps[0])[0]:
        near = [side]
    raise UserError(
        f"image encoder name={name!r} takes no images of {size} x {size} pixels ({reason}). The nearest sizes that it "
        f"takes: {', '.join(map(str, near)) or 'none'}."
    )


def parameters_by_depth(network: Any) -> list[list[nn.Parameter]]:
    """Return the parameters of a network in groups from the input to the output: those before the blocks, each block.

    What follows the last block (a norm, an attention pooling) is in the group of that block. Networks whose blocks timm
    does not tell apart, such as MetaFormer, have one group.
    """
    if not hasattr(network, "group_matcher"):
        return [list(network.parameters())]
    # timm sorts names that its patterns do not know behind all others; this one is such a name.
    behind = nn.Parameter(torch.empty(0))
    named = chain(network.named_parameters(), [("behind all blocks", behind)])
    groups = list(group_with_matcher(named, network.group_matcher(coarse=False), return_values=True).values())
    *blocks, rest = [[parameter for parameter in group if parameter is not behind] for group in groups]
    blocks[-1] += rest
    return blocks


def _try_size(network: Any, size: int, name: str, arguments: Mapping[str, Any], step: int) -> tuple[Any | None, str]:
    """Return a network that takes images of a size, or None and the reason."""
    if size % step:
        return None, f"{size} is no multiple of {step}"
    try:
        # For networks with windows, timm's method would also scale the windows of the pre-training.
        change = getattr(network, "set_input_size", None)
        if change is not None and "window_size" not in inspect.signature(change).parameters:
            network.set_input_size(img_size=size)
            _try_image(network, size)
            return network, ""
        try:
            made = _remake(network, size, name, arguments)
        except (AssertionError, RuntimeError):
            # This family does not resample positions at loading. It may resample them in its forward pass.
            made = network
        _try_image(made, size)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:  # networks raise any of these
        return None, str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return made, ""


def _remake(network: Any, size: int, name: str, arguments: Mapping[str, Any]) -> Any:
    """Make a network for images of a size; timm loads the other network's weights as pre-trained ones."""
    source = {"state_dict": network.state_dict(), "source": "", "custom_load": False}
    made: Any = _create(name, True, {**arguments, "img_size": size}, pretrained_cfg_overlay=source)
    made.pretrained_cfg = network.pretrained_cfg
    return made.to(next(network.parameters()))


@torch.no_grad()
def _try_image(network: Any, size: int) -> None:
    """Run a network on an image of zeros, and raise an error if its maps do not cover the image."""
    image = next(network.parameters()).new_zeros(1, network.pretrained_cfg["input_size"][0], size, size)
    maps = network.eval().forward_intermediates(image, norm=True, intermediates_only=True)
    for feature_map, level in zip(maps, network.feature_info, strict=True):
        if abs(feature_map.shape[-1] * level["reduction"] - size) > level["reduction"]:
            raise ValueError(f"it would see {feature_map.shape[-1] * level['reduction']} pixels of them")
