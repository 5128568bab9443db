"""Names of tensors in published files, and the names that timm has for them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]

# Of a transformer of transformers: patterns and their replacements, applied in this order.
TRANSFORMER = (
    (r"^embeddings\.(cls|mask)_token$", r"\1_token"),
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings?(\.weight)?$", "pos_embed"),
    (r"^embeddings\.patch_embeddings?\.(projection\.)?", "patch_embed.proj."),
    (r"^(encoder\.|model\.)?layers?\.(\d+)\.", r"blocks.\2."),
    (r"\.(attention\.attention|attention|self_attn)\.(query|key|value|[qkv]_proj)\.", r".attn.\2."),
    (r"\.attn\.(q|k|v)(uery|ey|alue|_proj)\.", r".attn.\1."),
    (r"\.(attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.", ".attn.proj."),
    (r"\.(layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.(intermediate\.dense|mlp\.weights_in)\.", ".mlp.fc1."),
    (r"^(blocks\.\d+)\.(output\.dense|mlp\.weights_out|mlp\.down_proj)\.", r"\1.mlp.fc2."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^(post_layernorm|layernorm)\.", "norm."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.mlp\.", "attn_pool.mlp."),
)
# Number of the child in torchvision's ResNet that became a list (MedKLIP).
CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
# If several networks in a file fit, one with such a name is taken: the averaged weights of a training.
AVERAGED = re.compile(r"(^|[._])(ema|teacher)[._]")


def rename_transformer(state: Mapping[str, Tensor]) -> State:
    """Return the tensors of a ViT, DINOv2, CLIP or SigLIP of transformers by timm's names."""
    renamed: State = {}
    for key, value in state.items():
        for pattern, replacement in TRANSFORMER:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    for key in [key for key in renamed if key.endswith((".attn.q.weight", ".attn.q.bias"))]:
        stem, kind = key.removesuffix(".attn.q.weight").removesuffix(".attn.q.bias"), key.rsplit(".", 1)[1]
        parts = [renamed.pop(f"{stem}.attn.{part}.{kind}", None) for part in "qkv"]
        if all(part is not None for part in parts):
            renamed[f"{stem}.attn.qkv.{kind}"] = torch.cat(parts)  # type: ignore[arg-type]
    for kind in ("weight", "bias"):
        if (joined := renamed.pop(f"head.attention.in_proj_{kind}", None)) is not None:
            width = len(joined) // 3
            renamed[f"attn_pool.q.{kind}"], renamed[f"attn_pool.kv.{kind}"] = joined[:width], joined[width:]
    renamed.pop("mask_token", None)
    # timm's shapes have a batch axis.
    for key, axes in (("cls_token", 3), ("pos_embed", 3)):
        while key in renamed and renamed[key].ndim < axes:
            renamed[key] = renamed[key][None]
    if "reg_token" in renamed and "pos_embed" in renamed:
        # In timm the positions belong to the patches alone.
        renamed["cls_token"] = renamed["cls_token"] + renamed["pos_embed"][:, :1]
        renamed["pos_embed"] = renamed["pos_embed"][:, 1:]
    return renamed


def rename_dinov3(state: Mapping[str, Tensor]) -> State:
    """Return the tensors of a DINOv3 ViT of transformers by timm's names."""
    renamed: State = {}
    gated = any(".mlp.gate_proj." in key for key in state)
    for key, value in state.items():
        key = re.sub(r"\.attention\.([qv])_proj\.bias$", r".attn.\1_bias", key)
        key = re.sub(r"\.layer_scale(\d)\.lambda1$", r".gamma_\1", key)
        key = key.replace(".mlp.gate_proj.", ".mlp.fc1_g.")
        renamed[key.replace(".mlp.up_proj.", ".mlp.fc1_x." if gated else ".mlp.fc1.")] = value
    return rename_transformer(renamed)


def rename_clip(state: Mapping[str, Tensor]) -> State:
    """Return the tensors of an image tower of OpenAI's code by the names that timm's own conversion reads."""
    return {f"visual.{key.replace('.ls_', '.ls')}": value for key, value in state.items()}


def rename_children(state: Mapping[str, Tensor]) -> State:
    """Return the tensors of a ResNet that was made a list by their names in the ResNet."""
    parts = [(key.split(".", 1), value) for key, value in state.items() if "." in key]
    return {f"{CHILDREN.get(first, first)}.{rest}": value for (first, rest), value in parts}


@dataclass(frozen=True)
class Layout:
    """A way to name tensors.

    Attributes:
        title: What uses it, for messages.
        anchor: A tensor that the layout has, and others lack.
        rename: The function from its names to those of timm or of timm's conversions.
    """

    title: str
    anchor: str
    rename: Callable[[Mapping[str, Tensor]], State]


LAYOUTS = (
    Layout("a ViT or DINOv2 of transformers", "embeddings.patch_embeddings.projection.weight", rename_transformer),
    Layout("a DINOv3 ViT of transformers", "embeddings.patch_embeddings.weight", rename_dinov3),
    Layout("a CLIP or SigLIP of transformers", "embeddings.patch_embedding.weight", rename_transformer),
    Layout("a CLIP ViT of OpenAI or open_clip", "transformer.resblocks.0.attn.in_proj_weight", rename_clip),
    Layout("a CLIP ResNet of OpenAI or open_clip", "attnpool.positional_embedding", rename_clip),
    Layout("a ResNet as a list of its children", "4.0.conv1.weight", rename_children),
    Layout("a ViT of timm, DINOv2 or MAE", "patch_embed.proj.weight", dict),
    Layout("a DenseNet of torchvision", "features.denseblock1.denselayer1.conv1.weight", dict),
    Layout("a ResNet of torchvision or timm", "layer1.0.conv1.weight", dict),
)


def places(names: Mapping[str, Any], anchor: str) -> Iterator[str]:
    """Yield the prefixes under which a file has a tensor."""
    for name in names:
        if name == anchor or name.endswith(f".{anchor}"):
            yield name.removesuffix(anchor)


def under(state: Mapping[str, Tensor], prefix: str) -> State:
    """Return the tensors whose names have a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def describe(state: Mapping[str, Tensor]) -> str:
    """Return a text on what a file seems to hold, for messages."""
    found = [(place, layout.title) for layout in LAYOUTS for place in places(state, layout.anchor)]
    if not found:
        return f"Its first tensor is '{next(iter(state))}'"
    place, title = max(found, key=lambda network: len(under(state, network[0])))
    return f"It seems to hold {title}" + (f" under '{place}'" if place else "")


def readings(state: Mapping[str, Tensor], network: Any, prefix: str | None) -> Iterator[State]:
    """Yield the ways to read a file for a network of timm; each has names of timm or of timm's conversions.

    Args:
        state: The tensors of the file.
        network: The network.
        prefix: Start of the names of the wanted tensors; None for any.
    """
    own = next(iter(network.state_dict()))
    for layout in (*LAYOUTS, Layout("", own, dict)):
        for place in dict.fromkeys(places(state, layout.anchor)):
            if prefix is None or place.startswith(prefix):
                yield layout.rename(under(state, place))


def convert(state: State, network: Any) -> State:
    """Return the tensors that a network has, from names that timm's conversion for the network reads."""
    change = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    converted = state if change is None else change(dict(state), network)
    wanted = network.state_dict()
    return {key: value for key, value in converted.items() if key in wanted}


def fitting(state: Mapping[str, Tensor], network: Any, prefix: str | None = None) -> tuple[State, State]:
    """Return the tensors of a file that fit a network of timm best, as read and by timm's names.

    A file may hold several networks: an image tower and a text tower, or a teacher and a student. The one with the most
    tensors that fit is taken; of equals, the averaged one, or else the first.

    Args:
        state: The tensors of the file.
        network: The network, with its own shapes.
        prefix: Start of the names of the wanted tensors in the file; None for any.
    """
    wanted = {key: value.shape for key, value in network.state_dict().items()}
    if all(key in state and state[key].shape == shape for key, shape in wanted.items()):
        return dict(state), dict(state)
    if prefix is not None and not any(key.startswith(prefix) for key in state):
        prefix = None  # somebody has taken the network out of the published file
    best: tuple[State, State] = {}, {}
    most = -1
    for read in sorted_readings(state, network, prefix):
        try:
            converted = convert(read, network)
        except (AttributeError, IndexError, KeyError, RuntimeError, ValueError):
            continue  # timm's conversions expect their own networks
        # Positions of another image size still fit.
        count = sum(key == "pos_embed" or value.shape == wanted[key] for key, value in converted.items())
        if count > most:
            best, most = (read, converted), count
    return best


def sorted_readings(state: Mapping[str, Tensor], network: Any, prefix: str | None) -> list[State]:
    """Return `readings`, those of averaged weights first."""
    averaged = {key: value for key, value in state.items() if AVERAGED.search(key)}
    return [*readings(averaged, network, prefix), *readings(state, network, prefix)]


def grid_side(state: Mapping[str, Tensor], network: Any) -> int | None:
    """Return the side of the images that a file's positions are for, in pixels; None if it has no positions.

    Args:
        state: The tensors as read; see `fitting`.
        network: The network of timm.
    """
    position = state.get("pos_embed", state.get("visual.positional_embedding"))
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    if position is None or patch is None or getattr(network, "pos_embed", None) is None:
        return None
    count = position.shape[-2]
    extra = next((n for n in (0, 1, 2) if isqrt(count - n) ** 2 == count - n), None)
    return None if extra is None else isqrt(count - extra) * int(patch[0])
